import json
import math
import shutil
import sys
import unicodedata

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from dietnerf.data import Transforms
from dietnerf.errors import UserError
from tests.formats import write_transforms

AS_IT_IS = {"hold_every": 0, "orient": False, "scale": False}


@pytest.fixture
def root(small_scene, tmp_path):
    """A folder of four views with a transforms.json as nerfstudio writes it."""
    write_transforms(small_scene, tmp_path / "scene")
    return tmp_path / "scene"


def edit(root, change):
    path = root / "transforms.json"
    content = json.loads(path.read_text())
    result = change(content)
    path.write_text(json.dumps(content if result is None else result))


def each(change):
    return lambda content: [change(frame) for frame in content["frames"]] and None


def read(root, split="train", **options):
    return Transforms(str(root), **AS_IT_IS | options).read(split)


def test_intrinsics_may_stand_at_the_top_or_follow_from_an_angle(root):
    expected = read(root).cameras

    def share(content):
        for key in ("fl_x", "cx", "cy", "w", "h"):
            content[key] = content["frames"][0][key]
        for frame in content["frames"]:
            for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"):
                frame.pop(key)

    edit(root, share)
    assert torch.equal(read(root).cameras.focal, expected.focal)
    angle = 2 * math.atan(6 / float(expected.focal[0, 0]))
    edit(root, lambda c: c.update(fl_x=None, w=None, h=None, cx=None, camera_angle_x=angle))
    found = read(root).cameras
    torch.testing.assert_close(found.focal, expected.focal)
    assert torch.equal(found.center, expected.center)


def test_a_smaller_copy_of_the_photos_scales_the_intrinsics(root):
    expected = read(root).cameras

    def double(frame):
        frame.update({key: 2 * frame[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")})

    edit(root, each(double))
    with pytest.raises(UserError, match=r"is 12x12, smaller than the 24x24 that downscale=1 asks"):
        read(root)
    assert torch.equal(read(root, downscale=2).cameras.focal, expected.focal)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removesuffix(".png"),
        lambda name: "./" + name,
        lambda name: name.replace("/", "\\"),
        lambda name: ".\\" + name.replace("/", "\\"),
        lambda name: name.removeprefix("images/"),
        lambda name: "/home/somebody/scene/" + name,
        lambda name: "C:\\Users\\somebody\\scene\\" + name.replace("/", "\\"),
    ],
)
def test_photos_are_found_however_they_are_named(root, small_scene, rename):
    edit(root, each(lambda frame: frame.update(file_path=rename(frame["file_path"]))))
    assert torch.equal(read(root).images, small_scene.images)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_may_have_accents_in_either_form_of_unicode(root, small_scene, form):
    old, name = root / "images/train_3.png", "Übersicht_é_写真.png"
    old.rename(root / "images" / unicodedata.normalize(form, name))
    edit(root, lambda c: c["frames"][3].update(file_path=f"images/{name}"))
    moved = root.with_name("scène 写真")
    root.rename(moved)
    assert torch.equal(read(moved).images, small_scene.images)


def test_every_eighth_is_held_out_by_name(root):
    edit(root, lambda c: c["frames"].reverse())
    assert read(root, hold_every=2).names == ("train_1", "train_3")
    assert read(root, "test", hold_every=2).names == ("train_0", "train_2")
    assert read(root, "val", hold_every=2) is None
    assert read(root, "test") is None


def test_named_splits_go_before(root):
    names = [f"./images/train_{i}.png" for i in range(4)]
    edit(
        root,
        lambda c: c.update(
            train_filenames=names[1:3], val_filenames=[names[3]], test_filenames=[names[0]]
        ),
    )
    for split, expected in {"train": (1, 2), "val": (3,), "test": (0,)}.items():
        assert read(root, split, hold_every=2).names == tuple(f"train_{i}" for i in expected)
    edit(root, lambda c: c.update(train_filenames=None))
    assert read(root).names == ("train_1", "train_2")
    edit(root, lambda c: c.update(train_filenames=[]))
    with pytest.raises(UserError, match=r"no photo is left for train: list more of them"):
        read(root)
    edit(root, lambda c: c.update(val_filenames=["images/other.png"]))
    with pytest.raises(UserError, match=r"val_filenames names 'images/other.png', which is none"):
        read(root)


def test_a_file_for_each_split(root):
    shutil.copy(root / "transforms.json", root / "transforms_test.json")
    (root / "transforms.json").rename(root / "transforms_train.json")
    assert len(read(root)) == len(read(root, "test")) == 4
    assert read(root, "val") is None


def test_oriented_and_scaled_cameras_see_the_same(root, small_scene):
    """The scene is turned and scaled as a whole: points on the rays come along."""
    found = read(root, orient=True, scale=True).cameras
    before = small_scene.cameras
    assert found.positions.abs().max() == pytest.approx(1)
    torch.testing.assert_close(found.positions.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    upward = found.c2w[:, :, 1].mean(dim=0)
    assert upward[2] > 0
    torch.testing.assert_close(upward[:2], torch.zeros(2), atol=1e-6, rtol=0)
    scale = float((found.positions[0] - found.positions[1]).norm())
    scale /= float((before.positions[0] - before.positions[1]).norm())
    torch.testing.assert_close(found.near, before.near * scale)
    rays, old = found.image_rays(2), before.image_rays(2)
    places, _ = found.project(rays.rays_o + 4 * scale * rays.rays_d)
    expected, _ = before.project(old.rays_o + 4 * old.rays_d)
    torch.testing.assert_close(places, expected, atol=1e-4, rtol=1e-4)
    depths = read(root, orient=True, scale=True).depths
    torch.testing.assert_close(depths, small_scene.depths * scale, atol=1e-4, rtol=0)


def test_bounds_follow_the_options_then_the_file_then_the_box_then_the_focus(root):
    def drop(frame):
        frame.pop("near"), frame.pop("far")

    assert read(root, near=1.0).cameras.near.tolist() == [1.0] * 4
    assert read(root).cameras.near.tolist() == [2.0] * 4
    edit(root, each(drop))
    guessed = read(root).cameras
    assert (guessed.near < 2).all() and (guessed.far > 6).all() and (guessed.far < 20).all()
    edit(root, lambda c: c.update(aabb_scale=1, scale=0.33))
    boxed = read(root).cameras  # a box of +-1.5 around the origin, 4 away
    torch.testing.assert_close(boxed.near, torch.full((4,), 4 - 3**0.5 / 0.66), atol=1e-4, rtol=0)
    torch.testing.assert_close(boxed.far, torch.full((4,), 4 + 3**0.5 / 0.66), atol=1e-4, rtol=0)


def test_a_mask_of_instant_ngp_says_what_does_not_count(root):
    dynamic = np.zeros((12, 12), dtype=np.uint8)
    dynamic[2:5] = 255
    iio.imwrite(root / "images/dynamic_mask_train_1.png", dynamic)
    masks = read(root).masks
    assert masks[0].all()
    assert torch.equal(masks[1], torch.from_numpy(dynamic == 0))


def test_depth_maps_in_millimeters(root):
    edit(root, lambda c: c.pop("integer_depth_scale") and None)
    steps = torch.from_numpy(iio.imread(root / "depths/train_0.png").astype(np.float32))
    torch.testing.assert_close(read(root).depths[0], steps * 1e-3)
    np.save(root / "depths/train_0.npy", np.full((6, 6), 2500.0))
    edit(root, lambda c: c["frames"][0].update(depth_file_path="depths/train_0.npy"))
    assert read(root, depth_unit=1e-3).depths[0].unique().tolist() == [2.5]


@pytest.mark.parametrize("scale", [False, True])
def test_depth_maps_of_floats_are_in_units_of_the_file(root, small_scene, scale):
    """Where integers are millimeters, and whatever integer_depth_scale says of those."""
    np.save(root / "depths/train_0.npy", small_scene.depths[0].numpy())
    edit(root, lambda c: c["frames"][0].update(depth_file_path="depths/train_0.npy"))
    scene = read(root, scale=scale)
    smaller = scene.cameras.positions[0].norm() / small_scene.cameras.positions[0].norm()
    torch.testing.assert_close(scene.depths[0], small_scene.depths[0] * smaller)
    torch.testing.assert_close(scene.depths, small_scene.depths * smaller, atol=1e-4, rtol=0)


def test_missing_photos_are_counted_and_left_out_until_none_is_left(root):
    (root / "images/train_1.png").unlink()
    with pytest.warns(UserWarning, match=r"1 of the 4 images that .*transforms.json lists do not"):
        scene = read(root)
    assert scene.names == ("train_0", "train_2", "train_3")
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match=r"none of the 4 images that .*transforms.json lists exist"):
        read(root)


def test_all_problems_are_listed_together(root):
    def spoil(content):
        content["frames"][0]["transform_matrix"][0][0] = math.nan
        content["frames"][1]["fl_x"] = -5
        content["frames"][2].pop("file_path")

    edit(root, spoil)
    iio.imwrite(root / "images/train_3.png", np.zeros((5, 9, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"scene has 4 problems:") as caught:
        read(root)
    for part in (
        "frame 0 (images/train_0.png): transform_matrix holds NaN",
        "frame 1: image size 12x12 and focal length -5",
        "frame 2: the key file_path is missing",
        "train_3.png is 9x5, but its camera is for 12x12",
    ):
        assert part in str(caught.value)


def scaled(frame):
    frame["transform_matrix"] = [
        [1.1 * x for x in row[:3]] + row[3:] for row in frame["transform_matrix"]
    ]


def mirrored(frame):
    frame["transform_matrix"][0] = [-x for x in frame["transform_matrix"][0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(ftheta_p0=1.0), "frame 0: ftheta_p0 is not"),
        (lambda c: [f.update(fl_x="1") for f in c["frames"]] and None, "frame 0: fl_x must be of"),
        (each(lambda f: f.update(mask_path=f["file_path"].replace("im", "m"))), "frame 0: mask_pa"),
        (each(scaled), r"frame 0 .images/train_0.png.: transform_matrix is not a rotation"),
    ],
)
def test_one_mistake_of_all_frames_is_said_once(root, change, message):
    edit(root, change)
    with pytest.raises(UserError, match=message + r".* .the same in 3 more.$"):
        read(root)


def first(change):
    return lambda content: change(content["frames"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [c], r"transforms.json must hold a JSON object in braces, got \["),
        (lambda c: 3, "must hold a JSON object in braces, got 3"),
        (lambda c: {}, "the key frames is missing, add it"),
        (lambda c: c.update(frames=[]), "frames is empty"),
        (lambda c: c.update(frames=[1, 2]), "frame 0: the key file_path is missing"),
        (first(scaled), r"transform_matrix is not a rotation .off by 0.21.: remove scale"),
        (first(mirrored), "transform_matrix mirrors the scene"),
        (first(lambda f: f.update(transform_matrix=[[1, 2]])), "must be 4 rows of 4 numbers"),
        (first(lambda f: f.update(fl_x=None)), "the key fl_x is missing, or camera_angle_x"),
        (first(lambda f: f.update(fl_x="wide")), "fl_x must be of type int or float, got 'wide'"),
        (first(lambda f: f.update(fl_x=math.inf)), "fl_x must be a finite number, got inf"),
        (first(lambda f: f.update(fl_x=10**400)), "fl_x must be a finite number"),
        (first(lambda f: f.update(cx=math.nan)), "cx must be a finite number, got nan"),
        (
            first(lambda f: f.update(cy=900)),
            "no camera of 12x12 .* principal point 6, 900",
        ),
        (first(lambda f: f.update(fl_x=1e-9)), "no camera of 12x12 pixels has focal length 1e-09"),
        (first(lambda f: f.update(k1="a lot")), "k1 must be of type int or float, got 'a lot'"),
        (first(lambda f: f.update(camera_model="EQUIRECTANGULAR")), "'EQUIRECTANGULAR' is none of"),
        (lambda c: c.update(ftheta_p0=1.0), "ftheta_p0 is not supported: export pinhole"),
        (first(lambda f: f.update(w=0)), "image size 0x12 .* must be positive"),
        (first(lambda f: f.update(w=24)), r"train_0.png is 12x12, but its camera is for 24x12"),
        (first(lambda f: f.update(near=3, far=1)), "near 3.0 and far 1.0 must satisfy"),
        (first(lambda f: f.update(mask_path="m.png")), "mask_path is m.png, which does not exist"),
        (first(lambda f: f.update(file_path="images/train_1.png")), "frame 1 shows .* as does fra"),
    ],
)
def test_a_wrong_listing_is_refused_with_frame_and_key(root, change, message):
    edit(root, change)
    with pytest.raises(UserError, match=message):
        read(root)


def test_no_box_of_negative_size(root):
    edit(root, each(lambda frame: frame.pop("near") and None))
    edit(root, lambda c: c.update(aabb_scale=-1))
    with pytest.raises(UserError, match="aabb_scale must be positive, got -1"):
        read(root)


def test_a_lens_that_shows_nothing_is_refused(root):
    edit(root, first(lambda f: f.update(k1=-1e6)))
    with pytest.raises(UserError, match=r"no pixel of .*train_0.png counts: correct its mask or"):
        read(root)


def test_an_empty_mask_is_refused(root):
    iio.imwrite(root / "mask.png", np.zeros((12, 12), dtype=np.uint8))
    edit(root, first(lambda f: f.update(mask_path="mask.png")))
    with pytest.raises(UserError, match=r"no pixel of .*train_0.png counts"):
        read(root)
    iio.imwrite(root / "mask.png", np.zeros((40, 12), dtype=np.uint8))
    with pytest.raises(UserError, match=r"mask.png is 12x40, which does not fit its photo of 12x1"):
        read(root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downscale": 0.5}, "downscale must be at least 1"),
        ({"hold_every": -1}, "hold_every must be at least 0, got -1"),
        ({"hold_every": 1}, "hold_every=1 leaves none of the 4 photos for training"),
        ({"near": 3.0, "far": 2.0}, "near 3.0 and far 2.0 must satisfy 0 < near < far"),
        ({"near": -1.0}, "near -1.0 and far None must satisfy"),
        ({"near": 7.0}, "near 7 and far 6 of images/train_0.png leave nothing to see"),
    ],
)
def test_wrong_options_are_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        read(root, **options)


def test_a_folder_without_transforms_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no transforms.json or transforms_train.json for root="):
        Transforms(str(tmp_path))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_exif_turns_a_photo_only_where_the_listed_size_says_so(root, orientation):
    """Poses mean the stored pixels, unless width and height fit the photo turned upright alone."""
    pixels = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(4):
        Image.fromarray(pixels).save(root / f"images/train_{i}.png", exif=exif)
    shutil.rmtree(root / "depths")
    edit(root, each(lambda frame: frame.pop("depth_file_path") and None))
    edit(root, each(lambda frame: frame.update(h=8)))
    assert torch.equal(read(root).images[0], torch.from_numpy(pixels))
    edit(root, each(lambda frame: frame.update(w=8, h=12)))
    if orientation == 6:
        assert torch.equal(read(root).images[0], torch.from_numpy(pixels).rot90(-1))
    else:
        with pytest.raises(UserError, match=r"is 12x8, but its camera is for 8x12: use the photo"):
            read(root)


@pytest.mark.parametrize("what", ["photo", "folder", "broken"])
def test_a_link_out_of_the_folder_is_refused(root, what):
    away = root.with_name("elsewhere")
    away.mkdir()
    path = root / "images" if what == "folder" else root / "images/train_1.png"
    if what != "broken":
        shutil.move(path, away / path.name)
    path.unlink(missing_ok=True)
    path.symlink_to(away / path.name)
    if what == "broken":
        with pytest.warns(UserWarning, match="1 of the 4 images"):
            assert len(read(root)) == 3
        return
    with pytest.raises(UserError, match=r"is a symbolic link to .*elsewhere.*: put the file"):
        read(root)


def test_links_within_the_folder_and_to_it_are_followed(root, small_scene):
    (root / "images").rename(root / "photos")
    (root / "images").symlink_to("photos")
    root.with_name("link").symlink_to(root)
    assert torch.equal(read(root.with_name("link")).images, small_scene.images)


def test_a_heic_photo_without_its_codec_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (root / "images/train_1.png").rename(root / "images/train_1.HEIC")
    edit(root, lambda c: c["frames"][1].update(file_path="images/train_1.HEIC"))
    with pytest.raises(UserError, match=r"train_1.HEIC is a HEIC photo, which needs the package"):
        read(root)


def test_photos_with_and_without_alpha_go_together(root, small_scene):
    path = root / "images/train_2.png"
    Image.open(path).convert("L").save(path)
    scene = read(root)
    assert scene.images.shape == (4, 12, 12, 4)
    assert (scene.images[2, ..., 3] == 255).all()
    assert torch.equal(scene.images[1], small_scene.images[1])
