"""Packages that only some commands need, and how they are had."""

import importlib
import sys
from pathlib import Path
from typing import Any

from dietnerf.errors import UserError

ROOT = Path(__file__).parents[1]  # of a checkout, or what the package is installed into


def how_to_install(extra: str = "") -> str:
    """What installs dietnerf with one of its extras, as part of a sentence. It is not on PyPI, so
    that is done in a checkout.

    Args:
        extra: as `pyproject.toml` names it; none by default.
    """
    what = f"'.[{extra}]'" if extra else "."
    if (ROOT / "pyproject.toml").is_file():
        return f"`pip install -e {what}` in {ROOT}"
    return f"`pip install {what}` in a checkout of dietnerf"


def require(module: str, package: str, purpose: str) -> Any:
    """A module of an optional package that exports need.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs {package}: {how_to_install('export')}") from error


def missing(package: str) -> str:
    """A sentence about a package without which nothing can be done."""
    return (
        f"{package} is not installed for {sys.executable}: in a checkout use .venv/bin/python, "
        f"which `make build` makes; elsewhere {how_to_install()}"
    )
