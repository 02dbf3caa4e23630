"""The generated scene: a toy coast with a lighthouse, within 1.2 scene units of the origin, z up.

Paints give linear colors. Thin poles, an arch to look through and a shiny ball are there because
they are hard.
"""

import math

import torch
from torch import Tensor

from dietnerf.data.procedural.solids import (
    GROUND,
    Ball,
    Frustum,
    Paint,
    Polyhedron,
    Solid,
    box,
    dot,
    plain,
    rgb,
)


def coast_scene() -> list[list[Solid]]:
    """The solids of the scene, those that stand together in one list."""
    fence = _fence(radius=1.02, first_deg=-62.0, last_deg=22.0, n_posts=13)
    n_half = len(fence) // 2
    return [
        _base(),
        _lighthouse(-0.40, 0.24),
        _house(0.46, 0.36, turn=0.35),
        _arch(-0.36, -0.56, turn=0.45),
        fence[:n_half],
        fence[n_half:],
        _tree(0.02, 0.80, 0.62),
        _tree(-0.90, -0.16, 0.5),
        [Ball((0.30, -0.42, GROUND + 0.21), 0.21, _spots(rgb("#2f6fd0"), rgb("#ffd23f")), 0.7)],
    ]


def _mix(is_second: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(is_second[:, None], second, first)


def _odd(cells: Tensor) -> Tensor:
    return cells.floor().long() % 2 == 1


def _spots(ground: Tensor, spot: Tensor) -> Paint:
    """Twelve round spots, at the corners of an icosahedron."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0.0, s, t * golden) for s in (-1, 1) for t in (-1, 1)]
    turns = [(c[i], c[i - 1], c[i - 2]) for c in corners for i in range(3)]
    axes = torch.tensor(turns) / math.hypot(1, golden)

    def paint(p: Tensor) -> Tensor:
        unit = p / p.norm(dim=-1, keepdim=True)
        nearest = torch.stack([dot(unit, axis) for axis in axes]).amax(dim=0)
        return _mix(nearest > 0.93, ground, spot)

    return paint


def _base() -> list[Solid]:
    light, dark, side = rgb("#e9dfc3"), rgb("#8fb58a"), rgb("#9a6b42")
    height = 0.08

    def paint(p: Tensor) -> Tensor:
        checks = _odd(p[:, 0] / 0.2) ^ _odd(p[:, 1] / 0.2)
        rim = p[:, 0].hypot(p[:, 1]) > 1.06
        top = _mix(checks & ~rim, light, dark)
        return torch.where((p[:, 2] > height - 1e-3)[:, None], top, side)

    return [Frustum((0.0, 0.0, GROUND - height), 1.1, 1.1, height, paint)]


def _lighthouse(x: float, y: float) -> list[Solid]:
    top, slate = GROUND + 1.0, plain("#474b57")
    rails: list[Solid] = [
        Frustum((x + 0.205 * math.cos(a), y + 0.205 * math.sin(a), top), 0.009, 0.009, 0.1, slate)
        for a in torch.linspace(0, 2 * math.pi, 13)[:-1].tolist()
    ]
    return [
        Frustum((x, y, GROUND), 0.29, 0.27, 0.07, plain("#8b8d94")),
        Frustum((x, y, GROUND), 0.235, 0.15, 1.0, _stripes, gloss=0.15),
        Frustum((x, y, top), 0.225, 0.225, 0.03, slate),
        *rails,
        Frustum((x, y, top + 0.03), 0.11, 0.11, 0.17, _lantern, gloss=0.6),
        Frustum((x, y, top + 0.20), 0.165, 0.02, 0.16, plain("#c8202f"), gloss=0.3),
        Ball((x, y, top + 0.38), 0.032, plain("#f2b632"), gloss=0.6),
    ]


def _stripes(p: Tensor) -> Tensor:
    """Red and white bands, a door towards -y and two windows above it."""
    x, y, z = p.unbind(-1)
    color = _mix(_odd(z / 0.2), rgb("#f4f1ea"), rgb("#d3222f"))
    front = y < 0
    door = front & (x.abs() < 0.065) & (z < 0.24 + (0.065**2 - x * x).clamp(min=0).sqrt() - 0.03)
    window = front & (x.abs() < 0.03) & (((z - 0.5).abs() < 0.05) | ((z - 0.82).abs() < 0.04))
    return _mix(window, _mix(door, color, rgb("#5b3a22")), rgb("#26364d"))


def _lantern(p: Tensor) -> Tensor:
    angle = torch.atan2(p[:, 1], p[:, 0]) / (2 * math.pi) * 8
    is_bar = (angle - angle.floor() - 0.5).abs() > 0.38
    return _mix(is_bar, rgb("#ffe27a"), rgb("#3a3d46"))


def _house(x: float, y: float, turn: float) -> list[Solid]:
    length, width, height, rise = 0.52, 0.38, 0.28, 0.2
    half = width / 2 + 0.035
    slope = torch.tensor([0.0, rise, half]) / math.hypot(rise, half)
    gable = torch.tensor([1.0, 0.0, 0.0])
    normals = torch.stack(
        [slope, slope * torch.tensor([1.0, -1.0, 1.0]), gable, -gable, torch.tensor([0.0, 0, -1])]
    )
    eaves = rise * half / math.hypot(rise, half)
    over = length / 2 + 0.03
    offsets = torch.tensor([eaves, eaves, over, over, 0.0])
    chimney_x, chimney_y = x + 0.13 * math.cos(turn), y + 0.13 * math.sin(turn)
    return [
        box((x, y, GROUND + height / 2), (length, width, height), _walls, turn),
        Polyhedron((x, y, GROUND + height), normals, offsets, 0.42, _tiles, turn),
        box((chimney_x, chimney_y, GROUND + 0.47), (0.08, 0.08, 0.2), plain("#a5553f"), turn),
    ]


def _walls(p: Tensor) -> Tensor:
    """Cream walls: a blue door between windows on the long sides, a window on the short ones."""
    x, y, z = p.unbind(-1)
    on_long_side = y.abs() > 0.189
    along = torch.where(on_long_side, x, y)
    door = on_long_side & (along.abs() < 0.05) & (z < 0.05)
    middle = torch.where(on_long_side, along.abs() - 0.16, along)
    frame = (middle.abs() < 0.058) & ((z - 0.02).abs() < 0.062)
    pane = (middle.abs() < 0.044) & ((z - 0.02).abs() < 0.048)
    pane &= (middle.abs() > 0.006) & ((z - 0.02).abs() > 0.006)
    walls = _mix(frame, rgb("#f3dfae"), rgb("#ffffff"))
    return _mix(pane, _mix(door, walls, rgb("#2a6f97")), rgb("#34506b"))


def _tiles(p: Tensor) -> Tensor:
    row = p[:, 2] / 0.034
    column = p[:, 0] / 0.07 + 0.5 * row.floor()
    joint = ((row - row.floor()) < 0.2) | ((column - column.floor()) < 0.14)
    return _mix(joint, rgb("#d9693c"), rgb("#9c3f22"))


def _arch(x: float, y: float, turn: float) -> list[Solid]:
    """Two pillars and nine wedge stones."""
    c, s = math.cos(turn), math.sin(turn)
    radius, spring, depth = 0.23, GROUND + 0.3, 0.13
    pillars = [
        box(
            (x + e * radius * c, y + e * radius * s, GROUND + 0.15), (0.12, depth, 0.3), stone, turn
        )
        for e, stone in ((-1, plain("#b8a58c")), (1, plain("#b8a58c")))
    ]
    stones = []
    for k in range(9):
        angle = math.pi * (k + 0.5) / 9
        out = radius * math.cos(angle)
        place = (x + out * c, y + out * s, spring + radius * math.sin(angle))
        paint = plain("#d8c7ab") if k % 2 == 0 else plain("#a78f78")
        stones.append(box(place, (0.12, depth, 0.088), paint, turn, tilt=-angle))
    return [*pillars, *stones]


def _fence(radius: float, first_deg: float, last_deg: float, n_posts: int) -> list[Solid]:
    white = plain("#f7f5ef")
    angles = torch.linspace(math.radians(first_deg), math.radians(last_deg), n_posts).tolist()
    places = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    posts: list[Solid] = [Frustum((x, y, GROUND), 0.016, 0.012, 0.22, white) for x, y in places]
    solids = posts[:1]
    for post, (x0, y0), (x1, y1) in zip(posts[1:], places, places[1:], strict=False):
        size = (math.hypot(x1 - x0, y1 - y0), 0.012, 0.022)
        turn = math.atan2(y1 - y0, x1 - x0)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        rails = [box((*middle, GROUND + z), size, white, turn) for z in (0.08, 0.16)]
        solids += [*rails, post]
    return solids


def _tree(x: float, y: float, size: float) -> list[Solid]:
    tiers = [(0.18, 0.30, 0.38), (0.40, 0.24, 0.34), (0.62, 0.17, 0.38)]
    greens = ("#2f6b3a", "#3a7d44", "#4c9a52")
    return [
        Frustum((x, y, GROUND), 0.06 * size, 0.05 * size, 0.2 * size, plain("#6b4426")),
        *(
            Frustum((x, y, GROUND + z * size), r * size, 0.012, h * size, plain(green))
            for (z, r, h), green in zip(tiers, greens, strict=True)
        ),
    ]
