"""What all tests share: a seed, the devices to run on, and one tiny finished run."""

from pathlib import Path

import pytest
import torch

from tests.helpers import fit


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps on the procedural scene at 16x16, with a checkpoint every four."""
    run = tmp_path_factory.mktemp("runs") / "small"
    fit(run)
    return run
