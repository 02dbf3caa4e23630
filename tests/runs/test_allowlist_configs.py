"""Configs of a run that name classes or commands, or are none."""

import shutil
from pathlib import Path

import pytest
import yaml

from dietnerf.runs.allowlist import RENDERING
from dietnerf.runs.configs import CONFIGS
from dietnerf.training import cli
from dietnerf.training.allowed_classes import ALLOWLIST
from dietnerf.training.command_line import complete
from tests.helpers import refused
from tests.runs.untrusted import FIELD, in_trainer, logger, spoilt

CALLBACK = "pytorch_lightning.callbacks.LambdaCallback"
KINDS_IN_CONFIGS = {
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
        [{"class_path": CALLBACK, "init_args": {"on_test_start": "untrusted.Field"}}],
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


@pytest.mark.parametrize("case", COMMANDS_IN_CONFIGS)
@pytest.mark.parametrize("verb", ["fit", "fit --config", "test"])
def test_no_config_of_a_run_runs_a_command(
    case: str, verb: str, finished_run: Path, tmp_path: Path, monkeypatch
):
    """Refused, or of no matter to the command; in either case nothing is made outside the run."""
    run, mark = tmp_path / "run", tmp_path / "outside" / "mark"
    mark.parent.mkdir()
    monkeypatch.chdir(mark.parent)
    shutil.copytree(finished_run, run)
    place, value = COMMANDS_IN_CONFIGS[case]
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


@pytest.mark.parametrize("verb", ["validate", "predict", "report", "test"])
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


def test_a_run_on_several_machines_is_not_waited_for(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"] |= {"num_nodes": 2, "strategy": "ddp", "accelerator": "cpu"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.warns(UserWarning, match="of a run on several machines"):
        kept = complete(["test", "--run", str(run)])
    assert "num_nodes" not in kept[2]


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


@pytest.mark.parametrize("case", KINDS_IN_CONFIGS)
def test_no_other_way_to_name_a_class_in_a_config(
    case: str, untrusted: Path, finished_run: Path, tmp_path: Path, capsys
):
    run, (place, value) = tmp_path / "run", KINDS_IN_CONFIGS[case]
    shutil.copytree(finished_run, run)
    for name in ("other.yaml", "ddp"):
        (run / name).write_text(f"class_path: {FIELD}")
    config = yaml.safe_load((run / "config.yaml").read_text())
    spoilt(config, *place, value=value)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
    assert f"{run}/config.yaml" in said
    assert not untrusted.exists()


@pytest.mark.parametrize("config", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_own_configs_are_trusted(config: Path):
    ALLOWLIST.check_config(yaml.safe_load(config.read_text()), config, Path("runs/latest"))


def test_loggers_and_strategies_are_trusted(tmp_path: Path):
    names = {"name": "", "save_dir": str(tmp_path / "logs")}
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": names}
    trainer = {"strategy": "ddp", "accelerator": "auto", "profiler": "simple", "logger": logger}
    found = ALLOWLIST.config_of_run({"trainer": trainer}, tmp_path / "config.yaml", trains=True)
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
