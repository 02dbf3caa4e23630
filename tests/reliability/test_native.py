"""The CPU's kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.reliability.sanitized import FUZZED, SHARES, WATCHED, build, find_compiler, fuzz

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(find_compiler() is None, reason="no clang++; apt install clang"),
]

N_CASES = 20_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz"
    build("fuzz_ops.cpp", FUZZED, program)
    return program


@pytest.mark.parametrize("op", SHARES)
def test_no_arguments_crash_an_op(op: str, fuzzer: Path, tmp_path: Path):
    n_cases = round(N_CASES * SHARES[op])
    tried = fuzz(fuzzer, op, n_cases, tmp_path)
    assert not tried.has_crashed, tried.said
    assert tried.n_cases >= n_cases and tried.n_answered > n_cases / 10


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("races") / "races"
    build("races.cpp", WATCHED, program)
    return program


def watched(program: Path, argument: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # Threads are distinguished by addresses that a randomised layout may not leave to them.
    command = ["setarch", "-R", program, argument]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_threads_do_not_race(races: Path):
    done = watched(races, "3")
    assert done.returncode == 0, done.stderr[-6000:]
    assert "as with one thread" in done.stdout


def test_a_race_would_be_seen(races: Path):
    done = watched(races, "planted")
    assert done.returncode != 0 and "WARNING: ThreadSanitizer: data race" in done.stderr
