"""A checkpoint as it is published: weights as safetensors, options as YAML. Nothing runs code.

Only what rendering needs is kept: field, sampler, cameras, and corrections of them.
"""

import io
import json
from pathlib import Path, PurePath
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.files import write_file
from dietnerf.registry import OptionReader
from dietnerf.runs.checkpoint_format import check_format
from dietnerf.scene_model import PARTS, SceneModel
from dietnerf.yaml_files import read_yaml

WEIGHTS, CONFIG = "scene.safetensors", "config.yaml"
SECTIONS = ("seed_everything", "model", "data")  # of a run's config


def write_published(checkpoint: dict[str, Any], config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint, as `read_checkpoint` gives it, into a folder.

    Args:
        checkpoint: of a run that the command line began.
        config: of that run, as `config.yaml` holds it; empty where there is none.
        folder: is there already.
    """
    model = {k: v for k, v in checkpoint["hyper_parameters"].items() if k != "_instantiator"}
    kept = {name: config[name] for name in SECTIONS if name in config} | {"model": model}
    text = yaml.safe_dump(_without_folders(kept), sort_keys=False)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    saved = checkpoint["dietnerf"]
    tensors, others = _split(saved["camera_set"], "camera_set")
    for name, value in checkpoint["state_dict"].items():
        if name.split(".")[0] in PARTS:
            tensors[f"state/{name}"] = value
    facts = {k: saved[k] for k in ("format", "version", "history")} | {"camera_set": others}
    whole = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_file(folder / WEIGHTS, save(whole, {"dietnerf": json.dumps(facts)}))


def read_published(folder: Path) -> dict[str, Any]:
    """The checkpoint of a published folder, without what publishing leaves out.

    Raises:
        UserError: it is damaged, of another program, or its options name a class of another
            package.
    """
    path = folder / WEIGHTS
    model = read_config(folder)["model"]
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads((file.metadata() or {})["dietnerf"])
        camera_set, n_steps = _joined(tensors, facts["camera_set"]), facts["history"]["steps"]
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} holds no scene that dietnerf published ({type(error).__name__}); nothing but "
            "safetensors is ever loaded from the hub"
        ) from error
    checkpoint = {
        "state_dict": {
            name.removeprefix("state/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("state/")
        },
        "hyper_parameters": {part: model.get(part) for part in PARTS},
        "dietnerf": facts | {"camera_set": camera_set},
        "pytorch-lightning_version": "2.6.0",
        "epoch": 0,
        "global_step": n_steps,
    }
    check_format(checkpoint, str(path))
    return checkpoint


def read_config(folder: Path) -> dict[str, Any]:
    """The published options: `model`, and where they were kept `data` and `seed_everything`. Only
    those parts of `model` are checked that rendering needs.

    Raises:
        UserError: they are no YAML, or name a class of another package.
    """
    path = folder / CONFIG
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(f"{path} holds no options of a model: it was not published by dietnerf")
    model = content["model"]
    OptionReader(path).options({part: model.get(part) for part in PARTS}, SceneModel, "model")
    return {name: content[name] for name in SECTIONS if name in content}


def _without_folders(content: Any) -> Any:
    """The same with absolute paths reduced to file names, which are private."""
    if isinstance(content, dict):
        return {name: _without_folders(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_folders(value) for value in content]
    if isinstance(content, str) and PurePath(content).is_absolute():
        return PurePath(content).name
    return content


def _split(content: dict[str, Any], at: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of nested dictionaries by their path, and what else is in them."""
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            inner, others[name] = _split(value, f"{at}/{name}")
            tensors |= inner
        elif isinstance(value, Tensor):
            tensors[f"{at}/{name}"] = value
        else:
            others[name] = value
    return tensors, others


def _joined(tensors: dict[str, Tensor], others: dict[str, Any]) -> dict[str, Any]:
    """The nested dictionaries that `_split` was given."""
    for path, tensor in tensors.items():
        first, *between, name = path.split("/")
        if first == "camera_set":
            place = others
            for key in between:
                place = place[key]
            place[name] = tensor
    return others


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write what `read_published` gave as a checkpoint that every command takes."""
    content = io.BytesIO()  # torch.save hides errors of the disk
    torch.save(checkpoint, content)
    write_file(path, content.getbuffer())
