import sys

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from dietnerf.data.images import (
    image_size,
    is_stored_sideways,
    read_image,
    read_numbers,
    resize_area,
    shrink,
)
from dietnerf.errors import UserError


def random_image(h, w, c, seed=0):
    return torch.rand(h, w, c, generator=torch.Generator().manual_seed(seed))


def test_whole_factors_are_average_pooling():
    image = random_image(12, 18, 4)
    pooled = torch.nn.functional.avg_pool2d(image.permute(2, 0, 1), (4, 3)).permute(1, 2, 0)
    torch.testing.assert_close(resize_area(image, width=6, height=3), pooled)


def test_other_factors_share_pixels_between_neighbors():
    row = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 5, 1)
    # New pixels are 2.5 old ones wide: (1 + 2 + 3/2) / 2.5 and (3/2 + 4 + 5) / 2.5.
    expected = torch.tensor([1.8, 4.2]).reshape(1, 2, 1)
    torch.testing.assert_close(resize_area(row, width=2, height=1), expected)


@pytest.mark.parametrize(("width", "height"), [(13, 7), (5, 3), (1, 1), (12, 6), (10, 4)])
def test_resize_keeps_constants_and_the_mean(width, height):
    constant = torch.full((7, 13, 3), 0.3)
    torch.testing.assert_close(
        resize_area(constant, width, height), torch.full((height, width, 3), 0.3)
    )
    image = random_image(7, 13, 3)
    means = resize_area(image, width, height).mean(dim=(0, 1))
    torch.testing.assert_close(means, image.mean(dim=(0, 1)))


def test_straight_alpha_takes_in_hidden_colors_and_premultiplied_does_not():
    red, clear_black = [200, 0, 0, 255], [0, 0, 0, 0]
    image = torch.tensor([[red, clear_black], [red, clear_black]], dtype=torch.uint8)
    straight = shrink(image, 1, 1, "straight")
    premultiplied = shrink(image, 1, 1, "premultiplied")
    assert straight.tolist() == [[[100, 0, 0, 128]]]  # over white: 0.39 * 0.5, a dark fringe
    assert premultiplied.tolist() == [[[100, 0, 0, 128]]]  # 0.39, already weighted by alpha
    hidden_green = torch.tensor([[red, [0, 255, 0, 0]]], dtype=torch.uint8)
    assert shrink(hidden_green, 1, 1, "straight")[0, 0, 1] == 128
    assert shrink(hidden_green, 1, 1, "premultiplied")[0, 0, 1] == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_every_kind_of_image_becomes_8_bit_color(tmp_path, mode):
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape == (4, 5, 4 if mode in ("RGBA", "LA") else 3)
    assert image.min() >= 250
    assert image_size(path) == (5, 4)


def test_16_bit_is_rounded(tmp_path):
    path = tmp_path / "deep.png"
    iio.imwrite(path, np.array([[0, 257, 65535, 32896]], dtype=np.uint16))
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 255, 128]


def test_transparent_palette_has_alpha(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.new("P", (1, 2), 1)
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putpixel((0, 0), 0)
    image.save(path, transparency=1)
    assert read_image(path)[:, 0].tolist() == [[200, 0, 0, 255], [0, 100, 0, 0]]


def test_float_and_animated_images_are_refused(tmp_path):
    iio.imwrite(tmp_path / "light.tiff", np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(UserError, match=r"light.tiff holds float32 pixels: export it with 8 bits"):
        read_image(tmp_path / "light.tiff")
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"moving.gif is an animation: export the frame that is"):
        read_image(tmp_path / "moving.gif")


def turned_photo(path, orientation):
    """A photo stored 6 wide and 4 high, of which EXIF says how it is to be turned."""
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return torch.from_numpy(pixels)


def test_photos_are_turned_as_exif_says_only_when_asked_to(tmp_path):
    pixels = turned_photo(tmp_path / "photo.png", 6)
    assert is_stored_sideways(tmp_path / "photo.png")
    assert image_size(tmp_path / "photo.png") == (6, 4)
    assert torch.equal(read_image(tmp_path / "photo.png"), pixels)
    upright = read_image(tmp_path / "photo.png", is_turned=True)
    assert torch.equal(upright, pixels.rot90(-1))
    turned_photo(tmp_path / "down.png", 3)
    assert not is_stored_sideways(tmp_path / "down.png")


def test_heic_without_its_codec_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.HEIC").write_bytes(b"ftypheic")
    for function in (read_image, image_size):
        with pytest.raises(UserError, match=r"photo.HEIC is a HEIC photo, .* pillow-heif: install"):
            function(tmp_path / "photo.HEIC")


def test_an_image_of_absurd_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("RGB", (100, 100)).save(tmp_path / "large.png")
    with pytest.raises(UserError, match=r"large.png has more than 0 million pixels"):
        read_image(tmp_path / "large.png")


def test_numbers_are_read_as_they_are_stored(tmp_path):
    iio.imwrite(tmp_path / "depth.png", np.array([[0, 40000]], dtype=np.uint16))
    assert read_numbers(tmp_path / "depth.png").tolist() == [[0, 40000]]
    np.save(tmp_path / "depth.npy", np.array([[1.5, 2.5]]))
    assert read_numbers(tmp_path / "depth.npy").tolist() == [[1.5, 2.5]]
    np.save(tmp_path / "wrong.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"wrong.npy has shape \(3,\): export it with one number"):
        read_numbers(tmp_path / "wrong.npy")
    (tmp_path / "depth.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"depth.npy cannot be read"):
        read_numbers(tmp_path / "depth.npy")
