"""Checkpoint files: finding them in a run, and loading scenes from them."""

import sys
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

import dietnerf.research  # noqa: F401  (whose classes a checkpoint may name)
from dietnerf.errors import UserError
from dietnerf.registry import OptionReader
from dietnerf.runs.checkpoint_checks import build_scene, check_values, check_weights
from dietnerf.runs.checkpoint_format import check_format, read_facts
from dietnerf.runs.splat_scene import is_splats, scene_of_splats
from dietnerf.scene_model import PARTS, SceneModel
from dietnerf.tensor_files import load_tensors

LAST, BEST = "last.ckpt", "best.ckpt"
SCHEME = "hf:"  # of a scene on the hub


def find_checkpoint(path: Path | str) -> Path:
    """A checkpoint file, or the last whole checkpoint of a run folder or of `hf://owner/name`.

    Damaged ones are skipped, and named.

    Raises:
        UserError: there is none.
    """
    if str(path).startswith(f"{SCHEME}/"):
        from dietnerf.runs.hub import fetch  # which takes half a second to import

        path = fetch(path)
    path = Path(path)
    if not path.is_dir():
        if path.is_file():
            if zipfile.is_zipfile(path) and not is_whole(path):
                raise UserError(f"{path} is damaged: its checksums do not hold; take another one")
            return path
        raise UserError(
            f"there is no checkpoint at {path}; give the folder of a run, a .ckpt file, or splats "
            "as .ply or .splat"
        )
    for candidate in checkpoints_of(path):
        if is_whole(candidate):
            return candidate
        print(f"{candidate} is torn or empty: passing it over", file=sys.stderr)
    raise UserError(
        f"there is no checkpoint at {path / 'checkpoints' / LAST}; give a .ckpt file or the "
        "folder of a run, or begin without one"
    )


def checkpoints_of(run: Path) -> list[Path]:
    """All checkpoints of a run, valid or not: the last one, then by descending step, then the
    best."""
    folder = run / "checkpoints"
    numbered = [path for path in folder.glob("*.ckpt") if path.stem.isdecimal()]
    numbered.sort(key=lambda path: int(path.stem), reverse=True)
    return [path for path in (folder / LAST, *numbered, folder / BEST) if path.is_file()]


def latest_before(run: Path, step: int) -> Path | None:
    """The whole checkpoint of a run with the most steps, but no more than `step`."""
    steps = {path: steps_in(path) for path in checkpoints_of(run) if is_whole(path)}
    good = [path for path in steps if steps[path] <= step]
    return max(good, key=steps.__getitem__, default=None)


def steps_in(checkpoint: Path) -> int:
    """How many steps it was trained for."""
    steps: int = read_checkpoint(checkpoint)["global_step"]
    return steps


def set_aside(run: Path) -> None:
    """Rename the checkpoints of a run, so that it can begin anew and nothing is lost."""
    folder = run / "checkpoints"
    if folder.is_dir():
        taken = sum(1 for _ in run.glob("checkpoints-abandoned*"))
        folder.rename(run / f"checkpoints-abandoned{taken or ''}")


def is_whole(path: Path) -> bool:
    """Whether a checkpoint file is complete, by its checksums."""
    with path.open("rb") as file:  # a file without permission may be complete
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        except Exception:  # any error of zipfile, or of a broken sector
            return False


def run_of(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    is_kept = checkpoint.parent.name == "checkpoints"
    return checkpoint.parents[1] if is_kept else checkpoint.parent


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, without running any code from it.

    Raises:
        UserError: the file is broken, not a checkpoint that this version can read, holds more than
            its bytes can, or names classes that no file may name.
    """
    if is_splats(path):
        raise UserError(f"{path} is a file of splats, and no checkpoint of a run")
    try:
        checkpoint = load_tensors(path)
    except Exception as error:  # any error of torch.load on bytes that are no checkpoint
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); "
            "it may be torn, or of another program"
        ) from error
    check_format(checkpoint if isinstance(checkpoint, dict) else {}, str(path))
    check_values(checkpoint, path)
    read_options(checkpoint, path)
    return checkpoint


def read_options(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """The options of the scene in a checkpoint: plain values and specs.

    Raises:
        UserError: they are not options of this version, or name a class that no file may name.
    """
    saved = checkpoint.get("hyper_parameters") or {}
    if not isinstance(saved, dict):
        raise UserError(f"{path} holds no options of a model: it is not dietnerf's")
    options = {name: saved.get(name) for name in PARTS}
    return OptionReader(path).options(options, SceneModel, "hyper_parameters")


def load_scene(path: Path) -> SceneModel:
    """Field, sampler and cameras of a checkpoint, ready to render, on the CPU; or the splats of a
    file, with cameras around them.

    Raises:
        UserError: as `read_checkpoint`, or the weights are not those of the options.
    """
    if is_splats(path):
        return scene_of_splats(path)
    checkpoint = read_checkpoint(path)
    parts = read_options(checkpoint, path)
    weights = weights_of(checkpoint, path)
    try:
        check_weights(parts, weights, path)
        scene = build_scene(parts)
        scene.load_state_dict(weights)
        scene.camera_set, scene.history = read_facts(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # any error of options or weights that do not fit each other
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path} holds no scene that can be rendered ({type(error).__name__}: {reason}); "
            "it may have been changed, or come from another version"
        ) from error
    return scene.eval()


def weights_of(checkpoint: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights that rendering needs.

    Raises:
        UserError: the checkpoint holds none.
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(x, Tensor) for name, x in state.items()
    ):
        raise UserError(f"{path} holds no weights")
    return {name: x for name, x in state.items() if name.partition(".")[0] in PARTS}
