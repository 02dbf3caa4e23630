"""A capture drawn as plan and elevation: cameras from above, and from the side beneath, to one
scale and one above the other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import normalize

from dietnerf.geometry.bounds import bounds_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.coverage import Coverage
from dietnerf.geometry.poses import Surroundings

SMOOTH = 2  # drawn that many times larger
WIDEST, HIGHEST, NARROWEST = 1040, 960, 620  # of what is drawn, pixels
MARGIN, HEADER = 24, 26
LABELLED, EVERY = 40, 10  # with more cameras each tenth has its number
FRUSTUM = (0.05, 0.18)  # of the cameras' extent
LARGEST_BOX = 3.0  # which is drawn, in extents of the cameras
FLATTEST = 0.15  # side of a drawing, of the cameras' extent
DOT, GAP = 4, 3  # pixels
BLUE, GRAY, ROSE, BLACK = "#2b62b8", "#9aa3ad", "#f7d9d5", "#22262b"
AROUND_A_DOT = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))

Place = tuple[float, float]
Area = tuple[float, float, float, float]


def draw(cameras: Cameras, coverage: Coverage) -> Image.Image:
    """The cameras with what they look into and the scene's box.

    Going round, the widest gap between views is tinted. The first camera is seen from behind.
    """
    around = Surroundings.of(cameras)
    east, north = _level_axes(cameras, around)
    extent = _extent(cameras)
    frusta, box = _frusta(cameras, extent), _box(cameras)
    fitted = [cameras.positions, frusta.flatten(0, 1)]
    if coverage.kind == "object":
        fitted.append(around.center[None])
    has_box = float((box[-1] - box[0]).max()) < LARGEST_BOX * extent
    points = torch.cat([*fitted, box] if has_box else fitted)
    planes = [torch.stack([east, other], dim=1) for other in (north, around.up)]  # (3, 2) each
    windows = [_window(points @ plane, FLATTEST * extent) for plane in planes]
    scale = _scale(windows)
    panels, numbers = [], _numbers(len(cameras), coverage)
    for plane, window, title in zip(planes, windows, ("from above", "from the side"), strict=True):
        panel = _Panel(window, scale, title)
        if plane is planes[0] and coverage.kind != "forward":
            panel.sector(around.center @ plane, *_gap(cameras, around, coverage, plane))
        if has_box:
            panel.lines(box[list(edge)] @ plane for edge in _edges())
        panel.frusta(cameras.positions @ plane, frusta @ plane)
        panel.dots(cameras.positions @ plane, numbers)
        panels.append(panel.image)
    return _stacked(panels, _legend(coverage, has_box))


def _level_axes(cameras: Cameras, around: Surroundings) -> tuple[Tensor, Tensor]:
    """East and north, (3,) each: the first camera looks north."""
    ahead = around.center - cameras.positions[0]
    level = ahead - (ahead @ around.up) * around.up
    if level.norm() < 1e-3 * ahead.norm():
        level = cameras.c2w[0, :, 1]
    north = normalize(level - (level @ around.up) * around.up, dim=0)
    return torch.linalg.cross(north, around.up), north


def _extent(cameras: Cameras) -> float:
    """Half of what the cameras take up, scene units; those at one place have some too."""
    middle = (cameras.positions.amin(dim=0) + cameras.positions.amax(dim=0)) / 2
    offsets = cameras.positions - middle
    return max(float(offsets.norm(dim=-1).max()), 0.25 * float(cameras.near.mean()), 1e-6)


def _frusta(cameras: Cameras, extent: float) -> Tensor:
    """Corners of the images of all cameras, at a distance that leaves room for their number,
    (n, 4, 3)."""
    n = len(cameras)
    smallest, largest = FRUSTUM
    length = extent * min(largest, max(smallest, 0.8 / math.sqrt(n)))
    short = replace(cameras, near=torch.zeros(n), far=torch.full((n,), length))
    columns = torch.tensor([0, cameras.width, cameras.width, 0]).repeat(n) - 0.5
    rows = torch.tensor([0, 0, cameras.height, cameras.height]).repeat(n) - 0.5
    rays = short.rays(torch.arange(n).repeat_interleave(4), columns, rows)
    return (rays.rays_o + length * rays.rays_d).unflatten(0, (n, 4))


def _box(cameras: Cameras) -> Tensor:
    """Corners of the box that the cameras look into, the lowest first and the highest last,
    (8, 3)."""
    return torch.cartesian_prod(*bounds_of(cameras).T.unbind(0))


def _edges() -> Iterable[tuple[int, int]]:
    return ((i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit)


def _window(points: Tensor, least: float) -> Tensor:
    """What holds points (n, 2), with sides of `least` or more: its corners, (2, 2)."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    spare = (least - (high - low)).clamp_min(0) / 2
    return torch.stack([low - spare, high + spare])


def _scale(windows: list[Tensor]) -> float:
    """Pixels a scene unit, with which both fit."""
    sides = [window[1] - window[0] for window in windows]
    return min(WIDEST / float(sides[0][0]), HIGHEST / sum(float(side[1]) for side in sides))


def _gap(
    cameras: Cameras, around: Surroundings, coverage: Coverage, plane: Tensor
) -> tuple[float, float]:
    """Where the widest gap begins in the plan, and how wide it is, radians."""
    first, _ = coverage.gap_views
    start = -cameras.c2w[first, :, 2]
    if coverage.kind == "object":
        start = cameras.positions[first] - around.center
    east, north = (start @ plane).tolist()
    return math.atan2(north, east), coverage.widest_gap


def _numbers(n: int, coverage: Coverage) -> list[int]:
    """Cameras that are given their numbers, the most important first."""
    ends = [] if coverage.kind == "forward" else list(coverage.gap_views)
    others = range(n) if n <= LABELLED else range(0, n, EVERY)
    return list(dict.fromkeys([*ends, *others]))


def _legend(coverage: Coverage, has_box: bool) -> list[tuple[str, str]]:
    """Colors and what they stand for."""
    found = [(BLACK, f"{coverage.n_views} cameras, numbered as the photos")]
    if has_box:
        found.append((GRAY, "box that they look into"))
    if coverage.kind != "forward":
        found.append((ROSE, f"widest gap, {math.degrees(coverage.widest_gap):.0f} degrees"))
    return found


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SMOOTH)


@dataclass
class _Panel:
    """The scene projected onto a plane.

    Args:
        window: corners of what is shown, (2, 2), scene units.
        scale: pixels a scene unit.
        title: stands above.
    """

    window: Tensor
    scale: float
    title: str
    image: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        width, height = ((self.window[1] - self.window[0]) * self.scale).tolist()
        size = (max(NARROWEST, round(width)) + 2 * MARGIN, round(height) + HEADER + 2 * MARGIN)
        self.image = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), "white")
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        self._pens_title()

    def _pens_title(self) -> None:
        place = (MARGIN * SMOOTH, 8 * SMOOTH)
        self.pen.text(place, self.title, fill=BLACK, font=_font(15))

    def places(self, points: Tensor) -> list[Place]:
        """Pixels of points (n, 2)."""
        middle = self.window.mean(dim=0)
        offsets = (points - middle) * self.scale * SMOOTH
        half, half_height = self.image.width / 2, (self.image.height + HEADER * SMOOTH) / 2
        return [(half + x, half_height - y) for x, y in offsets.tolist()]

    def lines(self, lines: Iterable[Tensor]) -> None:
        for points in lines:
            self.pen.line(self.places(points), fill=GRAY, width=SMOOTH)

    def sector(self, center: Tensor, start: float, angle: float) -> None:
        """Tint the directions without a camera."""
        turn = start + torch.linspace(0, angle, 90)
        reach = 2 * max(self.image.size) / self.scale
        rim = center + reach * torch.stack([turn.cos(), turn.sin()], dim=-1)
        self.pen.polygon(self.places(torch.cat([center[None], rim])), fill=ROSE)
        self.pen.rectangle((0, 0, self.image.width, HEADER * SMOOTH), fill="white")
        self._pens_title()

    def frusta(self, positions: Tensor, corners: Tensor) -> None:
        """Pyramids from positions (n, 2) to the corners of their images (n, 4, 2)."""
        is_crowded = len(positions) > LABELLED
        for apex, ends in zip(self.places(positions), corners, strict=True):
            image = self.places(ends)
            self.pen.polygon(image, fill=f"{BLUE}{'18' if is_crowded else '30'}")
            self.pen.line([*image, image[0]], fill=BLUE, width=SMOOTH)
            for end in image:
                self.pen.line([apex, end], fill=f"{BLUE}{'50' if is_crowded else 'a0'}", width=2)

    def dots(self, positions: Tensor, numbers: Iterable[int]) -> None:
        """Cameras at (n, 2), and the numbers of some of them where there is room."""
        places, radius = self.places(positions), DOT * SMOOTH
        taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in places]
        for area in taken:
            self.pen.ellipse(area, fill=BLACK, outline="white")
        for i in numbers:
            if (room := self._room(places[i], str(i), taken)) is not None:
                taken.append(room)
                middle = ((room[0] + room[2]) / 2, (room[1] + room[3]) / 2)
                self._pen_number(middle, str(i))

    def _pen_number(self, middle: Place, text: str) -> None:
        font = _font(13)
        self.pen.text(middle, text, BLACK, font, "mm", stroke_width=3, stroke_fill="white")

    def _room(self, place: Place, text: str, taken: list[Area]) -> Area | None:
        """Where a text beside a dot hides none of what is taken, if it can stand so."""
        left, top, right, bottom = _font(13).getbbox(text, anchor="mm")
        width, height = (right - left) / 2, (bottom - top) / 2
        for east, south in AROUND_A_DOT:
            x = place[0] + east * (width + (DOT + GAP) * SMOOTH)
            y = place[1] + south * (height + (DOT + GAP) * SMOOTH)
            area = (x - width, y - height, x + width, y + height)
            if not any(_overlap(area, other) for other in taken):
                return area
        return None


def _overlap(one: Area, other: Area) -> bool:
    is_beside = one[2] <= other[0] or other[2] <= one[0]
    return not (is_beside or one[3] <= other[1] or other[3] <= one[1])


def _stacked(panels: list[Image.Image], legend: list[tuple[str, str]]) -> Image.Image:
    """Panels one above the other, over a line that says what colors stand for."""
    width, height = panels[0].width, sum(panel.height for panel in panels)
    whole = Image.new("RGB", (width, height + HEADER * SMOOTH), "white")
    top = 0
    for panel in panels:
        whole.paste(panel, (0, top))
        top += panel.height
    pen, x = ImageDraw.Draw(whole), MARGIN * SMOOTH
    for color, text in legend:
        pen.rectangle((x, top, x + 12 * SMOOTH, top + 12 * SMOOTH), fill=color)
        pen.text((x + 18 * SMOOTH, top + 6 * SMOOTH), text, BLACK, _font(13), anchor="lm")
        x += round(18 * SMOOTH + _font(13).getlength(text) + 24 * SMOOTH)
    return whole.resize((whole.width // SMOOTH, whole.height // SMOOTH), Image.Resampling.LANCZOS)
