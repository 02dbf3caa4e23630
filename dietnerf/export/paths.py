"""Options shared by renderings and other exports: a run, and cameras."""

import argparse
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor

from dietnerf.arguments import number, path_name
from dietnerf.data.camera_set import CameraSet
from dietnerf.data.files import read_object
from dietnerf.errors import UserError
from dietnerf.files import check_file, check_links, check_writable, remove_parts
from dietnerf.geometry.camera_paths import default_flight, loop, orbit, sway, swing, walk
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import (
    Surroundings,
    face_one_way,
    fly,
    interpolate,
    nearest_neighbor_order,
    rigid,
    spiral,
)
from dietnerf.runs.checkpoints import find_checkpoint, load_scene, run_of
from dietnerf.runs.hub import is_remote, repository_of
from dietnerf.runs.splat_scene import is_splats
from dietnerf.scene_model import SceneModel

AROUND = ("orbit", "swing", "spiral")  # paths around the middle of the scene
SPLITS = ("train", "val", "test")
FURTHEST = 1e6  # scene units
MOST_POSES = 10_000
FAR_OFF = 2.0  # extents of the run's cameras, beyond which poses are of another frame
MOST_FRAMES, LARGEST = 100_000, 65_535  # pixels along a side
BYTES_AT_ONCE = 64  # of memory for each pixel of the frame that is being rendered


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """A checkpoint, and the device that it is rendered on."""
    add = parser.add_argument
    add(
        "checkpoint",
        type=path_name,
        help="folder of a run, a .ckpt file, a .ply or .splat, or hf://owner/name",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def add_path_options(parser: argparse.ArgumentParser, default: str) -> None:
    """A camera path; `default` describes the default in the help."""
    add = parser.add_argument
    add(
        "--path",
        choices=(*AROUND, "walk", "sway", "interpolate", *SPLITS),
        help="orbit: around the scene; swing: to and fro where cameras stand; spiral: around, or "
        "among cameras that face one way; walk: along the training cameras; sway: a little about "
        "the first; interpolate: through all of them, or --poses; train, val, test: the cameras of "
        f"that split (default: {default})",
    )
    add(
        "--poses",
        type=path_name,
        help="JSON with frames[].transform_matrix to interpolate through, in the run's own frame: "
        "that of a capture's listing only where its reader neither orients nor scales",
    )
    add("--frames", type=number(int, 1, MOST_FRAMES), default=60)
    add(
        "--size",
        type=number(int, 1, LARGEST),
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="default: as trained",
    )
    add(
        "--elevation_deg",
        type=number(float, -90, 90),
        help="of orbit, swing and spiral (default: as the training cameras)",
    )
    add(
        "--radius",
        type=number(float, 1 / FURTHEST, FURTHEST),
        help="of orbit, swing and spiral, scene units (default: theirs)",
    )


def check_path_options(options: argparse.Namespace) -> None:
    """Refuse incompatible options.

    Raises:
        UserError: names the option.
    """
    paths_of: dict[str, tuple[str | None, ...]] = {
        "poses": ("interpolate",),
        "radius": (*AROUND, None),
        "elevation_deg": (*AROUND, None),
    }
    for name, paths in paths_of.items():
        if getattr(options, name) is not None and options.path not in paths:
            named = " or ".join(path for path in paths if path)
            raise UserError(f"--{name} goes with --path {named} only")


def results_folder(given: Path, checkpoint: Path) -> Path:
    """The default folder for exports of a checkpoint: in its run, and for one of the hub in `runs`
    here.

    Raises:
        UserError: a link in it leads somewhere else.
    """
    is_own = not is_remote(given)
    folder = run_of(checkpoint) if is_own else Path("runs") / repository_of(given).split("/")[1]
    check_links(folder)
    return folder


def default_output(given: Path, checkpoint: Path, name: str) -> Path:
    """Where a result of a checkpoint is written by default: in `results_folder`, or beside a file
    of splats, whose name it begins with.

    Raises:
        UserError: a link in the run leads somewhere else, or what lies beside a file of splats
            would be written over.
    """
    if is_splats(checkpoint):
        out = checkpoint.with_name(f"{checkpoint.stem}-{name}")
        if out.exists():
            raise UserError(f"{out} is there already: remove it, or name another file by --out")
        return out
    return results_folder(given, checkpoint) / name


def output_of(options: argparse.Namespace, checkpoint: Path, name: str) -> Path:
    """The file that is written, or where `name` has no ending the folder: `--out`, or what is the
    default. Partial files of earlier commands that were killed are removed there.

    Raises:
        UserError: it cannot be written.
    """
    out: Path = options.out or default_output(options.checkpoint, checkpoint, name)
    if out.resolve() == checkpoint.resolve():
        raise UserError(f"{out} is the scene itself: name another file by --out")
    if Path(name).suffix:
        check_file(out, "--out")
        remove_parts(out.parent)
    else:
        check_writable(out, "--out")
        remove_parts(out)
    return out


def check_memory(cameras: Cameras, n_kept: int, advice: str = "") -> None:
    """Refuse images that do not fit into memory.

    Args:
        cameras: one a frame.
        n_kept: bytes of each pixel that are kept until the last frame.
        advice: what to do instead.

    Raises:
        UserError: says how much they need.
    """
    n_frames, n_pixels = len(cameras), cameras.width * cameras.height
    n_bytes = n_pixels * (BYTES_AT_ONCE + n_kept * n_frames)
    free = psutil.virtual_memory().available
    if n_bytes > free:
        size = f"{cameras.width}x{cameras.height}"
        raise UserError(
            f"{n_frames} frames of {size} pixels take {n_bytes / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free: choose a smaller --size{advice}"
        )


def load_run(options: argparse.Namespace) -> tuple[SceneModel, CameraSet]:
    """The scene of a checkpoint on the chosen device, and its refined cameras."""
    scene = load_scene(find_checkpoint(options.checkpoint)).to(options.device)
    return scene, scene.refined_camera_set()


def camera_path(
    camera_set: CameraSet,
    options: argparse.Namespace,
    measure: Callable[[Cameras], float] | None = None,
) -> Cameras:
    """The cameras of the frames, at the size in the options; a default path is printed.

    Args:
        camera_set: of a checkpoint.
        options: of the command line.
        measure: as for `default_flight`.
    """
    train = camera_set.cameras["train"]
    if options.path is None and options.radius is None and options.elevation_deg is None:
        options.path, cameras = default_flight(train, options.frames, measure)
    elif options.path in SPLITS:
        if options.path not in camera_set.cameras:
            known = ", ".join(camera_set.cameras)
            raise UserError(f"--path {options.path}: the checkpoint has cameras of {known} only")
        cameras = camera_set.cameras[options.path]
    else:
        options.path = options.path or "orbit"
        cameras = _fly_through(train, options)
    return cameras.framed(*options.size) if options.size else cameras


def _fly_through(train: Cameras, options: argparse.Namespace) -> Cameras:
    n_frames, radius = options.frames, options.radius
    elevation = None if options.elevation_deg is None else math.radians(options.elevation_deg)
    if options.path == "walk":
        return walk(train, n_frames)
    if options.path == "sway":
        return sway(train, n_frames)
    if options.path == "orbit":
        return orbit(train, n_frames, elevation, radius)
    if options.path == "swing":
        return swing(train, n_frames, elevation=elevation, radius=radius)
    around = Surroundings.of(train)
    if options.path == "interpolate":
        stops = train.c2w[nearest_neighbor_order(train.positions)]
        if options.poses is not None:
            stops = read_poses(options.poses)
            warn_of_another_frame(options.poses, stops, train)
        return fly(train, interpolate(stops, n_frames), around)
    if face_one_way(train) and radius is None and elevation is None:
        return loop(train, n_frames)
    return fly(train, spiral(around, n_frames, elevation, radius), around)


def read_poses(path: Path) -> Tensor:
    """Camera poses (n, 3, 4) from a JSON in the manner of `transforms.json`.

    Raises:
        UserError: the file is missing or holds no poses.
    """
    try:
        matrices = [frame["transform_matrix"] for frame in read_object(path)["frames"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"--poses {path}: no frames[].transform_matrix to read in it") from error
    except UserError as error:
        raise UserError(f"--poses: {error}") from error
    if not matrices:
        raise UserError(f"--poses {path}: its list of frames is empty")
    if len(matrices) > MOST_POSES:
        raise UserError(f"--poses {path} has {len(matrices)} frames; give at most {MOST_POSES}")
    poses = [rigid(matrix, f"--poses {path}, frame {i}") for i, matrix in enumerate(matrices)]
    return torch.stack(poses)[:, :3].float()


def warn_of_another_frame(path: Path, poses: Tensor, train: Cameras) -> None:
    """Warn if poses (n, 3, 4) are far from the cameras of the run."""
    middle = train.positions.mean(dim=0)
    reach = float((train.positions - middle).norm(dim=-1).max())
    farthest = float((poses[:, :, 3] - middle).norm(dim=-1).max())
    if farthest > FAR_OFF * max(reach, float(train.near.min())):
        warnings.warn(
            f"--poses {path}: poses lie up to {farthest:.3g} from the middle of the run's cameras, "
            f"which stand within {reach:.3g} of it. They are taken in the run's own frame, which a "
            "reader turned and scaled unless its orient and scale (recenter, bd_factor) are off",
            stacklevel=2,
        )
