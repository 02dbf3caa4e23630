"""What goes wrong in the viewer is said once: browsers can make it happen as often as they like."""

import functools
import sys
from collections.abc import Callable
from typing import Any


class Notices:
    """Sentences on the terminal, each at most once, until `end`."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._has_ended = False

    def end(self) -> None:
        """Say nothing more: a server that stops cuts off what its threads are at."""
        self._has_ended = True

    def say(self, sentence: str, error: BaseException | None = None) -> None:
        """Print a sentence, with its cause behind it, unless it was printed before.

        Args:
            sentence: nothing of it may come from a browser.
            error: its text may, so it is quoted.
        """
        if self._has_ended or sentence in self._said:
            return
        self._said.add(sentence)
        reason = "" if error is None else f" ({type(error).__name__}: {str(error)[:300]!r})"
        print(f"viewer: {sentence}{reason}", file=sys.stderr, flush=True)

    def catch(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback of viser's, whose errors are said instead of raised."""

        @functools.wraps(callback)
        def caught(event: Any) -> None:
            try:
                callback(event)
            except Exception as error:  # whatever a browser makes of it, the viewer goes on
                self.say("what a browser asked for could not be done", error)

        return caught
