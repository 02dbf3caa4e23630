"""Two processes: a signal to one of them saves and stops both, and a step that has no number on one
of them is skipped by both."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers import SMALL_RUN
from tests.reliability.conftest import FaultCounter
from tests.reliability.pipeline import TRAINED, differing

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).parents[2]
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
LONG = ["--trainer.max_steps", "400", "--trainer.val_check_interval", "400", "--save_every", "400"]
SPOILT = """
from dietnerf.losses import Photometric
from dietnerf.training.cli import main
import os
forward = Photometric.forward
def spoilt(self, step):
    is_bad = os.environ.get("LOCAL_RANK") == "1" and step.index in (4, 5, 6, 7)
    return forward(self, step) * (float("nan") if is_bad else 1.0)
Photometric.forward = spoilt
main()
"""


def begin(*words: str, **options) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, text=True, **pipes, **options
    )


def read(run: Path, name: str) -> dict:
    saved = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)
    return {key: saved[key] for key in TRAINED if key in saved}


def test_a_signal_stops_both_and_they_go_on_to_the_same_bits(tmp_path: Path, faults: FaultCounter):
    for name in ("unbroken", "run"):
        run = tmp_path / name
        process = begin("train.py", "fit", *SMALL_RUN, *TWO, *LONG, "--run", str(run))
        if name == "run":
            while not (run / "config.yaml").exists():
                time.sleep(0.05)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 143 and "stopped; go on from the last checkpoint" in said, said
    assert 0 < read(run, "last")["global_step"] < 400
    with faults.attempt("SIGTERM to one of two processes"):
        process = begin("train.py", "fit", "--run", str(run), "--ckpt_path", "last")
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-2000:]
        assert differing(read(run, "last"), read(tmp_path / "unbroken", "last")) == []


def test_what_has_no_number_on_one_is_skipped_by_both(tmp_path: Path, faults: FaultCounter):
    script = tmp_path / "spoilt.py"
    script.write_text(SPOILT)
    with faults.attempt("no numbers on one of two processes"):
        process = begin(str(script), "fit", *SMALL_RUN, *TWO, "--run", str(tmp_path / "run"))
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-2000:]
        before, after, end = (
            read(tmp_path / "run", name)["state_dict"]["field.table"]
            for name in ("000004", "000008", "last")
        )
        assert torch.equal(before, after) and not torch.equal(before, end) and end.isfinite().all()
    faults.lose("no numbers on one of two processes", 4, "steps skipped")
