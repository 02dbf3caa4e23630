"""The GPU benchmark, at the tiny size that a CPU runs through."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dietnerf import ops

ROOT = Path(__file__).parents[2]
PARTS = {"ceilings", "ops", "large", "step", "frame", "semantic", "paper", "quality"}


def measure(*options: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), *options]
    env = os.environ | ({} if data is None else {"DIETNERF_DATA": str(data)})
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """What is printed, and the rows of the file."""
    out = tmp_path_factory.mktemp("gpu") / "new/gpu.json"
    done = measure("--device", "cpu", "--small", "--lego", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(out.read_text())["rows"]


def test_every_part_and_every_op_has_rows(measured: tuple[str, list[dict[str, Any]]]):
    _, rows = measured
    assert {row["part"] for row in rows} == PARTS
    assert not [row for row in rows if "failed" in row] and all(row["card"] for row in rows)
    names = {row["name"] for row in rows}
    for op in (name for name in ops.__all__ if callable(getattr(ops, name))):
        if op in ("is_compiled", "adam_rule", "HashGridArgs", "OccupancyGrid"):
            continue  # no ops
        if op in ("march_rays", "adam_step", "trace_hash_grid"):
            assert op in names
        else:
            assert {f"{op}_forward", f"{op}_backward"} <= names


def test_ops_agree_with_their_references_and_know_their_limit(
    measured: tuple[str, list[dict[str, Any]]],
):
    printed, rows = measured
    for row in rows:
        if row["part"] in ("ops", "large"):
            assert row["reference_error"] < 1e-2 and row["reference_ms"] > 0
            assert row["share"] == pytest.approx(row["floor_ms"] / row["ms"])
            assert f"| {row['name']} | {row['n_samples']} |" in printed


def test_steps_are_measured_as_a_gpu_takes_them(tmp_path: Path):
    """Recorded, and so several in one of Lightning's batches."""
    out = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--small", "--parts", "step", "--out", str(out)]
    done = measure(*options, "--fit", "--model.use_cuda_graphs", "true")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert row["ms"] > 0 and row["n_rays"] < 64  # of one step


def test_a_step_that_fails_does_not_hide_the_rest(tmp_path: Path):
    out = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--small", "--parts", "ceilings", "step", "--out", str(out)]
    done = measure(*options, "--fit", "--model.misspelt", "1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 10 rows failed: training step")
    rows = json.loads(out.read_text())["rows"]
    assert [row["part"] for row in rows if "failed" in row] == ["step"]


def test_time_to_quality_is_refused_without_validation_views(tmp_path: Path):
    """Before any step: after all of them is late."""
    lego = tmp_path / "nerf_synthetic/lego"
    lego.mkdir(parents=True)
    (lego / "transforms_train.json").write_text("{}")
    done = measure("--device", "cpu", "--parts", "quality", data=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --lego: {lego} has no transforms_val.json, whose views")


def test_bytes_of_the_optimizer_are_those_of_entries_that_are_seen(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import op_cases

    sizes = {"n_levels": 2, "log2_table_size": 8, "finest_resolution": 32, "width": 16}
    few, many = (op_cases.Workload(n_rays, **sizes) for n_rays in (1, 400))
    n_seen = [int(op_cases.touched(scene).sum()) for scene in (few, many)]
    assert 0 < n_seen[0] < n_seen[1] <= len(few.table)
    (a,), (b,) = map(op_cases.adam_step_kernels, (few, many))
    assert (a.n_flops, b.n_flops) == (13 * 4 * n_seen[0], 13 * 4 * n_seen[1])
    assert 4 * few.table.numel() < a.n_bytes < b.n_bytes <= 7 * 4 * few.table.numel()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu():
    done = measure()
    assert done.returncode == 2
    assert done.stderr.startswith("error: --device cuda: torch sees no GPU")
    assert done.stderr.count("\n") == 1
