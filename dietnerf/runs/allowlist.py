"""The allow-list of configs: which options a config file may hold, as it can come from anyone.

Options of the command line are not checked here: they are the user's own.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dietnerf.errors import UserError
from dietnerf.registry import OptionReader
from dietnerf.semantics import OpenCLIP
from dietnerf.specs import Spec, plain

# Options of listed classes that must lie in the run, and that must be plain names.
FOLDERS = ("save_dir", "dirpath", "root_dir")
NAMES = ("filename", "name", "version", "sub_dir", "prefix")
# A format string without attributes of objects, and without widths that would fill memory.
TEMPLATE = re.compile(r"(?:[^{}]|\{[\w-]+(?::\d?\d?(?:\.\d\d?)?[dfeg]?)?\})*")
OPTIONS = {
    "seed_everything": bool | int | None,
    "save_every": int,
    "minutes": float | None,
    "use_semantic_loss": bool,
    "viewer": bool,
    "viewer_port": int,
    "lpips_weights": str | None,
}
OF_ONE_COMMAND = ("run", "ckpt_path", "weights_only")  # which are given for each command
# Options of the trainer that matter to a command that only renders.
RENDERING = (
    *("accelerator", "strategy", "devices", "precision", "deterministic", "benchmark"),
    *("limit_val_batches", "limit_test_batches", "limit_predict_batches", "enable_progress_bar"),
)


@dataclass(frozen=True)
class Allowlist:
    """The classes that a config file may name.

    Args:
        sections: for each section of a config, the class whose constructor takes its options.
        listed: classes of other packages that can be named, by the class that is expected. Where a
            class of this package is expected, all its concrete subclasses can be named.
    """

    sections: Mapping[str, type]
    listed: Mapping[type, Sequence[type]]

    def check_config(self, content: dict[str, Any], path: Path, run: Path) -> None:
        """Refuse a config with options that no file may hold.

        Args:
            content: as it was read; some options may stand in other files.
            path: the file.
            run: the folder that everything is to be written into.

        Raises:
            UserError: names the option.
        """
        reader = OptionReader(path, self.listed, is_overlay=True)
        for name, value in content.items():
            if name not in OF_ONE_COMMAND:
                for spec in _specs(self._read(reader, name, value)):
                    self._check_places(spec, path, run)

    def config_of_run(self, content: dict[str, Any], path: Path, trains: bool) -> dict[str, Any]:
        """The options that a command takes from an existing run, written out in full.

        Args:
            content: of the run's config.
            path: the file, in the folder of the run.
            trains: whether the command resumes the training.

        Raises:
            UserError: an option is unknown, or one that no file may hold.
        """
        reader = OptionReader(path, self.listed)
        kept = {name: value for name, value in content.items() if name not in OF_ONE_COMMAND}
        if isinstance(kept.get("trainer"), dict):
            kept["trainer"] = _of_one_machine(kept["trainer"], path, trains)
        found = {name: self._read(reader, name, value) for name, value in kept.items()}
        for spec in _specs(found):
            self._check_places(spec, path, path.parent)
        return {name: plain(value) for name, value in found.items()}

    def _read(self, reader: OptionReader, name: Any, value: Any) -> Any:
        if name in self.sections and value is not None:
            found = reader.options(value, self.sections[name], name)
            if name == "trainer" and found.get("model_registry") is not None:
                raise UserError(f"{reader.path}: trainer.model_registry is a place on the network")
            return found
        if name not in OPTIONS:
            raise UserError(f"{reader.path}: {name!r:.60} is no option of dietnerf")
        return reader.value(value, OPTIONS[name], name)

    def _check_places(self, spec: Spec, path: Path, run: Path) -> None:
        """Refuse listed classes that would write outside of the run, and encoders from any place on
        the hub."""
        if spec.cls is OpenCLIP and ":" in str(spec.options.get("model")):
            raise UserError(
                f"{path}: the encoder's model is {spec.options['model']!r:.60}, a place on the hub "
                "or a folder; take it out of the file, and give it on the command line"
            )
        if _package(spec.cls) not in {_package(base) for base in self.listed}:
            return
        for name, value in spec.options.items():
            if name == "filename" and not TEMPLATE.fullmatch(value or ""):
                raise UserError(
                    f"{path}: filename of {spec.cls.__name__} is {value!r:.60}; use letters, and "
                    "numbers that are counted, as {step:06d}"
                )
            inside = Path(str(value)).resolve().is_relative_to(run.resolve())
            is_place = name in NAMES and (Path(str(value)).name != str(value) or "\\" in str(value))
            if value not in (None, "") and ((name in FOLDERS and not inside) or is_place):
                raise UserError(
                    f"{path}: {name} of {spec.cls.__name__} is {value!r:.60}, which is not in the "
                    "folder of the run; take it out of the file, and give it on the command line"
                )


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _of_one_machine(trainer: dict[str, Any], path: Path, trains: bool) -> dict[str, Any]:
    """The trainer's options on this machine alone, for a command that only renders few of them."""
    trainer = dict(trainer)
    if trainer.pop("num_nodes", 1) != 1:
        warnings.warn(
            f"{path} is of a run on several machines, and this command runs on one: it would wait "
            "for the others, and open a port; where they are there, give --trainer.num_nodes",
            stacklevel=3,
        )
    return trainer if trains else {name: trainer[name] for name in RENDERING if name in trainer}


def _specs(value: Any) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
        value = value.options
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _specs(one)
