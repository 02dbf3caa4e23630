"""Checkpoint files that are torn, changed or missing."""

import errno
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from dietnerf.export import render
from dietnerf.runs.checkpoints import is_whole
from dietnerf.training import cli
from tests.helpers import fit, weights


def same(run: Path, other: Path) -> bool:
    found, expected = (weights(path / "checkpoints/last.ckpt") for path in (run, other))
    return all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("kept", [0, 5000, -1], ids=["empty", "torn", "one byte short"])
def test_a_torn_checkpoint_is_passed_over(kept: int, finished_run: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    for name in ("last", "000012"):
        path = run / f"checkpoints/{name}.ckpt"
        path.write_bytes(path.read_bytes()[:kept])
    film = ["--frames", "1", "--size", "8", "8", "--out", str(tmp_path / "film.gif")]
    render.main([str(run), *film])
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last"])
    said = capsys.readouterr().err
    for name in ("last", "000012"):
        assert said.count(f"{name}.ckpt is torn or empty: passing it over") == 2
    assert same(run, finished_run)


def test_a_changed_byte_is_found(finished_run: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    path = run / "checkpoints/last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    cli.main(["validate", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    assert "last.ckpt is torn or empty: passing it over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "bits"),
    [(6, 64), (8, 32), (10, 1), (46, 128), (10, 8)],
    ids=["version", "patched", "compression", "name", "deflated"],
)
def test_a_changed_bit_of_the_directory_is_found(
    place: int, bits: int, finished_run: Path, tmp_path: Path
):
    """Of which zipfile makes an error of another kind each."""
    path = tmp_path / "last.ckpt"
    content = bytearray((finished_run / "checkpoints/last.ckpt").read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= bits
    path.write_bytes(content)
    assert not is_whole(path)


def test_a_broken_sector_is_found(finished_run: Path, monkeypatch):
    def broken(archive: zipfile.ZipFile) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(zipfile.ZipFile, "testzip", broken)
    assert not is_whole(finished_run / "checkpoints/last.ckpt")


def test_a_checkpoint_between_two_names_is_found(finished_run: Path, tmp_path: Path):
    """Killed after 000012.ckpt, before last.ckpt: a run that had no other."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "checkpoints/last.ckpt").unlink()
    cli.main(["validate", "--run", str(run), "--trainer.enable_progress_bar", "false"])


def test_a_run_killed_in_its_first_checkpoint_begins_again(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/.dietnerf-last.part123.ckpt").write_bytes(b"half of it")
    fit(run)
    assert same(run, finished_run)
    assert not list((run / "checkpoints").glob(".*"))
