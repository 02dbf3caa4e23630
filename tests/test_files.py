"""Files that appear whole or not at all, in whatever place."""

import os
import signal
from pathlib import Path

import pytest

from dietnerf.errors import UserError, leaving_on_signals
from dietnerf.files import (
    check_file,
    check_links,
    new_folder,
    remove_parts,
    replace_file,
    write_file,
)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def occupy(place: Path, kind: str) -> None:
    """Put something that is no file in the place of one."""
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "broken link":
        place.symlink_to(place.parent / "missing")
    elif kind == "link to itself":
        place.symlink_to(place)


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link", "link to itself"])
def test_what_is_no_file_stays(kind: str, tmp_path: Path):
    place = tmp_path / "film.gif"
    occupy(place, kind)
    before = place.lstat()
    with pytest.raises(UserError, match=r"^--out .*film.gif is a "):
        check_file(place, "--out")
    with pytest.raises(UserError, match=r"film.gif is a "):
        write_file(place, b"new")
    assert place.lstat() == before and left(tmp_path) == ["film.gif"]


def test_a_protected_file_stays(tmp_path: Path, monkeypatch):
    place = tmp_path / "film.gif"
    place.write_bytes(b"good")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place)
    with pytest.raises(UserError, match="is protected from writing"):
        write_file(place, b"new")
    assert place.read_bytes() == b"good"


@pytest.mark.parametrize("name", [".dietnerf-a.part1.gif", ".dietnerf-b.part1"])
def test_a_pipe_or_a_link_is_no_part(name: str, tmp_path: Path):
    folder, real = tmp_path / "run", tmp_path / "real"
    folder.mkdir()
    real.write_bytes(b"good")
    os.mkfifo(folder / name)
    (folder / ".dietnerf-c.part1").symlink_to(real)
    remove_parts(folder)
    assert real.read_bytes() == b"good"


def test_links_that_stay_inside_are_none_that_lead_out(tmp_path: Path):
    folder = tmp_path / "run"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/c").symlink_to(folder / "a")
    (folder / "a/loop").symlink_to(folder / "a/loop")
    check_links(folder)
    (tmp_path / "link").symlink_to(folder)
    check_links(tmp_path / "link")
    (folder / "a/b/out").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"a/b/out is a link to .*, outside of"):
        check_links(folder)


def test_a_link_stays_a_link(tmp_path: Path):
    real, link = tmp_path / "real" / "film.gif", tmp_path / "film.gif"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_file(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert left(tmp_path) == ["film.gif", "real"] and left(real.parent) == ["film.gif"]


def test_a_name_may_be_as_long_as_a_disk_takes(tmp_path: Path):
    place = tmp_path / ("x" * 251 + ".gif")
    check_file(place, "--out")
    write_file(place, b"new")
    assert place.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("x" * 252 + ".gif", "File name too long"),
        ("new/" + "x" * 252 + ".gif", "a name of more than 255 bytes"),
        ("a/" * 2100 + "film.gif", "File name too long"),
        (os.fsdecode(b"\xff.gif"), "a name that is not UTF-8"),
        ("file/film.gif", "file is a file; name a folder"),
        ("link/film.gif", "link is a link to nothing"),
        ("/proc/film.gif", "/proc cannot be written to"),
    ],
    ids=["long", "long in a new folder", "deep", "bytes", "in a file", "in a link", "in /proc"],
)
def test_names_that_cannot_be_are_refused_before(name: str, sentence: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(UserError) as refused:
        check_file(tmp_path / name, "--out")
    assert str(refused.value).startswith("--out ") and sentence in str(refused.value)
    assert left(tmp_path) == ["file", "link"]


def test_parts_of_killed_writers_are_removed_and_of_living_ones_not(tmp_path: Path):
    (tmp_path / ".dietnerf-film.part1.gif").write_bytes(b"half of it")
    (tmp_path / ".dietnerf-scene.part1" / "images").mkdir(parents=True)
    (tmp_path / ".photos.part1.rar").write_bytes(b"another program's")
    with replace_file(tmp_path / "film.gif") as part, new_folder(tmp_path / "scene") as folder:
        part.write_bytes(b"new")
        remove_parts(tmp_path)
        assert left(tmp_path) == sorted([part.name, folder.name, ".photos.part1.rar"])
    assert left(tmp_path) == [".photos.part1.rar", "film.gif", "scene"]


@leaving_on_signals()
def write_until(number: int, path: Path) -> None:
    with replace_file(path) as part:
        part.write_bytes(b"half of it")
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_part(number: int, tmp_path: Path):
    handler = signal.signal(number, signal.SIG_DFL)  # pytest may run under nohup
    (tmp_path / "film.gif").write_bytes(b"good")
    try:
        with pytest.raises(SystemExit) as ended:
            write_until(number, tmp_path / "film.gif")
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, handler)
    assert ended.value.code == 128 + number
    assert left(tmp_path) == ["film.gif"] and (tmp_path / "film.gif").read_bytes() == b"good"
