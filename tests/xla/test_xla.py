"""The paper's field on XLA, here on a CPU: the same losses as without, and no endless compiling."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from tests.helpers import tiny_tower

pytest.importorskip("torch_xla", reason="needs the environment of `make test-xla`")
ROOT = Path(__file__).parents[2]
N_STEPS = 200
RUN = [
    *("--config", "nerf"),
    *("--data.reader", "{class_path: dietnerf.data.Procedural, init_args: {resolution: 16}}"),
    *("--data.rays_per_step", "64"),
    *("--model.field.init_args.width", "32"),
    *("--model.field.init_args.depth", "2"),
    "--model.sampler",
    "{class_path: dietnerf.sampling.Importance, init_args: {n_coarse: 8, n_fine: 8}}",
    *("--trainer.max_steps", str(N_STEPS)),
    *("--trainer.val_check_interval", str(N_STEPS)),
    *("--trainer.log_every_n_steps", "10"),
    *("--trainer.enable_progress_bar", "false"),
    *("--trainer.devices", "1"),
]
# Writes how many graphs were compiled after so many steps.
COUNT = """
import json, sys
from pathlib import Path
import torch_xla.debug.metrics as metrics
from pytorch_lightning import Callback
import dietnerf.training.cli as cli
counts = {}
class Count(Callback):
    takes_ranges = True
    def on_train_batch_end(self, trainer, *rest):
        data = metrics.metric_data("CompileTime")
        counts[trainer.global_step] = data[0] if data else 0
callbacks_of = cli.callbacks_of
cli.callbacks_of = lambda *words: [*callbacks_of(*words), Count()]
cli.main(sys.argv[2:])
Path(sys.argv[1]).write_text(json.dumps(counts))
"""


def semantic(folder: Path) -> list[str]:
    encoder = {"class_path": "dietnerf.semantics.OpenCLIP", "init_args": tiny_tower(folder)}
    loss = {"class_path": "dietnerf.losses.SemanticConsistency"}
    loss |= {"init_args": {"encoder": encoder, "every": 5, "resolution": 16}}
    return ["--model.losses", json.dumps([{"class_path": "dietnerf.losses.Photometric"}, loss])]


def python(*words: str) -> str:
    environment = {**os.environ, "PJRT_DEVICE": "CPU", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def losses(run: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    return [scalar.value for scalar in events.Scalars("train/loss")]


@pytest.fixture(scope="module", params=["without", "with"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on the CPU and on XLA, without and with the semantic loss."""
    folder = tmp_path_factory.mktemp(request.param)
    words = [*RUN, *(semantic(folder) if request.param == "with" else [])]
    python("train.py", "fit", *words, "--trainer.accelerator", "cpu", "--run", str(folder / "cpu"))
    xla = ["--trainer.accelerator", "xla_cpu", "--run", str(folder / "xla")]
    python("-c", COUNT, str(folder / "counts.json"), "fit", *words, *xla)
    return folder


def test_losses_are_those_of_the_cpu(runs: Path):
    cpu, xla = losses(runs / "cpu"), losses(runs / "xla")
    assert len(cpu) == len(xla) == N_STEPS // 10
    assert sum(cpu[-5:]) < 0.7 * sum(cpu[:5])
    assert sum(cpu) == pytest.approx(sum(xla), rel=0.01)
    for ours, theirs in zip(cpu, xla, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05)  # sums are taken in another order


def test_nothing_is_compiled_after_the_first_steps(runs: Path):
    counts = {int(k): v for k, v in json.loads((runs / "counts.json").read_text()).items()}
    assert 0 < counts[30] < 30  # with those of a semantic step, and of steps that are logged
    assert counts[N_STEPS - 1] == counts[30]


def test_the_checkpoint_renders_without_xla(runs: Path):
    cpu, xla = (load_scene(find_checkpoint(runs / name)) for name in ("cpu", "xla"))
    assert cpu.camera_set is not None
    pictures = [
        s.render_rays_of(cpu.camera_set.cameras["test"], 0, torch.ones(3)).rgb for s in (cpu, xla)
    ]
    assert (pictures[0] - pictures[1]).abs().mean() < 0.02


def test_the_checkpoint_renders_where_there_is_no_torch_xla(runs: Path, tmp_path: Path):
    other = ROOT / ".venv/bin/python"
    if not other.exists():
        pytest.skip("needs the environment of `make build`")
    has_none = subprocess.run([other, "-c", "import torch_xla"], capture_output=True)
    assert b"No module named 'torch_xla'" in has_none.stderr
    words = [
        "--size",
        "16",
        "16",
        "--frames",
        "2",
        "--modes",
        "rgb",
        "--out",
        str(tmp_path / "film"),
    ]
    done = subprocess.run(
        [other, "render.py", str(runs / "xla"), *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "film").iterdir())) == 2


def test_test_views_are_scored(runs: Path):
    words = ["--trainer.enable_progress_bar", "false"]
    python("train.py", "test", "--run", str(runs / "xla"), *words)
    found: dict[str, Any] = json.loads((runs / "xla/metrics.json").read_text())
    assert found["mean"]["psnr"] > 10


def test_half_precision(tmp_path: Path):
    words = [*RUN, "--trainer.precision", "bf16-true"]
    python("train.py", "fit", *words, "--trainer.accelerator", "xla_cpu", "--run", str(tmp_path))
    values = losses(tmp_path)
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_samples_of_changing_number_are_refused(tmp_path: Path):
    words = [
        "fit",
        "--config",
        "quickstart",
        "--trainer.devices",
        "1",
        "--run",
        str(tmp_path / "r"),
    ]
    done = subprocess.run(
        [sys.executable, "train.py", *words, "--trainer.accelerator", "xla_cpu"],
        cwd=ROOT,
        env={**os.environ, "PJRT_DEVICE": "CPU"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "the sampler Occupancy places another number of samples" in done.stderr


def test_two_devices_share_out_the_rays_of_a_step():
    done = subprocess.run(
        [sys.executable, "tests/xla/spmd.py"],
        cwd=ROOT,
        env={**os.environ, "PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": "2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "the gradients of two devices are those of one" in done.stdout, done.stderr[-3000:]
