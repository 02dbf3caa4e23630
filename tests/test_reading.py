"""What is no file is named and never read, wherever a path to it comes from."""

import json
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dietnerf.data import COLMAP, LLFF, Blender, ImageDataset, Procedural, Transforms
from dietnerf.errors import UserError
from dietnerf.export.paths import read_poses
from dietnerf.files import check_regular, open_regular
from dietnerf.prepare.command import prepare
from dietnerf.runs.checkpoints import find_checkpoint
from dietnerf.semantics.clip import OpenCLIP
from dietnerf.training import cli
from tests.formats import write_blender, write_colmap, write_llff, write_transforms

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")

KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """Whoever waits for a pipe fails here."""

    def fail(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def views() -> ImageDataset:
    depths = torch.ones(3, 8, 8)
    scene = Procedural(resolution=8, n_train=3).read("train")
    return replace(scene, depths=depths, masks=depths > 0)


def transforms(views: ImageDataset, root: Path) -> Callable[[], object]:
    write_transforms(views, root)
    return lambda: Transforms(str(root), hold_every=0).read("train")


def npy_depths(views: ImageDataset, root: Path) -> Callable[[], object]:
    write_transforms(views, root)
    text = (root / "transforms.json").read_text()
    (root / "transforms.json").write_text(text.replace("depths/train_0.png", "depth.npy"))
    return lambda: Transforms(str(root), hold_every=0).read("train")


def splits(views: ImageDataset, root: Path) -> Callable[[], object]:
    write_transforms(views, root)
    (root / "transforms.json").rename(root / "transforms_train.json")
    return lambda: Transforms(str(root)).read("train")


def blender(views: ImageDataset, root: Path) -> Callable[[], object]:
    write_blender(views, root, "train")
    return lambda: Blender(str(root)).read("train")


def llff(views: ImageDataset, root: Path) -> Callable[[], object]:
    write_llff(views, root)
    return lambda: LLFF(str(root), 1, 0).read("train")


def colmap(views: ImageDataset, root: Path, is_binary: bool = True) -> Callable[[], object]:
    write_colmap(views, root, torch.zeros(1, 3), is_binary)
    return lambda: COLMAP(str(root), hold_every=0).read("train")


def colmap_text(views: ImageDataset, root: Path) -> Callable[[], object]:
    return colmap(views, root, is_binary=False)


def photos(views: ImageDataset, root: Path) -> Callable[[], object]:
    write_llff(views, root)
    return lambda: prepare(root / "images", root / "scene")


def video(views: ImageDataset, root: Path) -> Callable[[], object]:
    root.mkdir()
    return lambda: prepare(root / "film.mp4", root / "scene")


def poses(views: ImageDataset, root: Path) -> Callable[[], object]:
    root.mkdir()
    return lambda: read_poses(root / "poses.json")


def tower(views: ImageDataset, root: Path) -> Callable[[], object]:
    root.mkdir()
    for name in ("tower.pt", "tower.json"):
        (root / name).write_text("{}")
    encoder = OpenCLIP("tower", str(root / "tower.pt"), model_config=str(root / "tower.json"))
    return lambda: encoder.load(torch.device("cpu"))


def local_tower(views: ImageDataset, root: Path) -> Callable[[], object]:
    root.mkdir()
    return lambda: OpenCLIP(f"local-dir:{root}", None).load(torch.device("cpu"))


READ = [
    (transforms, "transforms.json"),
    (transforms, "images/train_0.png"),
    (transforms, "masks/train_0.png"),
    (transforms, "depths/train_0.png"),
    (transforms, "images/dynamic_mask_train_0.png"),
    (npy_depths, "depth.npy"),
    (splits, "transforms_train.json"),
    (blender, "transforms_train.json"),
    (blender, "train/r_0.png"),
    (llff, "poses_bounds.npy"),
    (llff, "images/image000.png"),
    (llff, "images/one_more.png"),
    (colmap, "sparse/0/cameras.bin"),
    (colmap, "sparse/0/images.bin"),
    (colmap, "sparse/0/points3D.bin"),
    (colmap, "images/train_0.png"),
    (colmap_text, "sparse/0/cameras.txt"),
    (colmap_text, "sparse/0/images.txt"),
    (colmap_text, "sparse/0/points3D.txt"),
    (photos, "images/image000.png"),
    (photos, "images/one_more.jpg"),
    (video, "film.mp4"),
    (poses, "poses.json"),
    (tower, "tower.pt"),
    (tower, "tower.json"),
    (local_tower, "open_clip_config.json"),
    (local_tower, "open_clip_model.safetensors"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("reader", "name"), READ, ids=[f"{reader.__name__}-{name}" for reader, name in READ]
)
def test_readers(reader, name: str, kind: str, views: ImageDataset, tmp_path: Path):
    if (reader, kind) == (video, "a folder"):
        pytest.skip("a folder of photographs may be called so")
    read, path = reader(views, tmp_path / "scene"), tmp_path / "scene" / name
    if name == "images/dynamic_mask_train_0.png":
        listing = tmp_path / "scene" / "transforms.json"
        frames = json.loads(listing.read_text())
        del frames["frames"][0]["mask_path"]
        listing.write_text(json.dumps(frames))
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    with pytest.raises(UserError, match=f"{path.name} is (a symbolic link|{kind}, not a file)"):
        read()


def run(path: Path, *command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--run", str(path.parent)])
    assert ended.value.code == 2


COMMANDS = {
    "config.yaml": lambda path: run(path, "test"),
    "own.yaml": lambda path: run(path, "fit", "--config", str(path)),
    "last.ckpt": lambda path: run(path, "test", "--ckpt_path", str(path)),
    "scene.ckpt": find_checkpoint,
}


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device"])
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str, kind: str, finished_run: Path, tmp_path: Path, capsys):
    path = tmp_path / "run" / name
    shutil.copytree(finished_run, path.parent)
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    try:
        COMMANDS[name](path)
        said = capsys.readouterr().err
    except UserError as error:
        said = str(error)
    assert str(path) in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_is_what_it_leads_to(kind: str, tmp_path: Path):
    KINDS[kind](tmp_path / "other")
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(UserError, match=f"link is {kind}, not a file: put the file itself there"):
        check_regular(tmp_path / "link")


def test_a_file_is_opened_and_may_be_too_large(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert check_regular(tmp_path / "link") == 7
    with open_regular(tmp_path / "link", 7) as file:
        assert file.read() == b"content"
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(5 * 10**9)
    with pytest.raises(
        UserError, match=r"hole has 5,000 MB, and 1,000 MB are the most that such a"
    ):
        check_regular(tmp_path / "hole", 10**9)
    with pytest.raises(UserError, match=r"nothing cannot be read: No such file"):
        check_regular(tmp_path / "nothing")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_files_of_the_system_are_not_read(tmp_path: Path):
    (tmp_path / "listing.json").symlink_to("/proc/self/environ")
    with open_regular(tmp_path / "listing.json") as file:
        assert file.read() == b""
