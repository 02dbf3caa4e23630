"""Another generated scene: a castle of plain toy blocks, within 1.2 scene units of the origin.

Nothing on it has a pattern: edges and shadows alone say where things are.
"""

import math

from dietnerf.data.procedural.solids import GROUND, Ball, Frustum, Solid, box, plain

RED, BLUE, YELLOW, GREEN, WOOD = "#c8352b", "#2b62b8", "#e8b21f", "#3c8f4a", "#c49a6c"
BLOCK = 0.2  # edge, scene units


def blocks_scene() -> list[list[Solid]]:
    """The solids of the scene, those that stand together in one list."""
    return [
        [Frustum((0.0, 0.0, GROUND - 0.06), 1.1, 1.1, 0.06, plain("#d9d2c3"))],
        *(_tower(x, y, color) for x, y, color in _corners()),
        _gate(),
        _keep(),
        [
            Ball((0.75, -0.55, GROUND + 0.14), 0.14, plain(RED), 0.5),
            box((0.85, 0.25, GROUND + 0.06), (0.34, 0.12, 0.12), plain(BLUE), turn=0.9),
            box((-0.78, -0.62, GROUND + 0.1), (BLOCK,) * 3, plain(GREEN), turn=0.5),
        ],
    ]


def _corners() -> list[tuple[float, float, str]]:
    return [(0.45, 0.45, RED), (-0.45, 0.45, BLUE), (-0.45, -0.45, YELLOW), (0.45, -0.45, GREEN)]


def _tower(x: float, y: float, color: str) -> list[Solid]:
    """A round tower under a cone, on a square foot."""
    foot = box((x, y, GROUND + BLOCK / 2), (0.24, 0.24, BLOCK), plain(WOOD))
    return [
        foot,
        Frustum((x, y, GROUND + BLOCK), 0.1, 0.1, 0.4, plain(WOOD)),
        Frustum((x, y, GROUND + BLOCK + 0.4), 0.15, 0.01, 0.22, plain(color)),
    ]


def _gate() -> list[Solid]:
    """Two posts and a lintel towards -y, with a roof."""
    posts: list[Solid] = [
        box((side * 0.16, -0.45, GROUND + 0.15), (0.1, 0.16, 0.3), plain(YELLOW))
        for side in (-1, 1)
    ]
    return [
        *posts,
        box((0.0, -0.45, GROUND + 0.35), (0.46, 0.16, 0.1), plain(RED)),
        box((0.0, -0.45, GROUND + 0.45), (0.2, 0.16, 0.1), plain(BLUE)),
    ]


def _keep() -> list[Solid]:
    """Floors that turn and shrink, and a ball on top."""
    floors: list[Solid] = []
    height = GROUND
    for i, color in enumerate((WOOD, RED, WOOD, BLUE, WOOD)):
        edge = 0.44 - 0.06 * i
        middle = (0.0, 0.12, height + 0.08)
        floors.append(box(middle, (edge, edge, 0.16), plain(color), turn=i * math.pi / 10))
        height += 0.16
    return [*floors, Ball((0.0, 0.12, height + 0.08), 0.08, plain(YELLOW), 0.5)]
