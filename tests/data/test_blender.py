import json
import math
import os
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from dietnerf.data import Blender, RandomViews, require_alpha
from dietnerf.errors import UserError


def edit(folder, change, split="train"):
    """Rewrite a JSON listing after `change(content)`."""
    path = folder / f"transforms_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_reads_back_what_was_written(folder, small_scene):
    scene = Blender(str(folder)).read("train")
    assert torch.equal(scene.images, small_scene.images)
    torch.testing.assert_close(scene.cameras.c2w, small_scene.cameras.c2w)
    torch.testing.assert_close(scene.cameras.focal, small_scene.cameras.focal)
    assert torch.equal(scene.cameras.center, small_scene.cameras.center)
    assert scene.names == ("r_0", "r_1", "r_2", "r_3")
    assert scene.view_ids.tolist() == [0, 1, 2, 3]


def test_a_split_without_listing_is_none(folder):
    assert Blender(str(folder)).read("val") is None
    assert Blender(str(folder)).cameras("val") is None


def test_cameras_are_those_of_read(folder):
    reader = Blender(str(folder), downscale=2.4, pixel_centers=False)
    alone, read = reader.cameras("train"), reader.read("train").cameras
    assert (alone.width, alone.height) == (read.width, read.height) == (5, 5)
    for name in ("c2w", "focal", "center", "near", "far"):
        assert torch.equal(getattr(alone, name), getattr(read, name))


def test_downscale_keeps_the_angle_of_view(folder):
    scene = Blender(str(folder), downscale=3).read("train")
    assert scene.images.shape == (4, 4, 4, 4)
    assert not scene.is_premultiplied
    angle = json.loads((folder / "transforms_train.json").read_text())["camera_angle_x"]
    assert 2 * math.atan(4 / 2 / float(scene.cameras.focal[0, 0])) == pytest.approx(angle)


def test_premultiplied_downscale_blends_as_the_full_image_does(folder, small_scene):
    scene = Blender(str(folder), downscale=2, resize_alpha="premultiplied").read("train")
    assert scene.is_premultiplied
    background = torch.tensor([0.2, 0.5, 1.0])
    full = small_scene.image(0, background).permute(2, 0, 1)
    expected = torch.nn.functional.avg_pool2d(full, 2).permute(1, 2, 0)
    # Color and alpha are each rounded to 8 bit once.
    torch.testing.assert_close(scene.image(0, background), expected, atol=1.01 / 255, rtol=0)


def test_pixel_centers_off_gives_the_authors_rays(folder):
    cameras = Blender(str(folder), pixel_centers=False).read("train").cameras
    rays = cameras.image_rays(1)
    # get_rays_np of nerf-pytorch
    n, focal, c2w = 12, float(cameras.focal[0, 0]), cameras.c2w[1]
    j, i = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    dirs = torch.stack([(i - n * 0.5) / focal, -(j - n * 0.5) / focal, -torch.ones(n, n)], -1)
    rays_d = (dirs[..., None, :] * c2w[:3, :3]).sum(-1)
    torch.testing.assert_close(rays.rays_d, rays_d.reshape(-1, 3))


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([f"./test/r_{i}" for i in range(4)], ["r_0", "r_2"]),
        (["./test/r_0", "./test/r_2"], ["r_0", "r_2"]),  # a list that was thinned out before
        (["./test/a", "./test/b", "./test/c"], ["a", "c"]),  # no numbers
    ],
)
def test_test_every_goes_by_number_then_position(folder, names, kept):
    def rename(content):
        frames = content["frames"][: len(names)]
        content["frames"] = [
            frame | {"file_path": n} for frame, n in zip(frames, names, strict=True)
        ]

    edit(folder, rename, "test")
    for name in names:
        target = folder / f"{name}.png"
        if not target.exists():
            target.write_bytes((folder / "test/r_0.png").read_bytes())
    assert list(Blender(str(folder), test_every=2).read("test").names) == kept
    assert len(Blender(str(folder), test_every=2).read("train")) == 4


def test_a_given_extension_is_kept(folder):
    iio.imwrite(folder / "train/photo.JPG", iio.imread(folder / "train/r_0.png")[..., :3])
    edit(folder, lambda c: c.update(frames=[c["frames"][0] | {"file_path": "train/photo.JPG"}]))
    scene = Blender(str(folder)).read("train")
    assert scene.names == ("photo",)
    with pytest.raises(UserError, match="the loss Silhouette needs images with an alpha channel"):
        require_alpha(scene, "the loss Silhouette")
    with pytest.raises(UserError, match=r"photo.JPG has no alpha channel, which resize_alpha"):
        Blender(str(folder), downscale=2, resize_alpha="premultiplied").read("train")


def test_root_is_found_below_data_and_the_environment_variable(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIETNERF_DATA", str(folder.parent))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Blender("toy").folder == folder
    folder.rename(tmp_path / "moved")
    (tmp_path / "elsewhere/data").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere/data/toy")
    assert Blender("toy").folder == Path("data/toy")
    with pytest.raises(UserError, match=r"root=lego, tried lego, data/lego, .*/lego: give"):
        Blender("lego")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": 6.0, "far": 6.0}, "near 6.0 and far 6.0 must satisfy 0 < near < far"),
        ({"near": 0.0}, "near 0.0 and far None must satisfy"),
        ({"far": math.nan}, "near None and far nan must satisfy"),
        ({"downscale": 0.5}, "downscale must be at least 1, got 0.5: use 2 for half size"),
        ({"test_every": 0}, "test_every must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(folder, options, message):
    with pytest.raises(UserError, match=message):
        Blender(str(folder), **options)


def set_pose(row, column, value):
    def change(content):
        content["frames"][2]["transform_matrix"][row][column] = value

    return change


def scale_pose(content):
    matrix = content["frames"][2]["transform_matrix"]
    content["frames"][2]["transform_matrix"] = [
        [1.1 * x for x in row[:3]] + row[3:] for row in matrix
    ]


def mirror_pose(content):
    matrix = content["frames"][2]["transform_matrix"]
    content["frames"][2]["transform_matrix"] = [[-row[0], *row[1:]] for row in matrix]


FRAME = r"transforms_train.json, frame 2 \(./train/r_2.png\): transform_matrix "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("camera_angle_x"), "train.json: the key camera_angle_x is missing, add"),
        (lambda c: c.update(camera_angle_x="wide"), "camera_angle_x must be of type int or float"),
        (lambda c: c.update(camera_angle_x=0.0), r"must be an angle in \(0, pi\), got 0.0"),
        (lambda c: c.update(camera_angle_x=math.nan), r"must be an angle in \(0, pi\), got nan"),
        (lambda c: c.update(frames=[]), "frames is empty, list at least one view"),
        (lambda c: c.update(frames={"a": 1}), "frames must be of type list"),
        (lambda c: c["frames"].append(3), "frame 4: the key file_path is missing"),
        (lambda c: c["frames"][1].pop("file_path"), "frame 1: the key file_path is missing"),
        (lambda c: c["frames"][1].pop("transform_matrix"), "frame 1: the key transform_matrix"),
        (lambda c: c["frames"][2]["transform_matrix"].pop(), FRAME + r"must be 4 rows .*\(3, 4\)"),
        (lambda c: c["frames"][2]["transform_matrix"][0].pop(), FRAME + "must be 4 rows of 4 num"),
        (set_pose(0, 0, "one"), FRAME + "must be 4 rows of 4 numbers"),
        (set_pose(3, 3, 2.0), FRAME + "must end in the row 0 0 0 1"),
        (set_pose(1, 3, math.nan), FRAME + "holds NaN or infinity: remove what has no pose"),
        (scale_pose, FRAME + "is not a rotation .off by 0.21.: remove scale and shear"),
        (mirror_pose, FRAME + "mirrors the scene"),
    ],
)
def test_a_wrong_listing_is_refused_with_file_and_key(folder, change, message):
    edit(folder, change)
    (folder / "train/r_0.png").unlink()  # the listing is checked before any image is looked for
    with pytest.raises(UserError, match=message):
        Blender(str(folder)).read("train")


def test_all_problems_of_a_listing_and_all_of_its_images_are_listed_together(folder):
    (folder / "train/r_1.png").write_bytes(b"")
    iio.imwrite(folder / "train/r_2.png", iio.imread(folder / "train/r_2.png")[:8])
    with pytest.raises(UserError, match=r"(?s)toy has 2 problems:.*r_1.png .*r_2.png is 12x8"):
        Blender(str(folder)).read("train")
    edit(folder, mirror_pose)
    edit(folder, lambda c: c.pop("camera_angle_x"))
    edit(folder, lambda c: c["frames"][1].pop("file_path"))
    with pytest.raises(UserError, match=r"(?s)3 problems:.*camera_angle_x.*frame 1.*frame 2"):
        Blender(str(folder)).read("train")


def test_one_mistake_of_all_frames_is_said_once(folder):
    edit(folder, lambda c: c.update(frames=[1] * 50))
    with pytest.raises(UserError, match=r"frame 0: the key file_path .* .the same in 49 more.$"):
        Blender(str(folder)).read("train")


def test_more_problems_than_one_reads_are_counted(folder):
    path = folder / "train"
    names = [chr(97 + i) * 3 for i in range(25)]
    for name in names:
        (path / f"{name}.png").write_bytes(b"")
    pose = torch.eye(4).tolist()
    frames = [{"file_path": f"train/{name}", "transform_matrix": pose} for name in names]
    edit(folder, lambda c: c.update(frames=frames))
    with pytest.raises(UserError, match=r"(?s)has 25 problems:.*ttt.png .*and 5 more$"):
        Blender(str(folder)).read("train")


def test_a_view_that_is_listed_twice_is_refused(folder):
    edit(folder, lambda c: c["frames"].append(c["frames"][1]))
    with pytest.raises(UserError, match=r"train.json lists .*r_1.png 2 times: list each view once"):
        Blender(str(folder)).read("train")


def test_json_that_is_no_object_is_refused(folder):
    (folder / "transforms_train.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"must hold a JSON object in braces, got \[1, 2\]"):
        Blender(str(folder)).read("train")


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (folder / "train/r_1.png").rename(tmp_path / "r_1.png")
    (folder / "train/r_1.png").symlink_to(tmp_path / "r_1.png")
    with pytest.raises(UserError, match=r"r_1.png is a symbolic link to .*: put the file itself"):
        Blender(str(folder)).read("train")


def test_broken_json_is_refused(folder):
    (folder / "transforms_train.json").write_text('{"frames": [')
    with pytest.raises(UserError, match=r"transforms_train.json is not valid JSON \(.*line 1"):
        Blender(str(folder)).read("train")


def test_a_frame_without_image_is_named_before_any_is_decoded(folder):
    (folder / "train/r_0.png").write_bytes(b"")
    (folder / "train/r_3.png").unlink()
    with pytest.raises(UserError, match=r"train/r_3.png is listed but does not exist: restore it"):
        Blender(str(folder)).read("train")


@pytest.mark.parametrize("keep", [0, 20, 200])
def test_a_truncated_image_is_named(folder, keep):
    path = folder / "train/r_1.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"train/r_1.png cannot be read as an image"):
        Blender(str(folder)).read("train")


def test_text_instead_of_an_image_is_named(folder):
    (folder / "train/r_0.png").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match=r"train/r_0.png cannot be read as an image"):
        Blender(str(folder)).read("train")
    with pytest.raises(UserError, match=r"train/r_0.png cannot be read as an image"):
        Blender(str(folder)).cameras("train")


@pytest.mark.parametrize(
    ("cut", "what"), [((slice(8),), "12x8 with 4"), ((..., slice(3)), "12x12 with 3")]
)
def test_views_of_another_size_are_named(folder, cut, what):
    path = folder / "train/r_2.png"
    iio.imwrite(path, iio.imread(path)[cut])
    with pytest.raises(
        UserError, match=f"r_2.png is {what} channels but r_0.png is 12x12 with 4 channels: give"
    ):
        Blender(str(folder)).read("train")


def test_test_every_that_keeps_nothing_is_refused(folder):
    edit(folder, lambda c: c.update(frames=c["frames"][1:2]), "test")
    with pytest.raises(UserError, match="test_every=8 keeps none of the 1 views"):
        Blender(str(folder), test_every=8).read("test")


LEGO = Path(os.environ.get("DIETNERF_DATA", "")) / "nerf_synthetic" / "lego"


@pytest.mark.skipif(
    not (os.environ.get("DIETNERF_DATA") and LEGO.is_dir()),
    reason="DIETNERF_DATA names no folder that holds nerf_synthetic/lego",
)
def test_lego_follows_the_papers_protocol():
    reader = Blender("nerf_synthetic/lego", downscale=2, test_every=8)
    test = reader.read("test")
    assert test.names == tuple(f"r_{i}" for i in range(0, 200, 8))
    assert test.images.shape == (25, 400, 400, 4)
    assert test.cameras.focal[0, 0] == pytest.approx(555.5555, abs=1e-3)
    cameras = reader.cameras("train")
    assert len(cameras) == 100
    ids = RandomViews(8, seed=0).choose(cameras, torch.arange(100))
    assert ids == [26, 86, 2, 55, 75, 93, 16, 73]
    # Straight averages of 2x2 pixels, the corner ones clear.
    full = torch.from_numpy(iio.imread(LEGO / "test/r_0.png")).float()
    blocks = full.reshape(400, 2, 400, 2, 4).mean(dim=(1, 3))
    assert (test.images[0].float() - blocks).abs().max() <= 0.5
    assert test.images[0, 0, 0, 3] == 0
