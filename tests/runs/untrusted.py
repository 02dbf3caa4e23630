"""Runs whose checkpoint and config name a class of an untrusted module."""

from pathlib import Path

import torch
import yaml

from dietnerf.runs.checkpoints import find_checkpoint


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


def spoilt(options: dict, *place: str, value: object) -> None:
    """Set what stands at a place of nested options."""
    for name in place[:-1]:
        options = options[name]
    options[place[-1]] = value


FIELD = "untrusted.Field"
BOARD = "pytorch_lightning.loggers.TensorBoardLogger"


def in_trainer(name: str, value: object) -> tuple[tuple[str, ...], object]:
    return ("trainer", name), value


def logger(name: str = BOARD, /, **options: object) -> dict[str, object]:
    return {"class_path": name, "init_args": {"save_dir": "RUN", **options}}
