"""All that is wrong with a scene, said at once rather than one mistake a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dietnerf.errors import UserError

N_LISTED = 20
MOST = 1000  # after so many nobody wants to wait for the next


class Problems:
    """Collects the sentences of mistakes that do not hinder finding the next one.

    Args:
        where: the scene, for the heading of several.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self.sentences: dict[str, None] = {}  # in their order, each once

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep the sentence of a `UserError` that the block raises."""
        try:
            yield
        except UserError as error:
            self.add(str(error))

    def add(self, sentence: str) -> None:
        self.sentences[sentence] = None
        if len(self.sentences) == MOST:
            self.stop()

    def stop(self) -> None:
        """Raise all that was collected.

        Raises:
            UserError: there was something; a single sentence stands as it is.
        """
        if not self.sentences:
            return
        sentences = list(self.sentences)
        if len(sentences) == 1:
            raise UserError(sentences[0])
        lines = [f"{self.where} has {len(sentences)} problems:", *sentences[:N_LISTED]]
        if len(sentences) > N_LISTED:
            lines.append(f"and {len(sentences) - N_LISTED} more")
        raise UserError(*lines)
