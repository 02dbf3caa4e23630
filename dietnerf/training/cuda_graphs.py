"""Training steps as CUDA graphs: captured once, then launched by one call."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dietnerf.chunks import attach_gradients
from dietnerf.data.ray_sampling import RaySource
from dietnerf.errors import UserError
from dietnerf.randomness import seed_of, seeded
from dietnerf.sampling import AbstractSampler, Occupancy
from dietnerf.schedules.base import AbstractSchedule, Progress
from dietnerf.training.objective import Objective, RayLosses
from dietnerf.training.ray_stats import RayStats

LOSS_SCALE = 2.0**12  # in half precision, which has few small numbers
MAX_GRAPHS = 8  # each holds the gradients of all parameters; at most two for a number of rays
SPARE = 1.25  # capacity for samples, as a multiple of their target

# Number of rays, fraction of the photographs, losses that count, whether the optimizer steps.
Key = tuple[int, float, tuple[bool, ...], bool]


class GraphedCallable:
    """A function that draws from generators and writes its results to the same tensors at every
    call.

    On a GPU the first call runs eagerly (warm-up), the second is captured as a CUDA graph, which
    further calls replay. The function must not read a value back from the GPU, and the shapes of
    its tensors must not depend on values. On other devices every call runs eagerly.

    Args:
        function: returns its results; what it reads besides may change in place between calls.
        generators: that it draws from, on the device, seeded anew before each call.
        pool: memory shared by graphs that are replayed one after the other.
    """

    def __init__(
        self,
        function: Callable[[], Sequence[Tensor]],
        generators: Sequence[torch.Generator],
        pool: Any = None,
    ) -> None:
        self._function = function
        self._generators = generators
        self._pool = pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._results: Sequence[Tensor] = ()
        self._is_warm = False

    def __call__(self) -> Sequence[Tensor]:
        if self._generators[0].device.type != "cuda" or not self._is_warm:
            self._is_warm = True
            return self._function()
        if self._graph is None:
            self._graph = self._capture()
        self._graph.replay()
        return self._results

    def _capture(self) -> torch.cuda.CUDAGraph:
        seeds = [generator.initial_seed() for generator in self._generators]
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # Other threads, such as the viewer's, may use the GPU meanwhile.
        with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
            self._results = self._function()
        for generator, seed in zip(self._generators, seeds, strict=True):
            generator.manual_seed(seed)
        return graph


class GraphedTrainingStep:
    """Rays, forward, backward and optimizer of a step: a graph for each number of rays and choice
    of losses.

    Args:
        objective: of which the losses of rays take part.
        source: draws the rays, on the device of the parameters.
        capacity: capacity for samples; None where their number is fixed.
        update: (gradients of the objective's parameters, terms of its losses) -> None lets the
            optimizer step.
        rank: of this process.

    Raises:
        UserError: rays cannot be drawn on the device.
    """

    def __init__(
        self,
        objective: Objective,
        source: RaySource,
        capacity: int | None,
        update: Callable[[Sequence[Tensor], Tensor], None],
        rank: int = 0,
    ) -> None:
        if source.storage != source.device:
            raise UserError(
                "use_cuda_graphs needs photographs without masks that fit beside everything else "
                f"on {source.device}; leave it out"
            )
        self._objective = objective
        self._source = source
        self._capacity = capacity
        self._update = update
        self._rank = rank
        self._parameters = list(objective.parameters())
        self._step = 0
        self._graphs: dict[Key, GraphedCallable] = {}
        self._weights = torch.zeros(len(objective.ray_losses), device=source.device)
        self._values: list[float] = []
        self._generators = {name: seeded(0, source.device) for name in ("rays", "samples")}
        self._pool = torch.cuda.graph_pool_handle() if source.device.type == "cuda" else None

    def __call__(
        self, progress: Progress, n_rays: int, fraction: float, updates: bool, reads: bool
    ) -> RayLosses:
        """Take a step.

        Args:
            progress: how many optimization steps were taken, and how many there are; losses see
                the step of the capture.
            n_rays, fraction: as for `RaySource.draw`.
            updates: whether the optimizer steps; if not, the loss is differentiable in the
                parameters until the next step.
            reads: whether the number of samples is read, for which a GPU is waited for, and the
                stats are returned.
        """
        self._step = step = progress.step
        self._objective.update_sampler(step)
        weights = self._objective.ray_weights(step, progress.n_steps)
        if weights != self._values:
            self._weights.copy_(torch.tensor(weights), non_blocking=True)
            self._values = weights
        for purpose, generator in self._generators.items():
            generator.manual_seed(seed_of(purpose, step, self._rank))
        counts = tuple(weight != 0 for weight in weights)
        results = list(self._graph((n_rays, fraction, counts, updates))())
        n_gradients = 0 if updates else len(self._parameters)
        loss, n_samples, terms, *stats = results[: len(results) - n_gradients]
        if not updates:
            loss = attach_gradients(loss, results[-n_gradients:], self._parameters)
        if not reads:
            return RayLosses(loss, terms, None, None)
        if isinstance(self._objective.sampler, Occupancy):
            self._objective.sampler.note_samples(int(n_samples), n_rays)
        # Graphs share their memory: what the next one overwrites is copied.
        stats = [result.clone() for result in stats]
        return RayLosses(loss.clone(), terms.clone(), int(n_samples), RayStats(*stats))

    def _graph(self, key: Key) -> GraphedCallable:
        """The one for this key; a new one takes the place of the least recently used."""
        graph = self._graphs.pop(key, None)
        if graph is None:
            generators = list(self._generators.values())
            graph = GraphedCallable(self._function(*key), generators, self._pool)
        self._graphs[key] = graph
        if len(self._graphs) > MAX_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        return graph

    def _function(
        self, n_rays: int, fraction: float, counts: tuple[bool, ...], updates: bool
    ) -> Callable[[], Sequence[Tensor]]:
        each = zip(counts, self._weights, strict=True)
        weights = [weight if is_counted else 0.0 for is_counted, weight in each]
        of_rays, of_samples = self._generators.values()

        def function() -> Sequence[Tensor]:
            batch = self._source.draw(n_rays, of_rays, fraction)
            terms, rendering = self._objective.ray_terms(
                batch, self._step, weights, of_samples, self._capacity
            )
            assert rendering.samples is not None, "training rays are rendered with their samples"
            loss = spread_if_not_finite(terms.sum())
            gradients = scaled_gradients(loss, self._parameters)
            if updates:
                self._update(gradients, terms.detach())
                gradients = []
            stats = RayStats.of(rendering, batch).tensors()
            n_samples = rendering.samples.n_sampled
            return [loss.detach(), n_samples, terms.detach(), *stats, *gradients]

        return function


def spread_if_not_finite(loss: Tensor) -> Tensor:
    """The loss; one that is not finite makes its whole gradient so, which all processes see."""
    return loss * (1 + 0 * loss.detach())


def scaled_gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each parameter, zeros where the loss does not depend on it. In float16 the
    loss is scaled meanwhile, as its gradients would be too small."""
    scale = LOSS_SCALE if is_half(loss.device) else 1.0
    found = torch.autograd.grad(scale * loss, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g / scale for g, p in pairs]


def with_scaled_gradients(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The loss; in float16, where no scaler keeps its gradients from becoming zero, these are
    computed here."""
    if not (is_half(loss.device) and loss.requires_grad):
        return loss
    return attach_gradients(loss.detach(), scaled_gradients(loss, parameters), parameters)


def is_half(device: torch.device) -> bool:
    """Whether gradients are computed in float16."""
    is_on = torch.is_autocast_enabled(device.type)
    return is_on and torch.get_autocast_dtype(device.type) == torch.float16


def check_graphable(
    objective: Objective, schedules: Sequence[AbstractSchedule], samples_per_step: int | None
) -> None:
    """Refuse what waits for the GPU in a step, or changes what the step does on the GPU.

    Raises:
        UserError: names it.
    """
    for what, name in ((schedules, "schedules"), (objective.refinement, "refinement")):
        if what:
            raise UserError(f"use_cuda_graphs does not go with {name}; leave one of them out")
    for part in (objective.field, objective.sampler, *objective.ray_losses):
        for module in part.modules():
            if not getattr(module, "is_graphable", True):
                name = type(module).__name__
                raise UserError(f"use_cuda_graphs does not go with {name}; leave one of them out")
    capacity_for(samples_per_step, objective.sampler, 1)


def capacity_for(
    samples_per_step: int | None, sampler: AbstractSampler, n_devices: int
) -> int | None:
    """Capacity for the samples of a graphed step on one device; None where their number is fixed.

    Raises:
        UserError: it is neither fixed nor limited.
    """
    if sampler.has_fixed_number:
        return None
    if samples_per_step is None:
        raise UserError("use_cuda_graphs needs data.samples_per_step, so that steps have one size")
    return math.ceil(SPARE * samples_per_step / n_devices)
