"""Scenes of the model hub, `hf://owner/name`: fetched once, then a run like any other.

A copy stays in the hub's cache, so that a scene that was fetched before needs no network.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from dietnerf.errors import UserError
from dietnerf.files import new_folder
from dietnerf.runs.checkpoints import SCHEME
from dietnerf.runs.hub_format import (
    CONFIG,
    WEIGHTS,
    read_config,
    read_published,
    save_checkpoint,
)

PICTURES = ("*.gif", "*.mp4")
Config = dict[str, Any]
_OF_CLIENT: tuple[type[Exception], ...] = (
    tuple(  # errors of the HTTP client, by versions of the hub
        cls for cls in HfHubHTTPError.__bases__ if cls.__module__.startswith(("httpx", "requests"))
    )
)
UNREACHABLE: tuple[type[Exception], ...] = (OfflineModeIsEnabled, OSError, *_OF_CLIENT)
FILES = (WEIGHTS, CONFIG, "README.md", "metrics.json", *PICTURES)  # no others are downloaded


def is_remote(name: Path | str) -> bool:
    """Whether a name is that of a scene on the hub; a `Path` has made one slash of two."""
    return str(name).startswith(f"{SCHEME}/")


def repository_of(name: Path | str) -> str:
    """`owner/name` of `hf://owner/name`, or of itself.

    Raises:
        UserError: it is neither.
    """
    repository = str(name).removeprefix(SCHEME).lstrip("/")
    try:
        validate_repo_id(repository)
        is_valid = repository.count("/") == 1
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise UserError(f"{name} names no scene on the hub; it must be owner/name")
    return repository


def fetch(name: Path | str) -> Path:
    """The folder of a run made of a scene on the hub, in the hub's cache.

    Raises:
        UserError: the scene or the hub cannot be reached, or it is not one of dietnerf's.
    """
    repository = repository_of(name)
    snapshot = _download(repository)
    run = Path(constants.HF_HUB_CACHE).parent / "dietnerf" / repository / snapshot.name
    if not run.is_dir():
        unpack(snapshot, run)
    return run


def pull(name: str, folder: Path, checked: Callable[[Config, Path], Config]) -> None:
    """Make a run in a new folder of a scene on the hub.

    Args:
        checked: (config, its file) -> the config as the run has it.

    Raises:
        UserError: as `fetch`, or by `checked`.
    """
    unpack(_download(repository_of(name)), folder, checked)


def unpack(
    published: Path, run: Path, checked: Callable[[Config, Path], Config] = lambda config, _: config
) -> None:
    """Make a run of a published folder.

    Raises:
        UserError: it is broken, or not one of dietnerf's.
    """
    checkpoint = read_published(published)
    config = checked(read_config(published), published / CONFIG)
    with new_folder(run) as part:
        save_checkpoint(checkpoint, part / "checkpoints" / "last.ckpt")
        (part / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        for pattern in ("README.md", "metrics.json", *PICTURES):
            for path in filter(Path.is_file, published.glob(pattern)):
                shutil.copyfile(path, part / path.name)


def _download(repository: str) -> Path:
    name = f"hf://{repository}"
    try:
        found = Path(snapshot_download(repository, allow_patterns=list(FILES)))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name} is not on the hub, or is private: check the name, or log in by `hf auth login`"
        ) from error
    except UNREACHABLE as error:
        raise UserError(
            f"{name}: the hub cannot be reached, and there is no copy of the scene here; connect "
            "to the network once, or name the folder of a run"
        ) from error
    if not (found / WEIGHTS).is_file():
        raise UserError(
            f"{name} holds no {WEIGHTS}, so it is no scene of dietnerf; pickled weights are never "
            "loaded from the hub"
        )
    return found
