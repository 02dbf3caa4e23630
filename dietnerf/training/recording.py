"""Training steps that are recorded on a GPU and replayed: the host does not hold it back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dietnerf.chunks import attach
from dietnerf.errors import UserError
from dietnerf.randomness import seed_of, seeded
from dietnerf.sampling import AbstractSampler
from dietnerf.training.datamodule import RaySource, Undrawn

LOSS_SCALE = 2.0**12  # in half precision, which has few small numbers
MAX_TOGETHER = 16  # steps; the number of rays stays the same in them
MAX_RECORDINGS = 8  # each holds the gradients of all parameters; two for a number of rays
SPARE = 1.25  # room for samples, as a share of those that a step shall come to


# Number of rays, share of the photographs, losses that count, and whether the step is ended.
Key = tuple[int, float, tuple[bool, ...], bool]


class Recording:
    """Work that draws from generators and writes its results to the same tensors at every call.

    On a GPU it is done at the first call, which sets up and chooses what must not be recorded. At
    the second its kernels are recorded (CUDA graphs), and from then on started by one call. It must
    not wait for the GPU, nor may sizes follow from values. Elsewhere it is just done.

    Args:
        work: returns its results; what it reads besides may change in place between calls.
        generators: that it draws from, on the device, seeded anew before each call.
        pool: memory that recordings share which are replayed one after the other.
    """

    def __init__(
        self,
        work: Callable[[], Sequence[Tensor]],
        generators: Sequence[torch.Generator],
        pool: Any = None,
    ) -> None:
        self._work = work
        self._generators = generators
        self._pool = pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._found: Sequence[Tensor] = ()
        self._was_done = False

    def __call__(self) -> Sequence[Tensor]:
        if self._generators[0].device.type != "cuda" or not self._was_done:
            self._was_done = True
            return self._work()
        if self._graph is None:
            self._graph = self._recorded()
        self._graph.replay()
        return self._found

    def _recorded(self) -> torch.cuda.CUDAGraph:
        seeds = [generator.initial_seed() for generator in self._generators]
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # Other threads may go on, such as the viewer's.
        with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
            self._found = self._work()
        for generator, seed in zip(self._generators, seeds, strict=True):
            generator.manual_seed(seed)
        return graph


@dataclass(frozen=True)
class Found:
    """What a recorded step found.

    Args:
        loss: differentiable in the parameters, until the next step.
        results: of the work, behind its loss.
        n_samples: of the rays, also of those that found no room.
    """

    loss: Tensor
    results: Sequence[Tensor]
    n_samples: int


class RecordedSteps:
    """Forward and backward of training rays, one recording for each number of rays and choice of
    losses.

    Args:
        judge: (source, n_rays, share, weights of the losses, generators of rays and samples) ->
            the loss, the number of samples, int64, (), and other results. A weight is a tensor, (),
            or the number 0.
        parameters: in which the loss is differentiated.
        end: (gradients, results) -> None moves the parameters.
        rank: of this process.
    """

    def __init__(
        self,
        judge: Callable[..., tuple[Tensor, Tensor, Sequence[Tensor]]],
        parameters: Sequence[Tensor],
        end: Callable[[Sequence[Tensor], Sequence[Tensor]], None],
        rank: int,
    ) -> None:
        self._judge = judge
        self._parameters = parameters
        self._end = end
        self._rank = rank
        self._recordings: dict[Key, Recording] = {}
        self._weights: Tensor | None = None
        self._written: list[float] = []

    def take(self, batch: Undrawn, weights: list[float]) -> None:
        """Forward, backward and the end of one step."""
        self._replayed(batch, weights, True)

    def judge(self, batch: Undrawn, weights: list[float]) -> Found:
        """Forward and backward of one step. To hear how many samples there were, a GPU is waited
        for."""
        loss, n_samples, *rest = self._replayed(batch, weights, False)
        n_results = len(rest) - len(self._parameters)
        # Any recording overwrites what another has left, as they share their memory.
        results, gradients = [result.clone() for result in rest[:n_results]], rest[n_results:]
        return Found(attach(loss, gradients, self._parameters), results, int(n_samples))

    def _replayed(self, batch: Undrawn, weights: list[float], is_ended: bool) -> Sequence[Tensor]:
        self._prepare(batch.source.device, weights)
        for purpose, generator in self._generators.items():
            generator.manual_seed(seed_of(purpose, batch.index, self._rank))
        counts = tuple(weight != 0 for weight in weights)
        return self._recording(batch.source, (batch.n_rays, batch.share, counts, is_ended))()

    def _prepare(self, device: torch.device, weights: list[float]) -> None:
        if self._weights is None:
            self._weights = torch.zeros(len(weights), device=device)
            self._generators = {name: seeded(0, device) for name in ("rays", "samples")}
            self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        if weights != self._written:
            self._weights.copy_(torch.tensor(weights), non_blocking=True)
            self._written = weights

    def _recording(self, source: RaySource, key: Key) -> Recording:
        """The one for this key; a new one takes the place of that which was asked for longest
        ago."""
        found = self._recordings.pop(key, None)
        if found is None:
            generators = list(self._generators.values())
            found = Recording(self._work(source, *key), generators, self._pool)
        self._recordings[key] = found
        if len(self._recordings) > MAX_RECORDINGS:
            del self._recordings[next(iter(self._recordings))]
        return found

    def _work(
        self,
        source: RaySource,
        n_rays: int,
        share: float,
        counts: tuple[bool, ...],
        is_ended: bool,
    ) -> Callable[[], Sequence[Tensor]]:
        assert self._weights is not None
        each = zip(counts, self._weights, strict=True)
        weights = [weight if is_counted else 0.0 for is_counted, weight in each]

        def work() -> Sequence[Tensor]:
            loss, n_samples, results = self._judge(
                source, n_rays, share, weights, *self._generators.values()
            )
            loss = loss * (1 + 0 * loss.detach())  # one that is not finite makes its gradient so
            gradients = scaled_gradients(loss, self._parameters)
            if is_ended:
                self._end(gradients, results)
                return [loss.detach()]
            return [loss.detach(), n_samples, *results, *gradients]

        return work


def scaled_gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each parameter, zeros where the loss does not depend on it. In float16 the
    loss is scaled meanwhile, as its gradients would be too small."""
    scale = LOSS_SCALE if is_half(loss.device) else 1.0
    found = torch.autograd.grad(scale * loss, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g / scale for g, p in pairs]


def is_half(device: torch.device) -> bool:
    """Whether gradients are taken in float16."""
    is_on = torch.is_autocast_enabled(device.type)
    return is_on and torch.get_autocast_dtype(device.type) == torch.float16


def capacity_for(
    samples_per_step: int | None, sampler: AbstractSampler, n_devices: int
) -> int | None:
    """Room for the samples of a recorded step on one device; None where their number is fixed.

    Raises:
        UserError: it is neither fixed nor limited.
    """
    if sampler.has_fixed_number:
        return None
    if samples_per_step is None:
        raise UserError("records_steps needs data.samples_per_step, so that steps have one size")
    return math.ceil(SPARE * samples_per_step / n_devices)
