"""Models of COLMAP that say more than is in them, and holes in files."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dietnerf.data import COLMAP, Procedural
from dietnerf.data.colmap_model import MOST_BYTES, read_model
from dietnerf.errors import UserError
from tests.formats import write_colmap


@pytest.fixture(params=["bin", "txt"])
def ending(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(ending: str, tmp_path: Path) -> Path:
    scene = Procedural(resolution=8, n_train=3).read("train")
    points = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    write_colmap(scene, tmp_path, points, is_binary=ending == "bin")
    return tmp_path / "sparse" / "0"


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_a_hole_is_not_read(name: str, ending: str, model: Path):
    path = model / f"{name}.{ending}"
    os.truncate(path, 20 * 10**9)
    with pytest.raises(UserError, match=rf"{path.name} has 20,000 MB, and 2,147 MB are the most"):
        read_model(model)
    os.truncate(path, MOST_BYTES)
    with pytest.raises(UserError, match=rf"{path.name} is cut short or not a file of COLMAP"):
        read_model(model)


NO_POINT = struct.pack("<q3d3xd", 1, 0, 0, 0, 0.1)
NO_IMAGE = struct.pack("<I7di", 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"train_0.png\0"
LYING = {
    "points": ("points3D", struct.pack("<Q", 2**64 - 1), "number 0 comes twice"),
    "points that are seen": (
        *("points3D", struct.pack("<Q", 1) + NO_POINT + struct.pack("<Q", 2**61 - 1)),
        "seen more often than there is room for",
    ),
    "images": ("images", struct.pack("<Q", 2**64 - 1), "number 0 comes twice"),
    "points in an image": (
        *("images", struct.pack("<Q", 1) + NO_IMAGE + struct.pack("<Q", 10**8)),
        "100000000 points in one image",
    ),
    "a name": ("images", struct.pack("<Q", 1) + NO_IMAGE[:-1] + b"x" * 10_000, "does not end"),
    "cameras": ("cameras", struct.pack("<Q", 2**64 - 1), "number 0 comes twice"),
}


@pytest.mark.parametrize("ending", ["bin"], indirect=True)
@pytest.mark.parametrize(("name", "content", "reason"), LYING.values(), ids=LYING)
def test_numbers_that_the_file_is_too_short_for(
    name: str, content: bytes, reason: str, model: Path
):
    path = model / f"{name}.bin"
    path.write_bytes(content)
    os.truncate(path, 10**9)
    with pytest.raises(UserError, match=rf"{path.name} is cut short or not a file.*{reason}"):
        read_model(model)


@pytest.mark.parametrize("ending", ["txt"], indirect=True)
def test_a_line_without_an_end(model: Path):
    with (model / "points3D.txt").open("ab") as file:
        file.write(b"7 " * 10_000_000)
    with pytest.raises(UserError, match=r"points3D.txt is cut short.*a line in it does not end"):
        read_model(model)


def test_points_in_any_order_tell_distances(ending: str, model: Path):
    """Also where an image names points that the model lacks, or none at all."""
    before = COLMAP(str(model.parents[1]), hold_every=0).read("train").depths
    path = model / f"points3D.{ending}"
    CHANGES[ending](path)
    after = COLMAP(str(model.parents[1]), hold_every=0).read("train").depths
    is_kept = after > 0
    assert 0 < is_kept.sum() < (before > 0).sum()
    torch.testing.assert_close(after[is_kept], before[is_kept])


def reverse_lines(path: Path) -> None:
    """And leave out five points."""
    path.write_text("\n".join(path.read_text().splitlines()[:5:-1]))


def reverse_points(path: Path) -> None:
    """The same of a binary file, whose points have no tracks."""
    content = path.read_bytes()[8:]
    size = len(content) // 30
    points = [content[i : i + size] for i in range(5 * size, len(content), size)]
    path.write_bytes(struct.pack("<Q", 25) + b"".join(reversed(points)))


CHANGES: dict[str, Callable[[Path], None]] = {"txt": reverse_lines, "bin": reverse_points}


@pytest.mark.parametrize("ending", ["txt"], indirect=True)
def test_a_model_without_points_is_read(model: Path):
    (model / "points3D.txt").write_text("")
    assert COLMAP(str(model.parents[1]), hold_every=0).read("train").depths is None
