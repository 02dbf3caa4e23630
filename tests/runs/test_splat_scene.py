"""Splat files of other programs, as scenes: what they show, and where the cameras stand."""

import argparse
import math
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

import dietnerf
from dietnerf.demo.scenes import LoadedScene, find_scenes
from dietnerf.errors import UserError
from dietnerf.export.__main__ import main as export
from dietnerf.export.render import main as render
from dietnerf.export.splats import add_options, run
from dietnerf.gaussians.ply import read_splats, write_splats
from dietnerf.gaussians.ply_cameras import comments_of
from dietnerf.runs.checkpoints import read_checkpoint
from tests.gaussians.scenes import ball
from tests.slanted_plane import cameras_in_a_row

MIDDLE = torch.tensor([3.0, -2.0, 1.0])


def write_disk(path: Path, thin: int, scale: float = 1.0, wall: torch.Tensor | None = None) -> None:
    """A ball pressed flat along an axis, off the origin, and a tenth of the splats as a coarse wall
    far along a direction."""
    gaussians = ball()
    with torch.no_grad():
        gaussians.means[:, thin] *= 0.3
        if wall is not None:
            gaussians.means[::10] += 20 * wall
            gaussians.log_scales[::10] += 1
        gaussians.means.mul_(scale).add_(MIDDLE)
        gaussians.log_scales.add_(torch.tensor(scale).log())
    write_splats(path, gaussians)


@pytest.mark.parametrize(("thin", "up"), [(2, [0, 0, 1]), (1, [0, -1, 0]), (1, [0, 1, 0])])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_cameras_circle_the_middle_of_what_is_there(
    thin: int, up: list[float], scale: float, tmp_path: Path, capsys: pytest.CaptureFixture
):
    write_disk(tmp_path / "a.ply", thin, scale, wall=torch.tensor(up))
    scene = dietnerf.load(tmp_path / "a.ply")
    name = "z" if up[2] else "y" if up[1] > 0 else "-y"
    assert f"a.ply names no cameras: they circle the middle of its 400 splats, with {name} up" in (
        capsys.readouterr().err
    )
    cameras = scene.cameras["train"]
    toward = torch.nn.functional.normalize(MIDDLE - cameras.positions, dim=1)
    assert ((toward * -cameras.c2w[:, :, 2]).sum(dim=1) > 0.98).all()
    assert (cameras.c2w[:, :, 1] @ torch.tensor(up, dtype=torch.float32) > 0.9).all()
    for image in scene.render_path(cameras[[0, 7]].resized(80, 60)):
        assert image.opacity[30, 40] > 0.9 and image.opacity[0].max() < 0.2


def test_it_shows_what_the_splats_show(tmp_path: Path):
    write_disk(tmp_path / "a.ply", 2)
    scene = dietnerf.load(tmp_path / "a.ply")
    camera = scene.cameras["train"][[3]].resized(40, 30)
    gaussians = read_splats(tmp_path / "a.ply")
    gaussians.prepare(scene.cameras["train"])
    assert torch.equal(scene.render(camera).rgb.flatten(0, 1), gaussians.render_view(camera, 0).rgb)


def test_both_kinds_of_files_are_scenes(tmp_path: Path):
    write_disk(tmp_path / "a.ply", 2)
    splats(str(tmp_path / "a.ply"), "--out", str(tmp_path / "b.splat"))
    a, b = (dietnerf.load(tmp_path / name) for name in ("a.ply", "b.splat"))
    camera = a.cameras["train"][[0]].resized(40, 30)
    assert (a.render(camera).rgb - b.render(camera).rgb).abs().max() < 0.05


def test_a_film_and_the_page_of_a_splat_file(tmp_path: Path):
    write_disk(tmp_path / "a.ply", 2)
    render([str(tmp_path / "a.ply"), "--frames", "3", "--size", "40", "30", "--device", "cpu"])
    (film,) = (path for path in tmp_path.iterdir() if path.suffix in (".gif", ".mp4"))
    frames = iio.imread(film)
    assert len(frames) == 3 and frames[:, 15, 20].max() > 50
    (source,) = find_scenes([str(tmp_path / "a.ply")]).values()
    assert LoadedScene(source).results() is None


def splats(*words: str) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    run(parser.parse_args(list(words)))


def test_what_is_made_of_a_splat_file_replaces_no_other(tmp_path: Path):
    """Links beside it, which a run must not have, are nobody's business."""
    write_disk(tmp_path / "a.ply", 2)
    write_disk(tmp_path / "splats.ply", 1)
    (tmp_path / "elsewhere").symlink_to("/usr/bin")
    before = (tmp_path / "splats.ply").read_bytes()
    splats(str(tmp_path / "a.ply"))
    names = {"a.ply", "splats.ply", "a-splats.ply", "elsewhere"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "splats.ply").read_bytes() == before
    assert read_splats(tmp_path / "a-splats.ply").n == 400
    with pytest.raises(UserError, match=r"a-splats\.ply is there already: remove it, or name"):
        splats(str(tmp_path / "a.ply"))
    with pytest.raises(UserError, match=r"splats\.ply is the scene itself: name another file"):
        splats(str(tmp_path / "splats.ply"), "--out", str(tmp_path / "splats.ply"))


@pytest.mark.parametrize("spread", [0.0, 1e-8, 1e13])
def test_sizes_of_any_kind_are_seen(spread: float, tmp_path: Path):
    """Also one place, where splats alone have a size."""
    gaussians = ball()
    with torch.no_grad():
        gaussians.means.mul_(spread)
        gaussians.log_scales.add_(math.log(spread or 1))
    write_splats(tmp_path / "a.ply", gaussians)
    scene = dietnerf.load(tmp_path / "a.ply")
    image = scene.render(scene.cameras["train"][[0]].resized(40, 30))
    assert image.opacity[15, 20] > 0.5 and image.opacity[0, 0] < 0.3


@pytest.mark.parametrize(("column", "value"), [("means", 1e20), ("log_scales", 90.0)])
def test_what_is_beyond_measure_is_left_out(column: str, value: float, tmp_path: Path):
    gaussians = ball()
    with torch.no_grad():
        getattr(gaussians, column)[:100] = value
    write_splats(tmp_path / "a.ply", gaussians)
    assert dietnerf.load(tmp_path / "a.ply").field.n == 300
    assert splats(str(tmp_path / "a.ply"), "--out", str(tmp_path / "a.splat")) is None
    with torch.no_grad():
        getattr(gaussians, column)[:] = value
    write_splats(tmp_path / "b.ply", gaussians)
    with pytest.raises(UserError, match="none of the 400 splats"):
        dietnerf.load(tmp_path / "b.ply")


def test_where_a_checkpoint_is_needed_a_splat_file_is_named(tmp_path: Path):
    write_disk(tmp_path / "a.ply", 2)
    with pytest.raises(UserError, match=r"a\.ply is a file of splats, and no checkpoint of a run"):
        read_checkpoint(tmp_path / "a.ply")


def test_our_own_files_are_seen_from_where_the_photos_were(tmp_path: Path, capsys):
    row = cameras_in_a_row(30)
    write_splats(tmp_path / "a.ply", ball(), comments_of(row, torch.tensor([0.1, 0.2, 0.3])))
    scene = dietnerf.load(tmp_path / "a.ply")
    found = scene.cameras["train"]
    assert len(found) == 12 and (found.width, found.height) == (row.width, row.height)
    torch.testing.assert_close(found.c2w[[0, -1]], row.c2w[[0, -1]])
    torch.testing.assert_close(scene.background, torch.tensor([0.1, 0.2, 0.3]))
    assert "names no cameras" not in capsys.readouterr().err
    assert (tmp_path / "a.ply").read_bytes().index(b"end_header") < 10_000  # where viewers look
    splats(str(tmp_path / "a.ply"), "--out", str(tmp_path / "b.ply"))
    torch.testing.assert_close(dietnerf.load(tmp_path / "b.ply").cameras["train"].c2w, found.c2w)
    trimesh = pytest.importorskip("trimesh")
    assert len(trimesh.load(tmp_path / "a.ply").vertices) == 400


@pytest.mark.parametrize(
    "line",
    ["camera 1 2", "camera " + 20 * "x ", "camera " + 20 * "nan ", "camera " + 20 * "0 ",
     "camera 60 60 32 24 1e30 1e30 1 9 1 0 0 0 0 1 0 0 0 0 1 0"],
)  # fmt: skip
def test_cameras_that_cannot_be_are_not_used(line: str, tmp_path: Path):
    write_splats(tmp_path / "a.ply", ball(), [line])
    with pytest.warns(UserWarning, match=r"the cameras in .*a\.ply are not used: "):
        scene = dietnerf.load(tmp_path / "a.ply")
    assert len(scene.cameras["train"]) == 24


def test_cameras_that_were_made_up_are_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_disk(tmp_path / "a.ply", 2)
    with pytest.raises(SystemExit, match="2"):
        export(["cameras", str(tmp_path / "a.ply")])
    assert "a.ply is a file of splats: name the run that it came from" in capsys.readouterr().err


def test_a_mesh_is_no_scene(tmp_path: Path):
    text = "ply\nformat ascii 1.0\nelement vertex 1\n"
    text += "".join(f"property float {axis}\n" for axis in "xyz")
    (tmp_path / "mesh.ply").write_text(text + "end_header\n0 0 0\n")
    with pytest.raises(UserError, match=r"mesh\.ply .*have no f_dc_0"):
        dietnerf.load(tmp_path / "mesh.ply")
