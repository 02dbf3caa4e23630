from types import SimpleNamespace

import pytest
import torch

from dietnerf import progressive as module
from dietnerf.data import Procedural
from dietnerf.geometry.rays import Rendering
from dietnerf.progressive import Preview, shrunk

CLOCK = SimpleNamespace(now=0.0, perf_counter=lambda: CLOCK.now)


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> None:
    """The time that renderings take, and none else."""
    monkeypatch.setattr(module, "time", CLOCK)


def drawn(seconds_per_pixel: float) -> tuple[Preview, list[tuple[int, int]]]:
    """A preview of something slow, and the sizes that were requested."""
    sizes = []

    def render(cameras):
        sizes.append((cameras.width, cameras.height))
        CLOCK.now += seconds_per_pixel * cameras.width * cameras.height
        return Rendering(*(torch.zeros(1) for _ in range(4)))

    return Preview(render), sizes


CAMERAS = Procedural(resolution=128, n_test=1).cameras("test")


def test_the_first_picture_comes_in_time_and_the_last_is_whole():
    preview, _ = drawn(1e-5)
    preview.warm_up(CAMERAS)
    shrinks = list(preview.shrinks(CAMERAS, seconds=0.03))
    assert shrinks[-1] == 1 and shrinks == sorted(shrinks, reverse=True)
    assert shrinks[0] > 2, "64x64 pixels take 0.04 s"


def test_a_fast_scene_is_shown_whole_at_once():
    preview, sizes = drawn(0.0)
    preview.warm_up(CAMERAS)
    assert list(preview.shrinks(CAMERAS, seconds=0.2)) == [1]
    assert set(sizes) == {(16, 16)}


def test_pixels_stay_however_slow_the_scene():
    preview, _ = drawn(0.0)
    preview.seconds_per_pixel = 1e3
    small = shrunk(CAMERAS, preview.shrink(CAMERAS, 0.01))
    assert (small.width, small.height) == (8, 8)


def test_one_slow_picture_does_not_make_all_others_small():
    """A machine can be asleep while it renders."""
    preview, _ = drawn(0.0)
    preview.seconds_per_pixel = 1e3
    for _ in range(3):
        preview.render(shrunk(CAMERAS, preview.shrink(CAMERAS, 0.5)))
    assert preview.shrink(CAMERAS, 0.5) == 1


def test_a_long_thin_picture_is_small_as_well():
    preview, _ = drawn(0.0)
    preview.seconds_per_pixel = 1e3
    thin = shrunk(CAMERAS.resized(4096, 1), preview.shrink(CAMERAS.resized(4096, 1), 0.01))
    assert thin.width * thin.height <= 128


def test_a_picture_in_strips_is_the_whole_and_can_be_given_up():
    def render(cameras):
        CLOCK.now += 1e-4 * cameras.width * cameras.height
        directions = cameras.image_rays(0).rays_d
        return Rendering(directions, directions[:, 0], directions[:, 1], directions.new_empty(0))

    preview, n_asked = Preview(render), []
    whole = preview.render(CAMERAS)
    in_strips = preview.render_while(CAMERAS, lambda: not n_asked.append(1))
    assert len(n_asked) > 10, "a strip takes a tenth of a second"
    assert in_strips is not None
    torch.testing.assert_close(in_strips.rgb, whole.rgb, atol=1e-6, rtol=0)
    start = CLOCK.now
    assert preview.render_while(CAMERAS, lambda: CLOCK.now < start + 0.3) is None
    assert CLOCK.now - start < 0.5
