"""What is said and drawn of a capture."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

from dietnerf.capture_report import describe, report_capture
from dietnerf.data import Procedural
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.coverage import Coverage
from dietnerf.geometry.poses import look_at
from dietnerf.training.cli import main
from tests.helpers import SMALL_RUN

TINT, BLUE = (247, 217, 213), (43, 98, 184)  # of directions without a view, of frusta


def share_of(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((abs(picture.astype(int) - color).max(axis=-1) < 24).mean())


def one_side(n: int) -> Cameras:
    """The first cameras of a slow orbit: 15 degrees apart."""
    return Procedural(n_test=24).cameras("test")[:n]


def test_the_gap_is_said_and_tinted(tmp_path: Path, capsys):
    report_capture(one_side(7), "abcdefg", tmp_path / "all" / "capture.png")
    assert "7 views: cameras stand around" in (said := capsys.readouterr().out)
    assert "270 degrees going round, from g (6) to a (0): what faces there stays open" in said
    assert "preset     --config photos, for 7 photos that look in different directions" in said
    picture = iio.imread(tmp_path / "all" / "capture.png")
    above, side = np.split(picture, 2, axis=1)
    assert 0.6 < share_of(above, TINT) < 0.8, "three quarters, less what is drawn over it"
    assert share_of(side, TINT) < 1e-3
    assert share_of(above, BLUE) > 2e-4 and share_of(side, BLUE) > 2e-4


def test_points_whose_depth_is_known_change_the_preset(tmp_path: Path, capsys):
    report_capture(one_side(7), "abcdefg", tmp_path / "capture.png", has_depths=True)
    assert "preset     --config photos --config points, for 7 photos" in capsys.readouterr().out


def test_views_that_overlap_little_are_advised_to():
    apart = Procedural(n_train=2).cameras("train")
    assert "overlap more" in "\n".join(describe(Coverage.of(apart), ["a", "b"]))
    assert "overlap more" not in "\n".join(describe(Coverage.of(one_side(9)), "abcdefghi"))


def test_cameras_side_by_side_and_a_single_one_are_drawn(tmp_path: Path, capsys):
    positions = torch.tensor([[-0.2, 0, 0], [0.0, 0, 0], [0.2, 0, 0]])
    poses = look_at(positions, positions + torch.tensor([0, 5.0, 0]), torch.tensor([0, 0, 1.0]))
    forward = one_side(1).with_poses(poses)
    for cameras in (forward, forward[:1]):
        report_capture(cameras, "abc"[: len(cameras)], tmp_path / "capture.png")
        assert "views differ by at most 0 degrees" in capsys.readouterr().out
        picture = iio.imread(tmp_path / "capture.png")
        assert share_of(picture, BLUE) > 2e-4 and share_of(picture, TINT) < 1e-3


def test_the_command_looks_at_the_views_that_fit_would_train_on(tmp_path: Path, capsys):
    run = tmp_path / "run"
    main(["report", *SMALL_RUN, "--data.views.init_args.n", "5", "--run", str(run)])
    assert "5 views" in capsys.readouterr().out
    assert [path.name for path in run.iterdir()] == ["capture.png"]


def test_the_command_knows_a_run(finished_run: Path, capsys):
    main(["report", "--run", str(finished_run)])
    assert "16 views" in capsys.readouterr().out
    (finished_run / "capture.png").unlink()
