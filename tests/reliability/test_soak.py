"""The soak of `make soak`, for a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.conftest import FaultCounter

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).parents[2]


def test_memory_stays_flat(faults: FaultCounter):
    words = [sys.executable, "benchmarks/soak.py", "--minutes", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with faults.attempt("a minute's soak"):
        ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-2000:]
        found = json.loads(ended.stdout.strip().splitlines()[-1])
        assert found["validations"] >= 6 and found["rounds"] >= 12
    faults.lose("a minute's soak", found["value"], "MB more at the end")
