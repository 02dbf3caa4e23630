"""Which classes a file that a stranger may have written can name: this package's, no others."""

import importlib
import os
from pathlib import Path
from typing import Any

from dietnerf.errors import UserError

TRUSTED = "DIETNERF_TRUSTED"  # environment variable: further packages, with commas between them


def check_classes(content: Any, path: Path, *packages: str) -> None:
    """Refuse class paths of other packages, anywhere in nested options.

    Args:
        content: options as they were read, of dictionaries and lists.
        path: the file that they come from.
        packages: trusted besides this one and those that the user names in `DIETNERF_TRUSTED`.

    Raises:
        UserError: names the class, and how to allow it.
    """
    trusted = {*packages, *os.environ.get(TRUSTED, "").replace(" ", "").split(",")} - {""}
    _check(content, path, trusted)


def _check(content: Any, path: Path, trusted: set[str]) -> None:
    if isinstance(content, dict):
        if "class_path" in content and not _is_allowed(content["class_path"], trusted):
            name = content["class_path"]
            package = str(name).partition(".")[0]
            raise UserError(
                f"{path} asks for the class {name!r}, which is not dietnerf's, so it is not "
                f"loaded; if the file comes from you, set {TRUSTED}={package}"
            )
        content = list(content.values())
    if isinstance(content, list | tuple):
        for value in content:
            _check(value, path, trusted)


def _is_allowed(class_path: Any, trusted: set[str]) -> bool:
    module, _, name = str(class_path).rpartition(".")
    package = module.partition(".")[0]
    if package != "dietnerf":
        return package in trusted
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    # What a module of this package imports itself is another's.
    return isinstance(found, type) and found.__module__.partition(".")[0] == "dietnerf"
