"""Classes, commands and options that an untrusted checkpoint or config cannot name."""

import pickle
from pathlib import Path

import pytest
import torch
import yaml

from dietnerf.errors import UserError
from dietnerf.export import render
from dietnerf.registry import TRUSTED
from dietnerf.runs.checkpoints import find_checkpoint, load_scene, read_checkpoint
from dietnerf.training import cli
from tests.helpers import refused
from tests.runs.untrusted import FIELD, copied, spoilt


def test_a_class_of_another_package_is_not_even_imported(
    untrusted: Path, finished_run: Path, tmp_path: Path, capsys
):
    run = copied(finished_run, tmp_path / "run", "untrusted.Field")
    asks = "field names the class 'untrusted.Field', which is not one that a file may name"
    assert asks in refused(capsys, render.main, str(run))
    assert asks in refused(capsys, cli.main, "test", "--run", str(run))
    assert not untrusted.exists()


def test_a_class_that_the_user_trusts_is_loaded(
    untrusted: Path, finished_run: Path, tmp_path: Path, monkeypatch
):
    run = copied(finished_run, tmp_path / "run", "untrusted.Field")
    monkeypatch.setenv(TRUSTED, "other, untrusted")
    assert type(load_scene(find_checkpoint(run)).field).__name__ == "Field"
    assert untrusted.exists()


def test_what_a_module_here_imports_is_not_its_own(finished_run: Path, tmp_path: Path):
    """A way around: a class of torch by the name under which dietnerf has it."""
    run = copied(finished_run, tmp_path / "run", "dietnerf.training.system.nn.Linear")
    with pytest.raises(UserError, match=r"names the class 'dietnerf.training.system.nn.Linear'"):
        read_checkpoint(find_checkpoint(run))


KINDS_IN_CHECKPOINTS = {
    "a name": (("field",), FIELD),
    "a name in a list": (("losses",), [FIELD]),
    "YAML in text": (("losses",), f"[{{class_path: {FIELD}}}]"),
    "what makes a member": (
        ("field",),
        {"class_path": "dietnerf.fields.Ensemble", "init_args": {"field": FIELD}},
    ),
    "names with points": (("field.class_path",), FIELD),
    "no class, but its options": (("field",), {"init_args": {"bounds": FIELD}}),
    "Lightning's name of a class": (("_class_path",), FIELD),
}


@pytest.mark.parametrize("case", KINDS_IN_CHECKPOINTS)
def test_no_other_way_to_name_a_class_in_a_checkpoint(
    case: str, untrusted: Path, finished_run: Path, tmp_path: Path, capsys
):
    """The parser takes more than `class_path` for the name of a class. What rendering does without
    is not read for it."""
    place, value = KINDS_IN_CHECKPOINTS[case]
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    spoilt(content["hyper_parameters"], *place, value=value)
    evil = tmp_path / "evil.ckpt"
    torch.save(content, evil)
    words = ["test", "--run", str(finished_run), "--ckpt_path", str(evil)]
    assert "evil.ckpt" in refused(capsys, cli.main, *words)
    if place == ("field",):
        assert "evil.ckpt" in refused(capsys, render.main, str(evil))
    else:
        render.main([str(evil), "--frames", "1", "--out", str(tmp_path / "film.gif")])
    assert not untrusted.exists()


def test_a_loader_that_a_checkpoint_names_is_not_called(
    untrusted: Path, finished_run: Path, tmp_path: Path
):
    """Lightning's own way to rebuild a system from its options."""
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    content["hyper_parameters"]["_instantiator"] = FIELD
    torch.save(content, tmp_path / "evil.ckpt")
    load_scene(tmp_path / "evil.ckpt")
    assert not untrusted.exists()


@pytest.mark.parametrize("model", ["hf-hub:evil/tower", "local-dir:/tmp/evil"])
def test_no_file_names_a_tower_from_anywhere(model: str, tmp_path: Path, capsys):
    config = tmp_path / "nice.yaml"
    encoder = {"class_path": "OpenCLIP", "init_args": {"model": model}}
    losses = [
        {"class_path": "Photometric"},
        {"class_path": "SemanticConsistency", "init_args": {"encoder": encoder}},
    ]
    config.write_text(yaml.safe_dump({"model": {"losses": losses}}))
    options = ["--config", "quickstart", "--config", str(config), "--run", str(tmp_path / "run")]
    said = refused(capsys, cli.main, "fit", *options)
    assert f"the encoder's model is {model!r}" in said


@pytest.mark.parametrize("name", ["field.table", "sampler.occupied"])
def test_weights_that_do_not_fit_are_one_sentence(
    name: str, finished_run: Path, tmp_path: Path, capsys
):
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    content["state_dict"][name] = torch.zeros(1)
    torch.save(content, tmp_path / "evil.ckpt")
    said = refused(capsys, render.main, str(tmp_path / "evil.ckpt"))
    assert "evil.ckpt holds no scene that can be rendered" in said


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_pickle_in_place_of_a_checkpoint_is_not_run(tmp_path: Path, is_zip: bool):
    mark, path = tmp_path / "mark", tmp_path / "evil.ckpt"
    if is_zip:
        torch.save({"dietnerf": Attack(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        read_checkpoint(path)
    assert not mark.exists()
    with pytest.raises(UserError, match=r"evil\.ckpt"):
        load_scene(path)
    assert not mark.exists()


def test_a_camera_path_nested_without_end(finished_run: Path, tmp_path: Path, capsys):
    (tmp_path / "path.json").write_text("[" * 100_000)
    poses = ["--path", "interpolate", "--poses", str(tmp_path / "path.json")]
    assert "path.json" in refused(capsys, render.main, str(finished_run), *poses)
