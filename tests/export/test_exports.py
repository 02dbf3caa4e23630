"""Points, depth maps and camera paths of a field in closed form, and mistakes that users make."""

import json
import shutil
import sys
from pathlib import Path

import imageio.v3 as iio
import meshio
import numpy as np
import OpenEXR
import pytest
import torch

from dietnerf.export import render
from dietnerf.export.command import main
from dietnerf.export.depth import write_depths
from dietnerf.export.points import seen_points
from dietnerf.export.surface import box_of_scene
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from tests.export.test_mesh import SIDES, SOLID, looking_at_origin, system_of
from tests.helpers import Ball, refused


def test_points_lie_on_the_ball_in_its_color():
    cameras = looking_at_origin(SIDES)
    points, colors = seen_points(system_of(Ball(sigma=SOLID)), cameras)
    radii = points.norm(dim=-1)
    assert len(points) > 300
    assert (radii - 1).abs().max() < 0.06  # three steps of 5.2 / 256
    for axis in range(3):
        assert points[:, axis].min() < -0.9 and points[:, axis].max() > 0.9
    assert (colors.int() - torch.tensor([204, 0, 0])).abs().max() <= 3


@pytest.mark.parametrize("ending", ["png", "exr", "npy"])
def test_depth_is_that_of_the_ball(ending: str, tmp_path: Path):
    system, cameras = system_of(Ball(sigma=SOLID)), looking_at_origin(SIDES)[:2]
    write_depths(system, cameras, tmp_path, ending)
    content = json.loads((tmp_path / "depth.json").read_text())
    assert [frame["depth_file_path"] for frame in content["frames"]] == [
        f"depth_000.{ending}",
        f"depth_001.{ending}",
    ]
    path = tmp_path / "depth_000.exr"
    if ending == "png":
        stored = iio.imread(tmp_path / "depth_000.png")
        assert stored.dtype == np.uint16
        depth = stored * content["frames"][0]["integer_depth_scale"]
    elif ending == "exr":
        depth = OpenEXR.File(str(path)).channels()["Z"].pixels
    else:
        depth = np.load(tmp_path / "depth_000.npy")
    assert depth[16, 16] == pytest.approx(3.0, abs=0.03)
    assert depth[0, 0] == 0, "nothing is seen in the corner"


def test_rendered_poses_are_those_of_the_path(finished_run: Path, tmp_path: Path):
    out = tmp_path / "path.json"
    size = ["--size", "24", "20"]
    main(["cameras", str(finished_run), "--frames", "3", *size, "--out", str(out)])
    content = json.loads(out.read_text())
    assert (content["w"], content["h"], len(content["frames"])) == (24, 20, 3)
    given = ["--path", "interpolate", "--poses", str(out), "--frames", "3"]
    args = [str(finished_run), "--modes", "rgb", *size]
    render.main([*args, *given, "--out", str(tmp_path / "a")])
    render.main([*args, "--path", "orbit", "--frames", "3", "--out", str(tmp_path / "b")])
    for i in range(3):
        a, b = (iio.imread(tmp_path / name / f"rgb_{i:03d}.png").astype(int) for name in "ab")
        assert abs(a - b).max() <= 2  # near and far follow the distance, which rounds differently


def test_another_run_is_shown_beside(finished_run: Path, tmp_path: Path):
    args = [str(finished_run), "--path", "test", "--modes", "rgb"]
    other = str(finished_run / "checkpoints" / "000004.ckpt")
    assert Path(other).is_file()
    render.main([*args, "--beside", other, "--out", str(tmp_path / "both")])
    render.main([other, *args[1:], "--out", str(tmp_path / "other")])
    left, right = (iio.imread(tmp_path / "both" / f"{n}_001.png") for n in ("rgb", "beside_rgb"))
    np.testing.assert_array_equal(right, iio.imread(tmp_path / "other" / "rgb_001.png"))
    assert (left != right).any()
    render.main([*args, "--beside", other, "--out", str(tmp_path / "film.gif")])
    assert iio.imread(tmp_path / "film.gif").shape == (3, 16, 32, 3)


def test_files_land_in_the_run(finished_run: Path, capsys):
    system = load_scene(find_checkpoint(finished_run))
    assert system.camera_set is not None
    n = len(system.camera_set.cameras["train"])
    main(["depth", str(finished_run)])
    assert len(list((finished_run / "depth").glob("*.png"))) == n
    main(["cameras", str(finished_run), "--path", "train"])
    assert len(json.loads((finished_run / "cameras.json").read_text())["frames"]) == n


def test_points_open_in_another_library(tmp_path: Path, finished_run: Path, monkeypatch):
    monkeypatch.setattr(
        "dietnerf.export.points.load_run",
        lambda options: (ball := system_of(Ball(sigma=SOLID)), ball.camera_set),
    )
    out = tmp_path / "points.ply"
    main(["points", str(finished_run), "--points", "300", "--out", str(out)])
    found = meshio.read(out)
    assert found.points.shape == (300, 3)
    assert abs(np.linalg.norm(found.points, axis=1) - 1).max() < 0.06


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["mesh", "RUN", "--out", "a.stl"], "a mesh is written as one of .ply, .obj, .glb"),
        (
            ["mesh", "RUN", "--resolution", "0"],
            "--resolution: '0' is not a whole number from 8 to 1024",
        ),
        (["mesh", "RUN", "--level", "1"], "--level: '1' is not a number from"),
        (["mesh", "RUN", "--smallest", "2"], "--smallest: '2' is not a number from 0 to 1"),
        (["mesh", "RUN", "--faces", "0"], "--faces: '0' is not a whole number"),
        (["mesh", "RUN", "--bounds", *"100011"], "--bounds: the lowest corner"),
        (["mesh", "RUN", "--device", "abacus"], "--device abacus cannot be used here"),
        (["points", "RUN", "--out", "a.txt"], "points are written as .ply or .glb"),
        (["points", "RUN", "--points", "0"], "--points: '0' is not a whole number"),
        (["cameras", "RUN", "--out", "a.txt"], "cameras are written as .json"),
        (["cameras", "RUN", "--frames", "0"], "--frames: '0' is not a whole number from 1 to"),
        (["depth", "nowhere"], "there is no checkpoint at nowhere"),
        (["statue", "RUN"], "invalid choice: 'statue'"),
    ],
)
def test_mistakes_are_one_sentence(finished_run: Path, args, sentence, capsys):
    assert sentence in refused(capsys, main, *[a.replace("RUN", str(finished_run)) for a in args])


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("trimesh", ["mesh"]),
        ("skimage.measure", ["mesh"]),
        ("fast_simplification", ["mesh", "--faces", "100"]),
        ("trimesh", ["points"]),
        ("OpenEXR", ["depth", "--format", "exr"]),
    ],
)
def test_a_missing_package_says_how_to_install_it(module, args, finished_run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = refused(capsys, main, args[0], str(finished_run), *args[1:])
    assert "pip install -e '.[export]'` in" in message


@pytest.mark.parametrize(
    "words", [["mesh"], ["points"], ["depth"], ["cameras"]], ids=lambda words: words[0]
)
def test_a_link_out_of_a_run_is_not_written_to(
    words: list[str], finished_run: Path, tmp_path: Path, capsys
):
    run, real = tmp_path / "run", tmp_path / "real"
    shutil.copytree(finished_run / "checkpoints", run / "checkpoints")
    real.write_bytes(b"good")
    for name in ("mesh.ply", "points.ply", "cameras.json", "depth"):
        (run / name).symlink_to(real)
    assert "is a link to" in refused(capsys, main, *words, run)
    assert real.read_bytes() == b"good"


def test_a_mesh_of_a_scene_that_goes_on_is_that_of_its_subject():
    cameras = looking_at_origin(SIDES)
    system = system_of(Ball(sigma=SOLID))
    system.field.is_unbounded = True
    distance = float(cameras.positions.norm(dim=1).median())
    box = box_of_scene(system, cameras)
    wanted = distance * torch.tensor([[-1.0] * 3, [1.0] * 3])
    torch.testing.assert_close(box, wanted, atol=1e-2, rtol=0)
