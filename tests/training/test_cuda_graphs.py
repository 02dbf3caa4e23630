"""Steps as CUDA graphs: the same training as eagerly, with few sizes, resumable; what they do not
go with. On a CPU the same code runs without a capture."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf import synchronization
from dietnerf.data import Procedural
from dietnerf.data.ray_sampling import RaySampling, RaySource
from dietnerf.errors import UserError
from dietnerf.fields import HashGrid
from dietnerf.losses import Photometric, RayLossInput
from dietnerf.randomness import seeded
from dietnerf.sampling import Stratified
from dietnerf.schedules.base import Progress
from dietnerf.training import steps
from dietnerf.training.adam import SkippingAdam
from dietnerf.training.cuda_graphs import GraphedCallable, GraphedTrainingStep
from dietnerf.training.objective import Objective
from dietnerf.training.system import DietNeRF
from tests.conftest import needs_cuda
from tests.helpers import Waits, fit, weights
from tests.training.graphed_runs import (
    EVEN,
    GRAPHED,
    KINDS,
    LAST,
    are_alike,
    are_close,
    eager_and_graphed,
    on_cuda,
)

OPTIONS: dict[str, list[str]] = {
    "plain": [],
    "pixel_jitter": ["--data.pixel_jitter", "true"],
    "average": ["--config", "ema"],
    "clipped": ["--model.max_gradient_norm", "1e-4"],
    "torch's Adam": ["--model.optimizer", "adam"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_is_the_same_training(options: list[str], tmp_path: Path):
    expected, found = eager_and_graphed(tmp_path, *EVEN, *options)
    are_close(found, expected)


def test_ranges_of_steps_change_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ranges: list[range] = []
    training_step = DietNeRF.training_step

    def noting(system: DietNeRF, steps: range, batch_idx: int) -> None:
        ranges.append(steps)
        training_step(system, steps, batch_idx)

    monkeypatch.setattr(steps, "MOST_STEPS", 1)
    fit(tmp_path / "eager", *EVEN)
    monkeypatch.undo()
    monkeypatch.setattr(DietNeRF, "training_step", noting)
    fit(tmp_path / "graphed", *EVEN, *GRAPHED)
    # The first; logged after 4, 8, 12, validated after 6.
    assert [len(steps) for steps in ranges] == [1, 3, 2, 2, 4]
    saved = [
        sorted(p.name for p in (tmp_path / name / "checkpoints").iterdir())
        for name in ("eager", "graphed")
    ]
    assert saved[0] == saved[1] and "000008.ckpt" in saved[0]
    states = [
        torch.load(tmp_path / name / LAST, weights_only=True) for name in ("eager", "graphed")
    ]
    for name in ("global_step", "epoch", "lr_schedulers"):
        assert states[0][name] == states[1][name], name
    assert states[1]["dietnerf"]["history"]["steps"] == 12
    logged = [scalars(tmp_path / name) for name in ("eager", "graphed")]
    assert logged[0].keys() == logged[1].keys()
    for name, values in logged[0].items():
        assert [step for step, _ in values] == [step for step, _ in logged[1][name]], name
        if name != "train/rays_per_second":
            assert [v for _, v in values] == pytest.approx([v for _, v in logged[1][name]], 1e-3)


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in names}


def test_steps_whose_numbers_are_not_finite_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A loss that is infinite in one of several steps taken together."""
    forward, n_calls = Photometric.forward, []

    def failing(loss: Photometric, step: RayLossInput) -> torch.Tensor:
        n_calls.append(step.index)
        return forward(loss, step) * (torch.inf if step.index == 9 else 1)

    monkeypatch.setattr(Photometric, "forward", failing)
    expected, found = eager_and_graphed(tmp_path, *EVEN)
    assert n_calls.count(9) == 2
    are_close(found, expected)
    assert all(value.isfinite().all() for name, value in found.items() if "table" in name)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_gpu_is_not_waited_for_in_steps_taken_together(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the second call of a graph on, of which the first sets up: what is captured, and what
    the host does between."""
    waits, n_watched, done = Waits(), [], set()
    take_step, call, count = DietNeRF.take_step, GraphedCallable.__call__, SkippingAdam.count

    def counted(optimizer: SkippingAdam, *args: object) -> None:
        if optimizer._rules:
            count(optimizer, *args)
        else:
            with waits.paused():
                count(optimizer, *args)

    def watched(system: DietNeRF, step: int, is_last: bool) -> None:
        if is_last or "step" not in done:  # the first makes what stays
            done.add("step")
            return take_step(system, step, is_last)
        n_watched.append("step")
        with waits:
            return take_step(system, step, is_last)

    def called(own: GraphedCallable) -> object:
        if own._is_warm:
            n_watched.append("graph")
            with waits:
                return call(own)
        with waits.paused():
            return call(own)

    monkeypatch.setattr(synchronization, "SYNC_FREE_DEVICES", ())
    monkeypatch.setattr(SkippingAdam, "count", counted)
    monkeypatch.setattr(DietNeRF, "take_step", watched)
    monkeypatch.setattr(GraphedCallable, "__call__", called)
    fit(tmp_path, *GRAPHED, *options)
    assert n_watched.count("graph") >= 4 and n_watched.count("step") >= 4
    assert waits.found == []


@needs_cuda
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_is_the_same_training_on_cuda(precision: str, tmp_path: Path):
    eager_and_graphed(tmp_path, *EVEN, *on_cuda(precision))
    are_alike(tmp_path / "graphed", tmp_path / "eager")


@needs_cuda
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_replaying_on_cuda_is_doing_it_again(
    options: list[str], precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The grid's update, marching into a capacity, and rays that are drawn, within a recording."""
    enough = ("--data.rays_per_step", "256", "--data.samples_per_step", "8192")
    words = [*GRAPHED, *enough, *options, *on_cuda(precision)]
    fit(tmp_path / "replayed", *words)
    monkeypatch.setattr(GraphedCallable, "__call__", lambda own: own._function())
    fit(tmp_path / "again", *words)
    are_alike(tmp_path / "replayed", tmp_path / "again")


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path):
    fit(tmp_path / "unbroken", *GRAPHED)
    half = tmp_path / "unbroken/checkpoints/000008.ckpt"
    fit(tmp_path / "halves", *GRAPHED, "--ckpt_path", str(half))
    expected = weights(tmp_path / "unbroken" / LAST)
    for name, value in weights(tmp_path / "halves" / LAST).items():
        assert torch.equal(value, expected[name]) or value.isnan().any(), name


def test_what_a_step_returned_is_kept_when_another_is_taken():
    """Graphs share their memory: on a GPU any of them may write where this one has."""
    scene = Procedural(resolution=8, n_train=2).read("train")
    objective = Objective(HashGrid(n_levels=1, log2_table_size=5), Stratified(4), [Photometric()])
    objective.prepare(scene, torch.ones(3), torch.device("cpu"))
    source = RaySource(scene, RaySampling(torch.ones(3)))
    step = GraphedTrainingStep(objective, source, None, lambda gradients, terms: None)
    results: list[torch.Tensor] = []
    step._graph = lambda key: lambda: results  # type: ignore[method-assign, assignment, return-value]
    stats = [torch.ones(5, *shape) for shape in ((), (3,), (3,), (3,), ())]
    results += [torch.tensor(2.0), torch.tensor(20), torch.tensor([2.0]), *stats]
    rays = step(Progress(0, 10), 5, 1.0, updates=True, reads=True)
    for result in results:
        result.zero_()
    assert rays.n_samples == 20 and float(rays.loss) == 2 and rays.terms.tolist() == [2]
    assert rays.stats is not None and all((x == 1).all() for x in rays.stats.tensors())


def test_a_graph_draws_by_the_seed_of_the_call_and_runs_once_at_each(device: str):
    generator = seeded(0, device)
    scale, n_calls = torch.tensor([1.0, 0.0], device=device)

    def draw() -> list[torch.Tensor]:
        n_calls.add_(1)
        return [scale * torch.rand(5, generator=generator, device=device)]

    graphed, found = GraphedCallable(draw, [generator]), []
    for seed in (1, 2, 1, 2):
        generator.manual_seed(seed)
        found.append(graphed()[0].clone())
    assert int(n_calls) == 4
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])
    scale.fill_(2)
    generator.manual_seed(1)
    torch.testing.assert_close(graphed()[0], 2 * found[0])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--data.samples_per_step", "null"), "use_cuda_graphs needs data.samples_per_step"),
        (("--model.refinement", "{}"), "use_cuda_graphs does not go with refinement"),
        (
            ("--model.schedules", "dietnerf.schedules.LevelAnnealing"),
            "use_cuda_graphs does not go with schedules",
        ),
    ],
)
def test_says_what_it_does_not_go_with(options: tuple[str, ...], sentence: str, tmp_path: Path):
    with pytest.raises((UserError, SystemExit)) as error:
        fit(tmp_path / "run", *GRAPHED, *options)
    assert error.type is SystemExit or sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_graphs_are_off_by_default():
    assert not DietNeRF().use_cuda_graphs
