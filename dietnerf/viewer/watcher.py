"""A browser, and how much of its view it has seen."""

from dataclasses import dataclass
from typing import Any

from dietnerf.geometry.cameras import Cameras
from dietnerf.progressive import FINER, Preview

MOVING = 0.05  # seconds of a picture while somebody moves


@dataclass
class Watcher:
    """A browser, and what it has seen.

    Args:
        client: viser's handle.
        wanted: counts its moves; a picture of an earlier one is stale.
        shrink: of the picture that it shows; None before the first one of this view.
        version: of the field that the picture shows.
        is_lost: no picture could be made of this view; the next move brings another one.
        turn: number of its last picture, of those of all browsers.
    """

    client: Any
    wanted: int = 0
    shrink: int | None = None
    version: int = -1
    is_lost: bool = False
    turn: int = 0

    def look_anew(self) -> None:
        """The view is another one."""
        self.wanted += 1
        self.shrink = None
        self.is_lost = False

    def urgency(self) -> tuple[bool, int, int, int]:
        """What to sort by: who needs a picture most comes first."""
        return self.shrink is not None, self.version, -(self.shrink or 0), self.turn

    def next_shrink(
        self, preview: Preview, cameras: Cameras, still_seconds: float, version: int
    ) -> int | None:
        """Of the next picture; None where it shows all there is.

        Args:
            preview: knows how long a pixel takes.
            cameras: what the browser looks through.
            still_seconds: what the finest picture may take.
            version: of the field today.
        """
        if self.shrink is None:
            return preview.shrink(cameras, MOVING)
        finest = preview.shrink(cameras, still_seconds)
        if self.shrink > finest:
            return max(finest, self.shrink // FINER)
        return finest if self.version < version else None
