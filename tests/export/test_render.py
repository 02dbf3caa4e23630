import json
import os
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import psutil
import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.export import frames, render
from dietnerf.export.paths import warn_of_another_frame
from dietnerf.export.sight import Unseen
from dietnerf.geometry.cameras import Cameras
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.visualize import Mode
from tests.export.test_mesh import SIDES, SOLID, looking_at_origin, system_of
from tests.helpers import Ball, refused


def test_gif_shows_color_and_depth_beside_it_on_request(finished_run: Path, tmp_path: Path):
    out = tmp_path / "orbit.gif"
    args = [str(finished_run), "--frames", "3", "--out", str(out)]
    render.main(args)
    color = iio.imread(out)
    render.main([*args, "--modes", "rgb", "depth"])
    frames = iio.imread(out)
    assert color.shape == (3, 16, 16, 3) and frames.shape == (3, 16, 32, 3)
    assert frames[0].std() > 0 and (frames[0] != frames[1]).any()
    assert [path.name for path in tmp_path.iterdir()] == ["orbit.gif"], "no temporary file is left"


def test_mp4_has_size_and_rate(finished_run: Path, tmp_path: Path):
    out = tmp_path / "spiral.mp4"
    args = ["--path", "spiral", "--frames", "4", "--fps", "12", "--size", "40", "30"]
    modes = ["--modes", "rgb", "depth", "opacity"]
    render.main([str(finished_run), *args, *modes, "--out", str(out)])
    assert iio.imread(out).shape == (4, 30, 120, 3)
    assert iio.immeta(out, plugin="FFMPEG")["fps"] == pytest.approx(12)


def test_pngs_of_the_test_cameras_are_what_the_field_shows(finished_run: Path, tmp_path: Path):
    """From the checkpoint alone: the same pixels as the trained system."""
    render.main([str(finished_run), "--path", "test", "--modes", "rgb", "--out", str(tmp_path)])
    system = load_scene(find_checkpoint(finished_run))
    cameras = Procedural(resolution=16, n_test=3).cameras("test")
    for i in range(3):
        expected = system.render_rays_of(cameras, i, torch.ones(3)).rgb.clamp(0, 1).view(16, 16, 3)
        found = iio.imread(tmp_path / f"rgb_{i:03d}.png")
        np.testing.assert_array_equal(found, (expected * 255).round().numpy())


def test_two_processes_render_what_one_does_in_the_same_order(finished_run: Path, tmp_path: Path):
    for n in ("1", "2"):
        args = ["--frames", "5", "--devices", n, "--device", "cpu", "--out", str(tmp_path / n)]
        render.main([str(finished_run), *args, "--modes", "rgb", "depth"])
    for name in sorted(path.name for path in (tmp_path / "1").iterdir()):
        assert (tmp_path / "2" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    assert len(list((tmp_path / "2").iterdir())) == 10


def test_a_rendering_process_that_ends_is_named(finished_run: Path, tmp_path: Path, monkeypatch):
    film = frames.RenderJob.of(
        [load_scene(find_checkpoint(finished_run))], *_one_frame(finished_run)
    )
    monkeypatch.setattr(frames.Worker, "frame", _end_at_once)
    shown = frames.render_frames_on(["cpu", "cpu"], [find_checkpoint(finished_run)], film)
    with pytest.raises(UserError, match="a process that rendered on one of cpu, cpu ended"):
        list(shown)


def _one_frame(run: Path) -> tuple[Cameras, list[Mode], torch.Tensor]:
    return Procedural(resolution=16, n_test=3).cameras("test")[:1], ["rgb"], torch.ones(3)


def _end_at_once(index: int) -> None:
    os._exit(1)


def test_poses_in_the_frame_of_a_listing_are_warned_of(recwarn):
    train = Procedural(resolution=16).cameras("train")
    warn_of_another_frame(Path("path.json"), train.c2w, train)
    assert not recwarn.list
    farther = torch.cat([train.c2w[:, :, :3], 3.8 * train.c2w[:, :, 3:]], dim=2)
    with pytest.warns(UserWarning, match=r"--poses path.json: poses lie up to .* orient and scale"):
        warn_of_another_frame(Path("path.json"), farther, train)


def test_interpolation_through_given_poses(finished_run: Path, tmp_path: Path):
    poses = Procedural(resolution=16, n_test=3).cameras("test").c2w
    frames = [{"transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]} for pose in poses]
    (tmp_path / "path.json").write_text(json.dumps({"frames": frames}))
    args = ["--path", "interpolate", "--poses", str(tmp_path / "path.json"), "--frames", "3"]
    render.main([str(finished_run), *args, "--modes", "rgb", "--out", str(tmp_path / "a")])
    render.main(
        [str(finished_run), "--path", "test", "--modes", "rgb", "--out", str(tmp_path / "b")]
    )
    for i in range(3):
        a, b = (iio.imread(tmp_path / name / f"rgb_{i:03d}.png").astype(int) for name in "ab")
        # Interpolated near and far follow the distance, which rounds differently.
        assert abs(a - b).max() <= 2


def test_background(finished_run: Path, tmp_path: Path):
    args = ["--path", "test", "--modes", "rgb", "--background", "black", "--out", str(tmp_path)]
    render.main([str(finished_run), *args])
    system = load_scene(find_checkpoint(finished_run))
    assert system.camera_set is not None
    black = system.render_rays_of(system.camera_set.cameras["test"], 0, torch.zeros(3)).rgb.view(
        16, 16, 3
    )
    found = iio.imread(tmp_path / "rgb_000.png")
    np.testing.assert_array_equal(found, (black * 255).round().numpy())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "film.avi"], "cannot write .avi"),
        (["--frames", "0"], "--frames: '0' is not a whole number from 1 to"),
        (["--fps", "-1"], "--fps: '-1' is not a number from"),
        (["--size", "0", "4"], "--size: '0' is not a whole number from 1 to"),
        (["--path", "interpolate", "--poses", "nowhere.json"], "nowhere.json"),
        (["--fps", "nan"], "--fps: 'nan' is not a number from"),
        (["--devices", "0"], "--devices: '0' is not a whole number"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
        (["--poses", "path.json"], "--poses goes with --path interpolate only"),
        (["--path", "test", "--radius", "3"], "--radius goes with --path orbit or swing or spiral"),
        (["--path", "sideways"], "invalid choice: 'sideways'"),
    ],
)
def test_mistakes_are_one_sentence(finished_run: Path, options, sentence, capsys):
    assert sentence in refused(capsys, render.main, str(finished_run), *options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--size", "60000", "60000", "--out", "pngs"],
            "60 frames of 60000x60000 pixels take 230.4 GB of memory, and 16.0 GB",
        ),
        (
            ["--size", "9000", "9000", "--modes", "rgb", "depth"],
            "frames of 18000x9000 pixels, and .mp4 has at most 16384",
        ),
        (["--fps", "1e300"], "--fps: '1e300' is not a number from 0.01 to 1000"),
        (["--elevation_deg", "inf"], "--elevation_deg: 'inf' is not a number from -90 to 90"),
        (["--radius", "1e300"], "--radius: '1e300' is not a number from 1e-06 to 1000000.0"),
        (["--devices", "1" + 30 * "0"], "is not a whole number from 1 to 256"),
        (["--device", "meta"], "--device meta cannot be used here"),
        (["--out", ""], "--out: it names nothing"),
    ],
)
def test_what_cannot_be_is_found_before_anything_is_rendered(
    options, sentence, finished_run: Path, tmp_path: Path, capsys, monkeypatch
):
    def rendered(*_):
        pytest.fail("something was rendered")

    monkeypatch.setattr(frames.RenderJob, "of", rendered)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16e9))
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, render.main, str(finished_run), *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size", "name"), [((40, 400), "orbit.gif"), ((401, 30), "orbit.mp4"), ((30, 402), "orbit.mp4")]
)
def test_films_of_more_than_400_pixels_are_mp4(size, name, finished_run: Path, tmp_path: Path):
    cameras = Procedural(resolution=16).cameras("train").framed(*size)
    options = render.parse([str(finished_run), "--path", "orbit"])
    assert render._output(options, [tmp_path / "checkpoints" / "last.ckpt"], cameras).name == name


def test_a_film_has_720_rows_at_most_unless_its_size_is_chosen(finished_run: Path):
    photos = Procedural(resolution=16).cameras("train").framed(1080, 1920)

    def size(*args: str) -> tuple[int, int]:
        cameras = render._of_a_film(photos, render.parse([str(finished_run), *args]))
        return cameras.width, cameras.height

    assert size() == size("--out", "film.gif") == (405, 720)
    assert size("--size", "1080", "1920") == size("--out", "pictures") == (1080, 1920)


@pytest.mark.parametrize("devices", ["1", "2"])
def test_it_says_how_long_it_takes_once_a_frame_is_there(
    devices: str, finished_run: Path, tmp_path: Path, capsys, monkeypatch
):
    real = frames.RenderJob.frame
    monkeypatch.setattr(frames.RenderJob, "frame", lambda *args: (real(*args)[0], 4.0))
    out = str(tmp_path / "film.mp4")
    if devices == "1":
        render.main([str(finished_run), "--frames", "30", "--out", out])
        assert "30 frames of 16x16, about 2 minutes\n" in capsys.readouterr().err
        return
    render.main([str(finished_run), "--frames", "3", "--devices", "2", "--out", out])
    assert "3 frames of 16x16, about 1 second\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 second"),
        (1.6, "2 seconds"),
        (89, "89 seconds"),
        (100, "2 minutes"),
        (5000, "83 minutes"),
        (9000, "2.5 hours"),
    ],
)
def test_durations_in_words(seconds: float, words: str):
    assert frames.duration(seconds) == words


def test_a_film_of_what_no_camera_saw_is_warned_of():
    """Flown around a ball that was photographed from one side."""
    system, cameras = system_of(Ball(sigma=SOLID)), looking_at_origin(SIDES)[:1]
    unseen = Unseen(system, cameras)
    assert unseen.share(cameras) == 0
    behind = looking_at_origin(SIDES[1:2])
    shown = system.render_rays_of(behind, 0, torch.zeros(3)).opacity > 0.5
    assert unseen.share(behind) == pytest.approx(float(shown.float().mean()), abs=0.02)
    with pytest.warns(UserWarning, match="25% of the film's pixels .* --path walk or swing or"):
        render._warn_of_unseen(0.25, "orbit")
    with warnings.catch_warnings(action="error"):
        render._warn_of_unseen(0.04, "orbit")


def test_a_path_that_the_trained_scene_hides_gives_way(finished_run: Path):
    camera_set = load_scene(find_checkpoint(finished_run)).camera_set
    options = render.parse([str(finished_run)])
    flown = []

    def measure(frames: Cameras) -> float:
        flown.append(frames)
        return 0.5 if len(flown) == 1 else 0.01

    cameras = render.camera_path(camera_set, options, measure)
    assert len(flown) == 2 and cameras is flown[1]
    first, second = (frames.c2w for frames in flown)
    assert not torch.equal(first, second)


def test_missing_checkpoint(tmp_path: Path, capsys):
    assert "there is no checkpoint at" in refused(capsys, render.main, str(tmp_path))


def test_a_failure_leaves_the_good_film(finished_run: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "orbit.gif"
    out.write_bytes(b"good")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(frames, "to_image", fail)
    with pytest.raises(SystemExit) as ended:
        render.main([str(finished_run), "--frames", "2", "--out", str(out)])
    assert ended.value.code == 128 + signal.SIGINT
    assert out.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [out]


def test_poses_that_are_not_rigid(finished_run: Path, tmp_path: Path, capsys):
    path = tmp_path / "path.json"
    scaled = [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]
    path.write_text(json.dumps({"frames": [{"transform_matrix": scaled}]}))
    options = [str(finished_run), "--path", "interpolate", "--poses", str(path)]
    assert f"{path}, frame 0: transform_matrix is not a rotation" in refused(
        capsys, render.main, *options
    )


def test_output_below_a_file(finished_run: Path, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(
        capsys, render.main, str(finished_run), "--out", str(tmp_path / "file" / "orbit.gif")
    )
    assert "is a file; name a folder" in message


def test_cameras_that_face_one_way_are_flown_past_and_others_around(finished_run: Path):
    camera_set = load_scene(find_checkpoint(finished_run)).camera_set
    options = render.parse([str(finished_run), "--path", "spiral", "--frames", "8"])
    around = render.camera_path(camera_set, options)
    assert (around.c2w[:, :, 2].mean(dim=0).norm()) < 0.9
    train = camera_set.cameras["train"]
    generator = torch.Generator().manual_seed(0)
    poses = train.c2w[:1] + torch.zeros(5, 1, 1)
    poses[:, :, 3] += 0.2 * torch.randn(5, 3, generator=generator)
    forward = replace(camera_set, cameras={"train": train.with_poses(poses)})
    past = render.camera_path(forward, options)
    assert (past.c2w[:, :, 2] @ poses[0, :, 2] > 0.9).all()
    assert past.near.tolist() == [float(train.near[0])] * 8
    options = render.parse([str(finished_run), "--path", "spiral", "--radius", "3"])
    assert len(render.camera_path(forward, options)) == 60


def test_a_link_out_of_a_run_is_not_written_to(finished_run: Path, tmp_path: Path, capsys):
    run, real = tmp_path / "run", tmp_path / "real"
    shutil.copytree(finished_run / "checkpoints", run / "checkpoints")
    real.write_bytes(b"good")
    for name in ("swing.gif", "swing.mp4", "orbit.gif", "orbit.mp4"):
        (run / name).symlink_to(real)
    assert "is a link to" in refused(capsys, render.main, run, "--frames", "1")
    assert real.read_bytes() == b"good"
