"""Data sets from a host on this machine: broken off, changed, wrong, missing."""

import base64
import hashlib
import io
import json
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dietnerf.download import catalog, transfer, unpack
from dietnerf.download.catalog import DATA_SETS, DataSet
from dietnerf.download.command import main
from tests.download.server import Host, serving
from tests.helpers import refused

PHOTO = bytes(range(256)) * 400  # 102,400 bytes, which are stored as they are


def zipped(**files: bytes) -> bytes:
    """A zip file; underscores in the names are slashes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


TOYS = zipped(toys__duck__transforms_train=b"{}", toys__duck__train__0=PHOTO, readme=b"")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host that has the data set `toys`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setattr(transfer, "CHUNK", 1 << 14)
    with serving(TOYS) as host:
        offer(monkeypatch, host.address)
        yield host


def offer(monkeypatch: pytest.MonkeyPatch, *addresses: str, sha256: str | None = None) -> None:
    toys = DataSet("a duck", addresses, ("duck",), "CC0", "page", inside="toys", sha256=sha256)
    monkeypatch.setitem(DATA_SETS, "toys", toys)


def bring(out: Path, *more: str) -> None:
    main(["toys", "--out", str(out), *more])


def check_duck(out: Path) -> None:
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"toys/duck/transforms_train", "toys/duck/train/0"}
    assert (out / "toys/duck/train/0").read_bytes() == PHOTO


def break_off(host: Host, out: Path, n_bytes: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Let a first call end after n bytes; the sentence that it ends with."""
    host.breaks_after = [n_bytes] + [0] * transfer.TRIES
    said = refused(capsys, main, "toys", "--out", out)
    assert (out / "toys.zip.part").read_bytes() == host.content[:n_bytes]
    host.breaks_after.clear()
    host.requests.clear()
    return said


def test_all_that_is_known_is_listed(capsys):
    main([])
    said = capsys.readouterr().out
    assert all(name in said for name in DATA_SETS) and "1.27 GB" in said and "CC BY-NC" in said
    assert max(map(len, said.splitlines())) <= 110


def test_a_data_set_comes_whole_with_its_terms_and_the_next_command(host: Host, tmp_path, capsys):
    bring(tmp_path)
    check_duck(tmp_path)
    said = capsys.readouterr().out
    place = [said.index(word) for word in ("license: CC0", "size:", "SHA-256", "fit --scene")]
    assert place == sorted(place)
    assert hashlib.sha256(TOYS).hexdigest() in said and "no checksum is published" in said
    assert f"fit --scene {tmp_path}/toys/duck" in said
    host.requests.clear()
    bring(tmp_path)
    assert "is there already" in capsys.readouterr().out and not host.requests


def test_what_was_broken_off_goes_on(host: Host, tmp_path, capsys):
    said = break_off(host, tmp_path, 60_000, capsys)
    assert "60,000 bytes are kept in" in said and "the same command goes on" in said
    bring(tmp_path)
    assert host.requests == ["bytes=60000-"]
    check_duck(tmp_path)


def test_a_connection_that_breaks_is_made_again(host: Host, tmp_path):
    host.breaks_after = [40_000, 0, 20_000]
    bring(tmp_path)
    assert host.requests == [None, "bytes=40000-", "bytes=40000-", "bytes=60000-"]
    check_duck(tmp_path)


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_a_file_that_changed_begins_anew(host: Host, knows_if_range: bool, tmp_path, capsys):
    host.content = zipped(toys__duck__train__0=b"old" * 50_000)
    break_off(host, tmp_path, 60_000, capsys)
    host.content, host.knows_if_range = TOYS, knows_if_range
    bring(tmp_path)
    assert "another version by now" in capsys.readouterr().out
    check_duck(tmp_path)


@pytest.mark.parametrize("lacks", ["knows_ranges", "has_size"])
def test_hosts_that_know_less(host: Host, lacks: str, tmp_path):
    setattr(host, lacks, False)
    host.breaks_after = [60_000] if lacks == "knows_ranges" else []
    bring(tmp_path)
    check_duck(tmp_path)


def test_a_damaged_state_begins_anew(host: Host, tmp_path, capsys):
    break_off(host, tmp_path, 60_000, capsys)
    (tmp_path / "toys.zip.part.json").write_text("{")
    bring(tmp_path)
    assert host.requests == [None]
    check_duck(tmp_path)


def test_a_published_checksum_is_compared(host: Host, tmp_path, monkeypatch, capsys):
    offer(monkeypatch, host.address, sha256="0" * 64)
    said = refused(capsys, main, "toys", "--out", tmp_path)
    assert hashlib.sha256(TOYS).hexdigest() in said and "not 0000" in said and "removed" in said
    assert list(tmp_path.iterdir()) == []
    bring(tmp_path, "--sha256", hashlib.sha256(TOYS).hexdigest().upper())
    assert "what --sha256 says" in capsys.readouterr().out
    check_duck(tmp_path)
    assert "not 64 hexadecimal" in refused(capsys, main, "toys", "--sha256", "12")


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("is_right", [True, False])
def test_what_the_host_states_is_compared(
    host: Host, kind: str, is_right: bool, tmp_path, monkeypatch, capsys
):
    """As Hugging Face and Google's storage state it."""
    digest = hashlib.new(kind, TOYS if is_right else b"", usedforsecurity=False)
    if kind == "md5":
        stated = base64.b64encode(digest.digest()).decode()
        host.headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={stated}"
        check_stated(is_right, tmp_path, capsys)
        return
    with serving(b"") as front:
        front.moves_to, front.headers["X-Linked-ETag"] = host.address, f'"{digest.hexdigest()}"'
        offer(monkeypatch, front.address)
        check_stated(is_right, tmp_path, capsys)


def check_stated(is_right: bool, out: Path, capsys: Any) -> None:
    if is_right:
        bring(out)
        assert "that is what the host says" in capsys.readouterr().out
        check_duck(out)
    else:
        assert "as the host says" in refused(capsys, main, "toys", "--out", out)
        assert not (out / "toys").exists()


def test_a_file_that_is_gone_comes_from_the_next_host(host: Host, tmp_path, monkeypatch, capsys):
    with serving(b"") as gone:
        gone.status = 404
        offer(monkeypatch, gone.address)
        said = refused(capsys, main, "toys", "--out", tmp_path)
        assert "answers 404 Not Found: it does not have it (page may say where else" in said
        assert list(tmp_path.iterdir()) == []
        offer(monkeypatch, gone.address, host.address)
        bring(tmp_path)
    check_duck(tmp_path)


def test_a_redirect_is_followed_and_gone_on_with(host: Host, tmp_path, monkeypatch, capsys):
    with serving(b"") as front:
        front.moves_to = host.address
        offer(monkeypatch, front.address)
        break_off(host, tmp_path, 60_000, capsys)
        bring(tmp_path)
    assert host.requests == ["bytes=60000-"]
    check_duck(tmp_path)


def test_a_page_for_a_browser_is_not_the_file(host: Host, tmp_path, capsys):
    host.headers["Content-Type"] = "text/html; charset=utf-8"
    assert "is a page for a browser" in refused(capsys, main, "toys", "--out", tmp_path)


def test_without_network(tmp_path, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    said = refused(capsys, main, "nerf_synthetic", "--out", tmp_path / "data")
    assert "cannot be reached (Name or service not known): is there a network?" in said
    assert not (tmp_path / "data").exists()


def test_an_archive_that_lies_there_needs_no_network(tmp_path, monkeypatch):
    offer(monkeypatch, "http://127.0.0.1:9/toys.zip", sha256=hashlib.sha256(TOYS).hexdigest())
    (tmp_path / "toys.zip").write_bytes(TOYS)
    bring(tmp_path, "--keep_archive")
    assert (tmp_path / "toys.zip").read_bytes() == TOYS
    (tmp_path / "toys.zip").unlink()
    check_duck(tmp_path)


def test_room_on_the_disk_is_checked_before(host: Host, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)._replace(free=unpack.SPARE + len(TOYS))
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage)
    said = refused(capsys, main, "toys", "--out", tmp_path)
    assert "GB free: make room, or name another folder with --out" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_on_the_way(host: Host, tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    receive = transfer._receive
    monkeypatch.setattr(transfer, "_receive", full)
    said = refused(capsys, main, "toys", "--out", tmp_path)
    assert "toys.zip.part cannot be written (No space left on device)" in said
    monkeypatch.setattr(transfer, "_receive", receive)
    bring(tmp_path)
    check_duck(tmp_path)


def test_ctrl_c_keeps_what_came(host: Host, tmp_path, monkeypatch, capsys):
    bar = transfer.progress_of_bytes

    def interrupted(*arguments: Any) -> Any:
        shown = bar(*arguments)
        update = shown.update

        def stop(n: int) -> None:
            update(n)
            raise KeyboardInterrupt

        shown.update = stop
        return shown

    monkeypatch.setattr(transfer, "progress_of_bytes", interrupted)
    with pytest.raises(SystemExit) as ended:
        bring(tmp_path)
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert f"16,384 bytes are kept in {tmp_path}/toys.zip.part, and the same command" in said
    monkeypatch.setattr(transfer, "progress_of_bytes", bar)
    bring(tmp_path)
    assert host.requests == [None, "bytes=16384-"]
    check_duck(tmp_path)


def test_names_that_are_misspelt(capsys):
    assert "did you mean nerf_synthetic?" in refused(capsys, main, "nerf_syntetic")
    assert "did you mean nerf_synthetic/lego?" in refused(capsys, main, "lego")
    assert "all are listed" in refused(capsys, main, "qqqq")


def test_one_scene_of_many_is_not_taken_for_all(host: Host, tmp_path, capsys):
    (tmp_path / "toys/frog").mkdir(parents=True)
    said = refused(capsys, main, "toys", "--out", tmp_path)
    assert "is there already, but without duck" in said and not host.requests


def test_the_catalog_is_sound():
    for name, data in catalog.DATA_SETS.items():
        assert all(address.startswith("https://") for address in data.addresses), name
        assert data.sha256 is None or len(bytes.fromhex(data.sha256)) == 32
        assert data.archive.endswith((".zip", ".tar.gz")) and data.terms and data.page
        assert json.dumps(name).isascii()
