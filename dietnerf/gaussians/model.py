"""A scene of Gaussians, which are drawn onto whole images instead of being queried along rays."""

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractRadianceField
from dietnerf.gaussians.relocation import MAX_COPIES, split_opacity_and_scale
from dietnerf.gaussians.start import Points
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.canvas import Canvas, canvas_key, check_drawable
from dietnerf.geometry.rays import Rendering
from dietnerf.ops import eval_sh, project_gaussians, rasterize_gaussians

MAX_CAPACITY = 2**24 - 1  # of the op `rasterize_gaussians`
CANVAS_BYTES = 1 << 29  # of all that are kept
FIRST_OPACITY = 0.5
DEAD = 0.005  # opacity below which a Gaussian is moved to where it is needed
NEAR = 0.01  # share of the cameras' extent, in front of which nothing is drawn
BAND_0 = math.sqrt(1 / (4 * math.pi))  # harmonic of degree 0
NOISE, LAST_NOISE = 80.0, 0.03  # 3DGS-MCMC: 5e5 times its learning rate, and what it falls to
# Of each parameter, as a share of the learning rate; of the means times the cameras' extent.
RATES = {
    "means": 0.032,
    "log_scales": 1.0,
    "quaternions": 0.2,
    "opacity_logits": 10.0,
    "base": 0.5,
    "rest": 0.025,
}


@final
class Gaussians(AbstractRadianceField):
    """Anisotropic Gaussians with opacities and view-dependent colors (3D Gaussian Splatting, Kerbl
    et al. 2023), whose number grows as in "3D Gaussian Splatting as Markov Chain Monte Carlo"
    (Kheradmand et al. 2024): those that are almost transparent are moved onto others, and some are
    added, up to `capacity`. The optimizer's moments of those that are moved stay.

    Parameters have room for all of them from the start, and the first `n_used` rows count, so that
    shapes, optimizer and checkpoints stay as they are.

    Args:
        capacity: how many there are at the end.
        n_first: how many there are at the start, at most.
        sh_degree: of the harmonics of their colors, 0 to 3.
        antialias: whether a Gaussian that is thinner than a pixel covers less of it
            (Mip-Splatting, Yu et al. 2024).
        interval: steps from one relocation to the next.
        growth: factor of their number at a relocation, at least 1.
        growing: share of the run in which they are relocated and moved by noise.
        noise: factor of the noise that moves transparent ones, which falls along the run whatever
            the learning rate; 0 for none.
    """

    is_graphable = False  # relocation reads values

    n_used: Tensor
    extent: Tensor

    def __init__(
        self,
        capacity: int = 30_000,
        n_first: int = 10_000,
        sh_degree: int = 2,
        antialias: bool = True,
        interval: int = 100,
        growth: float = 1.05,
        growing: float = 0.85,
        noise: float = 1.0,
    ) -> None:
        super().__init__()
        if not 1 <= n_first <= capacity <= MAX_CAPACITY:
            raise UserError(
                f"Gaussians: n_first is {n_first} and capacity {capacity}; they must be from 1 to "
                f"{MAX_CAPACITY}, n_first not above capacity"
            )
        if sh_degree not in range(4):
            raise UserError(f"Gaussians: sh_degree is {sh_degree}; it must be 0 to 3")
        if interval < 1 or not 1 <= growth <= 2 or not 0 <= growing <= 1 or not 0 <= noise < 1e3:
            raise UserError(
                f"Gaussians: interval is {interval}, growth {growth}, growing {growing}, noise "
                f"{noise}; they must be at least 1, from 1 to 2, from 0 to 1, and from 0 to 1000"
            )
        self.n_first, self.sh_degree, self.antialias = n_first, sh_degree, antialias
        self.interval, self.growth, self.growing = interval, growth, growing
        self.noise = noise
        n, n_rest = capacity, (sh_degree + 1) ** 2 - 1
        self.means = nn.Parameter(torch.zeros(n, 3))
        self.log_scales = nn.Parameter(torch.zeros(n, 3))
        self.quaternions = nn.Parameter(torch.tensor([1.0, 0, 0, 0]).repeat(n, 1))
        self.opacity_logits = nn.Parameter(torch.zeros(n))
        self.base = nn.Parameter(torch.zeros(n, 1, 3))
        self.rest = nn.Parameter(torch.zeros(n, n_rest, 3))
        self.register_buffer("n_used", torch.zeros((), dtype=torch.int64))
        self.register_buffer("extent", torch.ones(()))
        self._canvases: dict[tuple[object, ...], Canvas] = {}

    @property
    def n(self) -> int:
        """How many there are now."""
        return int(self.n_used)

    @property
    def capacity(self) -> int:
        return len(self.means)

    def prepare(self, cameras: Cameras) -> None:
        positions = cameras.positions
        spread = (positions - positions.mean(dim=0)).norm(dim=1).max()
        # Of cameras that stand close together, what they see is larger than where they stand.
        reach = torch.maximum(cameras.far / 20, 2 / (1 / cameras.near + 1 / cameras.far)).mean()
        self.extent.copy_(torch.maximum(1.1 * spread, reach))
        check_drawable(cameras)

    def learning_rates(self) -> dict[str, float]:
        return {**RATES, "means": RATES["means"] * float(self.extent)}

    def _load_from_state_dict(self, saved: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        n = saved.get(prefix + "n_used")
        if isinstance(n, Tensor) and n.numel() == 1:
            is_number = n.dtype == torch.int64
            if not is_number or not 1 <= int(n) <= self.capacity:
                raise UserError(
                    f"{prefix}n_used is {n.item()}; it must be a whole number from 1 to "
                    f"{self.capacity}"
                )
        super()._load_from_state_dict(saved, prefix, *rest)

    @torch.no_grad()
    def place(self, points: Points) -> None:
        """Begin anew with one at each point, or at the first `capacity` of them.

        Raises:
            UserError: there is none.
        """
        n = min(len(points), self.capacity)
        if n == 0:
            raise UserError("Gaussians have no points to begin at")
        self.n_used.fill_(n)
        self.means[:n] = points.positions[:n].to(self.means)
        self.log_scales[:n] = points.spacing()[:n, None].to(self.means).clamp(min=1e-7).log()
        self.opacity_logits[:n] = math.log(FIRST_OPACITY / (1 - FIRST_OPACITY))
        self.base[:n] = ((points.rgb[:n, None] - 0.5) / BAND_0).to(self.means)

    def render_view(self, cameras: Cameras, index: int, with_median: bool = False) -> Rendering:
        """The whole image of a camera without a background, height * width rays row by row.

        Differentiable in the parameters and in the camera's pose, but for a median depth.

        Args:
            with_median: whether depth is opacity times where half of the light is stopped, instead
                of times the mean, but where less than half is.

        Raises:
            UserError: a lens is too wide for a pinhole image.
        """
        camera = cameras[[index]].to(self.means.device)
        if camera.distortion is None:
            image = self._draw(camera, with_median)
        else:
            canvas = self._canvas(camera)
            mode = "nearest" if with_median else "bilinear"  # else edges were between two surfaces
            image = canvas.resample(self._draw(canvas.camera(camera), with_median), mode)
        rgb, opacity, depth = image.flatten(0, 1).split([3, 1, 1], dim=-1)
        return Rendering(rgb, opacity[:, 0], depth[:, 0], depth.new_empty(0))

    def _canvas(self, camera: Cameras) -> Canvas:
        key = canvas_key(camera)
        if key not in self._canvases:
            canvas = Canvas.of(camera)
            room = CANVAS_BYTES - canvas.places.nbytes
            while sum(c.places.nbytes for c in self._canvases.values()) > max(room, 0):
                del self._canvases[next(iter(self._canvases))]
            self._canvases[key] = canvas
        return self._canvases[key]

    def _draw(self, camera: Cameras, with_median: bool) -> Tensor:
        """Color, opacity and depth, (height, width, 5), of a pinhole camera."""
        n = self.n
        means, c2w = self.means[:n], camera.c2w[0]
        size = camera.width, camera.height
        centers, conics, depths, radii, compensation = project_gaussians(
            means,
            self.log_scales[:n],
            self.quaternions[:n],
            c2w,
            camera.focal[0],
            camera.center[0],
            *size,
            near=NEAR * float(self.extent),
            antialias=self.antialias,
        )
        opacities = self.opacity_logits[:n].sigmoid() * compensation
        colors = eval_sh(self.sh_degree, self.base[:n], self.rest[:n], means - c2w[:, 3])
        rgb, opacity, depth, median, _ = rasterize_gaussians(
            centers, conics, depths, radii, opacities, colors, *size
        )
        if with_median:
            depth = torch.where(median > 0, median * opacity, depth)
        return torch.cat([rgb, opacity[..., None], depth[..., None]], dim=-1)

    @torch.no_grad()
    def update(self, step: int, n_steps: int, generator: torch.Generator) -> None:
        """Move transparent ones at random, relocate those that are dead and add others; alike
        wherever the generator is."""
        share = step / n_steps
        if step == 0 or share > self.growing:
            return
        with torch.autocast(self.means.device.type, enabled=False):
            if self.noise > 0:
                strength = self.noise * NOISE * float(self.extent) * LAST_NOISE**share
                self._diffuse(strength, generator)
            if step % self.interval == 0:
                n_new = round((self.growth - 1) * self.n)
                self._relocate(max(n_new, int(self.growth > 1)), generator)

    def _diffuse(self, strength: float, generator: torch.Generator) -> None:
        """3DGS-MCMC, equations 8 and 9: noise of the Gaussian's own shape, for those that are
        almost transparent."""
        n = self.n
        transparent = torch.sigmoid(-100 * (self.opacity_logits[:n].sigmoid() - DEAD))
        chosen = (transparent > 1e-4).nonzero()[:, 0]
        axes = rotations_of(self.quaternions[chosen])
        noise = torch.randn(len(chosen), 3, generator=generator).to(axes)
        along = (axes.transpose(1, 2) @ noise[..., None])[..., 0]
        moves = axes @ (along * (2 * self.log_scales[chosen]).exp())[..., None]
        self.means[chosen] += strength * transparent[chosen, None] * moves[..., 0]

    def _relocate(self, n_new: int, generator: torch.Generator) -> None:
        """Put dead ones, and `n_new` more, onto others that are drawn by their opacity."""
        n = self.n
        n_new = min(n_new, self.capacity - n)
        opacities = self.opacity_logits[:n].sigmoid().cpu()
        dead = (opacities < DEAD).nonzero()[:, 0]
        targets = torch.cat([dead, torch.arange(n, n + n_new)])
        if len(targets) == 0 or len(dead) == n:
            return
        chances = torch.where(opacities < DEAD, 0.0, opacities)
        sources = _draw_by(chances, len(targets), generator)
        copies = (sources.bincount(minlength=n) + 1).clamp(max=MAX_COPIES)
        chosen = (copies > 1).nonzero()[:, 0]
        opacity, scale = split_opacity_and_scale(
            opacities[chosen].clamp(max=0.999), self.log_scales[chosen].exp().cpu(), copies[chosen]
        )
        self.opacity_logits[chosen] = torch.logit(opacity.clamp(min=DEAD)).to(self.means)
        self.log_scales[chosen] = scale.log().to(self.means)
        for parameter in self.parameters():
            parameter[targets] = parameter[sources]
        self.n_used.fill_(n + n_new)


def _draw_by(chances: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n positions, drawn with chances (m,); `torch.multinomial` takes 2^24 of them at most."""
    ends = chances.double().cumsum(dim=0)
    drawn = torch.rand(n, generator=generator, dtype=torch.float64) * ends[-1]
    return torch.searchsorted(ends, drawn, right=True).clamp(max=len(chances) - 1)


def rotations_of(quaternions: Tensor) -> Tensor:
    """Rotation matrices (n, 3, 3) of quaternions (n, 4) of any length but 0, w first."""
    w, x, y, z = nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))
