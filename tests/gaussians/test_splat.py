"""`.splat` files: what they show when read again, their layout, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.gaussians.splat import ROW, read_splat, write_splat
from tests.gaussians.scenes import ball, camera


def test_what_is_written_shows_almost_the_same_when_read(tmp_path: Path):
    gaussians = ball()
    with torch.no_grad():
        gaussians.quaternions.normal_(generator=torch.Generator().manual_seed(1))
        gaussians.log_scales[:, 0] -= 1
    assert write_splat(tmp_path / "a.splat", gaussians) == 400
    assert (tmp_path / "a.splat").stat().st_size == 400 * 32
    found = read_splat(tmp_path / "a.splat")
    assert (found.n, found.capacity, found.sh_degree) == (400, 400, 0)
    shown, wanted = (each.render_view(camera(), 0).rgb for each in (found, gaussians))
    assert -10 * (shown - wanted).square().mean().log10() > 40


def test_the_layout_is_that_of_viewers(tmp_path: Path):
    """A red one of standard deviation 2 that is turned by half a turn, and a small faint one."""
    gaussians = ball(2, capacity=2)
    with torch.no_grad():
        gaussians.means.copy_(torch.tensor([[9.0, 8, 7], [1, 2, 3]]))
        gaussians.log_scales.copy_(torch.tensor([0.5, 2.0]).log()[:, None].expand(2, 3))
        gaussians.base.copy_(torch.tensor([[[-9.0, -9, -9]], [[9, -9, -9]]]))
        gaussians.opacity_logits.copy_(torch.tensor([-2.0, 20.0]))
        gaussians.quaternions[1] = torch.tensor([0.0, 0, 0, -5])
    write_splat(tmp_path / "a.splat", gaussians)
    content = (tmp_path / "a.splat").read_bytes()
    assert np.frombuffer(content, "<f4", 6).tolist() == [1, 2, 3, 2, 2, 2]
    assert list(content[24:32]) == [255, 0, 0, 255, 128, 128, 128, 0]
    assert np.frombuffer(content, "<f4", 3, 32).tolist() == [9, 8, 7]


def rows(**values: object) -> bytes:
    table = np.zeros(2, ROW)
    table["scale"], table["rgba"], table["turn"] = 1, 255, (255, 128, 128, 128)
    for name, value in values.items():
        table[name] = value
    return table.tobytes()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "0 bytes are no multiple of 32"),
        (rows()[:-1], "63 bytes are no multiple of 32"),
        (rows(mean=np.nan), "none of the 2 splats"),
        (rows(scale=-1), "none of the 2 splats"),
        (rows(scale=np.inf), "none of the 2 splats"),
        (rows(turn=128), "none of the 2 splats"),
    ],
)
def test_what_is_no_splat_file_is_refused(content: bytes, sentence: str, tmp_path: Path):
    (tmp_path / "a.splat").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.splat.*{sentence}|{sentence}.*a\.splat"):
        read_splat(tmp_path / "a.splat")


def test_more_than_can_be_drawn_are_not_read(tmp_path: Path):
    with (tmp_path / "a.splat").open("wb") as file:
        file.truncate(32 << 34)  # half a terabyte without a byte on the disk
    with pytest.raises(UserError, match=r"a\.splat"):
        read_splat(tmp_path / "a.splat")


def test_broken_ones_among_others_are_left_out(tmp_path: Path):
    content = rows(mean=[[0, 0, np.inf], [1, 2, 3]])
    (tmp_path / "a.splat").write_bytes(content)
    assert read_splat(tmp_path / "a.splat").means.tolist() == [[1, 2, 3]]
