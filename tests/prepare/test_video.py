"""Frames of videos whose sharp ones are known."""

import subprocess
from pathlib import Path

import imageio.v2 as imageio
import imageio.v3 as iio
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from scipy.ndimage import gaussian_filter

from dietnerf.errors import UserError
from dietnerf.prepare import video as module
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


LISTS = {
    "concat": "ffconcat version 1.0\nfile film.mp4\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfilm.mp4\n#EXT-X-ENDLIST\n",
    "DASH": """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
        profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet
        mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>film.mp4</BaseURL>
        </Representation></AdaptationSet></Period></MPD>""",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
def test_what_names_other_files_or_hosts_is_no_video(content: str, video: Path):
    listing = video.with_name("listing.mp4")
    listing.write_text(content)
    with pytest.raises(UserError, match=r"listing.mp4 cannot be read as a video"):
        list(sharp_frames(listing, 3))


@pytest.mark.parametrize("name", ["-rf.mp4", "http:film.mp4", "concat:a|b.mp4", "f%03d.mp4"])
def test_a_name_is_that_of_a_file(name: str, video: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(video.read_bytes())
    assert len(list(sharp_frames(Path(name), 4))) == 4


def test_videos_of_too_many_or_too_large_frames(video: Path, monkeypatch):
    monkeypatch.setattr(module, "MOST_FRAMES", N_FRAMES - 1)
    with pytest.raises(UserError, match=r"film.mp4 has more than 19 frames: cut out what shows"):
        list(sharp_frames(video, 3))
    monkeypatch.setattr(module, "MOST_FRAMES", N_FRAMES)
    assert len(list(sharp_frames(video, 3))) == 3
    monkeypatch.setattr(module, "MOST_PIXELS", 64 * 64 - 1)
    with pytest.raises(UserError, match=r"film.mp4 cannot be read as a video"):
        list(sharp_frames(video, 3))


def test_a_size_in_its_title_is_not_believed(video: Path, tmp_path: Path):
    titled = tmp_path / "film.mp4"
    line = "\x1cStream #0:0: Video: rawvideo, 30000x30000"
    command = [get_ffmpeg_exe(), "-i", video, "-c", "copy", "-metadata", f"title={line}", titled]
    subprocess.run(command, check=True, capture_output=True)
    assert all(frame.shape == (64, 64, 3) for frame in sharp_frames(titled, 3))


def test_a_pause_is_not_filled_with_copies(video: Path, tmp_path: Path):
    """Of a few frames that are hours apart there would be a million."""
    slow = tmp_path / "slow.mkv"
    command = [get_ffmpeg_exe(), "-itsscale", "100000", "-i", video, "-c", "copy", slow]
    subprocess.run(command, check=True, capture_output=True)
    assert len(list(sharp_frames(slow, 100))) == N_FRAMES
