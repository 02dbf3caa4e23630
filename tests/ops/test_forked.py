"""A process that is forked from one whose threads have worked."""

import os
import subprocess
import sys

import pytest

FORKED = """
import os, signal, torch
from tests.ops.test_render_hash_grid import make, render
torch.set_num_threads(2)
def work():
    weights, *_ = render(make([64] * 500))
    weights.sum().backward()
    torch.rand(400, 4000).sin().sum()
work()
child = os.fork()
if child == 0:
    signal.alarm(30)
    work()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks():
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", FORKED], env=environment, timeout=240, check=True)
