"""The semantic consistency loss of DietNeRF: a bulldozer is a bulldozer from any perspective."""

from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.chunks import deferred_backprop
from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.fields.base import queried
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays
from dietnerf.geometry.viewpoints import AbstractViewpoints, SphereCap
from dietnerf.losses.base import AbstractRegularizer, SceneContext
from dietnerf.randomness import seeded
from dietnerf.renderer import rays_per_chunk, render_rays
from dietnerf.semantics import AbstractImageEncoder, OpenCLIP

SAMPLES_WITH_GRAPH = 1 << 16  # at a time: what they keep is about what a training step keeps


@final
class SemanticConsistency(AbstractRegularizer):
    """Views without a photograph should have embeddings like those of the photographs (DietNeRF,
    section 4).

    One minus the cosine between the embedding of a rendering from a random viewpoint and that of a
    photograph, for the fine and the coarse rendering.

    Args:
        encoder: embeds images.
        viewpoints: where the scene is rendered from.
        weight, every: as for every loss; the defaults are the paper's (section 5.1): every tenth
            step.
        n_views: renderings in a step.
        resolution: pixels along each edge of a rendering, which is square.
        crop: side of the part of the view that is rendered, as a share of the view's shorter side:
            1 is the middle square, smaller crops are at random places.
        crop_target: compare with the same part of the photograph, embedded anew in every step, not
            with the whole.
        target: which embedding a rendering is compared with: that of a `random` photograph, of each
            `in_turn` in a random order, or the `mean` of all.
        jitter: place samples at random, as in training, not in the middle of their intervals.
        augment: change brightness, contrast and perspective of the renderings at random, so that
            noise does not satisfy the encoder.
        when: `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = False

    def __init__(
        self,
        encoder: AbstractImageEncoder | None = None,
        viewpoints: AbstractViewpoints | None = None,
        weight: float = 0.1,
        every: int = 10,
        n_views: int = 1,
        resolution: int = 168,
        crop: float = 1.0,
        crop_target: bool = False,
        target: Literal["random", "in_turn", "mean"] = "random",
        jitter: bool = True,
        augment: bool = False,
        **when: Any,
    ) -> None:
        super().__init__(weight, every=every, **when)
        for name, value in (("n_views", n_views), ("resolution", resolution)):
            if value < 1:
                raise UserError(f"SemanticConsistency: {name} must be at least 1, got {value}")
        if not 0 < crop <= 1:
            raise UserError(f"SemanticConsistency: crop must be in (0, 1], got {crop}")
        if crop_target and target == "mean":
            raise UserError("SemanticConsistency: crop_target needs a target that is one image")
        self.encoder = encoder or OpenCLIP()
        self.viewpoints = viewpoints or SphereCap()
        self.n_views = n_views
        self.resolution = resolution
        self.crop = crop
        self.crop_target = crop_target
        self.target = target
        self.jitter = jitter
        self.augmentation = _augmentation() if augment else None
        self.photographs: list[Tensor] = []  # where parts of them are to be embedded
        self.thumbnails: list[Tensor] = []  # their middle squares, as large as a rendering

    @property
    def name(self) -> str:
        return "semantic"

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        self.viewpoints.prepare(dataset.cameras)
        self.encoder.load(device)
        embeddings = []
        for i in range(len(dataset)):
            photograph = dataset.image(i, background).to(device)
            with torch.no_grad():
                embeddings.append(self.encoder(_batch(photograph)))
            self.thumbnails.append(_thumbnail(photograph, self.resolution))
            if self.crop_target:
                self.photographs.append(photograph)
        self.embeddings = torch.cat(embeddings)

    def forward(self, context: SceneContext) -> Tensor:
        cameras, windows = self._look(context.generator)
        targets, photographs = self._targets(context, windows)
        seed = int(torch.randint(2**62, (1,), generator=context.generator))
        if isinstance(context.field, Gaussians):
            views = [context.field.render_view(camera, 0) for camera in cameras]
            rgb = torch.cat([view.over(context.background).rgb for view in views])
            loss = self._judge(rgb, targets, seed)
        else:
            loss = self._of_rays(context, cameras, targets, seed)
        if photographs and self.debug_image is not None:
            self.debug_image = torch.cat(
                [self.debug_image, torch.cat(photographs).to(self.debug_image)], dim=1
            )
        return loss

    def _of_rays(
        self, context: SceneContext, cameras: list[Cameras], targets: Tensor, seed: int
    ) -> Tensor:
        """The loss of a field, rendered in chunks of rays that keep the activations small."""
        field, sampler = queried(context.field, self.name), context.sampler
        device = context.background.device
        rays = Rays.cat([camera.image_rays(0) for camera in cameras]).to(device)

        def render(chunk: tuple[int, Rays]) -> Tensor:
            first, some = chunk
            generator = None
            if self.jitter:  # the same whenever the chunk is rendered
                generator = seeded(seed + first, some.near.device)
            fine, coarse = render_rays(some, field, sampler, context.background, generator)
            return fine.rgb if coarse is None else torch.cat([fine.rgb, coarse.rgb], dim=1)

        size = min(
            rays_per_chunk(field, sampler, device), max(1, SAMPLES_WITH_GRAPH // sampler.n_samples)
        )
        chunks = [(i, rays[i : i + size]) for i in range(0, len(rays), size)]
        scene = nn.ModuleList([field, sampler])
        return deferred_backprop(render, chunks, lambda rgb: self._judge(rgb, targets, seed), scene)

    def _look(self, generator: torch.Generator) -> tuple[list[Cameras], list[tuple[int, int, int]]]:
        """Cameras, and the part of a photograph that each sees: left, top and side in pixels."""
        drawn, found, windows = self.viewpoints.draw(self.n_views, generator), [], []
        shorter = min(drawn.width, drawn.height)
        side = max(1, round(self.crop * shorter))
        for i in range(self.n_views):
            if self.crop == 1:
                left, top = (drawn.width - side) // 2, (drawn.height - side) // 2
            else:
                left = int(torch.randint(drawn.width - side + 1, (1,), generator=generator))
                top = int(torch.randint(drawn.height - side + 1, (1,), generator=generator))
            windows.append((left, top, side))
            found.append(drawn[[i]].windowed(left, top, side, self.resolution))
        return found, windows

    def _targets(
        self, context: SceneContext, windows: list[tuple[int, int, int]]
    ) -> tuple[Tensor, list[Tensor]]:
        """The target embedding of each rendering, unit vectors (n_views, n_features), and the
        photographs that they are of."""
        if self.target == "mean":
            return F.normalize(self.embeddings.mean(dim=0, keepdim=True), dim=1), []
        n = len(self.embeddings)
        if self.target == "random":
            ids = torch.randint(n, (self.n_views,), generator=context.generator).tolist()
        else:
            ids = _in_turn(context.index // self.every * self.n_views, self.n_views, n)
        if not self.crop_target:
            return self.embeddings[ids], [self.thumbnails[i] for i in ids]
        parts = [
            self.photographs[i][top : top + side, left : left + side]
            for i, (left, top, side) in zip(ids, windows, strict=True)
        ]
        with torch.no_grad():
            targets = torch.cat([self.encoder(_batch(part)) for part in parts])
        return targets, [_thumbnail(part, self.resolution) for part in parts]

    def _judge(self, colors: Tensor, targets: Tensor, seed: int) -> Tensor:
        """The loss of colors (n_views * resolution^2, 3, or 6 with a coarse rendering)."""
        shape = (self.n_views, self.resolution, self.resolution, -1, 3)
        images = colors.float().clamp(0, 1).view(shape).permute(3, 0, 4, 1, 2).flatten(0, 1)
        self.debug_image = images[: self.n_views].detach().permute(0, 2, 3, 1).flatten(0, 1)
        if self.augmentation is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # kornia takes no other
                images = self.augmentation(images).clamp(0, 1)
        embeddings = self.encoder(images).unflatten(0, (-1, self.n_views))
        fine, *coarse = 1 - (embeddings * targets).sum(dim=-1).mean(dim=1)
        self.scalars = {"cosine": 1 - fine.detach()}
        return fine + sum(coarse)


def _batch(image: Tensor) -> Tensor:
    """(height, width, 3) -> (1, 3, height, width)."""
    return image.permute(2, 0, 1)[None]


def _thumbnail(image: Tensor, size: int) -> Tensor:
    """The middle square of (height, width, 3), (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = _batch(image[top : top + side, left : left + side])
    return F.interpolate(square, (size, size), mode="area")[0].permute(1, 2, 0)


def _in_turn(first: int, count: int, n: int) -> list[int]:
    """`count` numbers of an endless list, starting at `first`: random permutations of n one after
    the other."""
    found = []
    for i in range(first, first + count):
        order = torch.Generator().manual_seed(torch.initial_seed() % 2**31 + i // n)
        found.append(int(torch.randperm(n, generator=order)[i % n]))
    return found


def _augmentation() -> nn.Module:
    import kornia.augmentation as ka  # takes a second

    return nn.Sequential(
        ka.ColorJiggle(brightness=0.1, contrast=0.1, p=0.8),
        ka.RandomPerspective(distortion_scale=0.2, p=0.8),
    )
