"""Commands that write beside training: killed at random moments, or on a disk that is full, they
leave what was there, or what is new, whole."""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from dietnerf.export import command, render
from dietnerf.training import cli
from tests.helpers import fit
from tests.reliability.conftest import FaultCounter
from tests.reliability.pipeline import said_by, start_command
from tests.reliability.test_faults import remount, small_disk

pytestmark = pytest.mark.reliability

Main = Callable[[list[str]], None]
N_KILLS = 12  # of each command
ROOMS = (0, 4, 12)  # kB on a full disk
SMALL = ["--path", "orbit", "--size", "24", "24", "--frames", "12"]
QUIET = ["--trainer.enable_progress_bar", "false"]
VAL = ["--data.val_views.init_args.n", "8", "--data.reader.init_args.n_val", "8"]
# The command, and where its results are in the run.
KILLED: dict[str, tuple[Main, list[str], str]] = {
    "validate": (cli.main, ["validate", "--run", "RUN", *QUIET, *VAL], "."),
    "test": (cli.main, ["test", "--run", "RUN", *QUIET], "."),
    "predict": (cli.main, ["predict", "--run", "RUN", *QUIET], "predict"),
    "render .gif": (render.main, ["RUN", *SMALL, "--out", "RUN/films/a.gif"], "films"),
    "render .mp4": (render.main, ["RUN", *SMALL, "--out", "RUN/films/a.mp4"], "films"),
    "render PNGs": (render.main, ["RUN", *SMALL, "--out", "RUN/films"], "films"),
}
FULL: dict[str, tuple[Main, list[str], str]] = {
    **KILLED,
    "report": (cli.main, ["report", "--run", "RUN"], "."),
    **{
        f"mesh {ending}": (
            command.main,
            [
                *("mesh", "RUN", "--resolution", "16", "--level", "0.001"),
                "--out",
                f"RUN/m/m{ending}",
            ],
            "m",
        )
        for ending in (".ply", ".obj", ".glb")
    },
    **{
        f"depth {form}": (
            command.main,
            ["depth", "RUN", "--format", form, *SMALL, "--out", "RUN/depth"],
            "depth",
        )
        for form in ("png", "exr", "npy")
    },
    "cameras": (command.main, ["cameras", "RUN", *SMALL, "--out", "RUN/c/cameras.json"], "c"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "trained"
    fit(run)
    return run


def results(folder: Path) -> dict[str, bytes]:
    """The files of a folder but logs, which are written on and on."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if "tfevents" not in path.name and not path.name.startswith(".")
    }


def is_same(name: str, found: bytes, expected: bytes | None) -> bool:
    if name == "metrics.json" and found != b"good":  # holds how long it took
        return "mean" in json.loads(found)
    return found == expected


def words_for(words: list[str], run: Path) -> list[str]:
    return [word.replace("RUN", str(run)) for word in words]


@pytest.mark.parametrize("name", KILLED)
def test_killed_commands_leave_whole_files(
    name: str, trained: Path, tmp_path: Path, faults: FaultCounter
):
    main, words, place = KILLED[name]
    run, said = tmp_path / "run", tmp_path / "said.txt"
    shutil.copytree(trained, run)
    words, folder = words_for(words, run), run / place
    for _ in range(2):  # the process that others are forked from starts as well
        began = time.perf_counter()
        said_by(start_command(main, words, said), said)
        seconds = time.perf_counter() - began
    expected = results(folder)
    made = [path for path in expected if path not in results(trained)]
    for path in made:
        (folder / path).write_bytes(b"good")
    draw, n_kills = random.Random(0), 0
    while n_kills < N_KILLS:
        number = draw.choice([SIGKILL, SIGKILL, SIGTERM])
        process = start_command(main, words, said)
        process.join(draw.uniform(0, seconds))
        if not process.is_alive():
            continue
        os.kill(process.pid, number)
        process.join(60)
        n_kills += 1
        with faults.attempt(f"{number.name} at a random moment, {name}"):
            found = results(folder)
            assert found.keys() == expected.keys()
            for path, content in found.items():
                assert content == b"good" or is_same(path, content, expected[path]), path
            if number == SIGTERM:
                assert process.exitcode in (0, 128 + SIGTERM, -SIGTERM)
                parts = list(run.rglob(f".dietnerf-*.part{process.pid}*"))
                assert not parts, "it clears away what it began"
    assert "Traceback" not in said.read_text()
    said_by(start_command(main, words, said), said)
    found = results(folder)
    assert all(is_same(path, found[path], content) for path, content in expected.items())
    assert b"good" not in found.values()
    assert not list(run.rglob(".dietnerf-*")), "the next run clears away what others left"


@pytest.mark.parametrize("name", FULL)
def test_full_disk_of_other_writers(name: str, trained: Path, tmp_path: Path, faults: FaultCounter):
    main, words, place = FULL[name]
    said = tmp_path / "said.txt"
    with small_disk(tmp_path / "disk", "64m") as disk:
        run = disk / "run"
        shutil.copytree(trained, run)
        words, folder = words_for(words, run), run / place
        said_by(start_command(main, words, said), said)
        expected = results(folder)
        for room in ROOMS:
            for path in expected.keys() - results(trained).keys():
                (folder / path).write_bytes(b"good")
            for log in run.glob("*tfevents*"):
                log.unlink()
            used = int(subprocess.check_output(["df", "--output=used", disk]).split()[-1])
            remount(disk, f"size={used + room}k")
            process = start_command(main, words, said)
            process.join(120)
            with faults.attempt("full disk, other writers"):
                found = results(folder)
                assert found.keys() == expected.keys()
                for path, content in found.items():
                    assert content == b"good" or is_same(path, content, expected[path]), path
                assert not list(run.rglob(".dietnerf-*"))
                assert process.exitcode in ((0, 2) if room else (2,))
                if process.exitcode == 2:
                    sentence = said.read_text().strip().splitlines()[-1]
                    assert sentence.startswith("error: ") and "No space left" in sentence
                assert "Traceback" not in said.read_text(), said.read_text()
            remount(disk, "size=64m")
        said_by(start_command(main, words, said), said)
        assert b"good" not in results(folder).values()
