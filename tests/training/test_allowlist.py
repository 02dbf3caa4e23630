"""What a stranger's checkpoint, run or scene cannot do."""

import json
import pickle
import shutil
import struct
import sys
import zlib
from pathlib import Path

import pytest
import torch
import yaml

from dietnerf.data import LLFF, Blender, Procedural, Transforms
from dietnerf.errors import UserError
from dietnerf.export import render
from dietnerf.registry import TRUSTED
from dietnerf.runs.checkpoints import find_checkpoint, load_scene, read_checkpoint
from dietnerf.training import cli
from dietnerf.training.allowlist import RENDERING, check_config, config_of_run
from dietnerf.training.runs import CONFIGS, complete
from tests.formats import write_blender, write_transforms
from tests.helpers import refused


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch) -> Path:
    """A module that leaves a mark where it is imported, with a field in it."""
    module, mark = tmp_path / "modules" / "stranger.py", tmp_path / "mark"
    module.parent.mkdir()
    module.write_text(
        f"from pathlib import Path\nfrom dietnerf.fields import HashGrid\n"
        f"Path({str(mark)!r}).touch()\nclass Field(HashGrid):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(module.parent))
    yield mark
    sys.modules.pop("stranger", None)


def copied(run: Path, to: Path, class_path: str) -> Path:
    """A run whose checkpoint and config name another field."""
    content = torch.load(find_checkpoint(run), weights_only=True)
    content["hyper_parameters"]["field"]["class_path"] = class_path
    (to / "checkpoints").mkdir(parents=True)
    torch.save(content, to / "checkpoints" / "last.ckpt")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["field"]["class_path"] = class_path
    (to / "config.yaml").write_text(yaml.safe_dump(config))
    return to


def test_a_class_of_another_package_is_not_even_imported(
    stranger: Path, finished_run: Path, tmp_path: Path, capsys
):
    run = copied(finished_run, tmp_path / "run", "stranger.Field")
    asks = "field names the class 'stranger.Field', which is not one that a file may name"
    assert asks in refused(capsys, render.main, str(run))
    assert asks in refused(capsys, cli.main, "test", "--run", str(run))
    assert not stranger.exists()


def test_a_class_that_the_user_trusts_is_loaded(
    stranger: Path, finished_run: Path, tmp_path: Path, monkeypatch
):
    run = copied(finished_run, tmp_path / "run", "stranger.Field")
    monkeypatch.setenv(TRUSTED, "other, stranger")
    assert type(load_scene(find_checkpoint(run)).field).__name__ == "Field"
    assert stranger.exists()


def test_what_a_module_here_imports_is_not_its_own(finished_run: Path, tmp_path: Path):
    """A way around: a class of torch by the name under which dietnerf has it."""
    run = copied(finished_run, tmp_path / "run", "dietnerf.training.system.nn.Linear")
    with pytest.raises(UserError, match=r"names the class 'dietnerf.training.system.nn.Linear'"):
        read_checkpoint(find_checkpoint(run))


def spoilt(options: dict, *place: str, value: object) -> None:
    """Set what stands at a place of nested options."""
    for name in place[:-1]:
        options = options[name]
    options[place[-1]] = value


FIELD = "stranger.Field"
WAYS_IN_CHECKPOINTS = {
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


@pytest.mark.parametrize("way", WAYS_IN_CHECKPOINTS)
def test_no_other_way_to_name_a_class_in_a_checkpoint(
    way: str, stranger: Path, finished_run: Path, tmp_path: Path, capsys
):
    """The parser takes more than `class_path` for the name of a class. What rendering does without
    is not read for it."""
    place, value = WAYS_IN_CHECKPOINTS[way]
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
    assert not stranger.exists()


def test_a_loader_that_a_checkpoint_names_is_not_called(
    stranger: Path, finished_run: Path, tmp_path: Path
):
    """Lightning's own way to rebuild a system from its options."""
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    content["hyper_parameters"]["_instantiator"] = FIELD
    torch.save(content, tmp_path / "evil.ckpt")
    load_scene(tmp_path / "evil.ckpt")
    assert not stranger.exists()


CALLBACK = "pytorch_lightning.callbacks.LambdaCallback"
WAYS_IN_CONFIGS = {
    "a name": (("model", "field"), FIELD),
    "a file": (("model", "field"), "other.yaml"),
    "a file of all options": (("model",), "other.yaml"),
    "another config": (("config",), "other.yaml"),
    "names with points": (("model", "field.class_path"), FIELD),
    "a longer list": (("model", "losses+"), [FIELD]),
    "a strategy": (("trainer", "strategy"), FIELD),
    "a file that is called as a strategy": (("trainer", "strategy"), "ddp"),
    "a function that is called back": (
        ("trainer", "callbacks"),
        [{"class_path": CALLBACK, "init_args": {"on_test_start": "stranger.Field"}}],
    ),
    "a function of a trusted package": (
        ("trainer", "callbacks"),
        [{"class_path": "torch.hub.load", "init_args": {"repo_or_dir": ".", "model": "x"}}],
    ),
    "another's class by a trusted package's name": (
        ("trainer", "callbacks"),
        [{"class_path": "torch.hub.sys.modules.os.system"}],
    ),
}


GADGET = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "MARK"]}}
OF_TORCH = {
    "class_path": "torch.distributed.elastic.multiprocessing.subprocess_handler."
    "subprocess_handler.SubprocessHandler",
    "init_args": {
        "entrypoint": "/usr/bin/touch",
        "args": ["MARK"],
        "env": {},
        "stdout": None,
        "stderr": None,
        "local_rank_id": 0,
        "numa_options": None,
    },
}
BOARD = "pytorch_lightning.loggers.TensorBoardLogger"


def in_trainer(name: str, value: object) -> tuple[tuple[str, ...], object]:
    return ("trainer", name), value


def logger(name: str = BOARD, /, **options: object) -> dict[str, object]:
    return {"class_path": name, "init_args": {"save_dir": "RUN", **options}}


# A place in the config of a run, and what stands there; MARK is a file to be made outside of it.
COMMANDS_IN_CONFIGS = {
    "kwargs of a logger": in_trainer("logger", logger() | {"dict_kwargs": {"comment": OF_TORCH}}),
    "an option of a logger": in_trainer("logger", logger(comment=OF_TORCH)),
    "a name of a logger": in_trainer("logger", logger(name=OF_TORCH)),
    "a logger in a list": in_trainer(
        "logger", [logger(), logger() | {"dict_kwargs": {"a": GADGET}}]
    ),
    "options of any type": in_trainer(
        "callbacks", [{"class_path": "EMAWeightAveraging", "init_args": {"multi_avg_fn": GADGET}}]
    ),
    "a state of any type": in_trainer(
        "strategy", {"class_path": "DDPStrategy", "init_args": {"ddp_comm_state": GADGET}}
    ),
    "a hook": in_trainer(
        "strategy", {"class_path": "DDPStrategy", "init_args": {"ddp_comm_hook": "os.system"}}
    ),
    "a plugin": in_trainer("plugins", [GADGET]),
    "a plugin of Lightning": in_trainer(
        "plugins", {"class_path": "lightning_fabric.plugins.io.TorchCheckpointIO"}
    ),
    "a profiler": in_trainer(
        "profiler", {"class_path": "PyTorchProfiler", "init_args": {"x": GADGET}}
    ),
    "an accelerator": in_trainer(
        "accelerator", {"class_path": "CPUAccelerator", "init_args": GADGET}
    ),
    "a duration": in_trainer("max_time", {"class_path": "subprocess.Popen"}),
    "devices": in_trainer("devices", [GADGET]),
    "a place on the network": in_trainer("model_registry", "evil/model"),
    "a logger that sends": in_trainer("logger", {"class_path": "WandbLogger"}),
    "losses": (("model", "losses"), [GADGET]),
    "an option of a loss": (
        ("model", "losses"),
        [{"class_path": "Photometric"}, {"class_path": "Depth", "init_args": {"weight": GADGET}}],
    ),
    "kwargs of a loss": (
        ("model", "losses"),
        [{"class_path": "Photometric", "dict_kwargs": {"x": GADGET}}],
    ),
    "a reader": (("data", "reader"), GADGET),
    "a reader's folder": (("data", "reader", "init_args", "scene"), GADGET),
    "a number": (("save_every",), GADGET),
    "an option of its own": (("more",), GADGET),
    "a tag": (("model", "optimizer"), GADGET),
}


@pytest.mark.parametrize("way", COMMANDS_IN_CONFIGS)
@pytest.mark.parametrize("verb", ["fit", "fit --config", "test"])
def test_no_config_of_a_run_runs_a_command(
    way: str, verb: str, finished_run: Path, tmp_path: Path, monkeypatch
):
    """Refused, or of no matter to the command; in either case nothing is made outside the run."""
    run, mark = tmp_path / "run", tmp_path / "outside" / "mark"
    mark.parent.mkdir()
    monkeypatch.chdir(mark.parent)
    shutil.copytree(finished_run, run)
    place, value = COMMANDS_IN_CONFIGS[way]
    config = yaml.safe_load((run / "config.yaml").read_text())
    spoilt(config, *place, value=value)
    text = yaml.safe_dump(config).replace("MARK", str(mark)).replace("RUN", str(run))
    (run / "config.yaml").write_text(text)
    options = ["--run", str(run)]
    if verb == "fit":
        options += ["--ckpt_path", "last", "--trainer.max_steps", "13"]
    if verb == "fit --config":
        options = ["--run", str(tmp_path / "other"), "--config", str(run / "config.yaml")]
    if place[0] == "trainer" and place[1] not in RENDERING and "fit" not in verb:
        cli.main([verb, *options])  # without it
    else:
        with pytest.raises(SystemExit):
            cli.main([verb.split()[0], *options])
        assert not (tmp_path / "other").exists()
    assert list(mark.parent.iterdir()) == []


@pytest.mark.parametrize("verb", ["validate", "predict", "look", "test"])
def test_all_commands_read_the_config_of_a_run_in_the_same_way(
    verb: str, finished_run: Path, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["reader"] = GADGET
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "names the class 'subprocess.Popen'" in refused(
        capsys, cli.main, verb, "--run", str(run)
    )


PLACES = {
    "a logger's folder": logger("CSVLogger", save_dir="OUT", name="x"),
    "a logger's folder above": logger("CSVLogger", save_dir="RUN/../out"),
    "a logger's name": logger("CSVLogger", name="../../out"),
    "a logger's version": logger("CSVLogger", version="../../out"),
    "a board's folder below": logger(sub_dir="../../out"),
}
PROFILERS = {
    "a profiler's folder": {"dirpath": "OUT", "filename": "authorized_keys"},
    "a profiler's file": {"dirpath": "RUN", "filename": "../out"},
}
KEEPERS = {
    "a keeper's folder": {"dirpath": "OUT", "every_n_train_steps": 1},
    "a keeper's file": {"filename": "../../../out", "every_n_train_steps": 1},
}


@pytest.mark.parametrize("way", [*PLACES, *PROFILERS, *KEEPERS])
def test_no_config_of_a_run_writes_somewhere_else(
    way: str, finished_run: Path, tmp_path: Path, capsys, monkeypatch
):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    if way in PLACES:
        config["trainer"]["logger"] = PLACES[way]
    elif way in PROFILERS:
        config["trainer"]["profiler"] = {
            "class_path": "SimpleProfiler",
            "init_args": PROFILERS[way],
        }
    else:
        keeper = {"class_path": "ModelCheckpoint", "init_args": KEEPERS[way]}
        config["trainer"]["callbacks"] = [keeper]
    text = yaml.safe_dump(config).replace("OUT", str(out)).replace("RUN", str(run))
    (run / "config.yaml").write_text(text)
    said = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
    assert "which is not in the folder of the run" in said
    assert not out.exists()
    options = ["--config", str(run / "config.yaml"), "--run", str(tmp_path / "new")]
    assert "which is not in the folder" in refused(capsys, cli.main, "fit", *options)
    assert not out.exists()


def test_what_a_run_logged_inside_itself_goes_on(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["logger"] = logger("CSVLogger", save_dir=str(run / "logs"), name="x")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "14"])
    assert (run / "logs" / "x").is_dir()


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


def test_a_config_with_a_line_break_in_its_name_is_read_as_any(tmp_path: Path, capsys):
    mark = tmp_path / "mark"
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(mark)]}}
    (tmp_path / "a\nb").mkdir()
    for name in ("nice\n.yaml", "a\nb/config.yaml"):
        config = tmp_path / name
        config.write_text(yaml.safe_dump({"trainer": {"logger": popen}}))
        said = refused(capsys, cli.main, "fit", "--config", config, "--run", tmp_path / "run")
        assert "names the class 'subprocess.Popen'" in said
    assert not mark.exists()


def test_a_link_deep_in_a_run_is_not_written_to(finished_run: Path, tmp_path: Path, capsys):
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished_run, run)
    outside.mkdir()
    (run / "logs/x").mkdir(parents=True)
    (run / "logs/x/version_0").symlink_to(outside)
    said = refused(capsys, cli.main, "fit", "--run", run, "--ckpt_path", "last")
    assert f"{run / 'logs/x/version_0'} is a link to {outside}" in said


def test_a_run_on_several_machines_is_not_waited_for(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"] |= {"num_nodes": 2, "strategy": "ddp", "accelerator": "cpu"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.warns(UserWarning, match="of a run on several machines"):
        kept = complete(["test", "--run", str(run)])
    assert "num_nodes" not in kept[2]


@pytest.mark.parametrize("place", ["hparams.yaml", "test", "checkpoints", "checkpoints/x.ckpt"])
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_link_out_of_a_run_is_not_written_to(
    place: str, is_broken: bool, finished_run: Path, tmp_path: Path, capsys
):
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished_run, run)
    if place == "checkpoints":
        (run / place).rename(outside)
    elif not is_broken:
        outside.mkdir()
    (run / place).unlink(missing_ok=True)
    (run / place).symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    for command in ("test", "validate", "predict", "look"):
        said = refused(capsys, cli.main, command, "--run", str(run))
        assert f"{run / place} is a link to" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["ckpt_path", "run", "weights_only"])
def test_options_of_one_command_are_not_taken_from_a_run(
    name: str, finished_run: Path, tmp_path: Path
):
    """A checkpoint on the hub or in another folder, say."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {name: False if name == "weights_only" else f"hf://evil/{tmp_path.name}"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    cli.main(["test", "--run", str(run)])
    assert (run / "metrics.json").is_file()


@pytest.mark.parametrize("way", WAYS_IN_CONFIGS)
def test_no_other_way_to_name_a_class_in_a_config(
    way: str, stranger: Path, finished_run: Path, tmp_path: Path, capsys
):
    run, (place, value) = tmp_path / "run", WAYS_IN_CONFIGS[way]
    shutil.copytree(finished_run, run)
    for name in ("other.yaml", "ddp"):
        (run / name).write_text(f"class_path: {FIELD}")
    config = yaml.safe_load((run / "config.yaml").read_text())
    spoilt(config, *place, value=value)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
    assert f"{run}/config.yaml" in said
    assert not stranger.exists()


@pytest.mark.parametrize("config", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_own_configs_are_trusted(config: Path):
    check_config(yaml.safe_load(config.read_text()), config, Path("runs/latest"))


def test_loggers_and_strategies_are_trusted(tmp_path: Path):
    names = {"name": "", "save_dir": str(tmp_path / "logs")}
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": names}
    trainer = {"strategy": "ddp", "accelerator": "auto", "profiler": "simple", "logger": logger}
    found = config_of_run({"trainer": trainer}, tmp_path / "config.yaml", trains=True)
    assert found["trainer"]["logger"]["class_path"].endswith("csv_logs.CSVLogger")
    assert found["trainer"]["logger"]["init_args"] == names


def laughs() -> str:
    """Ten lines that are three billion words."""
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


BROKEN_CONFIGS = {
    "code": "model: !!python/object/apply:os.system ['true']",
    "many aliases": laughs(),
    "itself": "model: &a {field: [*a]}",
    "brackets": "[" * 100_000,
    "a number of ten thousand digits": "seed_everything: " + "9" * 10_000,
    "no such day": "run: 2001-99-99",
}


@pytest.mark.parametrize("content", BROKEN_CONFIGS.values(), ids=BROKEN_CONFIGS)
def test_a_config_that_is_none_is_one_sentence(content: str, tmp_path: Path, capsys):
    (tmp_path / "config.yaml").write_text(content)
    assert "config.yaml" in refused(capsys, cli.main, "test", "--run", str(tmp_path))


@pytest.mark.parametrize("name", ["field.table", "sampler.occupied"])
def test_weights_that_do_not_fit_are_one_sentence(
    name: str, finished_run: Path, tmp_path: Path, capsys
):
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    content["state_dict"][name] = torch.zeros(1)
    torch.save(content, tmp_path / "evil.ckpt")
    said = refused(capsys, render.main, str(tmp_path / "evil.ckpt"))
    assert "evil.ckpt holds no scene that can be shown" in said


def test_options_out_of_range_are_named(finished_run: Path, tmp_path: Path, capsys):
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    content["hyper_parameters"]["sampler"]["init_args"]["resolution"] = 100_000
    torch.save(content, tmp_path / "evil.ckpt")
    said = refused(capsys, render.main, str(tmp_path / "evil.ckpt"))
    assert "evil.ckpt: resolution is 100000; it must be" in said


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


def png_header(width: int, height: int) -> bytes:
    """A PNG that says to be so large, and holds nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    write_transforms(Procedural(resolution=8, n_train=3).read("train"), tmp_path / "scene")
    return tmp_path / "scene"


@pytest.mark.parametrize("downscale", [1, "auto"])
def test_a_photograph_of_a_hundred_gigapixels_is_refused(scene: Path, downscale):
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    photo = scene / content["frames"][0]["file_path"]
    photo.write_bytes(png_header(400_000, 250_000))
    content |= {"w": 400_000, "h": 250_000, "cx": 200_000, "cy": 125_000}
    content |= {"fl_x": 300_000, "fl_y": 300_000}
    listing.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{photo.name} has more than 178 million pixels"):
        Transforms(str(scene), downscale=downscale, hold_every=0).read("train")


@pytest.mark.parametrize("key", ["file_path", "mask_path", "depth_file_path"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_listing_cannot_leave_its_folder(scene: Path, key: str, is_absolute: bool):
    outside = scene.parent / "secret.png"
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    (scene / content["frames"][0]["file_path"]).rename(outside)
    content["frames"][0][key] = str(outside) if is_absolute else "images/../../secret.png"
    if key != "file_path":
        (scene / content["frames"][0]["file_path"]).write_bytes(outside.read_bytes())
    listing.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"secret.png is listed, but lies outside of the scene's"):
        Transforms(str(scene)).read("train")


def npy(shape: str, kind: str = "'<f8'") -> bytes:
    """A NumPy array that says to be so large, and holds nothing."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()


ARRAYS = {
    "terabytes": npy("(1000000000000, 17)"),
    "more than an int": npy("(99999999999999999999999, 17)"),
    "negative": npy("(-5, 17)"),
    "two long words": npy("(2, 17)", "'<S2000000000'"),
    "brackets": npy("(" * 5000),
    "objects": npy("(2, 17)", "'|O'"),
    "none": npy("(0, 17)"),
    "complex": npy("(2, 17)", "'<c16'"),
    "empty file": b"",
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_none_is_refused(content: bytes, scene: Path):
    listing = scene / "transforms.json"
    frames = json.loads(listing.read_text())
    frames["frames"][0]["depth_file_path"] = "depth.npy"
    listing.write_text(json.dumps(frames))
    for name in ("depth.npy", "poses_bounds.npy"):
        (scene / name).write_bytes(content)
    for reader in (Transforms(str(scene), hold_every=0), LLFF(str(scene), 1, 0)):
        with pytest.raises(UserError, match=r"\.npy"):
            reader.read("train")


def test_an_array_too_large_is_not_read(scene: Path):
    """It is on the disk, as a hole of 14 GB in a file."""
    with (scene / "poses_bounds.npy").open("wb") as file:
        file.write(npy("(100000000, 17)"))
        file.truncate(file.tell() + 8 * 17 * 100_000_000)
    with pytest.raises(UserError, match="more than 17000000 numbers"):
        LLFF(str(scene), 1, 0).read("train")


def test_a_name_of_many_folders_is_none(scene: Path):
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    content["frames"][0]["file_path"] = "/" + "a/" * 200_000
    listing.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="1 of the 3 images"):
        assert len(Transforms(str(scene), hold_every=0).read("train")) == 2


def test_an_angle_of_view_that_no_lens_has(tmp_path: Path):
    write_blender(Procedural(resolution=8, n_train=3).read("train"), tmp_path, "train")
    listing = tmp_path / "transforms_train.json"
    listing.write_text(json.dumps(json.loads(listing.read_text()) | {"camera_angle_x": 1e-300}))
    with pytest.raises(UserError, match="camera_angle_x must be an angle"):
        Blender(str(tmp_path)).read("train")


def test_a_camera_path_nested_without_end(finished_run: Path, tmp_path: Path, capsys):
    (tmp_path / "path.json").write_text("[" * 100_000)
    poses = ["--path", "interpolate", "--poses", str(tmp_path / "path.json")]
    assert "path.json" in refused(capsys, render.main, str(finished_run), *poses)


@pytest.mark.parametrize("name", ["{step:0999999999d}", "{step.real}", "{step:zzz}", "{a[b]}", "{"])
def test_a_name_to_be_filled_in_holds_names_alone(name: str, tmp_path: Path):
    keeper = {"class_path": "ModelCheckpoint", "init_args": {"filename": name}}
    with pytest.raises(UserError, match="filename of ModelCheckpoint"):
        check_config({"trainer": {"callbacks": [keeper]}}, tmp_path / "a.yaml", tmp_path)


def test_a_name_to_be_filled_in_with_what_is_logged(tmp_path: Path):
    for name in ("{step:06d}-{epoch:.2f}", "{epoch}", "plain", None):
        keeper = {"class_path": "ModelCheckpoint", "init_args": {"filename": name}}
        check_config({"trainer": {"callbacks": [keeper]}}, tmp_path / "a.yaml", tmp_path)


UNUSABLE = {
    "a keeper": ("callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"save_top_k": -5}}]),
    "a clock": ("callbacks", [{"class_path": "Timer", "init_args": {"duration": "x"}}]),
    "fewer devices than none": ("devices", -7),
    "a billion devices": ("devices", 10**9),
    "text for devices": ("devices", "1000000000"),
    "no step between logs": ("log_every_n_steps", 0),
    "no step between validations": ("val_check_interval", 0),
}


@pytest.mark.parametrize("way", UNUSABLE)
def test_options_that_lightning_cannot_use_are_one_sentence(
    way: str, finished_run: Path, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    name, value = UNUSABLE[way]
    config["trainer"][name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
    assert said.startswith("error: ")


@pytest.mark.parametrize("seed", ["-1", "1099511627776"])
def test_a_seed_that_is_none_is_one_sentence(seed: str, finished_run: Path, capsys):
    said = refused(
        capsys, cli.main, "validate", "--run", str(finished_run), "--seed_everything", seed
    )
    assert said.startswith("error: seed_everything")
