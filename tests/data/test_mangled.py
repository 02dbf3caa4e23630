"""Scenes mangled at random: they read with proper cameras, or one `UserError` says why not."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dietnerf.data import COLMAP, LLFF, Blender, ImageDataset, Procedural, Transforms
from dietnerf.errors import UserError
from tests.formats import (
    write_blender,
    write_colmap,
    write_llff,
    write_observations,
    write_transforms,
)

MANY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
AS_IT_IS = {"hold_every": 0, "orient": False, "scale": False}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", ".", "..", "/", "\0", "a" * 300, "images", "../images/train_0.png"]),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=5), st.dictionaries(st.text(max_size=3), SCALARS)
)
KEYS = st.sampled_from(
    ["w", "h", "fl_x", "fl_y", "cx", "cy", "k1", "p2", "camera_model", "is_fisheye", "aabb_scale"]
    + ["mask_path", "depth_file_path", "near", "far", "camera_angle_x", "camera_angle_y"]
    + ["file_path", "transform_matrix", "frames", "train_filenames", "integer_depth_scale"]
    + ["colmap_im_id", "ply_file_path"]
)


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=8, n_train=3).read("train")


def read(reader: Any, scene: ImageDataset) -> ImageDataset | None:
    """Cameras are proper, or a `UserError` says why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader().read("train")
    except UserError:
        return None
    cameras = found.cameras
    turns = cameras.c2w[:, :, :3].double()
    eye = torch.eye(3, dtype=torch.float64).expand_as(turns)
    torch.testing.assert_close(turns @ turns.mT, eye, atol=5e-3, rtol=0)
    assert (turns.det() > 0).all()
    assert len(found) == len(cameras) <= len(scene)
    assert found.images.shape[1:3] == (cameras.height, cameras.width)
    for name in ("focal", "near"):
        assert (getattr(cameras, name) > 0).all()
    assert (cameras.near < cameras.far).all()
    for i in range(len(found)):
        rays = cameras.image_rays(i)
        assert rays.rays_o.isfinite().all() and rays.rays_d.isfinite().all()
    return found


def mangle(content: Any, data: st.DataObject, depth: int = 0) -> Any:
    """Another value somewhere, or something left out or twice."""
    if isinstance(content, dict) and content and (depth == 0 or data.draw(st.booleans())):
        key = data.draw(st.one_of(st.sampled_from(sorted(content)), KEYS))
        if key in content and data.draw(st.booleans()):
            return {**content, key: mangle(content[key], data, depth + 1)}
        if data.draw(st.booleans()):
            return {k: v for k, v in content.items() if k != key}
        return {**content, key: data.draw(VALUES)}
    if isinstance(content, list) and content and data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            return [*content[:i], mangle(content[i], data, depth + 1), *content[i + 1 :]]
        return (
            content[:i] + content[i + 1 :] if data.draw(st.booleans()) else [*content, content[i]]
        )
    return data.draw(VALUES)


@pytest.mark.parametrize("kind", ["transforms", "blender"])
@given(data=st.data())
@MANY
def test_json(kind, scene, tmp_path_factory, data):
    root = written(kind, scene, tmp_path_factory)
    listing = root / ("transforms.json" if kind == "transforms" else "transforms_train.json")
    content = json.loads((root / "listing").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        content = mangle(content, data)
    listing.write_text(json.dumps(content))
    if kind == "transforms":
        read(lambda: Transforms(str(root), **AS_IT_IS), scene)
        read(lambda: Transforms(str(root)), scene)
    else:
        read(lambda: Blender(str(root)), scene)


@given(data=st.data())
@MANY
def test_llff(scene, tmp_path_factory, data):
    root = written("llff", scene, tmp_path_factory)
    rows = np.load(root / "listing")
    for _ in range(data.draw(st.integers(1, 3))):
        i, j = (data.draw(st.integers(0, n - 1)) for n in rows.shape)
        rows[i, j] = data.draw(st.floats(width=64))
    np.save(root / "poses_bounds.npy", rows)
    for spherify in (False, True):
        read(lambda s=spherify: LLFF(str(root), 1, 0, spherify=s), scene)


@pytest.mark.parametrize("end", ["bin", "txt"])
@given(data=st.data())
@MANY
def test_colmap(end, scene, tmp_path_factory, data):
    root = written(end, scene, tmp_path_factory)
    name = data.draw(st.sampled_from(["cameras", "images", "points3D"]))
    content = bytearray((root / "listing" / f"{name}.{end}").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(content)))
        j = data.draw(st.integers(i, min(len(content), i + 8)))
        content[i:j] = data.draw(st.binary(max_size=8))
    for path in (root / "listing").iterdir():
        shutil.copy(path, root / "sparse/0" / path.name)
    (root / f"sparse/0/{name}.{end}").write_bytes(content)
    read(lambda: COLMAP(str(root)), scene)


@given(data=st.data())
@MANY
def test_observations(scene, tmp_path_factory, data):
    root = written("ply", scene, tmp_path_factory)
    content = bytearray((root / "listing").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(content)))
        j = data.draw(st.integers(i, min(len(content), i + 8)))
        content[i:j] = data.draw(st.binary(max_size=8))
    (root / "points.ply").write_bytes(content)
    found = read(lambda: Transforms(str(root), **AS_IT_IS), scene)
    assert found is not None, "a scene can do without"
    if found.depths is not None:
        assert found.depths.isfinite().all() and (found.depths >= 0).all()


@pytest.mark.parametrize("kind", ["transforms", "llff", "bin"])
@given(data=st.data())
@MANY
def test_photos(kind, scene, tmp_path_factory, data):
    root = written(kind, scene, tmp_path_factory, "photos")
    original = sorted((root / "images").iterdir())[1]
    content = bytearray(original.read_bytes())
    i = data.draw(st.integers(0, len(content) - 1))
    broken = content[:i] + data.draw(st.binary(max_size=4)) + content[i + 1 :]
    try:
        original.write_bytes(broken)
        readers = {
            "transforms": lambda: Transforms(str(root), **AS_IT_IS),
            "llff": lambda: LLFF(str(root), 1, 0, recenter=False, bd_factor=None),
            "bin": lambda: COLMAP(str(root), **AS_IT_IS),
        }
        found = read(readers[kind], scene)
        if found is not None:
            torch.testing.assert_close(found.cameras.c2w, scene.cameras.c2w)
            torch.testing.assert_close(found.cameras.focal, scene.cameras.focal)
    finally:
        original.write_bytes(content)


def written(
    kind: str, scene: ImageDataset, factory: pytest.TempPathFactory, purpose: str = "listing"
) -> Path:
    """A folder with the scene in a format, written once, and `listing`, a copy of what says it."""
    root = factory.getbasetemp() / f"mangled_{purpose}_{kind}"
    if root.exists():
        return root
    points = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    if kind == "transforms":
        write_transforms(scene, root)
        shutil.copy(root / "transforms.json", root / "listing")
    elif kind == "ply":
        write_transforms(replace(scene, depths=None), root)
        places, is_seen = scene.cameras.project(points)
        images, seen = is_seen.nonzero().unbind(-1)
        write_observations(root, points, images, seen, (places[images, seen] + 1) / 2 * 8)
        shutil.copy(root / "points.ply", root / "listing")
    elif kind == "blender":
        write_blender(scene, root, "train")
        shutil.copy(root / "transforms_train.json", root / "listing")
    elif kind == "llff":
        write_llff(scene, root)
        shutil.copy(root / "poses_bounds.npy", root / "listing")
    else:
        write_colmap(scene, root, points, is_binary=kind == "bin")
        shutil.copytree(root / "sparse/0", root / "listing")
    return root
