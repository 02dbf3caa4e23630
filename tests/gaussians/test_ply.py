"""Splat files: what is written is read again, by us and by others, and other files are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.gaussians.ply import read_splats, write_splats
from tests.gaussians.scenes import ball, camera


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_shows_the_same_when_read(degree: int, tmp_path: Path):
    gaussians = ball(sh_degree=degree)
    with torch.no_grad():
        gaussians.rest.normal_(std=0.1)
        gaussians.quaternions.normal_()
    assert write_splats(tmp_path / "a.ply", gaussians) == 400
    found = read_splats(tmp_path / "a.ply")
    assert (found.n, found.capacity, found.sh_degree) == (400, 400, degree)
    shown, wanted = (each.render_view(camera(), 0).rgb for each in (found, gaussians))
    assert torch.equal(shown, wanted)


def test_other_programs_read_the_points(tmp_path: Path):
    trimesh = pytest.importorskip("trimesh")
    gaussians = ball()
    write_splats(tmp_path / "a.ply", gaussians)
    cloud = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_allclose(cloud.vertices, gaussians.means[:400].detach().numpy(), atol=1e-6)


def header(*lines: str, n: int = 2) -> bytes:
    names = ["x", "y", "z", *(f"f_dc_{i}" for i in range(3)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)), *lines]
    text = ["ply", "format binary_little_endian 1.0", f"element vertex {n}"]
    text += [f"property float {name}" for name in names]
    return "\n".join([*text, "end_header", ""]).encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no PLY file of splats"),
        (b"ply\nelement vertex 1\nproperty float x\nend_header\n1\n", "have no y"),
        (header(n=10**9) + bytes(56), "has no room for the 1000000000 rows"),
        (header(n=1000) + bytes(56), "has no room for the 1000 rows"),
        (header(*(f"f_rest_{i}" for i in range(72)), n=1) + bytes(4 * 86), "72 numbers f_rest_"),
        (header(n=1) + bytes(56), "none of the 1 splats"),  # without a rotation
        (header(n=1) + np.full(14, np.nan, "<f4").tobytes(), "none of the 1 splats"),
    ],
)
def test_what_is_no_splat_file_is_refused(content: bytes, sentence: str, tmp_path: Path):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_splats(tmp_path / "a.ply")


def test_splats_that_cannot_be_drawn_are_left_out(tmp_path: Path):
    gaussians = ball()
    with torch.no_grad():
        gaussians.means[3] = torch.nan
        gaussians.quaternions[5] = 0
    write_splats(tmp_path / "a.ply", gaussians)
    assert read_splats(tmp_path / "a.ply").n == 398
