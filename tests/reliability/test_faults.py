"""Disks that fill up, folders that cannot be written to or vanish, clocks that jump: one sentence,
a whole checkpoint, and a run that goes on to the same bits."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dietnerf.data import Procedural
from dietnerf.export import render
from dietnerf.runs.checkpoints import checkpoints_of, is_whole
from dietnerf.training import cli
from tests.formats import write_blender
from tests.helpers import FEW_STEPS, SMALL_FIELD, SMALL_RUN, fit
from tests.reliability.conftest import FaultCounter
from tests.reliability.pipeline import (
    CONTEXT,
    differing,
    finish,
    start,
    steps_lost,
    what_was_trained,
)

pytestmark = pytest.mark.reliability

LAST = "checkpoints/last.ckpt"
RUN = [*SMALL_RUN, "--config", "ema", "--trainer.max_steps", "20"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder])
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    finish(run, RUN)
    return run


def last_words(process, output: Path) -> str:
    """The sentence that a process ended with."""
    process.join(120)
    assert process.exitcode == 2
    said = output.read_text()
    assert "Traceback" not in said, said[-2000:]
    message = said.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


# From a disk that has no room for the config to one that lacks a little for the last checkpoint.
SIZES = [0, 1, 2, 3, 8, 64, 200, 300, 400, 500, 600, 800, 1200, 1600, 2000, 2400, 3000, 3600]


@pytest.mark.parametrize("kilobytes", SIZES)
def test_full_disk(kilobytes: int, unbroken: Path, tmp_path: Path, faults: FaultCounter):
    size = f"{max(kilobytes, 4)}k"
    with small_disk(tmp_path / "disk", size) as disk, faults.attempt("full disk"):
        if kilobytes < 4:  # a page is the least that a disk can have
            (disk / "other").write_bytes(bytes(4096 - 1024 * kilobytes))
        run = disk / "run"
        taken = CONTEXT.RawValue("i", 0)
        process = start(run, RUN, tmp_path / "said.txt", taken)
        assert "No space left on device" in last_words(process, tmp_path / "said.txt")
        assert all(is_whole(path) for path in checkpoints_of(run))
        assert not list(run.rglob(".dietnerf-*"))
        faults.lose("full disk", steps_lost(run, taken))
        remount(disk, "size=64m")
        finish(run, RUN, tmp_path / "said.txt")
        assert differing(what_was_trained(run / LAST), what_was_trained(unbroken / LAST)) == []


def test_read_only_folder(unbroken: Path, tmp_path: Path, capsys, faults: FaultCounter):
    with small_disk(tmp_path / "disk", "64m") as disk:
        run = disk / "run"
        shutil.copytree(unbroken, run)
        remount(disk, "ro")
        new = ["fit", *RUN, "--run", str(disk / "new")]
        on = ["fit", "--run", str(run), "--ckpt_path", "last"]
        commands = [(cli.main, new), (cli.main, on), (cli.main, ["test", "--run", str(run)])]
        for main, words in [*commands, (render.main, [str(run)])]:
            with faults.attempt("read-only folder"):
                with pytest.raises(SystemExit) as ended:
                    main(words)
                assert ended.value.code == 2
                assert "cannot be written to" in capsys.readouterr().err
                assert what_was_trained(run / LAST)["global_step"] == 20
        faults.lose("read-only folder", 0)


def test_vanished_data(tmp_path: Path, faults: FaultCounter):
    """A run has read its photographs when it begins; one that begins or goes on needs them."""
    scene, run = tmp_path / "scene", tmp_path / "run"
    for split in ("train", "test"):
        write_blender(Procedural(resolution=16, n_train=7, n_test=2).read(split), scene, split)
    options = [
        *("--config", "fast", "--data.reader.init_args.root", str(scene), *SMALL_FIELD, *FEW_STEPS),
        *("--data.views.init_args.n", "3", "--data.reader.init_args.downscale", "1"),
        *("--trainer.max_steps", "300", "--save_every", "10"),
    ]
    process = start(run, options)
    while not checkpoints_of(run):
        time.sleep(0.01)
    shutil.rmtree(scene)
    with faults.attempt("photographs vanish"):
        process.join(120)
        assert process.exitcode == 0 and what_was_trained(run / LAST)["global_step"] == 300
    with faults.attempt("photographs vanish"):
        assert str(scene) in last_words(start(run, options), run.with_suffix(".txt"))
        assert what_was_trained(run / LAST)["global_step"] == 300
    faults.lose("photographs vanish", 0)


def test_clock_jump(unbroken: Path, tmp_path: Path, faults: FaultCounter):
    """Back by a year in the midst of a run, and into the past again when it goes on."""
    run = tmp_path / "run"
    process = CONTEXT.Process(target=_fit_while_the_clock_jumps, args=(run,))
    process.start()
    with faults.attempt("clock jumps"):
        process.join(120)
        assert process.exitcode == 0
        assert differing(what_was_trained(run / LAST), what_was_trained(unbroken / LAST)) == []
    (run / LAST).write_bytes((run / LAST).read_bytes()[:5000])
    for name in ("000016", "000020", "best"):
        (run / f"checkpoints/{name}.ckpt").unlink()
    for path in checkpoints_of(run)[1:]:  # the last ones are the oldest, by the clock
        os.utime(path, (2e9 - int(path.stem), 2e9 - int(path.stem)))
    with faults.attempt("clock jumps"):
        finish(run, RUN)
        assert differing(what_was_trained(run / LAST), what_was_trained(unbroken / LAST)) == []
        assert "last.ckpt is torn or empty: passing it over" in run.with_suffix(".txt").read_text()


def _fit_while_the_clock_jumps(run: Path) -> None:
    now, n_calls = time.time, 0

    def jumping() -> float:
        nonlocal n_calls
        n_calls += 1
        return now() - 365 * 86400 * (n_calls % 2)

    time.time = jumping
    fit(run, *RUN[len(SMALL_RUN) :])
