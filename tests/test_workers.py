"""Processes that end with the one they work for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dietnerf.workers import workers

WAITING = """
import os, time
from dietnerf.workers import workers

def begin():
    pass

if __name__ == "__main__":
    with workers(1, begin) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_a_worker_does_not_outlive_a_process_that_is_killed(tmp_path: Path):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
        process.kill()
    worker.wait(60)
    assert not worker.is_running()


def fail_while_one_works(found: list[psutil.Process]) -> None:
    with workers(1, int) as pool:
        found.append(psutil.Process(pool.submit(os.getpid).result()))
        pool.submit(time.sleep, 600)
        raise ZeroDivisionError


def test_workers_are_ended_where_the_block_fails():
    found: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError):
        fail_while_one_works(found)
    assert not found[0].is_running()
