"""Films that cannot be written: one sentence, and what was there stays."""

import gc
import subprocess
import sys
import time
import weakref
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from PIL import Image

from dietnerf.errors import UserError
from dietnerf.export.film import check_film, check_output, write_film

LIMITED = """
import resource, sys
from pathlib import Path
import torch
from dietnerf.errors import exit_on_user_error
from dietnerf.export.film import write_film

@exit_on_user_error
def main(out):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
    generator = torch.Generator().manual_seed(0)
    write_film(({"rgb": (255 * torch.rand(64, 64, 3, generator=generator)).byte()}
                for _ in range(20)), Path(out), 20)

for out in sys.argv[1:]:
    try:
        main(out)
    except SystemExit as ended:
        print(ended.code)
"""


def pictures(n: int, size: int = 16) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"rgb": (255 * torch.rand(size, size, 3, generator=generator)).byte()} for _ in range(n)
    ]


def test_a_disk_that_takes_no_more_leaves_the_good_film(tmp_path: Path):
    """ffmpeg writes the MP4 itself, and its exit is all that says so."""
    outs = [tmp_path / "film.mp4", tmp_path / "film.gif", tmp_path / "folder"]
    for out in (*outs[:2], outs[2] / "rgb_000.png"):
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(b"good")
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, outs)], capture_output=True, text=True
    )
    assert ended.stdout.split() == ["2"] * 3, ended.stderr
    said = ended.stderr.strip().splitlines()
    assert [line.rpartition(": ")[2] for line in said] == ["File too large"] * 3
    for line, name in zip(said, ("film.mp4", "film.gif", "rgb_000.png"), strict=True):
        assert line.startswith("error: ") and f"{name} cannot be written: " in line
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 and all(path.read_bytes() == b"good" for path in files)


def test_an_error_between_frames_is_not_taken_for_the_end(tmp_path: Path):
    def frames():
        yield from pictures(2)
        raise BrokenPipeError("the screen is gone")

    with pytest.raises(BrokenPipeError, match="the screen is gone"):
        write_film(frames(), tmp_path / "film.mp4", 20)
    assert not list(tmp_path.iterdir())


def test_a_format_that_ffmpeg_lacks_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dietnerf.export.film.CODEC", "libnone")
    with pytest.raises(UserError, match=r"ffmpeg ended with \d+: Unknown encoder 'libnone'"):
        write_film(iter(pictures(40, 64)), tmp_path / "film.mp4", 20)
    assert not list(tmp_path.iterdir())


def test_frames_of_odd_sides_are_all_there(tmp_path: Path):
    write_film(iter(pictures(7, 15)), tmp_path / "film.mp4", 12.5)
    assert iio.imread(tmp_path / "film.mp4").shape == (7, 16, 16, 3)


def test_frames_that_are_alike_last_as_long(tmp_path: Path):
    write_film(iter(pictures(1) * 700), tmp_path / "film.gif", 1)
    film = Image.open(tmp_path / "film.gif")
    durations = []
    for i in range(film.n_frames):
        film.seek(i)
        durations.append(film.info["duration"])
    assert sum(durations) == 700_000


@pytest.mark.parametrize("size", [1, 16, 37])
def test_a_gif_shows_the_frames_in_their_colors_for_ever(size: int, tmp_path: Path):
    frames = pictures(5, size)
    frames[2]["depth"] = frames[2]["rgb"].flip(0)
    write_film(iter(frames[2:3]), tmp_path / "film.gif", 20)
    found = iio.imread(tmp_path / "film.gif", index=0)
    assert found.shape == (size, 2 * size, 3)
    expected = torch.cat(list(frames[2].values()), dim=1).numpy().astype(int)
    # A palette of 256 for up to 1,369 random colors is off by some levels.
    assert abs(found - expected).mean() < 12
    write_film(iter(pictures(5, size)), tmp_path / "film.gif", 20)
    film = Image.open(tmp_path / "film.gif")
    assert (film.n_frames, film.info["duration"], film.info["loop"]) == (5, 50, 0)


@pytest.mark.parametrize("name", ["film.gif", "film.mp4", "folder"])
def test_frames_are_written_as_they_are_made(name: str, tmp_path: Path):
    """None that was written is kept."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def frames():
        for _ in range(6):
            (frame,) = pictures(1)
            alive.append(weakref.ref(frame["rgb"]))
            yield frame
            del frame
            gc.collect()
            assert sum(one() is not None for one in alive) <= 2

    write_film(frames(), tmp_path / name, 20)
    assert len(alive) == 6


def test_a_gif_grows_while_frames_are_made(tmp_path: Path):
    def frames():
        yield from pictures(1, 100) * 40
        deadline = time.monotonic() + 30
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline, "nothing is written before the last frame"
            time.sleep(0.01)

    write_film(frames(), tmp_path / "film.gif", 20)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("film.avi", "cannot write .avi; use one of .gif, .mp4, a folder for PNGs"),
        ("film.GIF", "cannot write .GIF"),
        (".gif", ".gif is an ending without a name"),
        ("file/film.gif", "is a file; name a folder"),
        ("file", "is a file; name a folder"),
        ("folder.gif", "folder.gif is a folder"),
    ],
)
def test_names_that_are_no_film(name: str, sentence: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(UserError, match="--out") as refused:
        check_output(tmp_path / name)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("name", "width", "fps", "sentence"),
    [
        ("film.gif", 70_000, 20, "frames of 70000x4 pixels, and .gif has at most 65535 along"),
        ("film.mp4", 20_000, 20, "and .mp4 has at most 16384 along a side"),
        ("film.gif", 4, 60, "--fps is 60; a .gif shows at most 50"),
    ],
)
def test_what_a_format_cannot_hold(name, width, fps, sentence):
    with pytest.raises(UserError) as refused:
        check_film(Path(name), width, 4, fps)
    assert sentence in str(refused.value)
