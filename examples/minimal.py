"""A scene fitted by a plain PyTorch loop, without Lightning.

    python examples/minimal.py                 # a minute on a CPU core: 29.5 dB
    python examples/minimal.py --steps 300     # a quick look

The same field, sampler and losses as `dietnerf fit --config configs/quickstart.yaml`. What that
command adds: schedules, validation, checkpoints, several devices, CUDA graphs.
"""

import argparse
from statistics import fmean

import torch

from dietnerf.data import ImageDataset, Procedural
from dietnerf.data.ray_sampling import RaySampling, RaySource
from dietnerf.devices import usable_device
from dietnerf.errors import exit_on_user_error
from dietnerf.fields import AbstractField, HashGrid
from dietnerf.losses import Photometric
from dietnerf.randomness import step_generator
from dietnerf.renderer import render_image
from dietnerf.sampling import Occupancy
from dietnerf.training.learning_rate import LogLinear
from dietnerf.training.objective import Objective
from dietnerf.training.optimizers import make_optimizer

WHITE = torch.ones(3)


def fit(
    train: ImageDataset,
    n_steps: int = 1500,
    samples_per_step: int = 32768,
    field: AbstractField | None = None,
    device: str = "cpu",
) -> Objective:
    """Train a field under an occupancy grid on photographs over white.

    Args:
        train: the training views.
        n_steps: optimization steps.
        samples_per_step: how many samples each of them shall come to: the number of rays follows,
            so that steps cost the same while the scene empties.
        field: what is trained; None makes a hash grid.
        device: where it is trained.

    Returns:
        What was minimized, with the trained field and sampler.
    """
    objective = Objective(
        field=(field or HashGrid(sh_degree=2)).to(device),
        sampler=Occupancy(min_view_fraction=0.75).to(device),
        losses=[Photometric()],
    )
    objective.prepare(train, WHITE, torch.device(device))
    source = RaySource(train, RaySampling(background=WHITE), storage=device)
    rate = LogLinear(initial=2e-2, final=2e-3)
    optimizer = make_optimizer("skipping_adam", objective, rate.initial, table_decay=0.3)
    n_rays = 256
    for step in range(n_steps):
        batch = source.draw(n_rays, step_generator("rays", step, 0, device))
        objective.update_sampler(step)
        weights = objective.ray_weights(step, n_steps)
        generator = step_generator("samples", step, 0, device)
        losses = objective.of_rays(batch, step, weights, generator)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, n_steps)
        optimizer.zero_grad()
        losses.loss.backward()
        optimizer.step()
        fitting = samples_per_step * n_rays // max(losses.n_samples, 1)
        n_rays = min(max(fitting, n_rays // 2, 1), 2 * n_rays, 1 << 16)
        if step % 100 == 0:
            print(f"step {step}: loss {losses.loss.item():.5f}, {len(batch)} rays")
    return objective


def psnr_of(objective: Objective, scene: ImageDataset, index: int) -> float:
    """PSNR in dB of one view, rendered over white."""
    device = next(objective.field.parameters()).device
    background = WHITE.to(device)
    rendering = render_image(scene.cameras, index, objective.field, objective.sampler, background)
    photograph = scene.image(index, WHITE).view(-1, 3).to(device)
    return -10 * (rendering.rgb - photograph).square().mean().log10().item()


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Fit the procedural scene without Lightning.")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--size", type=int, default=200, help="of the photographs, pixels")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(args)
    device = str(usable_device(options.device, "--device"))
    torch.manual_seed(0)
    reader = Procedural(resolution=options.size, n_train=16)
    objective = fit(reader.read("train"), options.steps, device=device)
    test = reader.read("test")
    scores = [psnr_of(objective, test, i) for i in range(len(test))]
    print(f"test view 0: {scores[0]:.2f} dB, all {len(test)}: {fmean(scores):.2f} dB on average")


if __name__ == "__main__":
    main()
