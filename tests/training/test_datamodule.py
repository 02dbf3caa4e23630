from dataclasses import replace

import pytest
import torch

from dietnerf.data import AbstractReader, Blender, ExplicitViews, FirstViews, Procedural
from dietnerf.data.ray_sampling import RayBatch
from dietnerf.errors import UserError
from dietnerf.fields import HashGrid
from dietnerf.randomness import step_generator
from dietnerf.training.datamodule import MAX_RAYS, SceneDataModule, quantized_batch_size
from dietnerf.training.system import DietNeRF
from tests.formats import write_blender

READER = Procedural(resolution=16, n_train=6, n_val=3, n_test=2)


def module(**settings) -> SceneDataModule:
    settings = {"views": FirstViews(3), "rays_per_step": 64} | settings
    data = SceneDataModule(READER, **settings)
    data.setup("fit")
    return data


def draw(
    data: SceneDataModule, step: int = 0, rank: int = 0, n_devices: int = 1, device: str = "cpu"
) -> RayBatch:
    """The rays of a step."""
    n_rays, fraction = data.rays_of(step, n_devices)
    source = data.ray_source(torch.device(device))
    return source.draw(n_rays, step_generator("rays", step, rank, source.storage), fraction)


def test_colors_belong_to_their_rays(device: str):
    """Every ray's color is found in the photographs at the pixel that the ray goes through."""
    data = module()
    scene, batch = data.datasets["train"], draw(data, device=device)
    assert batch.rgb.device.type == device
    rays, rgb = batch.rays.to("cpu"), batch.rgb.cpu()
    for i in range(3):
        on_this = (rays.rays_o == scene.cameras.positions[i]).all(dim=1)
        everything = scene.cameras.image_rays(i).rays_d
        nearest = torch.cdist(rays.rays_d[on_this], everything).argmin(dim=1)
        expected = scene.image(i, data.background).view(-1, 3)[nearest]
        torch.testing.assert_close(rgb[on_this], expected)


def test_rays_go_through_any_point_of_their_pixel():
    middle, anywhere = (draw(module(pixel_jitter=on)) for on in (False, True))
    assert torch.equal(middle.rgb, anywhere.rgb)
    focal = float(READER.cameras("train").focal[0, 0])
    shift = (anywhere.rays.viewdirs - middle.rays.viewdirs).norm(dim=1) * focal
    assert 0.3 < shift.mean() < 0.5 and shift.max() < 0.5**0.5 * 1.01


def test_the_rays_of_a_step_are_the_same_whenever_they_are_drawn():
    first, again, other = draw(module(), 7), draw(module(), 7), draw(module(), 0)
    assert torch.equal(first.rgb, again.rgb) and not torch.equal(first.rgb, other.rgb)


def test_ranks_draw_different_rays():
    data = module()
    assert not torch.equal(draw(data).rgb, draw(data, rank=1).rgb)


@pytest.mark.parametrize(("batch_per_device", "expected"), [(False, 16), (True, 64)])
def test_devices_share_a_step_or_take_one_each(batch_per_device: bool, expected: int):
    data = module(batch_per_device=batch_per_device)
    assert len(draw(data, n_devices=4)) == expected


def test_the_number_of_rays_is_that_of_all_devices():
    alone, shared = (module(samples_per_step=1000) for _ in range(2))
    alone.adapt(64, 1500)
    shared.adapt(16, 375)  # a fourth of the same
    assert alone.n_rays == shared.n_rays


def test_one_image_per_step():
    batch = draw(module(one_image_per_step=True))
    assert len(batch.rays.rays_o.unique(dim=0)) == 1
    assert len(draw(module()).rays.rays_o.unique(dim=0)) > 1


def test_precrop_takes_the_middle():
    data = module(precrop_steps=5, precrop_fraction=0.5)
    focal = data.datasets["train"].cameras.focal[0, 0]
    for step, widest in ((4, 4), (5, 8)):
        batch = draw(data, step)
        # Rotation keeps lengths: the squared offset from the axis in pixels is focal^2 (|d|^2 - 1).
        offsets = focal**2 * (batch.rays.norms**2 - 1)
        assert offsets.max() <= 2 * widest**2
        assert offsets.max() > 2 * (widest - 2) ** 2


def test_random_background_shows_through_alpha_alone():
    data = module(background="random")
    batch = draw(data)
    white = draw(module())
    is_opaque = white.rgb.sum(dim=1) < 2.5
    assert len(batch.background.unique(dim=0)) == 64
    empty = (white.rgb == 1).all(dim=1)
    torch.testing.assert_close(batch.rgb[empty], batch.background[empty])
    assert is_opaque.any()


class Opaque(AbstractReader):
    """The procedural scene without alpha."""

    def listing(self, split):
        listing = READER.listing(split)

        def load(keep):
            scene = listing.read(keep)
            return replace(scene, images=scene.images[..., :3].contiguous())

        return replace(listing, load=load)


def test_the_background_follows_from_alpha():
    white, with_alpha = (draw(module(background=kind)) for kind in ("white", "auto"))
    assert torch.equal(white.rgb, with_alpha.rgb)
    opaque = SceneDataModule(Opaque(), FirstViews(3), rays_per_step=64, background="auto")
    opaque.setup("fit")
    batch = draw(opaque)
    assert len(batch.background.unique(dim=0)) == 64 and batch.alpha is None
    assert torch.equal(opaque.background, opaque.datasets["train"].edge_color())  # in pictures


def test_what_no_photo_shows_has_the_color_of_their_edges():
    """Also in test views, before which no training photo is read."""
    trained = SceneDataModule(Opaque(), FirstViews(3), background="auto")
    trained.setup("fit")
    model = DietNeRF(HashGrid(log2_table_size=8))
    model.field.box.copy_(torch.tensor([[50.0], [51.0]]))  # seen by no camera
    model.camera_set = trained.camera_set()
    tested = SceneDataModule(Opaque(), background="auto")
    tested.setup("test")
    shown = model.test_step(tested.test_dataloader().dataset[0], 0)
    torch.testing.assert_close(shown.rgb, trained.background.expand_as(shown.rgb))
    assert "white" not in tested.protocol()


def test_the_color_of_edges():
    scene = Opaque().listing("train").read()
    scene.images[0], scene.images[1:] = 51, 255
    masks = torch.zeros(len(scene), 16, 16, dtype=torch.bool)
    masks[:1] = True
    torch.testing.assert_close(replace(scene, masks=masks).edge_color(), torch.full((3,), 0.2))
    scene.images[0, 1:-1, 1:-1] = 0  # the middle does not count
    torch.testing.assert_close(replace(scene, masks=masks).edge_color(), torch.full((3,), 0.2))
    torch.testing.assert_close(replace(scene, masks=~masks).edge_color(), torch.ones(3))
    masks[0, [0, -1]], masks[0, :, [0, -1]] = False, False
    assert replace(scene, masks=masks).edge_color().tolist() == [0, 0, 0]  # all that counts
    tiny = replace(scene, images=torch.full((2, 9, 9, 3), 51, dtype=torch.uint8))
    torch.testing.assert_close(tiny.edge_color(), torch.full((3,), 0.2))


def test_an_alpha_that_is_full_everywhere_is_none(tmp_path):
    """Photographs saved as RGBA show a background that is opaque, as RGB ones do."""
    scene = READER.read("train")
    scene.images[..., 3] = 255
    write_blender(scene, tmp_path, "train")
    data = SceneDataModule(Blender(str(tmp_path)), background="auto")
    data.setup("fit")
    assert not data.datasets["train"].has_alpha and data.has_random_background
    assert torch.equal(data.datasets["train"].images, scene.images[..., :3])
    scene.images[1, 2, 3, 3] = 254  # one pixel is enough of a matte
    write_blender(scene, tmp_path, "train")
    data = SceneDataModule(Blender(str(tmp_path)), background="auto")
    data.setup("fit")
    assert data.datasets["train"].has_alpha and not data.has_random_background


def test_kept_views_and_validation_views():
    data = module(views=ExplicitViews([4, 1]), val_views=FirstViews(2))
    assert data.datasets["train"].view_ids.tolist() == [4, 1]
    assert len(data.datasets["val"]) == 2


def test_validation_falls_back_on_photographs_that_were_left_over():
    class WithoutVal(Procedural):
        def listing(self, split):
            return None if split == "val" else super().listing(split)

    data = SceneDataModule(WithoutVal(16, 6), views=ExplicitViews([0, 2]), val_views=FirstViews(2))
    data.setup("fit")
    assert data.datasets["val"].view_ids.tolist() == [1, 3]
    everything = SceneDataModule(WithoutVal(16, 3))
    everything.setup("fit")
    assert everything.val_dataloader() == []


def test_capture_knows_the_test_cameras_without_their_photographs():
    camera_set = module().camera_set()
    assert {split: len(cameras) for split, cameras in camera_set.cameras.items()} == {
        "train": 3,
        "val": 3,
        "test": 2,
    }
    assert camera_set.view_ids["train"] == [0, 1, 2]
    restored = type(camera_set).from_dict(camera_set.to_dict())
    assert torch.equal(restored.cameras["test"].c2w, camera_set.cameras["test"].c2w)


def test_graphed_steps_have_few_sizes():
    """Each is captured, so noise of a tenth must not change it, and what is chosen stays chosen."""
    data = module(rays_per_step=4096, samples_per_step=40960)
    data.has_few_sizes = True
    sizes = set()
    for per_ray in (10, 10.9, 9.1, 10.5, 15, 15.5, 13, 12.8, 14.9, 15.2):
        data.adapt(data.n_rays, round(per_ray * data.n_rays))
        assert quantized_batch_size(data.n_rays) == data.n_rays
        assert data.n_rays * per_ray < 1.12 * 40960 * (1 + 1e-3)
        sizes.add(data.n_rays)
    assert sizes == {4096, 2896}
    assert all(
        quantized_batch_size(quantized_batch_size(n)) == quantized_batch_size(n)
        for n in range(1, 3000)
    )


def test_the_number_of_rays_is_adapted_at_most_twofold_and_never_ends_at_none():
    data = module(rays_per_step=64, samples_per_step=1000)
    found = []
    for n_samples in (640, 10_000, 10**9, 10**9, 0):
        data.adapt(data.n_rays, n_samples)
        found.append(data.n_rays)
    assert found == [100, 50, 25, 12, 24]
    data.n_rays = 1
    data.adapt(1, 10**9)
    assert data.n_rays == 1
    for _ in range(40):
        data.adapt(data.n_rays, 0)
    assert data.n_rays == MAX_RAYS
    fixed = module(rays_per_step=64)
    fixed.adapt(64, 10**9)
    assert fixed.n_rays == 64


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rays_per_step": 0}, "rays_per_step is 0; it must be 1 to"),
        ({"samples_per_step": 0}, "samples_per_step is 0; it must be at least 1"),
        ({"precrop_fraction": 0.0}, "precrop_fraction is 0.0"),
        ({"coarse_until": [0.8, 0.4]}, "coarse_until is .*from 0 to 1, that ascend"),
        ({"coarse_until": [1.5]}, "coarse_until is "),
        ({"views": FirstViews(7)}, "7"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        module(**settings)


class Masked(AbstractReader):
    """The procedural scene, of which a mask hides all but a part of each view."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def listing(self, split):
        listing = READER.listing(split)

        def load(keep):
            scene = listing.read(keep)
            generator = torch.Generator().manual_seed(1)
            masks = torch.rand(scene.images.shape[:3], generator=generator) < self.share
            return replace(scene, masks=masks)

        return replace(listing, load=load)


@pytest.mark.parametrize("share", [0.5, 0.02])
@pytest.mark.parametrize("one_image", [True, False])
def test_rays_go_through_pixels_that_count_only(share, one_image):
    data = SceneDataModule(Masked(share), FirstViews(3), one_image_per_step=one_image)
    data.setup("fit")
    scene = data.datasets["train"]
    counting = [scene.cameras.image_rays(i).rays_d[scene.masks[i].flatten()] for i in range(3)]
    batch = draw(data)
    assert len(batch) == 1024
    distances = torch.cdist(batch.rays.rays_d, torch.cat(counting))
    assert distances.amin(dim=1).max() < 1e-3
    n_counting = [len(part) for part in counting]
    n_expected = min(n_counting) if one_image else sum(n_counting)
    assert len(distances.argmin(dim=1).unique()) >= 0.9 * n_expected


def test_masks_change_nothing_where_all_pixels_count():
    data = SceneDataModule(Masked(1.1), FirstViews(3), rays_per_step=64)
    data.setup("fit")
    assert torch.equal(draw(data, 4).rays.rays_d, draw(module(), 4).rays.rays_d)


def test_a_view_without_a_pixel_to_draw_is_named():
    data = SceneDataModule(Masked(0.0), FirstViews(1))
    data.setup("fit")
    with pytest.raises(UserError, match="no pixel of train_0 counts where rays are drawn"):
        draw(data)


def test_views_come_with_their_masks():
    data = SceneDataModule(Masked())
    data.setup("test")
    view = data.test_dataloader().dataset[1]
    assert torch.equal(view.to("cpu").mask, data.datasets["test"].masks[1])
