"""All that is wrong with a scene, said at once rather than one mistake a run."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dietnerf.errors import UserError

N_LISTED = 20
MOST = 10_000  # sentences, after which the rest is not looked for
# Which entry of a listing a sentence is about.
ENTRY = re.compile(r", (?:frame|row|image) .*?(?=: | has | shows )")


class ErrorCollector:
    """Collects the sentences of mistakes that do not hinder finding the next one.

    Args:
        where: the scene, for the heading of several.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self.sentences: dict[str, None] = {}  # in their order, each once
        self.n_added = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep the sentence of a `UserError` that the block raises."""
        try:
            yield
        except UserError as error:
            self.add(str(error))

    def add(self, sentence: str) -> None:
        self.sentences[sentence] = None
        self.n_added += 1
        if self.n_added == MOST:
            self.stop()

    def stop(self) -> None:
        """Raise all that was collected.

        Raises:
            UserError: there was something; a single sentence stands as it is.
        """
        if not self.sentences:
            return
        sentences = _told_once(self.sentences)
        if len(sentences) == 1:
            raise UserError(sentences[0])
        lines = [f"{self.where} has {len(sentences)} problems:", *sentences[:N_LISTED]]
        if len(sentences) > N_LISTED:
            lines.append(f"and {len(sentences) - N_LISTED} more")
        raise UserError(*lines)


def _told_once(sentences: Iterable[str]) -> list[str]:
    """The first of those that differ in the entry of a listing and in numbers alone, such as a
    wrong key at its top makes for every frame, with the number of the others."""
    alike = defaultdict[str, list[str]](list)
    for sentence in sentences:
        plain, n = ENTRY.subn(", #", sentence, count=1)
        alike[re.sub(r"\d+", "#", plain) if n else sentence].append(sentence)
    return [
        first if not others else f"{first} (the same in {len(others)} more)"
        for first, *others in alike.values()
    ]
