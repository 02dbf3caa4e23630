"""A report of a capture before training: what its cameras cover, in words and as an image."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import normalize

from dietnerf.data.images import encoded
from dietnerf.files import write_file
from dietnerf.geometry.bounds import bounds_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.coverage import Coverage
from dietnerf.geometry.poses import Surroundings
from dietnerf.presets import preset_for

KINDS = {
    "object": "cameras stand around what they look at",
    "forward": "cameras look the same way, as at a stage",
    "inside-out": "cameras look around themselves, as in a room",
}
WIDE = math.radians(60)  # a gap that is reported
PANEL, MARGIN = 560, 40  # pixels
SMOOTH = 2  # drawn that many times larger
LABELLED = 40  # largest number of cameras with labels
BLUE, GRAY, ROSE, BLACK = "#2b62b8", "#9aa3ad", "#f7d9d5", "#22262b"

Line = tuple[Tensor, str, int]  # points (n, 2) in the scene's plane, color, width


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


def draw(cameras: Cameras, coverage: Coverage) -> Image.Image:
    """Draw the cameras with their frusta and the scene's box, from above and from the side.

    The widest gap between views in azimuth is tinted.
    """
    around = Surroundings.of(cameras)
    east, north = _level_axes(cameras, around)
    middle = _middle(cameras, coverage, around)
    extent = _extent(cameras, middle)
    lines = [*_box(cameras), *_frusta(cameras, 0.18 * extent)]
    panels = []
    for title, axes in (("from above", (east, north)), ("from the side", (north, around.up))):
        plane = torch.stack(axes, dim=1)  # (3, 2)
        panel = _Panel(middle @ plane, extent)
        if title == "from above" and coverage.kind != "forward":
            panel.sector(around.center @ plane, coverage, cameras, plane)
        panel.lines((points @ plane, color, width) for points, color, width in lines)
        panel.dots(cameras.positions @ plane)
        panels.append(panel.finish(title))
    return _beside(panels)


def _level_axes(cameras: Cameras, around: Surroundings) -> tuple[Tensor, Tensor]:
    """East and north, (3,) each, so that the first camera is seen from behind in the middle."""
    ahead = around.center - cameras.positions[0]
    level = ahead - (ahead @ around.up) * around.up
    if level.norm() < 1e-3 * ahead.norm():
        level = cameras.c2w[0, :, 1]
    north = normalize(level - (level @ around.up) * around.up, dim=0)
    return torch.linalg.cross(north, around.up), north


def _middle(cameras: Cameras, coverage: Coverage, around: Surroundings) -> Tensor:
    if coverage.kind == "object":
        return around.center
    return (cameras.positions.amin(dim=0) + cameras.positions.amax(dim=0)) / 2


def _extent(cameras: Cameras, middle: Tensor) -> float:
    """Half a side of the pictures, scene units: all cameras have room, those at one place too."""
    offsets = cameras.positions - middle
    return 1.25 * max(float(offsets.norm(dim=-1).max()), 0.25 * float(cameras.near.mean()))


def _frusta(cameras: Cameras, length: float) -> list[Line]:
    """Pyramids of what is in the frames, up to `length` along the axes."""
    n = len(cameras)
    near, far = torch.zeros(n), torch.full((n,), length)
    short = replace(cameras, near=near, far=far)
    columns = torch.tensor([0, cameras.width, cameras.width, 0]).repeat(n) - 0.5
    rows = torch.tensor([0, 0, cameras.height, cameras.height]).repeat(n) - 0.5
    rays = short.rays(torch.arange(n).repeat_interleave(4), columns, rows)
    corners = (rays.rays_o + length * rays.rays_d).unflatten(0, (n, 4))
    lines: list[Line] = []
    for position, ends in zip(cameras.positions, corners, strict=True):
        lines.append((torch.cat([ends, ends[:1]]), BLUE, 2))
        lines += [(torch.stack([position, end]), BLUE, 1) for end in ends]
    return lines


def _box(cameras: Cameras) -> list[Line]:
    """The twelve edges of the box that the cameras look into."""
    low, high = bounds_of(cameras)
    corners = torch.cartesian_prod(*torch.stack([low, high], dim=1).unbind(0))
    edges = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    return [(corners[list(edge)], GRAY, 1) for edge in edges]


class _Panel:
    """A square drawing of the scene projected onto a plane.

    Args:
        middle: what is in the middle of the drawing, (2,).
        extent: half of its side, scene units.
    """

    def __init__(self, middle: Tensor, extent: float) -> None:
        size = PANEL * SMOOTH
        self.middle = middle
        self.scale = (size / 2 - MARGIN * SMOOTH) / extent
        self.image = Image.new("RGB", (size, size), "white")
        self.pen = ImageDraw.Draw(self.image)

    def places(self, points: Tensor) -> list[tuple[float, float]]:
        """Pixels of points (n, 2)."""
        half = self.image.width / 2
        offsets = (points - self.middle) * self.scale
        return [(half + x, half - y) for x, y in offsets.tolist()]

    def lines(self, lines: Iterable[Line]) -> None:
        for points, color, width in lines:
            self.pen.line(self.places(points), fill=color, width=width * SMOOTH)

    def dots(self, points: Tensor) -> None:
        """Cameras, numbered in the order of the capture."""
        radius, font = 4 * SMOOTH, ImageFont.load_default(13 * SMOOTH)
        for i, (x, y) in enumerate(self.places(points)):
            self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=BLACK)
            if len(points) <= LABELLED:
                self.pen.text((x + radius, y + radius / 2), str(i), fill=BLACK, font=font)

    def sector(self, center: Tensor, coverage: Coverage, cameras: Cameras, plane: Tensor) -> None:
        """Tint the directions without a camera."""
        first, _ = coverage.gap_views
        if coverage.kind == "object":
            start = cameras.positions[first] @ plane - center
        else:
            start = -cameras.c2w[first, :, 2] @ plane
        angle = math.atan2(float(start[1]), float(start[0]))
        turn = angle + torch.linspace(0, coverage.widest_gap, 90)
        rim = torch.stack([turn.cos(), turn.sin()], dim=-1) * 2 * self.image.width / self.scale
        self.pen.polygon(self.places(torch.cat([center[None], center + rim])), fill=ROSE)

    def finish(self, title: str) -> Image.Image:
        font = ImageFont.load_default(15 * SMOOTH)
        self.pen.text((12 * SMOOTH, 8 * SMOOTH), title, fill=BLACK, font=font)
        return self.image.resize((PANEL, PANEL), Image.Resampling.LANCZOS)


def _beside(panels: list[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (PANEL * len(panels), PANEL), "white")
    for i, panel in enumerate(panels):
        whole.paste(panel, (i * PANEL, 0))
    return whole
