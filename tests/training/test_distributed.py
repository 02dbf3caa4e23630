"""Two processes on the CPU: they train, score and render what one does, and end together."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf.training.distributed import all_gather, own_shard
from tests.helpers import tiny_tower, weights
from tests.training.processes import RUN, TWO, call, start

# What two processes do, by one: the rays and the jitter of both, and the mean of their losses.
BOTH = """
from dataclasses import replace
from dietnerf.training.cli import main
from dietnerf.training.eager import EagerRayLosses
from dietnerf.training.objective import Objective
compute, update, updated = EagerRayLosses.__call__, Objective.update_sampler, set()
def update_once(self, step):
    if step not in updated:
        updated.add(step)
        update(self, step)
Objective.update_sampler = update_once
def compute_both(self, progress, n_rays, fraction, with_stats):
    first, second = (
        compute(replace(self, rank=rank), progress, n_rays // 2, fraction, with_stats)
        for rank in range(2)
    )
    return replace(first, loss=(first.loss + second.loss) / 2)
EagerRayLosses.__call__ = compute_both
main()
"""
SOMETIMES = (
    *("losses.Distortion", "losses.Occlusion", "losses.EmptyBackground"),
    *("losses.DensitySmoothness", "research.DepthSmoothness", "research.NeighborDivergence"),
    *("research.Reprojection", "research.RayEntropy", "research.OpacityEntropy"),
)
AVERAGE = {"decay": 0.9, "update_every_n_steps": 1, "use_buffers": False}


class CompareReplicas(Callback):
    """Writes down whether all processes ended with the same numbers."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        own = dict([*pl_module.named_parameters(), *pl_module.named_buffers()])
        first, second = all_gather([own])
        if trainer.is_global_zero:
            differing = [name for name in own if not torch.equal(first[name], second[name])]
            (Path(trainer.default_root_dir) / "differing.json").write_text(json.dumps(differing))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on one device and on two, each tested."""
    folder = tmp_path_factory.mktemp("runs")
    watch = ["--trainer.callbacks+", "tests.training.test_distributed.CompareReplicas"]
    call("train.py", "fit", *RUN, "--run", str(folder / "one"))
    call("train.py", "fit", *RUN, *TWO, *watch, "--run", str(folder / "two"))
    for name in ("one", "two"):
        call("train.py", "test", "--run", str(folder / name))
    return folder


def scores(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def test_two_devices_learn_what_one_does(runs: Path):
    one, two = (scores(runs / name)["mean"]["psnr"] for name in ("one", "two"))
    assert one > 14  # a white picture has 9
    assert abs(one - two) < 0.5  # other rays of the same number; seeds differ by as much


def test_all_processes_end_with_the_same_field_and_grid(runs: Path):
    assert json.loads((runs / "two/differing.json").read_text()) == []


def test_one_device_scores_the_views_of_two_in_the_same_order(runs: Path):
    expected = scores(runs / "two")
    assert expected["devices"] == 2
    assert [view["view_id"] for view in expected["per_view"]] == [0, 1, 2]
    copy = runs / "copy"
    shutil.copytree(runs / "two", copy)
    call("train.py", "test", "--run", str(copy), "--trainer.devices", "1")
    assert scores(copy)["per_view"] == expected["per_view"]
    pictures = [sorted((run / "test").iterdir()) for run in (runs / "two", copy)]
    assert len(pictures[0]) == 3
    for ours, theirs in zip(*pictures, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_two_devices_take_the_steps_that_one_takes_of_the_same_rays(tmp_path: Path):
    """Both log what the first one's rays show, before the step; only sums are in another order."""
    script = tmp_path / "both.py"
    script.write_text(BOTH)
    fixed = ["--data.samples_per_step", "null"]
    call(str(script), "fit", *RUN, *fixed, "--run", str(tmp_path / "one"))
    call("train.py", "fit", *RUN, *fixed, *TWO, "--run", str(tmp_path / "two"))
    one, two = (curve(tmp_path / name, "train/psnr") for name in ("one", "two"))
    assert len(one) == len(two) == 150 // 4
    assert max(one) > min(one) + 3
    assert one == pytest.approx(two, abs=1e-3)
    ends = [curve(tmp_path / name, "val/psnr")[-1] for name in ("one", "two")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-3)  # dB


def curve(run: Path, name: str) -> list[float]:
    return [x.value for x in EventAccumulator(str(run)).Reload().Scalars(name)]


def test_losses_that_are_only_sometimes_on(tmp_path: Path):
    """Each counts in other steps, and some in none of one process alone; with a moving average."""
    encoder = {"class_path": "dietnerf.semantics.OpenCLIP", "init_args": tiny_tower(tmp_path)}
    semantic = {"encoder": encoder, "every": 5, "resolution": 16}
    losses = [
        {"class_path": "dietnerf.losses.Photometric"},
        {"class_path": "dietnerf.losses.SemanticConsistency", "init_args": semantic},
    ]
    for every, name in enumerate(SOMETIMES, start=2):
        options = {"weight": 1e-3, "every": every, "start": 3}
        losses.append({"class_path": f"dietnerf.{name}", "init_args": options})
    callbacks = [
        {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": AVERAGE},
        {"class_path": "tests.training.test_distributed.CompareReplicas"},
    ]
    run = tmp_path / "run"
    output = call(
        *("train.py", "fit", *RUN, *TWO, "--model.losses", json.dumps(losses)),
        *("--run", str(run)),
        *("--trainer.callbacks", json.dumps(callbacks), "--trainer.max_steps", "40"),
    )
    assert "unused" not in output and "Warning" not in output
    assert json.loads((run / "differing.json").read_text()) == []
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 40


def test_gradients_in_half_precision_train_as_well(runs: Path):
    half = runs / "half"
    call("train.py", "fit", *RUN, *TWO[:3], "ddp_bf16", "--run", str(half))
    call("train.py", "test", "--run", str(half))
    whole, rounded = scores(runs / "two")["mean"], scores(half)["mean"]
    assert whole != rounded
    assert abs(whole["psnr"] - rounded["psnr"]) < 0.5


def test_a_run_goes_on_on_another_number_of_devices(runs: Path):
    again = runs / "again"
    saved = str(runs / "two/checkpoints/000100.ckpt")
    call("train.py", "fit", *RUN, "--run", str(again), "--ckpt_path", saved)
    for name, value in weights(again / "checkpoints/last.ckpt").items():
        assert value.isfinite().all() or name == "sampler.thickness"
    content = torch.load(again / "checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 150


def test_fewer_views_than_devices_are_refused(runs: Path):
    few = ["--data.reader.init_args.n_test", "1", "--run", str(runs / "two")]
    process = start("train.py", "test", *few)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "there are fewer views (1) than devices (2): use --trainer.devices 1" in output
    assert "Traceback" not in output


def test_one_view_validates_the_training_of_two(tmp_path: Path):
    one = ["--data.val_views", "{class_path: dietnerf.data.FirstViews, init_args: {n: 1}}"]
    short = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2"]
    call("train.py", "fit", *RUN, *TWO, *one, *short, "--run", str(tmp_path / "run"))
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()


def test_one_process_takes_everything():
    assert list(own_shard(3)) == [0, 1, 2]
    assert all_gather([1, 2]) == [1, 2]


def can_make_networks() -> bool:
    return os.geteuid() == 0 and shutil.which("ip") is not None and _ip("netns", "list") == 0


def _ip(*words: str) -> int:
    return subprocess.run(["ip", *words], capture_output=True).returncode


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two networks with a cable between them, as two machines have."""
    names = [f"dietnerf{os.getpid()}{end}" for end in "ab"]
    cables = [f"v{os.getpid()}{end}" for end in "ab"]
    commands = [["netns", "add", name] for name in names]
    commands.append(["link", "add", cables[0], "type", "veth", "peer", "name", cables[1]])
    for i, (name, cable) in enumerate(zip(names, cables, strict=True)):
        commands.append(["link", "set", cable, "netns", name, "name", "eth7"])
        commands.append(["-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth7"])
        commands += [["-n", name, "link", "set", device, "up"] for device in ("eth7", "lo")]
    try:
        if any(_ip(*command) for command in commands):
            pytest.skip("networks cannot be made here")
        yield names
    finally:
        for name in names:
            _ip("netns", "del", name)


@pytest.mark.skipif(not can_make_networks(), reason="needs root and iproute2")
def test_two_machines_train_what_two_processes_do(runs: Path, machines: list[str], tmp_path: Path):
    agents = []
    for rank, name in enumerate(machines):
        torchrun = [
            *("-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)),
            *("--nproc_per_node", "1", "--master_addr", "10.77.0.1", "--master_port", "29511"),
        ]
        several = ["--trainer.num_nodes", "2", "--trainer.devices", "1", *TWO[2:]]
        train = ["train.py", "fit", *RUN, *several, "--run", str(tmp_path / "run")]
        agents.append(start(*torchrun, "--", *train, network=name))
    for agent in agents:
        output, _ = agent.communicate(timeout=300)
        assert agent.returncode == 0, output[-2000:]
    ours, theirs = (weights(r / "checkpoints/last.ckpt") for r in (tmp_path / "run", runs / "two"))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=name)
