"""What the semantic loss costs: its step beside a plain one, in time and in memory.

    python benchmarks/bm_semantic.py [--run runs/lego] [--rounds 6]

The scene is that of a run of the fast field on the CPU (without one, some hundred steps of
configs/fast.yaml, or without lego of configs/quickstart.yaml, are trained first). Then by turns in
one process: a plain training step of it; semantic steps, forward and backward, at 168x168 with
ViT-B/32 (random weights serve for timing) and with MobileNetV2, whose weights change nothing in the
time either; and the tower alone on an image of 224x224. With `--mlp`, which takes minutes, also the
paper's MLP at 56x56 rays, with 64 + 128 samples and under an occupancy grid, beside the authors'
arithmetic, which keeps the graph of all rays.

The value is seconds of a semantic step with ViT-B/32. `share` is what all of them together take of
a run in which every tenth step has one. Memory is that of processes of their own, at most: one
takes plain steps, the other also semantic steps at 224x224 whose encoder is the mean color, so
that no tower counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Literal

import authors
import torch
from common import ROOT, has_lego, median_ratio, report, seconds_in_turns
from torch import Tensor

from dietnerf.fields import MLP
from dietnerf.losses import RayLossInput, SceneContext, SemanticConsistency
from dietnerf.renderer import render_rays
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.sampling import Importance, Occupancy
from dietnerf.semantics import AbstractImageEncoder, OpenCLIP
from dietnerf.training.runtime import prepare_process
from dietnerf.training.system import DietNeRF

CPU = torch.device("cpu")
EVERY = 10  # the paper's interval


class Untrained(AbstractImageEncoder):
    """A tower of open_clip or timm with random weights."""

    def __init__(self, name: str, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
        self.name = name
        self.clip = OpenCLIP(dtype=dtype, use_cuda_graphs=True)

    def load(self, device: torch.device) -> None:
        import open_clip
        import timm

        if self.name in open_clip.list_models():
            visual = open_clip.create_model(self.name).visual
        else:
            visual = timm.create_model(self.name, num_classes=0)
            visual.preprocess_cfg = {
                "size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
            }  # fmt: skip
        dtype = getattr(torch, self.clip.dtype)
        self.clip.visual = visual.eval().requires_grad_(False).to(device, dtype)

    def features(self, images: Tensor) -> Tensor:
        return self.clip.features(images)


class MeanColor(AbstractImageEncoder):
    """No tower at all."""

    def load(self, device: torch.device) -> None:
        pass

    def features(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def train(run: Path) -> None:
    config = "fast" if has_lego() else "quickstart"
    command = [sys.executable, "train.py", "fit", "--config", config, "--run", str(run)]
    command += ["--trainer.max_steps", "400", "--trainer.limit_val_batches", "0"]
    command += ["--trainer.accelerator", "cpu"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


class Bench:
    """A trained scene, whose steps can be taken one by one."""

    def __init__(self, run: Path, device: torch.device = CPU) -> None:
        prepare_process()
        self.system: DietNeRF = load_scene(find_checkpoint(run)).to(device)
        camera_set = self.system.camera_set
        assert camera_set is not None
        self.device = device
        self.cameras, self.background = (
            camera_set.cameras["train"],
            camera_set.background.to(device),
        )
        self.generator = torch.Generator().manual_seed(0)
        self.n_rays = 2048

    def context(self, field: Any = None, sampler: Any = None) -> SceneContext:
        field, sampler = field or self.system.field, sampler or self.system.sampler
        return SceneContext(0, field, sampler, self.background, self.generator)

    def plain_step(self, n_samples: int = 32_768) -> None:
        """As many random rays as have about `n_samples` samples."""
        cameras, system = self.cameras, self.system

        def draw(below: int) -> Tensor:
            return torch.randint(below, (self.n_rays,), generator=self.generator)

        rays = cameras.rays(draw(len(cameras)), draw(cameras.width), draw(cameras.height))
        rendering, coarse = render_rays(
            rays, system.field, system.sampler, self.background, self.generator
        )
        self.n_rays = max(1, round(self.n_rays * n_samples / max(len(rendering.weights), 1)))
        zeros = torch.zeros_like(rays.rays_o)
        made = RayLossInput(0, rays, zeros, zeros, rendering, coarse)
        system.ray_losses[0](made).backward()
        system.zero_grad()

    def semantic_loss(self, encoder: AbstractImageEncoder, **options: Any) -> SemanticConsistency:
        """Prepared without photographs: a gray image stands for them."""
        loss = SemanticConsistency(encoder, **options)
        loss.viewpoints.prepare(self.cameras)
        encoder.load(self.device)
        with torch.no_grad():
            loss.embeddings = encoder(torch.full((1, 3, 32, 32), 0.5, device=self.device))
        loss.thumbnails = [torch.full((loss.resolution, loss.resolution, 3), 0.5)]
        return loss


def step_of(loss: SemanticConsistency, context: SceneContext) -> None:
    loss(context).backward()
    for module in (context.field, context.sampler):
        module.zero_grad()


def peak_memory(run: Path, resolution: int) -> float:
    """Of a process that takes plain steps, and semantic ones unless the resolution is 0, MB."""
    command = [sys.executable, __file__, "--run", str(run), "--memory", str(resolution)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_memory(run: Path, resolution: int) -> None:
    import resource

    bench = Bench(run)
    loss = bench.semantic_loss(MeanColor(), resolution=max(resolution, 1))
    for _ in range(30):
        bench.plain_step()
        if resolution > 0:
            step_of(loss, bench.context())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def mlp_seconds(bench: Bench) -> dict[str, float]:
    """One semantic step of the paper's networks, 56x56 rays: plain, and under a grid."""
    loss = bench.semantic_loss(MeanColor(), resolution=56)
    grid = bench.system.sampler
    assert isinstance(grid, Occupancy)
    coarse = bench.context(MLP(), Importance(MLP(), 64, 128))
    occupancy = bench.context(MLP(), grid)
    networks = [authors.Network(), authors.Network()]
    rays = loss.viewpoints.draw(1, bench.generator).windowed(0, 0, 200, 56).image_rays(0)

    def authors_step() -> None:
        u, u_fine = torch.rand(len(rays), 64), torch.rand(len(rays), 128)
        both = torch.cat(authors.render(*networks, rays.rays_o, rays.rays_d, u, u_fine))
        images = both.view(2, 56, 56, 3).permute(0, 3, 1, 2)
        (1 - loss.encoder(images) @ loss.embeddings[0]).sum().backward()

    sides = {
        "mlp": lambda: step_of(loss, coarse),
        "authors": authors_step,
        "occupancy": lambda: step_of(loss, occupancy),
    }
    times = seconds_in_turns(sides, rounds=3, warmup=0)
    seconds = {f"{name}_seconds": round(median(t[name] for t in times), 3) for name in sides}
    ratios = {
        f"{name}_over_authors": median_ratio(times, name, "authors")
        for name in ("mlp", "occupancy")
    }
    return seconds | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a trained run of the fast field")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--mlp", action="store_true", help="also the paper's network: minutes")
    parser.add_argument("--memory", type=int, help="print the memory of one side, and end")
    args = parser.parse_args()
    if args.memory is not None:
        print_memory(args.run, args.memory)
        return
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or Path(folder) / "run"
        if args.run is None:
            train(run)
        memory = {size: peak_memory(run, size) for size in (0, 224)}
        bench = Bench(run)
        vit = bench.semantic_loss(Untrained("ViT-B-32-quickgelu"), resolution=168)
        small = bench.semantic_loss(Untrained("mobilenetv2_100"), resolution=168)
        image = torch.rand(1, 3, 224, 224, requires_grad=True)
        sides = {
            "plain": bench.plain_step,
            "vit": lambda: step_of(vit, bench.context()),
            "small": lambda: step_of(small, bench.context()),
            "vit_alone": lambda: vit.encoder(image).sum().backward(),
            "small_alone": lambda: small.encoder(image).sum().backward(),
        }
        times = seconds_in_turns(sides, args.rounds)
        mlp = mlp_seconds(bench) if args.mlp else {}
    seconds = {name: median(t[name] for t in times) for name in sides}
    report(
        "semantic",
        seconds["vit"],
        "s",
        **{f"{name}_seconds": round(value, 4) for name, value in seconds.items()},
        vit_over_plain=median_ratio(times, "vit", "plain"),
        share=round(seconds["vit"] / (seconds["vit"] + EVERY * seconds["plain"]), 3),
        small_share=round(seconds["small"] / (seconds["small"] + EVERY * seconds["plain"]), 3),
        memory_plain_mb=round(memory[0], 1),
        memory_semantic_224_mb=round(memory[224], 1),
        memory_ratio=round(memory[224] / memory[0], 3),
        **mlp,
    )


if __name__ == "__main__":
    main()
