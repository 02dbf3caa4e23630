"""The default method, trained for a moment: what it learns, costs, saves and renders."""

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.metrics import psnr
from dietnerf.renderer import render_image
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.sampling import Occupancy, Stratified
from dietnerf.training.cli import DietNeRFCLI
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.system import DietNeRF
from tests.helpers import fit, weights

SIZE = 32


@dataclass
class Trained:
    system: DietNeRF
    run: Path
    counts: list[tuple[int, int]]  # rays and samples of each step


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A hundred steps on the procedural scene at 32x32, a second or two."""
    systems: list[DietNeRF] = []
    counts: list[tuple[int, int]] = []
    adapt = SceneDataModule.adapt

    def counting(data: SceneDataModule, n_rays: int, n_samples: int) -> None:
        counts.append((n_rays, n_samples))
        adapt(data, n_rays, n_samples)

    run = tmp_path_factory.mktemp("runs") / "fast"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SceneDataModule, "adapt", counting)
        patched.setattr(DietNeRFCLI, "after_fit", lambda cli: systems.append(cli.model))
        fit(
            run,
            *("--data.reader.init_args.resolution", str(SIZE)),
            *("--data.rays_per_step", "16"),
            *("--data.samples_per_step", "8192"),
            *("--model.field.init_args.log2_table_size", "13"),
            *("--model.sampler.init_args.n_steps", "256"),
            *("--model.sampler.init_args.update_every", "8"),
            *("--model.sampler.init_args.min_view_fraction", "0"),
            *("--model.sampler.init_args.warmup_steps", "32"),
            *("--trainer.max_steps", "100"),
            *("--trainer.val_check_interval", "100"),
            *("--save_every", "100"),
        )
    return Trained(systems[0].eval(), run, counts)


def test_it_learns_the_scene(trained: Trained):
    test = Procedural(resolution=SIZE, n_test=3).read("test")
    scores = []
    for i in range(3):
        rgb = trained.system.scene.render_rays_of(test.cameras, i, torch.ones(3)).rgb
        scores.append(psnr(rgb.view(SIZE, SIZE, 3), test.image(i, torch.ones(3))))
    # A white picture scores about 9, and the same field after 1,500 steps about 24.
    assert sum(scores) / 3 > 18


def test_the_number_of_rays_follows_the_number_of_samples(trained: Trained):
    assert trained.counts[0][0] == 16
    for n_rays, n_samples in trained.counts[-50:]:
        assert n_rays > 32 and 8192 / 2 < n_samples < 8192 * 2


def test_a_reload_renders_the_same_pixels(trained: Trained):
    system = load_scene(find_checkpoint(trained.run))
    assert torch.equal(system.sampler.occupied, trained.system.sampler.occupied)
    cameras = system.camera_set.cameras["test"]
    found, expected = (
        s.render_rays_of(cameras, 1, torch.ones(3)) for s in (system, trained.system.scene)
    )
    assert torch.equal(found.rgb, expected.rgb) and torch.equal(found.depth, expected.depth)


def test_rendering_does_not_depend_on_where_the_samples_come_from(trained: Trained):
    """Even samples everywhere, marched ones everywhere, and marched ones where something is."""
    system = trained.system
    sampler = system.sampler
    assert isinstance(sampler, Occupancy) and sampler.n_samples < 256 / 4
    everywhere = copy.deepcopy(sampler)
    everywhere.occupied.fill_(255)
    cameras, white = system.camera_set.cameras["test"], torch.ones(3)
    dense, marched, sparse = (
        render_image(cameras, 0, system.field, some, white).rgb.view(SIZE, SIZE, 3)
        for some in (Stratified(1024), everywhere, sampler)
    )
    # Fine steps of different length, where the field is smooth.
    assert psnr(marched, dense) > 55
    # The grid leaves out haze, of which a field that has just begun is full: 34 dB.
    assert psnr(sparse, marched) > 30


def test_decay_draws_the_table_to_zero_and_nothing_else(tmp_path: Path):
    sizes = {}
    for decay in ("0", "20"):
        fit(tmp_path / decay, "--model.table_decay", decay)
        saved = weights(tmp_path / decay / "checkpoints/last.ckpt")
        sizes[decay] = [saved[n].norm() for n in ("field.table", "field.density_net.0.weight")]
    assert sizes["20"][0] < 0.7 * sizes["0"][0]
    assert sizes["20"][1] > 0.9 * sizes["0"][1]
