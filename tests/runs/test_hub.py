"""Publishing and fetching scenes at a stand-in of the hub, and what must never be loaded."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import imageio.v3 as iio
import numpy as np
import pytest
import torch
import yaml

from dietnerf.errors import UserError
from dietnerf.export import render
from dietnerf.export.command import main
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.runs.hub import fetch, repository_of
from dietnerf.training import cli
from tests.helpers import refused, weights
from tests.training.hub_stand_in import Repositories, running_hub

NAME = "someone/coast"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repositories]:
    """The files of an empty hub, which this process talks to, with an empty cache."""
    constants = huggingface_hub.constants
    with running_hub() as (address, repositories):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        files = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        yield repositories


@pytest.fixture
def published(hub: Repositories, finished_run: Path) -> dict[str, bytes]:
    """The files of a scene that was pushed."""
    main(["push", str(finished_run), NAME])
    return hub[NAME]


def test_a_pulled_scene_looks_as_the_pushed_one(published, finished_run: Path, tmp_path: Path):
    main(["pull", NAME, str(tmp_path / "again")])
    before, after = (load_scene(find_checkpoint(p)) for p in (finished_run, tmp_path / "again"))
    assert before.camera_set is not None and after.camera_set is not None
    cameras = after.camera_set.cameras["test"]
    assert torch.equal(cameras.c2w, before.camera_set.cameras["test"].c2w)
    assert after.camera_set.view_ids == before.camera_set.view_ids
    assert after.history == before.history
    a, b = (system.render_rays_of(cameras, 0, torch.ones(3)) for system in (before, after))
    assert torch.equal(a.rgb, b.rgb)


def test_render_takes_a_name_of_the_hub(published, finished_run: Path, tmp_path: Path):
    args = ["--path", "test", "--modes", "rgb"]
    render.main([f"hf://{NAME}", *args, "--out", str(tmp_path / "a")])
    render.main([str(finished_run), *args, "--out", str(tmp_path / "b")])
    a, b = (iio.imread(tmp_path / name / "rgb_000.png") for name in "ab")
    np.testing.assert_array_equal(a, b)


def test_a_film_of_a_hub_scene_lands_here(published, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    render.main([f"hf://{NAME}", "--frames", "1", "--path", "orbit"])
    assert (tmp_path / "runs" / "coast" / "orbit.gif").is_file()


def test_what_is_published(finished_run: Path, hub: Repositories, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "metrics.json").write_text('{"mean": {"psnr": 21.5, "lpips_vgg": null}, "steps": 12}')
    iio.imwrite(run / "orbit.gif", np.zeros((2, 8, 8, 3), np.uint8))
    main(["push", str(run), NAME])
    files = hub[NAME]
    names = {"README.md", "config.yaml", "metrics.json", "orbit.gif", "scene.safetensors"}
    assert set(files) - {".gitattributes"} == names
    card = files["README.md"].decode()
    for words in ("21.5", "orbit.gif", "12 steps", f"render.py hf://{NAME}", "Training views: 0,"):
        assert words in card
    assert "lpips" not in card.lower()
    assert str(tmp_path).encode() not in b"".join(files.values()), "no folder of this machine"


def test_a_scene_seen_before_needs_no_network(published, monkeypatch):
    seen = fetch(f"hf://{NAME}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch(f"hf://{NAME}") == seen


def test_offline_is_one_sentence(hub: Repositories, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refused(capsys, main, "pull", NAME, str(tmp_path / "run"))
    assert "the hub cannot be reached" in message


def test_a_network_without_names_is_one_sentence(
    hub: Repositories, finished_run: Path, capsys, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://hub.invalid")
    message = refused(capsys, main, "push", finished_run, NAME)
    assert "the hub cannot be reached" in message


def test_a_missing_name_is_one_sentence(hub: Repositories, tmp_path: Path, capsys):
    assert f"hf://{NAME} is not on the hub" in refused(
        capsys, main, "pull", NAME, str(tmp_path / "run")
    )
    assert "must be owner/name" in refused(capsys, main, "pull", "coast", str(tmp_path / "run"))
    assert repository_of(Path(f"hf://{NAME}")) == NAME


def test_a_folder_that_holds_something_stays(published, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("mine")
    assert "is not empty" in refused(capsys, main, "pull", NAME, str(tmp_path))


class Attack:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["scene.safetensors", "checkpoints/last.ckpt"])
def test_a_pickle_in_place_of_the_weights_is_refused(published, tmp_path: Path, name: str, capsys):
    mark = tmp_path / "mark"
    del published["scene.safetensors"]
    published[name] = pickle.dumps(Attack(mark))
    pickle.loads(published[name])
    assert mark.exists(), "the pickle does what it says"
    mark.unlink()
    message = refused(capsys, main, "pull", NAME, str(tmp_path / "run"))
    assert "loaded from the hub" in message
    with pytest.raises(UserError, match="loaded from the hub"):
        find_checkpoint(f"hf://{NAME}")
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*.ckpt"))


def with_facts(content: bytes, facts: str) -> bytes:
    """Published weights with other facts beside them, or with a history that is none."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    own = json.loads(header["__metadata__"]["dietnerf"])
    header["__metadata__"]["dietnerf"] = facts or json.dumps(own | {"history": 7})
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


@pytest.mark.parametrize("facts", ["[" * 100_000, "[]", ""])
def test_facts_of_another_shape_are_refused(published, tmp_path: Path, facts: str, capsys):
    published["scene.safetensors"] = with_facts(published["scene.safetensors"], facts)
    message = refused(capsys, main, "pull", NAME, str(tmp_path / "run"))
    assert "scene.safetensors holds no scene that dietnerf published" in message


@pytest.mark.parametrize("length", [2**63, 99_000_000])
def test_a_header_of_an_absurd_length_is_refused(published, tmp_path: Path, length: int, capsys):
    rest = published["scene.safetensors"][8:]
    published["scene.safetensors"] = struct.pack("<Q", length) + rest
    message = refused(capsys, main, "pull", NAME, str(tmp_path / "run"))
    assert "scene.safetensors holds no scene that dietnerf published" in message


@pytest.mark.parametrize(
    "class_path",
    [
        "subprocess.Popen",
        "torch.nn.Linear",
        "dietnerf.fields.nothing",
        "dietnerf.benchmark.main",
        7,
    ],
)
def test_classes_of_others_are_refused(published, tmp_path: Path, class_path: object, capsys):
    config = yaml.safe_load(published["config.yaml"])
    config["model"]["field"]["class_path"] = class_path
    published["config.yaml"] = yaml.safe_dump(config).encode()
    message = refused(capsys, main, "pull", NAME, str(tmp_path / "run"))
    assert f"model.field names the class {class_path!r}" in message


def test_a_pulled_scene_is_tested_but_not_trained_further(published, tmp_path: Path, capsys):
    run = str(tmp_path / "run")
    main(["pull", NAME, run])
    cli.main(["test", "--run", run])
    assert (tmp_path / "run" / "metrics.json").is_file()
    with pytest.raises(SystemExit):
        cli.main(["fit", "--run", run, "--ckpt_path", "last"])
    assert "came from the hub" in capsys.readouterr().err


def test_a_scene_on_the_hub_is_no_folder_to_write_into(capsys):
    with pytest.raises(SystemExit):
        cli.main(["test", "--run", f"hf://{NAME}"])
    assert f"dietnerf export pull {NAME} FOLDER" in capsys.readouterr().err


def test_only_what_a_picture_needs_is_published(published, finished_run: Path, tmp_path: Path):
    main(["pull", NAME, str(tmp_path / "run")])
    found = weights(find_checkpoint(tmp_path / "run"))
    assert set(found) == set(weights(find_checkpoint(finished_run)))
    assert set(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())) <= {
        *("seed_everything", "model", "data"),
    }
