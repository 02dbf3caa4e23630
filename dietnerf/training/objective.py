"""What a training step minimizes: the losses of training rays and regularizers of the scene."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dietnerf.chunks import chunked_backward
from dietnerf.data.dataset import ImageDataset
from dietnerf.data.ray_sampling import RayBatch
from dietnerf.data.view_sampling import ViewBatch
from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, AbstractRadianceField, queried
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.rays import Rendering
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.losses import (
    AbstractLoss,
    AbstractRayLoss,
    AbstractRegularizer,
    Interlevel,
    RayLossInput,
    SceneContext,
)
from dietnerf.randomness import step_generator
from dietnerf.renderer import rays_per_chunk, render_rays
from dietnerf.sampling import AbstractSampler, Proposal
from dietnerf.training.exposure import ExposureCorrection
from dietnerf.training.ray_stats import RayStats

Weights = Sequence[float | Tensor]  # of the losses of rays; a tensor, (), or the number 0


@dataclass(frozen=True)
class RayLosses:
    """The losses of the rays of one step.

    Args:
        loss: their sum, a scalar, differentiable in the parameters.
        terms: each of them, weighted, (n_ray_losses,), without gradients.
        n_samples: samples of all rays, also of those that a capacity left out; None where it was
            not read back from a GPU.
        stats: of the rays; None where not requested.
    """

    loss: Tensor
    terms: Tensor
    n_samples: int | None
    stats: RayStats | None


@dataclass(frozen=True)
class Objective:
    """The training objective of a field and a sampler: a weighted sum of losses.

    Args:
        field, sampler: the scene.
        losses: of training rays, and of the scene itself.
        refinement: corrects the training cameras; None takes them as exact.
        exposure: corrects the colors of photographs; None takes them as exact.
    """

    field: AbstractRadianceField
    sampler: AbstractSampler
    losses: Sequence[AbstractLoss]
    refinement: CameraRefinement | None = None
    exposure: ExposureCorrection | None = None

    @property
    def ray_losses(self) -> list[AbstractRayLoss]:
        return [loss for loss in self.losses if isinstance(loss, AbstractRayLoss)]

    @property
    def regularizers(self) -> list[AbstractRegularizer]:
        return [loss for loss in self.losses if isinstance(loss, AbstractRegularizer)]

    @property
    def names(self) -> list[str]:
        """Names of the losses, those of rays first."""
        return [loss.name for loss in (*self.ray_losses, *self.regularizers)]

    @cached_property
    def _learned(self) -> nn.ModuleList:
        parts: list[Any] = [self.field, self.sampler, *self.losses, self.refinement, self.exposure]
        return nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    def parameters(self) -> Iterator[nn.Parameter]:
        """The learned parameters, each once."""
        return (p for p in self._learned.parameters() if p.requires_grad)

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        """Fit field and sampler to the training cameras, and load what the losses need.

        Args:
            dataset: the training photographs.
            background: the color behind them, (3,).
            device: where the losses are computed.

        Raises:
            UserError: parts are incompatible, or no camera sees the box.
        """
        has_loss = any(isinstance(loss, Interlevel) for loss in self.losses)
        if isinstance(self.sampler, Proposal) != has_loss:
            raise UserError(
                "the sampler Proposal learns from the loss Interlevel, which is for nothing else: "
                "use both, or neither"
            )
        for loss in self.losses:
            loss.check(self.field)
        self.field.prepare(dataset.cameras)
        if isinstance(self.field, AbstractField):
            self.sampler.prepare(dataset.cameras, self.field)
        if self.refinement is not None:
            queried(self.field, "the refinement of cameras")
            self.refinement.prepare(dataset.cameras)
        if self.exposure is not None:
            self.exposure.prepare(len(dataset))
        for loss in self.losses:
            loss.prepare(dataset, background, device)

    def update_sampler(self, step: int) -> None:
        """Update the sampler from the field; with the same random numbers on all processes, so that
        it stays the same on all."""
        device = next(self.parameters()).device
        field = queried(self.field, "a sampler")
        self.sampler.update(step, field, step_generator("sampler", step, 0, device))

    def ray_weights(self, step: int, n_steps: int) -> list[float]:
        """Weights of the losses of rays in a step of a run of `n_steps`; 0 where one does not
        count."""
        return [loss.weight_at(step, n_steps) for loss in self.ray_losses]

    def scene_weights(self, step: int, n_steps: int) -> dict[AbstractRegularizer, float]:
        """Weights of the regularizers that count in a step."""
        weights = {loss: loss.weight_at(step, n_steps) for loss in self.regularizers}
        return {loss: weight for loss, weight in weights.items() if weight != 0}

    def ray_terms(
        self,
        batch: RayBatch,
        step: int,
        weights: Weights,
        generator: torch.Generator,
        capacity: int | None = None,
    ) -> tuple[Tensor, Rendering]:
        """Each loss of training rays, weighted, (n_ray_losses,), and their rendering.

        Args:
            step: optimization steps taken so far.
            generator: of the sampler's jitter.
            capacity: as for `AbstractSampler.sample`.
        """
        rays = batch.rays
        if self.refinement is not None:
            rays = self.refinement(rays, batch.ids)
        rendering, coarse = render_rays(
            rays, self.field, self.sampler, batch.background, generator, capacity
        )
        if self.exposure is not None:
            rendering = replace(rendering, rgb=self.exposure(rendering.rgb, batch.ids))
        rendered = RayLossInput(
            step, rays, batch.rgb, batch.background, rendering, coarse, batch.alpha
        )
        return self._weighted(rendered, weights), rendering

    def _weighted(self, rendered: RayLossInput, weights: Weights) -> Tensor:
        none = rendered.target.new_zeros(())  # of a loss that does not count in this step
        terms = [
            weight * loss(rendered) if isinstance(weight, Tensor) or weight else none
            for loss, weight in zip(self.ray_losses, weights, strict=True)
        ]
        return torch.stack(terms)

    def of_view(self, batch: ViewBatch, step: int, weights: Weights, with_stats: bool) -> RayLosses:
        """The losses of a training view that Gaussians are drawn into."""
        assert isinstance(self.field, Gaussians), "of a field, rays are rendered"
        camera = batch.camera
        rendering = self.field.render_view(camera, 0).over(batch.background)
        if self.exposure is not None:
            rendering = replace(rendering, rgb=self.exposure(rendering.rgb, batch.ids))
        target, alpha, every = batch.rgb, batch.alpha, 1.0
        if batch.counts is not None:  # what does not count is as it should be
            target = torch.where(batch.counts[:, None], target, rendering.rgb.detach())
            if alpha is not None:
                alpha = torch.where(batch.counts, alpha, rendering.opacity.detach())
            every = len(target) / max(1, int(batch.counts.sum()))
        background = batch.background.expand_as(target)
        size = camera.height, camera.width
        rendered = RayLossInput(step, None, target, background, rendering, None, alpha, size)
        terms = every * self._weighted(rendered, weights)
        stats: RayStats | None = None
        if with_stats:
            opacity, rgb = rendering.opacity.detach(), rendering.rgb.detach()
            depth = rendering.depth.detach() / camera.near
            stats = RayStats(opacity, rgb, target, background, depth)
        return RayLosses(terms.sum(), terms.detach(), None, stats)

    def of_rays(
        self,
        batch: RayBatch,
        step: int,
        weights: Weights,
        generator: torch.Generator,
        with_stats: bool = False,
        is_chunked: bool = True,
    ) -> RayLosses:
        """The losses of training rays, in chunks of rays that keep the activations small."""
        n_samples = 0
        stats: list[RayStats] = []

        def loss_and_terms(chunk: RayBatch) -> tuple[Tensor, Tensor]:
            nonlocal n_samples
            terms, rendering = self.ray_terms(chunk, step, weights, generator)
            n_samples += len(rendering.weights)
            if with_stats:
                stats.append(RayStats.of(rendering, chunk))
            terms = len(chunk) / len(batch) * terms
            return terms.sum(), terms.detach()

        field = queried(self.field, "rendering single rays")
        n_rays = rays_per_chunk(field, self.sampler, batch.rgb.device)
        chunks = batch.split(n_rays if is_chunked else len(batch))
        loss, terms = chunked_backward(loss_and_terms, chunks, list(self.parameters()))
        return RayLosses(loss, terms, n_samples, RayStats.cat(stats) if stats else None)

    def of_scene(
        self, step: int, weights: dict[AbstractRegularizer, float], background: Tensor, rank: int
    ) -> dict[AbstractRegularizer, Tensor]:
        """The losses of the scene that count in a step, weighted, each a scalar with gradients."""
        terms = {}
        for loss, weight in weights.items():
            generator = step_generator(loss.name, step, rank)
            term = weight * loss(
                SceneContext(step, self.field, self.sampler, background, generator)
            )
            loss.scalars |= {"weight": torch.tensor(weight), "weighted": term.detach()}
            terms[loss] = term
        return terms

    def scalars(
        self, rays: RayLosses, scene: dict[AbstractRegularizer, Tensor], n_rays: int
    ) -> dict[str, Any]:
        """Scalars of a step for logging, by name."""
        values: dict[str, Any] = {}
        if isinstance(self.field, Gaussians):
            values["n_gaussians"] = self.field.n
        else:
            assert rays.n_samples is not None, "it is read in steps that are logged"
            values["samples_per_ray"] = rays.n_samples / n_rays
        values["loss"] = rays.loss.detach() + sum(term.detach() for term in scene.values())
        values |= {loss.name: term for loss, term in zip(self.ray_losses, rays.terms, strict=True)}
        for loss in self.regularizers:  # as it was when it last counted
            values |= {f"{loss.name}_{name}": value for name, value in loss.scalars.items()}
        return values | self.sampler.scalars()
