"""Frames of videos whose sharp ones are known."""

from pathlib import Path

import imageio.v2 as imageio
import imageio.v3 as iio
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dietnerf.errors import UserError
from dietnerf.prepare.video import sharp_frames, sharpness, write_frames

N_FRAMES, SHARP = 20, (2, 8, 11, 17)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of a pattern that moves by a row each, all but four of them blurred."""
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    pattern = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with imageio.get_writer(path, fps=10, macro_block_size=2, quality=10) as writer:
        for i in range(N_FRAMES):
            moved = np.roll(pattern, i, axis=0)
            blurred = gaussian_filter(moved, (2, 2, 0))
            writer.append_data(moved if i in SHARP else blurred)
    return path


def test_a_blurred_picture_is_less_sharp():
    pattern = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert sharpness(gaussian_filter(pattern, (1, 1, 0))) < 0.2 * sharpness(pattern)
    assert sharpness(np.full((8, 8, 3), 90, np.uint8)) == 0


def test_the_sharpest_of_each_part_is_taken(video: Path):
    everything = iio.imread(video, plugin="FFMPEG")
    chosen = list(sharp_frames(video, 4))
    numbers = [
        int(abs(everything - frame.astype(int)).mean((1, 2, 3)).argmin()) for frame in chosen
    ]
    assert tuple(numbers) == SHARP


def test_short_videos_give_what_they_have(video: Path):
    assert len(list(sharp_frames(video, 100))) == N_FRAMES


def test_frames_are_written_in_order(video: Path, tmp_path: Path):
    paths = write_frames(video, 3, tmp_path / "frames")
    assert [path.name for path in paths] == [f"frame_{i:04d}.png" for i in range(3)]
    for path, frame in zip(paths, sharp_frames(video, 3), strict=True):
        np.testing.assert_array_equal(iio.imread(path), frame)


def test_a_truncated_video(video: Path, tmp_path: Path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut.mp4 cannot be read as a video"):
        list(sharp_frames(cut, 3))
