"""A step of Gaussians: harmonics, projection and compositing, forward and backward.

    python benchmarks/bm_splat_op.py [--gaussians 11000] [--size 640 360] [--rounds 20]

Gaussians lie on the surfaces of a room with a ball in it, flat along the surface, as large as their
distance from each other, most of them nearly opaque; a camera sees all of them. CPU seconds of one
thread, and of both sides beside the references, which take turns. The value is CPU seconds of a
forward and a backward pass; a step of a peer, OpenSplat, has taken 0.8 s for as many.
"""

import argparse
import math
import time
from collections.abc import Callable
from statistics import median

import torch
from common import report, seconds_in_turns
from torch import Tensor

from dietnerf.ops import eval_sh, project_gaussians, rasterize_gaussians
from dietnerf.ops.project_gaussians import reference as project_reference
from dietnerf.ops.rasterize_gaussians import reference as rasterize_reference
from dietnerf.training.runtime import keep_freed_memory


class Scene:
    """Gaussians as after some training, and a camera at the origin that looks along -z."""

    def __init__(self, n: int, width: int, height: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.width, self.height = width, height
        self.focal = torch.tensor([0.9 * width, 0.9 * width])
        self.center = torch.tensor([width / 2, height / 2])
        self.c2w = torch.eye(4)[:3].clone().requires_grad_()
        pixels = (torch.rand(n, 2, generator=draw) * 1.1 - 0.05) * torch.tensor([width, height])
        rays = torch.cat([(pixels - self.center) / self.focal, torch.ones(n, 1)], dim=1)
        rays[:, 1:] *= -1
        depths, normals = room(rays)
        spacing = depths * math.sqrt(1.2 * width * height / n) / self.focal[0]
        noise = torch.randn(n, 3, generator=draw) * 0.35
        scales = spacing[:, None] * torch.tensor([0.8, 0.5, 0.1]) * noise.exp()
        self.means = (rays * depths[:, None]).requires_grad_()
        self.log_scales = scales.log().requires_grad_()
        self.quaternions = facing(normals, draw).requires_grad_()
        self.logits = (torch.randn(n, generator=draw) * 2 + 0.5).requires_grad_()
        self.sh = (torch.randn(n, 16, 3, generator=draw) * 0.2).requires_grad_()
        self.grad = torch.randn(height, width, 3, generator=draw) / (height * width)

    @property
    def parameters(self) -> list[Tensor]:
        return [self.means, self.log_scales, self.quaternions, self.logits, self.sh]

    def render(
        self,
        project: Callable[..., tuple[Tensor, ...]],
        rasterize: Callable[..., tuple[Tensor, ...]],
    ) -> Tensor:
        centers, conics, depths, radii, _ = project(
            *(self.means, self.log_scales, self.quaternions, self.c2w, self.focal, self.center),
            *(self.width, self.height, 0.05, 0.3, False),
        )
        colors = eval_sh(3, self.sh, self.means - self.c2w[:, 3])
        opacities = self.logits.sigmoid()
        splats = (centers, conics, depths, radii, opacities, colors)
        return rasterize(*splats, self.width, self.height, None)[0]

    def step(self, *ops: Callable[..., tuple[Tensor, ...]]) -> list[Tensor]:
        rgb = self.render(*ops)
        return list(torch.autograd.grad(rgb, self.parameters, self.grad))


def room(rays: Tensor) -> tuple[Tensor, Tensor]:
    """Depths (n,) and normals (n, 3) where rays (n, 3) meet a floor, two walls and a ball."""
    planes = torch.tensor([[0.0, 1, 0, 1], [0, 0, 1, 5], [1, 0, 0, 2.5]])  # normal, distance
    reach = -planes[:, 3] / (rays @ planes[:, :3].T)
    reach = torch.where(reach > 0, reach, torch.inf)
    depths, which = reach.clamp(max=9).min(dim=1)
    normals = planes[which, :3]
    ball, radius = torch.tensor([0.3, -0.3, -2.5]), 0.7
    squared, along = (rays**2).sum(dim=1), (rays * ball).sum(dim=1)
    rest = along**2 - squared * (ball @ ball - radius**2)
    entry = (along - rest.clamp(min=0).sqrt()) / squared
    is_ball = (rest > 0) & (entry < depths)
    depths = torch.where(is_ball, entry, depths)
    normals = torch.where(is_ball[:, None], (rays * depths[:, None] - ball) / radius, normals)
    return depths, normals


def facing(normals: Tensor, draw: torch.Generator) -> Tensor:
    """Quaternions (n, 4) whose z axis is the normal, turned about it by any angle."""
    x, y, z = normals.unbind(-1)
    tilt = torch.stack([1 + z, -y, x, torch.zeros_like(z)], dim=1)
    angles = torch.rand(len(z), generator=draw) * math.pi
    c, s = angles.cos(), angles.sin()
    a, b, d, _ = tilt.unbind(-1)
    turned = torch.stack([a * c, b * c + d * s, d * c - b * s, a * s], dim=1)
    return torch.nn.functional.normalize(turned, dim=1)


def cpu_seconds(candidate: Callable[[], object]) -> float:
    start = time.process_time()
    candidate()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussians", type=int, default=11_000)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360))
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    keep_freed_memory()  # as train.py does
    scene = Scene(args.gaussians, *args.size)
    kernels = (project_gaussians, rasterize_gaussians)
    references = (project_reference, rasterize_reference)

    def forward() -> None:
        with torch.no_grad():
            scene.render(*kernels)

    def in_threads(n: int) -> None:
        torch.set_num_threads(n)
        scene.step(*kernels)
        torch.set_num_threads(1)

    torch.set_num_threads(1)
    print(f"{len(scene.means)} Gaussians, {args.size[0]}x{args.size[1]}: {counts(scene)}")
    candidates = {"forward": forward, "step": lambda: scene.step(*kernels)}
    times = seconds_in_turns(candidates, args.rounds, timed=cpu_seconds)
    seconds = {name: median(t[name] for t in times) for name in candidates}
    threads = seconds_in_turns({n: lambda n=n: in_threads(n) for n in (1, 2)}, args.rounds)
    speedup = median(t[1] / t[2] for t in threads)
    rival = {"step": lambda: scene.step(*kernels), "reference": lambda: scene.step(*references)}
    turns = seconds_in_turns(rival, 3, timed=cpu_seconds)
    ratio = median(t["reference"] / t["step"] for t in turns)
    for name, value in seconds.items():
        print(f"{name:10s} {1e3 * value:8.1f} ms of one CPU")
    print(f"reference / kernel: {ratio:.1f}; one thread / two, by the clock: {speedup:.2f}")
    report("splat_step", 1e3 * seconds["step"], "ms", None, ratio=ratio, speedup=speedup)


def counts(scene: Scene) -> str:
    """How many Gaussians are in the image, and their size."""
    with torch.no_grad():
        _, _, _, radii, _ = project_gaussians(
            *(scene.means, scene.log_scales, scene.quaternions, scene.c2w, scene.focal),
            *(scene.center, scene.width, scene.height, 0.05),
        )
    return f"{int((radii > 0).sum())} visible, mean radius {radii[radii > 0].mean():.1f} pixels"


if __name__ == "__main__":
    main()
