"""`push`: a run to the model hub, as safetensors with its options and a card."""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from dietnerf.arguments import path_name
from dietnerf.data.files import read_object
from dietnerf.errors import UserError
from dietnerf.export.card import model_card
from dietnerf.export.paths import results_folder
from dietnerf.runs.checkpoints import find_checkpoint, read_checkpoint
from dietnerf.runs.hub import UNREACHABLE, repository_of
from dietnerf.runs.hub_format import CONFIG, read_config, write_published
from dietnerf.runs.results import METRICS, is_own_file, read_results
from dietnerf.runs.resuming import check_options_of
from dietnerf.training.allowed_classes import ALLOWLIST
from dietnerf.training.system import DietNeRF

FILM = re.compile(r"[\w.-]+\.(gif|mp4)")  # a name that is safe in the card
KEPT = ("protocol", "mean", "views", "train_view_ids", "seed", "steps", "train_seconds", "device")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `push`."""
    add = parser.add_argument
    add("checkpoint", type=path_name, help="folder of a run, or a .ckpt file")
    add("name", help="owner/name on the hub")
    add("--private", action="store_true", help="for the owner alone, where the scene is new")


def check(options: argparse.Namespace) -> None:
    """Check the name.

    Raises:
        UserError: it is invalid.
    """
    repository_of(options.name)


def run(options: argparse.Namespace) -> None:
    """Publish the run."""
    repository = repository_of(options.name)
    checkpoint = find_checkpoint(options.checkpoint)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        gather(checkpoint, results_folder(options.checkpoint, checkpoint), repository, folder)
        _upload(folder, repository, options.private)
    print(f"hf://{repository}: `python render.py hf://{repository}` shows it anywhere")


def gather(checkpoint: Path, run: Path, repository: str, folder: Path) -> None:
    """Collect in a folder what is published of a run: weights, options, scores, a film, the card.

    Raises:
        UserError: the checkpoint or the options cannot be read.
    """
    content = read_checkpoint(checkpoint)
    check_options_of(content, checkpoint, DietNeRF)
    if not content["dietnerf"].get("camera_set"):
        raise UserError(f"{checkpoint} has no cameras, so that it cannot be rendered")
    write_published(content, _config_of(run), folder)
    results = read_results(run)
    if results is not None:
        metrics = {k: v for k, v in read_object(run / METRICS).items() if k in KEPT}
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    film = _film(run)
    if film is not None:
        shutil.copyfile(film, folder / film.name)
    card = model_card(repository, content["dietnerf"], results, film.name if film else None)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _film(run: Path) -> Path | None:
    """The newest film of a run, excluding links."""
    found = [
        path
        for path in run.glob("*.*")
        if FILM.fullmatch(path.name) and is_own_file(path, run) and _begins_as_film(path)
    ]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _begins_as_film(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith(b"GIF8") or head.endswith(b"ftyp")


def _config_of(run: Path) -> dict[str, Any]:
    """The options of the run, checked as those of a published scene; empty where it has none."""
    if not is_own_file(run / CONFIG, run):
        return {}
    return ALLOWLIST.config_of_run(read_config(run), run / CONFIG, trains=True)


def _upload(folder: Path, repository: str, is_private: bool) -> None:
    api = HfApi(library_name="dietnerf")
    try:
        api.create_repo(repository, private=is_private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Publish the scene"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"hf://{repository}: the hub does not take it ({reason}); log in by `hf auth login` "
            "with a token that may write there"
        ) from error
    except UNREACHABLE as error:
        raise UserError(f"hf://{repository}: the hub cannot be reached ({error})") from error
