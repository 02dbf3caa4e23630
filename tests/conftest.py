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


@pytest.fixture(scope="session")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred steps on the procedural scene at 32x32: enough to tell front from back."""
    run = tmp_path_factory.mktemp("shown") / "toy"
    options = {
        "data.reader.init_args.resolution": 32,
        "data.rays_per_step": 256,
        "data.samples_per_step": 8192,
        "trainer.max_steps": 200,
        "trainer.val_check_interval": 200,
    }
    fit(run, *(word for name, value in options.items() for word in (f"--{name}", str(value))))
    return run
