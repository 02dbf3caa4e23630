"""Placed photographs as a `transforms.json` scene, upright and of a handy size."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dietnerf.data.ply import OBSERVATION, OBSERVATION_ROW, VERTEX, VERTEX_ROW, write_ply
from dietnerf.data.ranges import range_of_points
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings
from dietnerf.prepare.structure import Lens, Structure

DISTANCE = 4.0  # of what is seen, as in NeRF-synthetic, scene units
POINTS = "points.ply"
FIRST_ID = 1  # of the photographs, as COLMAP counts
FEWEST_PHOTOS = 3  # that show a point whose distance is told: of two, a wrong match goes unnoticed


def upright(structure: Structure) -> Structure:
    """The same with z up, what the cameras look at in the origin, and what is seen 4 units away.

    Structure from motion knows neither direction nor scale. That the photographs are held level
    settles the direction.
    """
    scale = DISTANCE / float(np.median(np.concatenate(structure.depths)))
    around = Surroundings.of(cameras_of(structure))
    up = around.up.double().numpy()
    east = np.cross(np.eye(3)[np.abs(up).argmin()], up)
    east /= np.linalg.norm(east)
    turn = np.stack([east, np.cross(up, east), up])  # rows: where x, y and z come from
    center = around.center.double().numpy()
    c2w = structure.c2w.copy()
    c2w[:, :3, :3] = turn @ c2w[:, :3, :3]
    c2w[:, :3, 3] = scale * (c2w[:, :3, 3] - center) @ turn.T
    return replace(
        structure,
        c2w=c2w,
        points=scale * (structure.points - center) @ turn.T,
        depths=[scale * depths for depths in structure.depths],
    )


def ranges_of(structure: Structure) -> list[tuple[float, float]]:
    """Near and far of each photograph around the points in it, scene units: far is that of all, as
    a photo may show a wall without a point on it. A photo of few points has the near of all."""
    of_all = range_of_points(torch.from_numpy(np.concatenate(structure.depths)))
    found = [range_of_points(torch.from_numpy(depths)) for depths in structure.depths]
    far = np.nanmax([high for _, high in (*found, of_all)])
    return [(of_all[0] if np.isnan(low) else low, float(far)) for low, _ in found]


def cameras_of(structure: Structure) -> Cameras:
    """The cameras without their distortion, all with as many pixels as the first."""
    lenses = structure.lenses
    width, height = lenses[0].width, lenses[0].height
    near, far = torch.tensor(ranges_of(structure)).unbind(dim=1)

    def share(x: float, y: float, lens: Lens) -> list[float]:
        return [x / lens.width * width, y / lens.height * height]

    return Cameras(
        c2w=torch.from_numpy(structure.c2w[:, :3]).float(),
        focal=torch.tensor([share(lens.fl_x, lens.fl_y, lens) for lens in lenses]),
        center=torch.tensor([share(lens.cx, lens.cy, lens) for lens in lenses]),
        near=near,
        far=far,
        width=width,
        height=height,
    )


def write_transforms(structure: Structure, scene: Path) -> None:
    """Write `transforms.json`, as instant-ngp and nerfstudio read it, and the points beside it.

    One lens stands at the top, several in their frames. Each frame has `near` and `far` besides,
    and `colmap_im_id`, by which the points name it.
    """
    lenses = [_lens(lens) for lens in structure.lenses]
    is_shared = all(lens == lenses[0] for lens in lenses)
    frames: list[dict[str, Any]] = [
        {
            "file_path": f"images/{name}",
            "transform_matrix": pose.tolist(),
            "colmap_im_id": i,
            "near": near,
            "far": far,
            **({} if is_shared else lens),
        }
        for i, (name, pose, lens, (near, far)) in enumerate(
            zip(structure.names, structure.c2w, lenses, ranges_of(structure), strict=True), FIRST_ID
        )
    ]
    content = {**(lenses[0] if is_shared else {}), "ply_file_path": POINTS, "frames": frames}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (scene / "transforms.json").write_text(text + "\n", encoding="utf-8")
    _write_points(structure, scene / POINTS)


def _lens(lens: Lens) -> dict[str, Any]:
    values = asdict(lens)
    size = {"w": values.pop("width"), "h": values.pop("height")}
    return {"camera_model": "OPENCV", **size, **values, "p1": 0.0, "p2": 0.0}


def _write_points(structure: Structure, path: Path) -> None:
    """The points with their colors, and where photographs show them, as PLY."""
    vertices = np.zeros(len(structure.points), VERTEX_ROW)
    vertices["x"], vertices["y"], vertices["z"] = structure.points.T
    vertices["red"], vertices["green"], vertices["blue"] = structure.colors.T
    write_ply(path, {VERTEX: vertices, OBSERVATION: reliable_observations(structure)})


def reliable_observations(structure: Structure) -> np.ndarray:
    """Where photographs show points that enough of them show to be trusted, `OBSERVATION_ROW`s.

    COLMAP has dropped those that were more than `MAX_ERROR` off.
    """
    parts = []
    for i, seen in enumerate(structure.observations):
        rows = np.zeros(len(seen.points), OBSERVATION_ROW)
        rows["image"], rows["vertex"] = i + FIRST_ID, seen.points
        rows["x"], rows["y"] = seen.pixels.T
        parts.append(rows)
    rows = np.concatenate(parts)
    n_photos = np.bincount(rows["vertex"], minlength=len(structure.points))
    return rows[n_photos[rows["vertex"]] >= FEWEST_PHOTOS]


def angle_of_view(lens: Lens) -> float:
    """From the left to the right of the photograph, radians."""
    return 2 * math.atan(lens.width / 2 / lens.fl_x)
