"""Packages that only exports need."""

import importlib
from typing import Any

from dietnerf.errors import UserError


def require(module: str, package: str, purpose: str) -> Any:
    """A module of an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs {package}: `pip install 'dietnerf[export]'`") from error
