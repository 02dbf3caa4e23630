"""Gaussians in training: a fit that improves, resumes to the same bits, and says what it cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trimesh

import dietnerf
from dietnerf.data import ImageDataset, Procedural
from dietnerf.data.view_sampling import ViewSource
from dietnerf.export.command import main as export
from dietnerf.gaussians import Gaussians, Points
from dietnerf.losses import AbsoluteError
from dietnerf.sampling import Stratified
from dietnerf.training import cli, gaussian_start
from dietnerf.training.objective import Objective
from tests.helpers import refused, weights
from tests.slanted_plane import NORMAL, cameras_in_a_row, photos_of_plane

WHITE = torch.ones(3)
OPTIONS = [
    *("--config", "quickstart", "--config", "gaussians"),
    *("--data.reader.init_args.resolution", "48"),
    *("--data.reader.init_args.n_test", "2"),
    *("--model.field.init_args.capacity", "1500"),
    *("--model.field.init_args.n_first", "1000"),
    *("--model.field.init_args.interval", "20"),
    *("--trainer.max_steps", "120"),
    *("--trainer.val_check_interval", "60"),
    *("--trainer.log_every_n_steps", "20"),
    *("--trainer.enable_progress_bar", "false"),
    *("--trainer.accelerator", "cpu"),
    *("--save_every", "60"),
]


@pytest.fixture(scope="module")
def short_start(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaussian_start, "FIELD_STEPS", 60)
        patch.setattr(gaussian_start, "N_PIXELS", 20_000)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, short_start: None) -> Path:
    run = tmp_path_factory.mktemp("gaussians") / "toy"
    cli.main(["fit", *OPTIONS, "--run", str(run)])
    return run


def psnr_of(scene: dietnerf.SceneModel) -> float:
    test = Procedural(resolution=48, n_test=2).read("test")
    assert test is not None
    shown = scene.render(test.cameras[[0]], WHITE).rgb
    return -10 * (shown - test.image(0, WHITE)).square().mean().log10().item()


def test_a_fit_improves_and_is_rendered_from_its_folder(run: Path):
    scene = dietnerf.load(str(run))
    assert isinstance(scene.field, Gaussians)
    assert 1000 < scene.field.n <= 1500
    middle = dietnerf.load(str(next((run / "checkpoints").glob("*60.ckpt"))))
    assert psnr_of(scene) > max(psnr_of(middle), 18)


def test_a_run_that_was_stopped_ends_as_an_unbroken_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cli.main(["fit", *OPTIONS, "--run", str(tmp_path / "b"), "--trainer.max_steps", "120"])
    whole = weights(run / "checkpoints" / "last.ckpt")
    again = weights(tmp_path / "b" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    middle = next((run / "checkpoints").glob("*60.ckpt"))
    monkeypatch.setattr(gaussian_start, "start", lambda *_: pytest.fail("it starts anew"))
    cli.main(["fit", *OPTIONS, "--run", str(tmp_path / "c"), "--ckpt_path", str(middle)])
    resumed = weights(tmp_path / "c" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("ending", ["ply", "glb"])
def test_a_mesh_of_them_is_written(
    ending: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / f"toy.{ending}"
    export(["mesh", str(run), "--resolution", "64", "--out", str(out)])
    said = capsys.readouterr().out
    (mesh,) = trimesh.load_scene(out).geometry.values()
    assert f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles" in said
    assert len(mesh.faces) > 1000


def test_what_needs_samples_along_rays_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    options = [*OPTIONS, "--run", str(tmp_path / "a")]
    said = refused(capsys, cli.main, "fit", *options, "--model.losses+", "Distortion")
    assert "the loss Distortion needs samples along rays" in said
    said = refused(capsys, cli.main, "fit", *options, "--model.refinement", "CameraRefinement")
    assert "the refinement of cameras needs samples along rays" in said


def test_what_moved_rows_would_spoil_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short_start: None
):
    options = [*OPTIONS, "--run", str(tmp_path / "a")]
    said = refused(capsys, cli.main, "fit", *options, "--config", "ema")
    assert "EMAWeightAveraging would average Gaussians that were moved in between" in said
    said = refused(capsys, cli.main, "fit", *options, "--model.use_cuda_graphs", "true")
    assert "use_cuda_graphs does not go with Gaussians" in said


def test_pixels_that_do_not_count_have_no_gradient_and_the_others_their_share():
    train = Procedural(resolution=32, n_train=1).read("train")
    assert train is not None
    masks = torch.ones(1, 32, 32, dtype=torch.bool)
    masks[:, :, 16:] = False
    half = ViewSource(replace(train, masks=masks), WHITE).draw(torch.Generator().manual_seed(0))
    gaussians = Gaussians(50, 50)
    gaussians.place(Points(torch.randn(50, 3), torch.rand(50, 3)))
    objective = Objective(gaussians, Stratified(), [AbsoluteError()])
    loss = objective.of_view(half, 0, [1.0], with_stats=False).loss
    shown = gaussians.render_view(train.cameras, 0).over(WHITE).rgb.view(32, 32, 3)
    wanted = (shown - train.image(0, WHITE))[:, :16].abs().mean()
    torch.testing.assert_close(loss, wanted)


def test_known_depths_are_where_they_begin():
    train = Procedural(resolution=32, n_train=4).read("train")
    assert train is not None and train.depths is not None
    points = gaussian_start.known_points(train, WHITE)
    assert len(points) == int((train.depths > 0).sum())
    camera = train.cameras[[0]]
    _, is_shown = camera.project(points.positions[:10])
    assert is_shown.all()


@pytest.mark.parametrize("pattern", [1.0, 0.0])
def test_they_begin_where_photos_agree_and_else_on_a_surface(
    pattern: float, monkeypatch: pytest.MonkeyPatch
):
    cameras = cameras_in_a_row()
    images = (255 * photos_of_plane(cameras, pattern)).round().to(torch.uint8)
    photos = ImageDataset(images, cameras, torch.arange(3), ("a", "b", "c"))
    monkeypatch.setattr(gaussian_start, "field_points", lambda *_: Points(*torch.rand(2, 50, 3)))
    gaussians = Gaussians(400, 400)
    gaussians.prepare(cameras)
    said: list[str] = []
    gaussian_start.start(gaussians, photos, WHITE, said.append)
    assert said[0].startswith("no depth is known: the photos are compared")
    if pattern:
        assert "begin at depths on which photos agree" in said[1]
        means = gaussians.means[: gaussians.n].detach()
        off = (means + torch.tensor([0.0, 0.0, 4.0])) @ NORMAL
        assert gaussians.n == 400 and off.abs().quantile(0.9) < 0.2
        assert (gaussians.base.detach().amax() - gaussians.base.detach().amin()) > 1
    else:
        assert "agree on the depth of 0.0% of their pixels" in said[1] and gaussians.n == 50


def test_points_in_the_way_of_other_views_are_left_out():
    train = Procedural(resolution=48, n_train=8).read("train")
    assert train is not None and train.depths is not None
    good = gaussian_start.known_points(train, WHITE).positions
    floating = train.cameras.positions[:1].lerp(good[:50], 0.4)
    positions = torch.cat([good, floating])
    agreed = gaussian_start.agreed_on(positions, train.cameras, train.depths)
    assert agreed[: len(good)].float().mean() > 0.8
    assert not agreed[len(good) :].any()
