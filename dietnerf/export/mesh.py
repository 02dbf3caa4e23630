"""`mesh`: the surface of a scene with a color at each vertex, as PLY, OBJ or GLB."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from dietnerf.arguments import number, path_name
from dietnerf.errors import UserError
from dietnerf.export.fog import warn_of_fog
from dietnerf.export.fusion import Fusion
from dietnerf.export.paths import add_run_options, load_run, output_of
from dietnerf.export.surface import Grid, Solid
from dietnerf.files import write_file
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.poses import Surroundings
from dietnerf.optional import require
from dietnerf.runs.checkpoints import find_checkpoint
from dietnerf.scene_model import SceneModel

FORMATS = (".ply", ".obj", ".glb")
FINEST = 1024  # cells along the longest side: 4 GB, of Gaussians 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `mesh`."""
    add_run_options(parser)
    add = parser.add_argument
    add("--out", type=path_name, help=f"{', '.join(FORMATS)} (default: mesh.ply in the run)")
    add(
        "--bounds",
        type=number(float, -1e6, 1e6),
        nargs=6,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="box to cut out, lowest and highest corner, scene units (default: the scene's)",
    )
    add(
        "--resolution",
        type=number(int, 8, FINEST),
        default=256,
        help="cells along the longest side of the box",
    )
    add(
        "--level",
        type=number(float, 1e-6, 1 - 1e-6),
        help="share of the light of a field that is stopped at the surface, within 1/256 of the "
        "scene's box or as much more as a foggy field needs (default: 0.5)",
    )
    add(
        "--smallest",
        type=number(float, 0, 1),
        default=0.05,
        help="parts smaller than this share of the box are left out; 0 keeps all",
    )
    add("--faces", type=number(int, 4, 10**9), help="simplify to that many triangles")


def check(options: argparse.Namespace) -> None:
    """Check the options, before time is spent.

    Raises:
        UserError: names the option.
    """
    if options.out is not None and options.out.suffix not in FORMATS:
        raise UserError(f"--out {options.out}: a mesh is written as one of {', '.join(FORMATS)}")
    if options.bounds is not None:
        _checked(options.bounds)
    require("trimesh", "trimesh", "a mesh")
    require("skimage.measure", "scikit-image", "a mesh")
    if options.faces is not None:
        require("fast_simplification", "fast-simplification", "--faces")


def run(options: argparse.Namespace) -> None:
    """Write the mesh."""
    checkpoint = find_checkpoint(options.checkpoint)
    out = output_of(options, checkpoint, "mesh.ply")
    scene, camera_set = load_run(options)
    warn_of_fog(scene, "the mesh")
    mesh = extract(
        scene, options.bounds, options.resolution, options.level, options.smallest, options.faces
    )
    write_mesh(mesh, Surroundings.of(camera_set.cameras["train"]).up, out)
    tight = "watertight" if mesh.is_watertight else "not watertight"
    print(f"{out}: {len(mesh.vertices)} vertices, {len(mesh.faces)} triangles, {tight}")


def extract(
    scene: SceneModel,
    bounds: list[float] | None = None,
    resolution: int = 256,
    level: float | None = None,
    smallest: float = 0.05,
    n_faces: int | None = None,
) -> Any:
    """The surface of a trained scene as a `trimesh.Trimesh` with vertex colors, in scene units.

    Args:
        scene: as `load_scene` gives it.
        bounds: box to cut out, six numbers; None for the scene's.
        resolution: cells of the grid along the longest side of the box.
        level: opacity of a field over the distance `wall` at the surface; None for one half.
        smallest: length of the smallest part that is kept, as a share of the box's longest side.
        n_faces: largest number of triangles; None keeps all.

    Raises:
        UserError: there is no surface, the box is invalid, or Gaussians have no level.
    """
    trimesh = require("trimesh", "trimesh", "a mesh")
    train = scene.refined_camera_set().cameras["train"]
    gaussians = scene.field if isinstance(scene.field, Gaussians) else None
    shape = Solid(scene, train) if gaussians is None else Fusion(gaussians, train)
    grid = Grid.over(shape.box if bounds is None else _checked(bounds), resolution)
    mesh = trimesh.Trimesh(*shape.surface(grid, level))
    _drop_small_parts(mesh, smallest * grid.cell * resolution)
    vertices, normals = (
        torch.from_numpy(np.array(values)).float()
        for values in (mesh.vertices, mesh.vertex_normals)
    )
    mesh.visual.vertex_colors = shape.colors(vertices, normals).numpy()
    return mesh if n_faces is None or len(mesh.faces) <= n_faces else _simplified(mesh, n_faces)


def write_mesh(mesh: Any, up: Tensor, out: Path) -> None:
    """Write a mesh in the format of the file's ending.

    PLY and OBJ keep the scene's axes. GLB includes a rotation, as its viewers have y up.

    Args:
        mesh: a `trimesh.Trimesh`.
        up: unit vector out of the ground, (3,).
        out: ends in .ply, .obj or .glb.
    """
    trimesh = require("trimesh", "trimesh", "a mesh")
    shown = mesh
    if out.suffix == ".glb":
        turn = trimesh.geometry.align_vectors(up.numpy(), [0.0, 1.0, 0.0])
        shown = trimesh.Scene()
        shown.add_geometry(mesh, transform=turn)
    write_file(out, shown.export(file_type=out.suffix[1:]))


def _checked(bounds: list[float]) -> Tensor:
    box = torch.tensor(bounds).view(2, 3)
    if not (box.isfinite().all() and (box[0] < box[1]).all()):
        raise UserError(
            f"--bounds: the lowest corner must lie below the highest along every axis, got {bounds}"
        )
    return box


def _drop_small_parts(mesh: Any, length: float) -> None:
    """Remove parts whose bounding box is shorter than `length`, in place.

    Raises:
        UserError: all parts are.
    """
    trimesh = require("trimesh", "trimesh", "a mesh")
    parts = trimesh.graph.connected_component_labels(
        mesh.face_adjacency, node_count=len(mesh.faces)
    )
    order = np.argsort(parts, kind="stable")
    starts = np.searchsorted(parts[order], np.arange(parts.max() + 1))
    highest = np.maximum.reduceat(mesh.triangles.max(axis=1)[order], starts)
    lowest = np.minimum.reduceat(mesh.triangles.min(axis=1)[order], starts)
    is_kept = (highest - lowest).max(axis=1) >= length
    if not is_kept.any():
        raise UserError("all parts of the surface are smaller than --smallest; choose a lower one")
    mesh.update_faces(is_kept[parts])
    mesh.remove_unreferenced_vertices()


def _simplified(mesh: Any, n_faces: int) -> Any:
    """A mesh with fewer triangles. Its vertices take the colors of the nearest original ones: they
    lie beside the surface, where the field has no meaningful colors."""
    trimesh = require("trimesh", "trimesh", "a mesh")
    simplify = require("fast_simplification", "fast-simplification", "--faces").simplify
    points, faces = simplify(mesh.vertices, mesh.faces, target_count=n_faces)
    few = trimesh.Trimesh(points, faces)
    nearest = cKDTree(mesh.vertices).query(few.vertices)[1]
    few.visual.vertex_colors = mesh.visual.vertex_colors[nearest]
    return few
