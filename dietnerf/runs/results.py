"""The results of `train.py test`, read from an untrusted file."""

import json
import math
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from dietnerf.errors import UserError

METRICS = "metrics.json"
LARGEST = 2**24  # bytes of it
MOST_METRICS = 100
METRIC = re.compile(r"(?=.{1,40}$)[a-z][a-z0-9]*(_[a-z0-9]+)*")  # the name of one


@dataclass(frozen=True)
class Results:
    """The scores of a run.

    Args:
        checkpoint: name of the file that was tested; empty if unknown.
        protocol: description of the test views.
        mean: over the test views, by metric; without those that could not be computed.
    """

    checkpoint: str
    protocol: str
    mean: dict[str, float]


def read_results(run: Path) -> Results | None:
    """The scores of a run, or None if it was not tested.

    Raises:
        UserError: the file is not as `train.py test` writes it.
    """
    path = run / METRICS
    if not os.path.lexists(path):
        return None
    try:
        content = json.loads(_text(path, run))
        if not isinstance(content, dict):
            raise ValueError("it must hold an object")
        checkpoint = _words(content, "checkpoint", "")
        protocol = _words(content, "protocol", "test views")
        return Results(PurePath(checkpoint).name, protocol, _mean(content.get("mean")))
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read ({reason}); write it anew by "
            f"`dietnerf test --run {shlex.quote(str(run))}`, or remove it"
        ) from error


def is_own_file(path: Path, folder: Path) -> bool:
    """Whether a path is a file within a folder, and no link that leads out of it."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _text(path: Path, run: Path) -> str:
    if not is_own_file(path, run):
        raise ValueError("it is no file of the run")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _words(content: dict[str, Any], name: str, default: str) -> str:
    value = content.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value[:300]


def _mean(content: Any) -> dict[str, float]:
    if not isinstance(content, dict):
        raise ValueError("mean must hold the scores")
    if len(content) > MOST_METRICS:
        raise ValueError(f"mean has {len(content)} scores")
    for name, value in content.items():
        if not METRIC.fullmatch(name):
            raise ValueError(f"{name[:50]!r} is no metric")
        if isinstance(value, bool) or not isinstance(value, float | int | None):
            raise ValueError(f"mean {name} must be a number")
        if not math.isfinite(value or 0):
            raise ValueError(f"mean {name} is {value}")
    return {name: float(value) for name, value in content.items() if value is not None}
