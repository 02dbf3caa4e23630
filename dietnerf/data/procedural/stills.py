"""Generated scenes that are hard in one way each: thin bars, highlights, no pattern at all, and
white on white.

All lie within 1.2 scene units of the origin, z up.
"""

import math

import torch

from dietnerf.data.procedural.solids import (
    GROUND,
    Ball,
    Frustum,
    Paint,
    Polyhedron,
    Solid,
    box,
    plain,
)

HUB = GROUND + 0.72  # height of the wheel's axle


def wires_scene() -> list[list[Solid]]:
    """A Ferris wheel of thin bars, and a pylon beside it."""
    return [
        [Frustum((0.0, 0.0, GROUND - 0.04), 1.0, 1.0, 0.04, plain("#b9b4a7"))],
        _wheel(-0.15, -0.11),
        _wheel(-0.15, 0.11),
        _gondolas(-0.15),
        _trestle(-0.15),
        *_pylon(0.72, 0.25),
    ]


def _bar(start: tuple[float, ...], end: tuple[float, ...], thickness: float, code: str) -> Solid:
    """A bar between two points."""
    dx, dy, dz = (b - a for a, b in zip(start, end, strict=True))
    level = math.hypot(dx, dy)
    middle = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
    size = (math.hypot(level, dz), thickness, thickness)
    return box(middle, size, plain(code), turn=math.atan2(dy, dx), tilt=-math.atan2(dz, level))


def _rim(x: float, angle: float, radius: float = 0.58) -> tuple[float, float]:
    return x + radius * math.cos(angle), HUB + radius * math.sin(angle)


def _wheel(x: float, y: float) -> list[Solid]:
    """Twelve spokes and the rim between their ends, in the plane of this y."""
    solids: list[Solid] = []
    for k in range(12):
        (ax, az), (bx, bz) = (_rim(x, 2 * math.pi * i / 12) for i in (k, k + 1))
        solids.append(_bar((x, y, HUB), (ax, y, az), 0.014, "#b3402e"))
        solids.append(_bar((ax, y, az), (bx, y, bz), 0.02, "#22577a"))
    return solids


def _gondolas(x: float) -> list[Solid]:
    colors = ("#e9b44c", "#3a7d44", "#c8352b", "#2b62b8")
    solids: list[Solid] = []
    for k in range(0, 12, 2):
        gx, gz = _rim(x, 2 * math.pi * k / 12)
        solids.append(box((gx, 0.0, gz - 0.07), (0.1, 0.12, 0.09), plain(colors[k // 2 % 4])))
        solids.append(_bar((gx, -0.11, gz), (gx, 0.11, gz), 0.012, "#444444"))
    return solids


def _trestle(x: float) -> list[Solid]:
    legs = [
        _bar((x + side * 0.34, y, GROUND), (x, y, HUB), 0.026, "#6d6875")
        for side in (-1, 1)
        for y in (-0.17, 0.17)
    ]
    return [*legs, _bar((x, -0.19, HUB), (x, 0.19, HUB), 0.04, "#333333")]


def _pylon(x: float, y: float) -> list[list[Solid]]:
    """Four legs that lean together, with braces, in three storeys."""
    storeys = []
    for k in range(3):
        low, high = GROUND + 0.3 * k, GROUND + 0.3 * (k + 1)
        wide, narrow = 0.16 - 0.04 * k, 0.12 - 0.04 * k
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        solids: list[Solid] = []
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            foot = (x + ax * wide, y + ay * wide, low)
            head = (x + ax * narrow, y + ay * narrow, high)
            across = (x + bx * narrow, y + by * narrow, high)
            solids += [_bar(foot, head, 0.016, "#39424e"), _bar(foot, across, 0.01, "#8d99ae")]
            solids.append(_bar(head, across, 0.012, "#39424e"))
        storeys.append(solids)
    return storeys


def chrome_scene() -> list[list[Solid]]:
    """Dark, polished things whose highlights move with the camera."""
    dark, blue, wine, brass = "#22262b", "#17324d", "#4a1420", "#6b5020"
    pins = [
        Frustum((0.62 * math.cos(a), 0.62 * math.sin(a), GROUND), 0.11, 0.03, 0.36, plain(c), 2.5)
        for a, c in zip([0.3, 1.5, 2.7, 3.9, 5.1], (blue, brass, wine, blue, brass), strict=True)
    ]
    balls = [
        Ball((0.86 * math.cos(a), 0.86 * math.sin(a), GROUND + 0.1), 0.1, plain(wine), 2.5)
        for a in (0.9, 3.3, 4.5)
    ]
    return [
        [Frustum((0.0, 0.0, GROUND - 0.05), 1.05, 1.05, 0.05, plain("#5d6168"), 0.8)],
        [
            Ball((0.0, 0.0, GROUND + 0.3), 0.3, plain(dark), 3.0),
            Frustum((0.0, 0.0, GROUND + 0.57), 0.1, 0.1, 0.16, plain(brass), 3.0),
            Ball((0.0, 0.0, GROUND + 0.84), 0.15, plain(blue), 3.0),
        ],
        [*pins],
        [*balls],
    ]


def clay_scene() -> list[list[Solid]]:
    """One color everywhere: light and outlines alone say where things are."""
    clay = plain("#cfc6b8")
    steps: list[Solid] = [
        box((0.0, 0.34, GROUND + 0.06 + 0.12 * k), (0.9 - 0.2 * k, 0.8 - 0.2 * k, 0.12), clay, 0.2)
        for k in range(3)
    ]
    columns: list[Solid] = [
        Frustum((x, -0.5, GROUND), 0.085, 0.065, 0.6, clay) for x in (-0.6, -0.2, 0.2, 0.6)
    ]
    return [
        [Frustum((0.0, 0.0, GROUND - 0.06), 1.1, 1.1, 0.06, clay)],
        [*steps, _roof(0.0, 0.34, GROUND + 0.36, 0.36, clay)],
        [*columns, box((0.0, -0.5, GROUND + 0.64), (1.44, 0.2, 0.08), clay)],
        [
            Ball((0.78, 0.1, GROUND + 0.16), 0.16, clay),
            Ball((-0.74, 0.0, GROUND + 0.12), 0.12, clay),
        ],
    ]


def _roof(x: float, y: float, z: float, height: float, paint: Paint) -> Solid:
    """A pyramid whose sides rise by 45 degrees."""
    slope = torch.tensor([[1.0, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1]]) / math.sqrt(2)
    normals = torch.cat([slope, torch.tensor([[0.0, 0, -1]])])
    offsets = torch.tensor([height / math.sqrt(2)] * 4 + [0.0])
    return Polyhedron((x, y, z), normals, offsets, 1.5 * height, paint, turn=0.2)


def porcelain_scene() -> list[list[Solid]]:
    """A white tea service, which the sun makes as white as what is behind it."""
    white, blue, tea = plain("#e6e4de"), plain("#2f4f8f"), plain("#8a4b1c")
    service: list[list[Solid]] = [
        [
            Frustum((0.0, 0.0, GROUND - 0.05), 1.0, 1.08, 0.05, white, 0.6),
            Frustum((0.0, 0.0, GROUND), 1.08, 1.1, 0.02, blue),
            Frustum((0.0, 0.0, GROUND + 0.02), 1.1, 1.12, 0.02, white, 0.6),
        ],
        [
            Ball((0.0, 0.15, GROUND + 0.34), 0.3, white, 0.6),
            Frustum((0.0, 0.15, GROUND + 0.58), 0.17, 0.14, 0.05, blue),
            Ball((0.0, 0.15, GROUND + 0.67), 0.05, white, 0.6),
            box((0.38, 0.15, GROUND + 0.4), (0.26, 0.07, 0.07), white, tilt=-0.5),
            box((-0.34, 0.15, GROUND + 0.44), (0.2, 0.05, 0.05), blue),
            box((-0.43, 0.15, GROUND + 0.32), (0.05, 0.05, 0.2), blue),
        ],
    ]
    for angle in (3.6, 4.7, 5.8):
        x, y = 0.68 * math.cos(angle), 0.68 * math.sin(angle)
        service.append(
            [
                Frustum((x, y, GROUND + 0.04), 0.2, 0.22, 0.02, white, 0.6),
                Frustum((x, y, GROUND + 0.06), 0.07, 0.13, 0.16, white, 0.6),
                Frustum((x, y, GROUND + 0.22), 0.13, 0.135, 0.02, blue),
                Frustum((x, y, GROUND + 0.24), 0.12, 0.12, 0.002, tea),
            ]
        )
    return service
