"""What goes wrong in one of several processes ends all of them with a sentence."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from dietnerf.errors import UserError
from dietnerf.training.cli import main
from dietnerf.training.distributed import check_backend
from tests.training.processes import RUN, TWO, start

SPOILT = """
from dietnerf.losses import Photometric
from dietnerf.training.cli import main
Photometric.forward = lambda self, step: float("nan") * step.rendering.rgb.sum()
main()
"""


@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_killed_process_ends_the_others_with_a_sentence(victim: str, tmp_path: Path):
    run = tmp_path / "run"
    endless = ["--trainer.max_steps", "100000", "--save_every", "20"]
    process = start("train.py", "fit", *RUN, *endless, *TWO, "--run", str(run))
    deadline = time.monotonic() + 120
    while not (run / "checkpoints/000040.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    second = int(subprocess.check_output(["pgrep", "-P", str(process.pid)]).split()[-1])
    os.kill(process.pid if victim == "first" else second, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)  # ends when both have closed it
    assert "another process of this run is gone" in output
    assert process.returncode != 0
    assert torch.load(run / "checkpoints/000040.ckpt", weights_only=True)["global_step"] == 40


def test_fewer_rays_than_devices_are_refused(tmp_path: Path):
    few = ["--data.rays_per_step", "1", "--run", str(tmp_path / "run")]
    process = start("train.py", "fit", *RUN, *TWO, *few)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "rays_per_step is 1, fewer than the 2 devices" in output
    assert "Traceback" not in output


def test_a_mistake_of_all_is_said_once(tmp_path: Path):
    """Under torchrun, where each process finds it, and where training has begun already."""
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29513"]
    few = ["--data.rays_per_step", "1", "--run", str(tmp_path / "few")]
    output, _ = start(*torchrun, "--", "train.py", "fit", *RUN, *TWO, *few).communicate(timeout=120)
    assert output.count("error: rays_per_step is 1") == 1
    script = tmp_path / "spoilt.py"
    script.write_text(SPOILT)
    process = start(str(script), "fit", *RUN, *TWO, "--run", str(tmp_path / "spoilt"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert output.count("skipped because their numbers are not finite") == 1
    assert "Traceback" not in output


def test_unknown_strategies_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["fit", *RUN, "--run", str(tmp_path / "run"), "--trainer.strategy", "ddpp"])
    assert "there is no --trainer.strategy ddpp; use one of auto, ddp" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["fit", *RUN, "--run", str(tmp_path / "run"), "--trainer.accelerator", "gpuu"])
    assert "invalid accelerator name: `accelerator='gpuu'`" in capsys.readouterr().err


def test_gpus_without_nccl_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    gpus = [torch.device("cuda", i) for i in range(2)]
    check_backend(DDPStrategy(parallel_devices=[torch.device("cpu")] * 2))
    check_backend(DDPStrategy(parallel_devices=gpus, process_group_backend="gloo"))
    with pytest.raises(UserError, match="by NCCL, which this torch was built without"):
        check_backend(DDPStrategy(parallel_devices=gpus))


def test_cpus_joined_by_nccl_are_refused():
    cpus = [torch.device("cpu")] * 2
    with pytest.raises(UserError, match="nccl joins GPUs alone"):
        check_backend(DDPStrategy(parallel_devices=cpus, process_group_backend="nccl"))


def test_a_machine_that_cannot_see_the_data_ends_all(tmp_path: Path):
    missing = "{class_path: dietnerf.data.Blender, init_args: {root: nowhere}}"
    several = ["--trainer.num_nodes", "2", "--trainer.devices", "1", *TWO[2:]]
    agents = []
    for rank, reader in enumerate([[], ["--data.reader", missing]]):
        torchrun = [
            *("-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)),
            *("--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", "29512"),
        ]
        train = ["train.py", "fit", *RUN, *several, *reader, "--run", str(tmp_path / "run")]
        agents.append(start(*torchrun, "--", *train))
    for agent in agents:
        output, _ = agent.communicate(timeout=60)
        assert agent.returncode != 0
        assert "error: process 1: " in output and "nowhere" in output
    assert not (tmp_path / "run/checkpoints").exists()
