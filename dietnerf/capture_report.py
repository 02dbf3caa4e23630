"""A report of a capture before training: what its cameras cover, in words and as an image."""

import math
from collections.abc import Sequence
from pathlib import Path

from dietnerf.capture_picture import draw
from dietnerf.data.images import encoded
from dietnerf.files import write_file
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.coverage import Coverage
from dietnerf.presets import preset_for

KINDS = {
    "object": "cameras stand around what they look at",
    "forward": "cameras look the same way, as at a stage",
    "inside-out": "cameras look around themselves, as in a room",
}
WIDE = math.radians(60)  # a gap that is worth a word


def report_capture(
    cameras: Cameras,
    names: Sequence[str],
    picture: Path,
    is_cut_out: bool = False,
    has_depths: bool = False,
) -> Coverage:
    """Print what the cameras cover, and draw them.

    Args:
        cameras: n of them.
        names: what they are called, n of them.
        picture: PNG to be written.
        is_cut_out: nothing is behind what the photos show.
        has_depths: sparse points or depth maps come with the photos.
    """
    coverage = Coverage.of(cameras)
    preset = preset_for(cameras, is_cut_out=is_cut_out, has_depths=has_depths)
    print("\n".join(describe(coverage, names)))
    print(f"  preset     {preset.options}, for {preset.reason}")
    write_file(picture, encoded(draw(cameras, coverage), "PNG"))
    print(f"  picture    {picture}")
    return coverage


def describe(coverage: Coverage, names: Sequence[str]) -> list[str]:
    """A capture in a few lines, with advice where views are missing."""
    lines = [
        f"{coverage.n_views} views: {KINDS[coverage.kind]}",
        f"  coverage   {coverage.covered:.0%} of all directions are within 30 degrees of a view",
        f"  overlap    {coverage.seen_by_two:.0%} of the scene's box is seen by two views or more, "
        f"{coverage.seen_by_three:.0%} by three or more",
    ]
    if coverage.kind == "forward":
        lines.append(f"  spread     views differ by at most {_degrees(coverage.spread)}")
    else:
        lines.append(_gap(coverage, names))
    if coverage.seen_by_two < 0.5:
        lines.append("  advice     let neighboring photos overlap more, or take more of them")
    return lines


def _gap(coverage: Coverage, names: Sequence[str]) -> str:
    first, last = (f"{names[i]} ({i})" for i in coverage.gap_views)
    gap = f"  widest gap {_degrees(coverage.widest_gap)} going round, from {first} to {last}"
    return f"{gap}: what faces there stays open" if coverage.widest_gap > WIDE else gap


def _degrees(angle: float) -> str:
    return f"{math.degrees(angle):.0f} degrees"
