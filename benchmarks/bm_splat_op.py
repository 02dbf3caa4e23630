"""A step of Gaussians: harmonics, projection and compositing, forward and backward.

    python benchmarks/bm_splat_op.py [--gaussians 11000] [--size 640 360] [--device cuda]

Gaussians lie on the surfaces of a room with a ball in it, flat along the surface, as large as their
distance from each other, of all opacities; the camera sees most of them, and a pixel blends eleven.
On a CPU one thread, by its CPU seconds, with what two bring by the clock; on a GPU by the clock,
beside gsplat where it is installed. All take turns. The value is what a forward and a backward pass
take; OpenSplat's CPU mode took 0.8 s for a step of as many Gaussians and pixels.
"""

import argparse
import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median

import torch
from common import report, seconds_in_turns, seconds_of
from torch import Tensor

from dietnerf.ops import eval_sh, project_gaussians, rasterize_gaussians
from dietnerf.ops.eval_sh import reference as eval_reference
from dietnerf.ops.project_gaussians import reference as project_reference
from dietnerf.ops.rasterize_gaussians import reference as rasterize_reference
from dietnerf.training.runtime import keep_freed_memory

Op = Callable[..., tuple[Tensor, ...]]


class Scene:
    """Gaussians as after some training, and a camera at the origin that looks along -z."""

    def __init__(self, n: int, width: int, height: int, device: str) -> None:
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
        self.base = (torch.randn(n, 1, 3, generator=draw) * 0.2).requires_grad_()
        self.rest = (torch.randn(n, 15, 3, generator=draw) * 0.2).requires_grad_()
        self.grad = torch.randn(height, width, 3, generator=draw) / (height * width)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                moved = value.detach().to(device).requires_grad_(value.requires_grad)
                setattr(self, name, moved)

    @property
    def parameters(self) -> list[Tensor]:
        shapes = [self.means, self.log_scales, self.quaternions]
        return [*shapes, self.logits, self.base, self.rest]

    def render(self, project: Op, color: Callable[..., Tensor], rasterize: Op) -> Tensor:
        centers, conics, depths, radii, _ = project(
            *(self.means, self.log_scales, self.quaternions, self.c2w, self.focal, self.center),
            *(self.width, self.height, 0.05, 0.3, False),
        )
        colors = color(3, self.base, self.rest, self.means - self.c2w[:, 3])
        splats = (centers, conics, depths, radii, self.logits.sigmoid(), colors)
        return rasterize(*splats, self.width, self.height, None)[0]

    def render_with_gsplat(self) -> Tensor:
        import gsplat

        c2w = torch.eye(4, device=self.c2w.device)
        c2w[:3] = self.c2w * self.c2w.new_tensor([1.0, -1, -1, 1])  # y down, z ahead
        intrinsics = torch.eye(3, device=c2w.device)
        intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2] = self.focal, self.center
        sh = torch.cat([self.base, self.rest], dim=1)
        rgb, _, _ = gsplat.rasterization(
            *(self.means, self.quaternions, self.log_scales.exp(), self.logits.sigmoid(), sh),
            *(torch.linalg.inv(c2w)[None], intrinsics[None], self.width, self.height),
            near_plane=0.05,
            sh_degree=3,
            packed=False,
        )
        return rgb[0]

    def step(self, render: Callable[[], Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(render(), self.parameters, self.grad))


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


def speedup(step: Callable[[], object], rounds: int) -> float:
    """Of two threads over one, by the clock."""

    def run(n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        step()
        torch.set_num_threads(1)

    times = seconds_in_turns({n: lambda n=n: run(n) for n in (1, 2)}, rounds)
    return median(t[1] / t[2] for t in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussians", type=int, default=11_000)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as train.py does
    scene = Scene(args.gaussians, *args.size, args.device)
    print(f"{args.gaussians} Gaussians, {args.size[0]}x{args.size[1]}: {counts(scene)}")

    def render() -> Tensor:
        return scene.render(project_gaussians, eval_sh, rasterize_gaussians)

    def render_by_references() -> Tensor:
        return scene.render(project_reference, eval_reference, rasterize_reference)

    is_cpu = torch.device(args.device).type == "cpu"
    rivals = {"reference": render_by_references}
    if not is_cpu and find_spec("gsplat") is not None:
        rivals["gsplat"] = scene.render_with_gsplat
    candidates = {"forward": torch.no_grad()(render), "step": lambda: scene.step(render)}
    timed = cpu_seconds if is_cpu else seconds_of
    times = seconds_in_turns(candidates, args.rounds, warmup=3, timed=timed)
    seconds = {name: median(t[name] for t in times) for name in candidates}
    ratios = {}
    for name, rival in rivals.items():
        torch.testing.assert_close(rival(), render(), rtol=0, atol=0.01)
        sides = {name: lambda rival=rival: scene.step(rival), "step": candidates["step"]}
        turns = seconds_in_turns(sides, max(3, args.rounds // 4), timed=timed)
        ratios[f"ratio_{name}"] = median(t[name] / t["step"] for t in turns)
    if is_cpu:
        ratios["two_threads"] = speedup(candidates["step"], args.rounds)
    for name, value in seconds.items():
        print(f"{name:10s} {1e3 * value:8.1f} ms")
    report("splat_step", 1e3 * seconds["step"], "ms", None, device=args.device, **ratios)


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
