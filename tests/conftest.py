"""What all tests share: a seed, the devices to run on, and one tiny finished run."""

from pathlib import Path

import pytest
import torch

from tests.helpers import fit


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def hide_gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests that do not name CUDA find none: they would take a GPU by themselves, where sums
    come in any order and numbers are not at hand."""
    if "cuda" in request.node.name:
        return
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes that a test starts


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
    """Five hundred steps on the procedural scene at 64x64: enough to show the scene."""
    run = tmp_path_factory.mktemp("shown") / "toy"
    options = {
        "data.reader.init_args.resolution": 64,
        "data.rays_per_step": 256,
        "model.sampler.init_args.resolution": 64,
        "model.sampler.init_args.n_steps": 192,
        "model.field.init_args.log2_table_size": 14,
        "model.field.init_args.n_levels": 8,
        "data.samples_per_step": 16384,
        "trainer.max_steps": 500,
        "trainer.val_check_interval": 500,
    }
    fit(run, *(word for name, value in options.items() for word in (f"--{name}", str(value))))
    return run
