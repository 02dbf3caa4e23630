"""Archives that mean harm, or are damaged, leave nothing behind."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from dietnerf.download import unpack as module
from dietnerf.download.unpack import unpack
from dietnerf.errors import UserError


def zip_of(path: Path, *names: str, mode: int = 0, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def tar_of(path: Path, *names: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, target, 1, 0o4777
            archive.addfile(info, io.BytesIO(b"x"))
    return path


def refusal(archive: Path) -> str:
    """The sentence; neither the folder nor anything outside of it is made."""
    before = set(archive.parent.parent.rglob("*"))
    with pytest.raises(UserError) as refused:
        unpack(archive, archive.parent / "made")
    assert set(archive.parent.parent.rglob("*")) == before
    return str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", "\\\\host\\evil", "a\x07b", ".."],
)
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_names_that_lead_outside(pack, name: str, tmp_path: Path):
    (tmp_path / "in").mkdir()
    assert "outside its folder" in refusal(pack(tmp_path / "in/archive", "good", name))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_of_a_tar(kind: bytes, tmp_path: Path):
    archive = tar_of(tmp_path / "archive", "link", kind=kind, target="/etc/passwd")
    assert "'link', a link or a device" in refusal(archive)


def test_links_of_a_zip(tmp_path: Path):
    archive = zip_of(tmp_path / "archive", "link", mode=stat.S_IFLNK | 0o777)
    assert "'link', a link or a device" in refusal(archive)


def test_archives_that_grow_beyond_measure(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "SLACK", 0)
    archive = zip_of(tmp_path / "archive", "a", "b", content=bytes(1_000_000))
    assert "20 times its own size" in refusal(archive)
    monkeypatch.setattr(module, "MOST_FILES", 1)
    archive = tar_of(tmp_path / "archive", "a", "b")
    assert "more than 1 files" in refusal(archive)


def test_archives_that_are_damaged(tmp_path: Path):
    (tmp_path / "in").mkdir()
    archive = zip_of(tmp_path / "in/archive", "photo", content=bytes(range(256)) * 100)
    content = bytearray(archive.read_bytes())
    content[60] ^= 255
    archive.write_bytes(content)
    assert "is damaged, or no archive" in refusal(archive)
    for content in (b"", b"<html>", tar_of(tmp_path / "x", "a", "b").read_bytes()[:60]):
        archive.write_bytes(content)
        assert "is damaged, or no archive" in refusal(archive)


def test_a_name_that_stands_twice(tmp_path: Path):
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = zip_of(tmp_path / "archive", "a", "a")
    assert "'a' twice" in refusal(archive)


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_one_folder_of_it_without_what_macs_add(pack, tmp_path: Path):
    archive = pack(tmp_path / "archive", "./set/a/b", "set/.DS_Store", "__MACOSX/set/a", "set/c")
    assert unpack(archive, tmp_path / "made", "set") == 2
    made = tmp_path / "made"
    assert {path.relative_to(made).as_posix() for path in made.rglob("*")} == {"a", "a/b", "c"}
    assert not (made / "c").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)
    with pytest.raises(UserError, match="holds nothing in other"):
        unpack(archive, tmp_path / "more", "other")


@pytest.mark.parametrize("n_cut", [8, 1], ids=["without its checksum", "one byte short"])
def test_a_compressed_tar_is_read_to_its_checksum(n_cut: int, tmp_path: Path):
    folder = tmp_path / "inner"
    folder.mkdir()
    archive = tar_of(folder / "data.tar.gz", "a/1.png")
    archive.write_bytes(archive.read_bytes()[:-n_cut])
    assert "is damaged, or no archive" in refusal(archive)


def test_sizes_of_a_tar_that_are_none(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    archive = tmp_path / "inner/data.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a/1.png")
        info.pax_headers = {"GNU.sparse.map": "x"}
        tar.addfile(info)
    assert "is damaged, or no archive" in refusal(archive)


def with_zeros_behind(path: Path, n: int) -> Path:
    """A compressed tar with a file, and so many bytes behind it."""
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(gzip.decompress(tar_of(path.with_suffix(".x"), "a/1.png").read_bytes()))
        packed.write(bytes(n))
    path.with_suffix(".x").unlink()
    return path


def test_the_checksum_counts_however_much_lies_before_it(tmp_path: Path, monkeypatch):
    (tmp_path / "inner").mkdir()
    archive = with_zeros_behind(tmp_path / "inner/data.tar.gz", 40 << 20)
    assert unpack(archive, tmp_path / "whole") == 1
    archive.write_bytes(archive.read_bytes()[:-8] + bytes(8))
    assert "is damaged, or no archive" in refusal(archive)
    monkeypatch.setattr(module, "MOST_BEHIND", 16)
    assert "more than 16 MB behind its last file" in refusal(archive)
