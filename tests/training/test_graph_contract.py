"""The contract of a graphed step: every field, sampler and loss of rays that claims to be graphable
lets a step run without waiting for the GPU. Checked on a CPU by what torch dispatches."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dietnerf import synchronization
from dietnerf.data import Procedural
from dietnerf.data.ray_sampling import RaySampling, RaySource
from dietnerf.errors import UserError
from dietnerf.fields import MLP, AbstractField, Ensemble, HashGrid
from dietnerf.losses import AbstractRayLoss, Interlevel, Photometric, RayLossInput
from dietnerf.research import TriPlanes
from dietnerf.sampling import AbstractSampler, Importance, Occupancy, Proposal, Stratified
from dietnerf.schedules.base import Progress
from dietnerf.specs import concrete_subclasses
from dietnerf.training.cuda_graphs import GraphedTrainingStep, capacity_for, check_graphable
from dietnerf.training.exposure import ExposureCorrection
from dietnerf.training.objective import Objective
from tests.helpers import Waits

SMALL = {
    HashGrid: {"n_levels": 2, "log2_table_size": 8},
    TriPlanes: {"base_resolution": 8, "finest_resolution": 16},
    MLP: {"depth": 2, "width": 16},
    Importance: {"n_coarse": 8, "n_fine": 8},
    Stratified: {"n_samples": 8},
    Occupancy: {"resolution": 16, "n_steps": 32, "update_every": 1, "warmup_steps": 0},
    Proposal: {"n_samples": 8, "finest_resolution": 16, "log2_table_size": 8},
}
N_SAMPLES = 1024


def own_subclasses(base: type) -> list[type]:
    """Those of the package that claim to be graphable; tests define others."""
    found = [cls for cls in concrete_subclasses(base) if cls.__module__.startswith("dietnerf.")]
    return [cls for cls in found if cls.is_graphable]


def small(cls: type) -> torch.nn.Module:
    return cls(**SMALL.get(cls, {}))


def waits_of(
    *losses: AbstractRayLoss,
    field: AbstractField | None = None,
    sampler: AbstractSampler | None = None,
    exposure: ExposureCorrection | None = None,
) -> list[str]:
    """What the host would wait for in a step that was captured."""
    field, sampler = field or small(HashGrid), sampler or small(Stratified)
    scene = Procedural(resolution=16, n_train=3).read("train")
    objective = Objective(field, sampler, [Photometric(), *losses], exposure=exposure)
    objective.prepare(scene, torch.ones(3), torch.device("cpu"))
    check_graphable(objective, [], N_SAMPLES)
    capacity = capacity_for(N_SAMPLES, sampler, 1)
    source = RaySource(scene, RaySampling(torch.ones(3)))
    step = GraphedTrainingStep(objective, source, capacity, lambda gradients, losses: None)
    step(Progress(0, 10), 32, 1.0, updates=True, reads=True)  # sets up what stays
    with Waits() as waits:
        step(Progress(1, 10), 32, 1.0, updates=True, reads=False)
    return waits.found


@pytest.fixture(autouse=True)
def _no_device_is_sync_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronization, "SYNC_FREE_DEVICES", ())


@pytest.mark.parametrize("cls", own_subclasses(AbstractField))
def test_fields_do_not_wait(cls: type):
    assert waits_of(field=small(cls)) == []


def test_a_field_of_single_ops_does_not_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HashGrid, "_is_fused", lambda field, device: False)
    assert waits_of() == []


@pytest.mark.parametrize("cls", own_subclasses(AbstractSampler))
def test_samplers_do_not_wait(cls: type):
    losses = [Interlevel()] if cls is Proposal else []
    assert waits_of(*losses, sampler=small(cls)) == []


@pytest.mark.parametrize("cls", own_subclasses(AbstractRayLoss))
def test_losses_do_not_wait(cls: type):
    assert waits_of(cls(), sampler=small(Proposal if cls is Interlevel else Stratified)) == []


def test_corrections_of_photographs_do_not_wait():
    assert waits_of(exposure=ExposureCorrection()) == []


class Careless(AbstractRayLoss):
    """Takes the squared errors of rays, or some of them, in a way that waits for the GPU."""

    def __init__(self, mean: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, step: RayLossInput) -> Tensor:
        return self.mean((step.rendering.rgb - step.target).square().mean(dim=-1))


MISTAKES: dict[str, Callable[[Tensor], Tensor]] = {
    "item": lambda x: x.mean() * x.max().item(),
    "float": lambda x: x.mean() / float(x.detach().sum() + 1),
    "tolist": lambda x: x.mean() * sum(x.tolist()),
    "bool": lambda x: x.mean() if x.sum() > 0 else x.sum(),
    "boolean index": lambda x: x[x > 0.1].sum(),
    "boolean assignment": lambda x: x.clone().index_put((x > 0.1,), torch.zeros(())).sum(),
    "nonzero": lambda x: x.index_select(0, (x > 0.1).nonzero()[:, 0]).sum(),
    "masked_select": lambda x: x.masked_select(x > 0.1).sum(),
    "unique": lambda x: x.mean() * len((10 * x.detach()).round().unique()),
    "repeat_interleave": lambda x: x.repeat_interleave((x > 0.1).long()).sum(),
    "numbers of the host": lambda x: (x * torch.tensor([0.5])).sum(),
}


@pytest.mark.parametrize("mean", MISTAKES.values(), ids=MISTAKES)
def test_a_loss_that_waits_is_found(mean: Callable[[Tensor], Tensor]):
    assert waits_of(Careless(mean)) != []


def test_the_same_loss_without_a_mistake_is_not():
    assert waits_of(Careless(lambda x: torch.where(x > 0.1, x, 0.0).mean())) == []


@pytest.mark.parametrize("kind", ["field", "member", "loss"])
def test_what_does_not_claim_it_is_refused(kind: str):
    ensemble, careless = Ensemble(lambda: small(MLP), 2), Careless(Tensor.mean)
    careless.is_graphable = False
    parts = {
        "field": {"field": ensemble},
        "member": {"sampler": Importance(ensemble, 8, 8)},
        "loss": {},
    }[kind]
    losses = [careless] if kind == "loss" else []
    with pytest.raises(UserError, match=r"use_cuda_graphs does not go with (Ensemble|Careless); "):
        waits_of(*losses, **parts)
