"""Whole training views."""

from dataclasses import replace

import torch

from dietnerf.data import Procedural
from dietnerf.data.view_sampling import ViewSource

WHITE = torch.ones(3)


def dataset(resolution: int = 32):
    found = Procedural(resolution=resolution, n_train=4).read("train")
    assert found is not None
    return found


def test_a_view_is_its_photograph_over_the_background():
    train = dataset()
    batch = ViewSource(train, WHITE).draw(torch.Generator().manual_seed(0))
    index = int(batch.ids[0])
    assert torch.equal(batch.rgb.view(32, 32, 3), train.image(index, WHITE))
    assert torch.equal(batch.camera.c2w[0], train.cameras.c2w[index])
    assert batch.counts is None and len(batch) == 32 * 32


def test_all_views_are_drawn():
    source = ViewSource(dataset(), WHITE)
    drawn = {int(source.draw(torch.Generator().manual_seed(i)).ids[0]) for i in range(40)}
    assert drawn == {0, 1, 2, 3}


def test_a_smaller_view_is_the_mean_of_its_pixels_and_has_its_camera():
    source = ViewSource(dataset(128), WHITE)
    whole, half = (source.draw(torch.Generator().manual_seed(0), n) for n in (0, 1))
    blocks = whole.rgb.view(64, 2, 64, 2, 3).mean(dim=(1, 3))
    torch.testing.assert_close(half.rgb.view(64, 64, 3), blocks)
    assert (half.camera.width, half.camera.height) == (64, 64)
    torch.testing.assert_close(2 * half.camera.focal, whole.camera.focal)
    smallest = source.draw(torch.Generator().manual_seed(0), 3)
    assert smallest.camera.width == 64


def test_without_a_background_each_view_has_one_of_its_own():
    source = ViewSource(dataset(), None)
    one, other = (source.draw(torch.Generator().manual_seed(i)) for i in (0, 1))
    assert not torch.equal(one.background, other.background)
    index = int(one.ids[0])
    assert torch.equal(one.rgb.view(32, 32, 3), dataset().image(index, one.background))


def test_a_pixel_counts_where_all_of_what_it_averages_does():
    masks = torch.ones(4, 128, 128, dtype=torch.bool)
    masks[:, 5, 7] = False
    source = ViewSource(replace(dataset(128), masks=masks), WHITE)
    counts = source.draw(torch.Generator().manual_seed(0), 1).counts
    assert counts is not None
    assert (~counts).nonzero()[:, 0].tolist() == [2 * 64 + 3]


def test_of_a_mask_finer_than_its_pixels_a_view_is_not_empty():
    masks = torch.ones(4, 128, 128, dtype=torch.bool)
    masks[:, :, ::2] = False
    masks[:, :, ::6] = True
    source = ViewSource(replace(dataset(128), masks=masks), WHITE)
    counts = source.draw(torch.Generator().manual_seed(0), 1).counts
    assert counts is not None and counts.any()
