"""Scenes for tests of readers, in the Blender, LLFF, transforms.json and COLMAP formats.

Photographs become PNGs, so nothing of them is lost. What a format cannot say is refused.
"""

import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from dietnerf.data.colmap import MODELS
from dietnerf.data.colmap_model import CAMERA_MODELS
from dietnerf.data.dataset import ImageDataset
from dietnerf.data.ply import OBSERVATION_ROW, VERTEX_ROW, write_ply
from dietnerf.errors import UserError
from dietnerf.files import write_file
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.lenses import COEFFICIENTS

DEPTH_STEPS = 60_000  # of a 16-bit depth map, up to the farthest distance


def write_blender(scene: ImageDataset, root: Path, split: str) -> None:
    """Write one split in the Blender format: `transforms_<split>.json` and `<split>/r_<i>.png`.

    Raises:
        UserError: its cameras differ, or have a lens or a principal point off the middle.
    """
    cameras = scene.cameras
    middle = torch.tensor([cameras.width / 2, cameras.height / 2])
    is_plain = cameras.lenses is None and bool((cameras.focal == cameras.focal[0, 0]).all())
    if not (is_plain and torch.allclose(cameras.center, middle.expand_as(cameras.center))):
        raise UserError("the Blender format knows one focal length for all views: use another")
    frames = []
    for i in range(len(scene)):
        _write_png(root / split / f"r_{i}.png", scene.images[i].numpy())
        frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": _matrix(cameras, i)})
    angle = 2 * math.atan(cameras.width / 2 / float(cameras.focal[0, 0]))
    _write_json(root / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": frames})


def write_transforms(scene: ImageDataset, root: Path, more: dict[str, Any] | None = None) -> None:
    """Write `transforms.json` as nerfstudio does, with masks and depth maps where there are such.

    Args:
        scene: its views, all of which are listed in one file.
        root: the folder.
        more: further keys of the file, such as `test_filenames`.

    Raises:
        UserError: a lens that the format cannot say.
    """
    frames = []
    top = float(scene.depths.max()) if scene.depths is not None else 1.0
    for i, name in enumerate(scene.names):
        frame: dict[str, Any] = {
            "file_path": f"images/{name}.png",
            "transform_matrix": _matrix(scene.cameras, i),
        }
        _write_png(root / frame["file_path"], _own(scene, scene.images, i))
        frame |= _frame_camera(scene, i)
        if scene.masks is not None:
            frame["mask_path"] = f"masks/{name}.png"
            mask = _own(scene, scene.masks, i).astype(np.uint8) * 255
            _write_png(root / frame["mask_path"], mask)
        if scene.depths is not None:
            frame["depth_file_path"] = f"depths/{name}.png"
            steps = np.rint(_own(scene, scene.depths, i) * (DEPTH_STEPS / top))
            _write_png(root / frame["depth_file_path"], steps.astype(np.uint16))
        frames.append(frame)
    scale = {} if scene.depths is None else {"integer_depth_scale": top / DEPTH_STEPS}
    _write_json(root / "transforms.json", {**scale, **(more or {}), "frames": frames})


def write_observations(
    root: Path, vertices: Tensor, images: Tensor, seen: Tensor, pixels: Tensor
) -> None:
    """Write `points.ply` as `prepare` does, beside the `transforms.json` that `write_transforms`
    wrote.

    Args:
        root: the folder.
        vertices: the points, (n_points, 3).
        images: the views that show a point, counted from 0, (n,).
        seen: which of the points they show, (n,).
        pixels: at which column and row, (n, 2).
    """
    points = np.zeros(len(vertices), VERTEX_ROW)
    rows = np.zeros(len(images), OBSERVATION_ROW)
    points["x"], points["y"], points["z"] = vertices.T
    rows["image"], rows["vertex"] = 10 + images, seen
    rows["x"], rows["y"] = pixels.T
    write_ply(root / "points.ply", {"vertex": points, "observation": rows})
    content = json.loads((root / "transforms.json").read_text())
    for i, frame in enumerate(content["frames"]):
        frame["colmap_im_id"] = 10 + i
    _write_json(root / "transforms.json", {**content, "ply_file_path": "points.ply"})


def write_llff(scene: ImageDataset, root: Path, folder: str = "images") -> None:
    """Write `poses_bounds.npy` and the photographs.

    Raises:
        UserError: a camera has a lens, unlike focal lengths, or a principal point off the middle.
    """
    cameras = scene.cameras
    middle = torch.tensor([cameras.width / 2, cameras.height / 2])
    is_square = torch.allclose(cameras.focal[:, 0], cameras.focal[:, 1])
    if cameras.lenses is not None or not is_square or not torch.allclose(cameras.center, middle):
        raise UserError("the LLFF format knows pinhole cameras with square pixels: use another")
    rows = []
    for i in range(len(scene)):
        right, upward, backward, position = cameras.c2w[i].double().unbind(-1)
        focal = cameras.focal[i, 0]
        size = torch.tensor([cameras.height, cameras.width, focal], dtype=torch.float64)
        pose = torch.stack([-upward, right, backward, position, size], dim=-1)
        bounds = torch.stack([cameras.near[i], cameras.far[i]]).double()
        rows.append(torch.cat([pose.flatten(), bounds]))
        _write_png(root / folder / f"image{i:03d}.png", scene.images[i].numpy())
    content = io.BytesIO()
    np.save(content, torch.stack(rows).numpy())
    write_file(root / "poses_bounds.npy", content.getbuffer())


def write_colmap(
    scene: ImageDataset, root: Path, points: Tensor | None = None, is_binary: bool = True
) -> None:
    """Write a COLMAP model in `sparse/0`, one camera for each view, and the photographs.

    Args:
        scene: its views.
        root: the folder.
        points: sparse points (n, 3), seen by every camera whose image they are in.
        is_binary: .bin files instead of .txt.
    """
    points = torch.zeros(0, 3) if points is None else points
    cameras, model = scene.cameras, root / "sparse" / "0"
    places, is_seen = cameras.project(points)
    pixels = (places + 1) / 2 * torch.tensor([cameras.width, cameras.height])
    lines = _TextModel() if not is_binary else _BinaryModel()
    for i, name in enumerate(scene.names):
        _write_png(root / "images" / f"{name}.png", _own(scene, scene.images, i))
        height, width = _own(scene, scene.images, i).shape[:2]
        lines.camera(i + 1, *_colmap_camera(cameras, i), width, height)
        turn = cameras.c2w[i, :, :3].double() * torch.tensor([1.0, -1.0, -1.0])
        x, y, z, w = Rotation.from_matrix(turn.T.numpy()).as_quat()
        shift = (-turn.T @ cameras.c2w[i, :, 3].double()).tolist()
        seen = is_seen[i].nonzero().squeeze(-1).tolist()
        found = [(*pixels[i, k].tolist(), k + 1) for k in seen]
        lines.image(i + 1, (w, x, y, z, *shift), i + 1, f"{name}.png", found)
    for k, point in enumerate(points.tolist()):
        lines.point(k + 1, point)
    for name, content in lines.files().items():
        write_file(model / name, content)


def _colmap_camera(cameras: Cameras, index: int) -> tuple[str, list[float]]:
    """The simplest model of COLMAP that says a camera, and its parameters."""
    pinhole = [*cameras.focal[index].tolist(), *cameras.center[index].tolist()]
    lens = _lens(cameras, index)
    if not any(lens.values()) and not _is_fisheye(cameras, index):
        return "PINHOLE", pinhole
    model = "FULL_OPENCV"
    if _is_fisheye(cameras, index):
        model = "OPENCV_FISHEYE"
    elif not any(lens[name] for name in ("k3", "k4", "q1", "q2", "q3")):
        model = "OPENCV"
    _, names = MODELS[model]
    _refuse(lens, names, model)
    return model, [*pinhole, *(lens[name] for name in names)]


class _TextModel:
    def __init__(self) -> None:
        self.cameras, self.images, self.points = (["# written by dietnerf"] for _ in range(3))

    def camera(self, number: int, model: str, values: list[float], width: int, height: int) -> None:
        self.cameras.append(f"{number} {model} {width} {height} {_join(values)}")

    def image(
        self, number: int, pose: tuple[float, ...], camera: int, name: str, found: list
    ) -> None:
        self.images.append(f"{number} {_join(pose)} {camera} {name}")
        self.images.append(" ".join(_join(place) for place in found))

    def point(self, number: int, place: list[float]) -> None:
        self.points.append(f"{number} {_join(place)} 128 128 128 0.5")

    def files(self) -> dict[str, bytes]:
        parts = {"cameras": self.cameras, "images": self.images, "points3D": self.points}
        return {f"{k}.txt": ("\n".join(v) + "\n").encode() for k, v in parts.items()}


class _BinaryModel:
    def __init__(self) -> None:
        self.parts: dict[str, list[bytes]] = {"cameras": [], "images": [], "points3D": []}

    def camera(self, number: int, model: str, values: list[float], width: int, height: int) -> None:
        kind = [name for name, _ in CAMERA_MODELS].index(model)
        packed = struct.pack(f"<iiQQ{len(values)}d", number, kind, width, height, *values)
        self.parts["cameras"].append(packed)

    def image(
        self, number: int, pose: tuple[float, ...], camera: int, name: str, found: list
    ) -> None:
        head = struct.pack("<I7di", number, *pose, camera) + name.encode() + b"\0"
        places = b"".join(struct.pack("<ddq", *place) for place in found)
        self.parts["images"].append(head + struct.pack("<Q", len(found)) + places)

    def point(self, number: int, place: list[float]) -> None:
        self.parts["points3D"].append(
            struct.pack("<Q3d3BdQ", number, *place, 128, 128, 128, 0.5, 0)
        )

    def files(self) -> dict[str, bytes]:
        return {
            f"{name}.bin": struct.pack("<Q", len(entries)) + b"".join(entries)
            for name, entries in self.parts.items()
        }


def _frame_camera(scene: ImageDataset, index: int) -> dict[str, Any]:
    cameras = scene.cameras
    height, width = _own(scene, scene.images, index).shape[:2]
    values: dict[str, Any] = {"w": width, "h": height}
    values |= dict(zip(("fl_x", "fl_y"), cameras.focal[index].tolist(), strict=True))
    values |= dict(zip(("cx", "cy"), cameras.center[index].tolist(), strict=True))
    values |= {"near": float(cameras.near[index]), "far": float(cameras.far[index])}
    lens, is_fisheye = _lens(cameras, index), _is_fisheye(cameras, index)
    names = COEFFICIENTS[:6]
    _refuse(lens, names, "transforms.json")
    values |= {name: lens[name] for name in names if lens[name]}
    return values | {"camera_model": "OPENCV_FISHEYE" if is_fisheye else "OPENCV"}


def _lens(cameras: Cameras, index: int) -> dict[str, float]:
    given = [0.0] * 9 if cameras.distortion is None else cameras.distortion[index].tolist()
    return dict(zip(COEFFICIENTS, given, strict=True))


def _is_fisheye(cameras: Cameras, index: int) -> bool:
    return cameras.is_fisheye is not None and bool(cameras.is_fisheye[index])


def _refuse(lens: dict[str, float], names: tuple[str, ...], form: str) -> None:
    left = [name for name, value in lens.items() if value and name not in names]
    if left:
        raise UserError(f"{form} cannot say the lens coefficients {', '.join(left)}: use another")


def _own(scene: ImageDataset, values: Tensor, index: int) -> np.ndarray:
    """What belongs to one photograph of (n, height, width, ...), without the canvas beside it."""
    one = values[index]
    if scene.masks is not None:
        rows, columns = (scene.masks[index].any(dim=d).nonzero() for d in (1, 0))
        one = one[: int(rows[-1]) + 1, : int(columns[-1]) + 1]
    return one.numpy()


def _matrix(cameras: Cameras, index: int) -> list[list[float]]:
    return [*cameras.c2w[index].tolist(), [0.0, 0.0, 0.0, 1.0]]


def _join(values: Any) -> str:
    return " ".join(repr(value) for value in map(_plain, values))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_file(path, iio.imwrite("<bytes>", pixels, extension=".png"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_file(path, json.dumps(content, indent=1))
