"""What is said and drawn of a capture."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import ImageDraw, ImageFont

from dietnerf.capture_picture import SMOOTH, draw
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


def emptiest(picture: np.ndarray) -> float:
    """The tallest band of rows in which nothing is drawn, of the height."""
    rows = np.flatnonzero((picture < 250).any(axis=(1, 2)))
    return float(np.diff([0, *rows, len(picture)]).max()) / len(picture)


def filled(picture: np.ndarray) -> float:
    """The width of what is drawn, of the picture's."""
    columns = np.flatnonzero((picture < 250).any(axis=(0, 2)))
    return float(np.ptp(columns)) / picture.shape[1]


def one_side(n: int) -> Cameras:
    """The first cameras of a slow orbit: 15 degrees apart."""
    return Procedural(n_test=24).cameras("test")[:n]


def test_the_gap_is_said_and_tinted(tmp_path: Path, capsys):
    report_capture(one_side(7), "abcdefg", tmp_path / "all" / "capture.png")
    assert "7 views: cameras stand around" in (said := capsys.readouterr().out)
    assert "270 degrees going round, from g (6) to a (0): what faces there stays open" in said
    assert "preset     --config photos, for 7 photos that look in different directions" in said
    picture = iio.imread(tmp_path / "all" / "capture.png")
    assert 0.1 < share_of(picture, TINT) < 0.6 and share_of(picture, BLUE) > 2e-4
    below = picture[2 * len(picture) // 3 :]
    assert share_of(below, TINT) < 0.01 and share_of(below, BLUE) > 2e-4, "in the plan alone"


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


def grid(n: int) -> Cameras:
    """Cameras beside and above each other, some of them nearly at one place."""
    places = torch.arange(n)
    positions = torch.stack([places % 5 * 0.2, 0 * places, places // 5 * 0.01], dim=1)
    poses = look_at(positions, positions + torch.tensor([0, 5.0, 0]), torch.tensor([0, 0, 1.0]))
    return one_side(1)[[0] * n].with_poses(poses)


CAPTURES = {
    "an arc": lambda: one_side(7),
    "side by side": lambda: grid(20),
    "all around": lambda: Procedural(n_test=80).cameras("test"),
}


@pytest.mark.parametrize("capture", CAPTURES)
def test_the_picture_is_filled_and_its_numbers_can_be_read(capture: str, monkeypatch):
    """Numbers hide neither each other nor a camera."""
    cameras = CAPTURES[capture]()
    texts, dots = [], []
    text, ellipse = ImageDraw.ImageDraw.text, ImageDraw.ImageDraw.ellipse

    def noting(self, place, words, *args, **options):
        text(self, place, words, *args, **options)
        if words.isdecimal():
            font = ImageFont.load_default(13 * SMOOTH)
            texts.append((id(self), ImageDraw.ImageDraw.textbbox(self, place, words, font, "mm")))

    def noting_dots(self, area, **options):
        ellipse(self, area, **options)
        dots.append((id(self), area))

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noting)
    monkeypatch.setattr(ImageDraw.ImageDraw, "ellipse", noting_dots)
    picture = np.asarray(draw(cameras, Coverage.of(cameras)))
    assert emptiest(picture) < 0.2 and filled(picture) > 0.6 and picture.shape[1] > 500
    assert len(dots) == 2 * len(cameras) and len(texts) > 4
    for i, (panel, area) in enumerate(texts):
        others = [other for where, other in [*texts[:i], *dots] if where == panel]
        assert not any(overlap(area, other) for other in others)


def overlap(one: tuple, other: tuple) -> bool:
    return min(one[2], other[2]) - max(one[0], other[0]) > 1 and (
        min(one[3], other[3]) - max(one[1], other[1]) > 1
    )


def test_the_command_looks_at_the_views_that_fit_would_train_on(tmp_path: Path, capsys):
    run = tmp_path / "run"
    main(["report", *SMALL_RUN, "--data.views.init_args.n", "5", "--run", str(run)])
    assert "5 views" in capsys.readouterr().out
    assert [path.name for path in run.iterdir()] == ["capture.png"]


def test_the_command_knows_a_run(finished_run: Path, capsys):
    main(["report", "--run", str(finished_run)])
    assert "16 views" in capsys.readouterr().out
    (finished_run / "capture.png").unlink()
