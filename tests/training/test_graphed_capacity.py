"""Graphed steps with few sizes: numbers of rays, and room for their samples."""

from pathlib import Path

import pytest

from dietnerf.training import cuda_graphs, steps
from dietnerf.training.cli import DietNeRFCLI
from dietnerf.training.datamodule import SceneDataModule
from tests.helpers import fit, weights
from tests.training.graphed_runs import GRAPHED, LAST, on_cuda


def test_it_learns_with_a_grid_and_few_sizes(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    counts: list[tuple[int, int]] = []
    adapt = SceneDataModule.adapt
    scores: list[float] = []

    def counting(data: SceneDataModule, n_rays: int, n_samples: int) -> None:
        counts.append((n_rays, n_samples))
        adapt(data, n_rays, n_samples)

    def note(cli: DietNeRFCLI) -> None:
        scores.append(float(cli.trainer.callback_metrics["val/psnr"]))

    monkeypatch.setattr(SceneDataModule, "adapt", counting)
    monkeypatch.setattr(DietNeRFCLI, "after_fit", note)
    fit(
        tmp_path,
        *GRAPHED,
        *("--data.reader.init_args.resolution", "32", "--data.samples_per_step", "8192"),
        *("--model.field.init_args.log2_table_size", "13"),
        *(
            "--model.sampler.init_args.n_steps",
            "256",
            "--model.sampler.init_args.min_view_fraction",
            "0",
        ),
        *("--model.sampler.init_args.warmup_steps", "32"),
        *("--model.sampler.init_args.update_every", "8"),
        *("--trainer.max_steps", "120", "--trainer.val_check_interval", "120"),
        *(() if device == "cpu" else on_cuda("16-mixed")),
    )
    assert scores[-1] > 18  # a white picture scores about 9
    assert all(0.8 * 8192 < n < cuda_graphs.SPARE * 8192 for _, n in counts[-3:])
    assert len({n_rays for n_rays, _ in counts}) < 8


def test_rays_that_find_no_room_are_fewer_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also those samples are counted that there is no room for: the number of rays is halved at
    once until it fits."""
    counts: list[tuple[int, int]] = []
    adapt = SceneDataModule.adapt

    def counting(data: SceneDataModule, n_rays: int, n_samples: int) -> None:
        counts.append((n_rays, n_samples))
        adapt(data, n_rays, n_samples)

    monkeypatch.setattr(SceneDataModule, "adapt", counting)
    monkeypatch.setattr(steps, "MOST_STEPS", 1)
    fit(tmp_path, *GRAPHED, "--data.rays_per_step", "1024", "--trainer.max_steps", "6")
    n_rays, n_samples = zip(*counts, strict=True)
    assert n_samples[0] > 4 * 2048
    n_too_many = sum(n > 2 * 2048 for n in n_samples)
    assert n_rays[: n_too_many + 1] == tuple(1024 // 2**i for i in range(n_too_many + 1))
    assert all(n < cuda_graphs.SPARE * 2048 for n in n_samples[n_too_many + 1 :])


def test_rays_without_room_cost_nothing_but_their_gradient(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "SPARE", 0.5)
    fit(tmp_path, *GRAPHED, "--data.samples_per_step", "512")
    assert all(v.isfinite().all() for v in weights(tmp_path / LAST).values() if v.dim() > 2)
