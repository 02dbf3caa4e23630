import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest
import torch
from PIL import Image

from dietnerf.data import LLFF, Blender, FirstViews, Procedural, RandomViews, Transforms, memory
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.memory import auto_downscale, in_parallel
from dietnerf.errors import UserError
from dietnerf.training.datamodule import SceneDataModule
from tests.formats import write_llff, write_transforms

PHONE = (4032, 3024)


@pytest.mark.parametrize(
    ("sizes", "least", "expected"),
    [
        ([(800, 800)] * 100, 1.0, 1),
        ([PHONE] * 8, 1.0, 3),  # 1344x1008
        ([PHONE] * 4000, 1.0, 6),  # 4.1 GB
        ([PHONE] * 8, 4.01, 4),  # copies whose sides were rounded
        ([(1000, 5000)], 1.0, 4),
    ],
)
def test_auto_is_the_smallest_downscale_that_fits(sizes, least, expected):
    assert auto_downscale(sizes, 3, least) == expected


def write_all(scene, root):
    write_transforms(scene, root / "transforms")
    write_llff(scene, root / "llff")
    return {
        "transforms": lambda **options: Transforms(str(root / "transforms"), **options),
        "llff": lambda **options: LLFF(str(root / "llff"), **options),
    }


@pytest.mark.parametrize("kind", ["blender", "transforms", "llff"])
def test_auto_is_the_same_for_all_splits(kind, folder, small_scene, tmp_path, monkeypatch):
    readers = {"blender": lambda **options: Blender(str(folder), **options)}
    readers |= write_all(small_scene, tmp_path)
    monkeypatch.setattr(memory, "AUTO_SIDE", 5)
    for first, second in (("train", "test"), ("test", "train")):
        reader = readers[kind](downscale="auto")
        assert reader.read(first).images.shape[1:3] == (4, 4)  # 12 / 3
        assert reader.read(second).images.shape[1:3] == (4, 4)
    assert torch.equal(
        readers[kind](downscale="auto").read("train").images,
        readers[kind](downscale=3).read("train").images,
    )


def cut(path):
    path.write_bytes(path.read_bytes()[:100])  # the header stays


def test_only_photos_that_are_used_are_decoded(folder, small_scene, tmp_path):
    """Of those that are not, the pixels may be missing."""
    write_transforms(small_scene, tmp_path / "scene")
    for path in (folder / "train/r_1.png", tmp_path / "scene/images/train_2.png"):
        assert path.is_file()
        cut(path)
    scene = SceneDataModule(Transforms(str(tmp_path / "scene"), hold_every=0), FirstViews(2))
    blender = SceneDataModule(Blender(str(folder)), RandomViews(1, seed=3))
    for data, views in ((scene, [0, 1]), (blender, [3])):
        data.val_views = FirstViews(1)
        if data is scene:
            data.val_views = RandomViews(1, seed=0)  # of views 2 and 3 the latter
        data.setup("fit")
        assert data.datasets["train"].view_ids.tolist() == views
        assert torch.equal(data.datasets["train"].images, small_scene.images[views])
    with pytest.raises(UserError, match=r"r_1.png cannot be read as an image"):
        Blender(str(folder)).read("train")


@pytest.mark.parametrize("scene", ["coast", "wires", "mosaic"])
def test_chosen_views_are_those_of_the_whole_split(scene):
    reader = Procedural(resolution=40, n_train=5, scene=scene)
    chosen, whole = reader.listing("train").read([3, 0]), reader.read("train")
    assert torch.equal(chosen.images, whole.images[[3, 0]])
    assert torch.equal(chosen.depths, whole.depths[[3, 0]])
    assert chosen.names == ("train_3", "train_0") and chosen.view_ids.tolist() == [3, 0]


def test_what_does_not_fit_is_refused_before_it_is_read(folder, monkeypatch):
    for name in (0, 1, 2, 3):
        cut(folder / f"train/r_{name}.png")  # to decode one would be an error of its own
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3600))
    data = SceneDataModule(Blender(str(folder)), FirstViews(2), FirstViews(1))
    sentence = (
        "3 views of 12x12 take 0.0 GB of memory, and 50% of the 0.0 GB that are free is for them: "
        "make them 2 times smaller with the reader's downscale, set it to auto, or choose fewer"
    )
    with pytest.raises(UserError) as refused:  # 12 * 12 * (3 * 4 + 36) = 6912 bytes
        data.setup("fit")
    assert str(refused.value) == sentence


def test_mistakes_come_in_the_order_of_the_photos_and_threads_are_given_back(tmp_path):
    def read(i):
        if i % 2:
            raise UserError(f"photo {i}")

    problems, n_threads = ErrorCollector(tmp_path), torch.get_num_threads()
    in_parallel(read, 20, problems)
    assert list(problems.sentences) == [f"photo {i}" for i in range(1, 20, 2)]
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize(("n_pixels", "n_threads"), [(0, 8), (10**6, 8), (10**8, 5), (10**10, 1)])
def test_no_more_photos_are_decoded_at_once_than_fit(n_pixels, n_threads, tmp_path, monkeypatch):
    """12 GB are free, half of them for photographs of 12 bytes a pixel."""
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=12 * 10**9))
    begun = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers, **options):
            begun.append(max_workers)
            super().__init__(1, **options)

    monkeypatch.setattr(memory, "ThreadPoolExecutor", Pool)
    in_parallel(lambda i: None, 3, ErrorCollector(tmp_path), n_pixels)
    assert begun == [n_threads]


def test_a_canvas_that_two_odd_photos_span_is_refused(small_scene, tmp_path):
    """One is long, the other high, and each has few pixels."""
    write_transforms(small_scene, tmp_path)
    listing = tmp_path / "transforms.json"
    content = json.loads(listing.read_text())
    for frame, size in zip(content["frames"], [(300_000, 1), (1, 300_000)], strict=False):
        Image.new("L", size).save(tmp_path / frame["file_path"])
        frame |= {"w": size[0], "h": size[1], "cx": size[0] / 2, "cy": size[1] / 2}
        frame |= {"fl_x": 1000, "fl_y": 1000, "depth_file_path": None}
    listing.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"4 views of 300000x300000 take \d+.\d GB of memory"):
        Transforms(str(tmp_path), hold_every=0).read("train")
