"""What the config of a run may say: it can come from anybody.

The options of the command line are not looked at here: they are the user's own.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy, Strategy

from dietnerf.errors import UserError
from dietnerf.registry import OptionReader
from dietnerf.semantics import OpenCLIP
from dietnerf.specs import Spec, plain
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.system import DietNeRF

LISTED: dict[type, tuple[type, ...]] = {
    Callback: (
        *(EMAWeightAveraging, EarlyStopping, ModelCheckpoint),
        *(LearningRateMonitor, DeviceStatsMonitor, TQDMProgressBar),
    ),
    Logger: (TensorBoardLogger, CSVLogger),  # others send what they log somewhere
    Profiler: (SimpleProfiler, AdvancedProfiler),
    Strategy: (DDPStrategy,),
}
FOLDERS = ("save_dir", "dirpath", "root_dir")  # options of those classes that must lie in the run
NAMES = ("filename", "name", "version", "sub_dir", "prefix")  # and that must be plain names
# Of a name that Python fills in: neither attributes of objects nor a million zeros.
TEMPLATE = re.compile(r"(?:[^{}]|\{[\w-]+(?::\d?\d?(?:\.\d\d?)?[dfeg]?)?\})*")
SECTIONS = {"model": DietNeRF, "data": SceneDataModule, "trainer": pl.Trainer}
OPTIONS = {
    "seed_everything": bool | int | None,
    "save_every": int,
    "minutes": float | None,
    "use_semantic_loss": bool,
    "viewer": bool,
    "viewer_port": int,
    "lpips_weights": str | None,
}
OF_ONE_COMMAND = ("run", "ckpt_path", "weights_only")  # which the next one has of its own
# Of the trainer, what matters to a command that only renders.
RENDERING = (
    *("accelerator", "strategy", "devices", "precision", "deterministic", "benchmark"),
    *("limit_val_batches", "limit_test_batches", "limit_predict_batches", "enable_progress_bar"),
)


def check_config(content: dict[str, Any], path: Path, run: Path) -> None:
    """Refuse a config that says what no file may say.

    Args:
        content: as it was read; some options may stand in other files.
        path: the file.
        run: the folder that everything is to be written into.

    Raises:
        UserError: names the option.
    """
    reader = OptionReader(path, LISTED, is_overlay=True)
    for name, value in content.items():
        if name not in OF_ONE_COMMAND:
            for spec in _specs(_read(reader, name, value)):
                _check_places(spec, path, run)


def config_of_run(content: dict[str, Any], path: Path, trains: bool) -> dict[str, Any]:
    """The options that a command takes from the run that it is for, written out in full.

    Args:
        content: of the run's config.
        path: the file, in the folder of the run.
        trains: the command goes on with the training.

    Raises:
        UserError: an option is none, or says what no file may say.
    """
    reader = OptionReader(path, LISTED)
    kept = {name: value for name, value in content.items() if name not in OF_ONE_COMMAND}
    if isinstance(kept.get("trainer"), dict) and kept["trainer"].pop("num_nodes", 1) != 1:
        warnings.warn(
            f"{path} is of a run on several machines, and this command runs on one: it would wait "
            "for the others, and open a port; where they are there, give --trainer.num_nodes",
            stacklevel=2,
        )
    if not trains and isinstance(kept.get("trainer"), dict):
        trainer = kept["trainer"]
        kept["trainer"] = {name: trainer[name] for name in RENDERING if name in trainer}
    found = {name: _read(reader, name, value) for name, value in kept.items()}
    for spec in _specs(found):
        _check_places(spec, path, path.parent)
    return {name: plain(value) for name, value in found.items()}


def _read(reader: OptionReader, name: Any, value: Any) -> Any:
    if name in SECTIONS and value is not None:
        found = reader.options(value, SECTIONS[name], name)
        if name == "trainer" and found.get("model_registry") is not None:
            raise UserError(f"{reader.path}: trainer.model_registry is a place on the network")
        return found
    if name not in OPTIONS:
        raise UserError(f"{reader.path}: {name!r:.60} is no option of dietnerf")
    return reader.value(value, OPTIONS[name], name)


def _specs(value: Any) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
        value = value.options
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _specs(one)


def _check_places(spec: Spec, path: Path, run: Path) -> None:
    """Refuse loggers, profilers and callbacks that would write outside of the run, and towers from
    anywhere on the hub."""
    if spec.cls is OpenCLIP and ":" in str(spec.options.get("model")):
        raise UserError(
            f"{path}: the encoder's model is {spec.options['model']!r:.60}, a place on the hub or "
            "a folder; take it out of the file, and give it on the command line"
        )
    if spec.cls.__module__.partition(".")[0] != "pytorch_lightning":
        return
    for name, value in spec.options.items():
        if (
            spec.cls is ModelCheckpoint
            and name == "filename"
            and not TEMPLATE.fullmatch(value or "")
        ):
            raise UserError(
                f"{path}: filename of ModelCheckpoint is {value!r:.60}; use letters, and "
                "numbers that are counted, as {step:06d}"
            )
        inside = Path(str(value)).resolve().is_relative_to(run.resolve())
        is_place = name in NAMES and (Path(str(value)).name != str(value) or "\\" in str(value))
        if value not in (None, "") and ((name in FOLDERS and not inside) or is_place):
            raise UserError(
                f"{path}: {name} of {spec.cls.__name__} is {value!r:.60}, which is not in the "
                "folder of the run; take it out of the file, and give it on the command line"
            )
