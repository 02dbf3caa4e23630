"""A run in several parts, and other commands, each in a process of its own that may be killed."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from dietnerf.runs.checkpoints import checkpoints_of, is_whole
from dietnerf.training import cli
from dietnerf.training.system import DietNeRF

# Children are forked from a process that has imported everything and started no thread.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.reliability.pipeline"])


def start(
    run: Path, options: list[str], output: Path | None = None, taken: Any | None = None
) -> BaseProcess:
    """Begin a run, or go on with it, in a process of its own.

    What it says goes to `output`, or to a file beside the run; how many steps it has taken, to
    `taken`, a shared integer.
    """
    going_on = ["--ckpt_path", "last"] if checkpoints_of(run) else []
    words = ["fit", *options, "--run", str(run), *going_on]
    arguments = (words, output or run.with_suffix(".txt"), taken)
    process = CONTEXT.Process(target=_train, args=arguments)
    process.start()
    return process


def finish(run: Path, options: list[str], output: Path | None = None) -> None:
    process = start(run, options, output)
    process.join()
    assert process.exitcode == 0, (output or run.with_suffix(".txt")).read_text()[-2000:]


def start_command(main: Callable[[list[str]], None], words: list[str], output: Path) -> BaseProcess:
    """Begin any command in a process of its own; what it says goes to `output`, written anew."""
    output.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_carry_out, args=(main, words, output))
    process.start()
    return process


def said_by(process: BaseProcess, output: Path) -> str:
    """What a command says that has to succeed."""
    process.join()
    said = output.read_text()
    assert process.exitcode == 0, said[-2000:]
    return said


def _train(words: list[str], output: Path, taken: Any | None) -> None:
    if taken is not None:
        _count(taken)
    sys.argv = ["train.py", *words]
    _carry_out(cli.main, words, output)


def _carry_out(main: Callable[[list[str]], None], words: list[str], output: Path) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    main(words)


def _count(taken: Any) -> None:
    take_step = DietNeRF.take_step

    def counted(self: DietNeRF, step: int, is_last: bool) -> None:
        taken.value = step
        take_step(self, step, is_last)

    DietNeRF.take_step = counted  # type: ignore[method-assign]


def steps_lost(run: Path, taken: Any) -> int:
    """How many steps that were taken are in no whole checkpoint."""
    kept = [read(path)["global_step"] for path in checkpoints_of(run) if is_whole(path)]
    return max(0, taken.value - max(kept, default=0))


def read(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


TRAINED = (
    *("state_dict", "current_model_state", "averaging_state"),
    *("optimizer_states", "lr_schedulers", "SceneDataModule", "global_step"),
)


def differing(found: Any, expected: Any, name: str = "") -> list[str]:
    """Where two checkpoints differ, to the bit."""
    if isinstance(expected, torch.Tensor):
        return [] if found.dtype == expected.dtype and torch.equal(found, expected) else [name]
    if isinstance(expected, dict):
        keys = expected.keys() | found.keys()
        return [n for k in keys for n in differing(found.get(k), expected.get(k), f"{name}/{k}")]
    if isinstance(expected, list | tuple):
        pairs = enumerate(zip(found, expected, strict=True))
        return [n for i, (f, e) in pairs for n in differing(f, e, f"{name}/{i}")]
    return [] if found == expected else [name]


def what_was_trained(checkpoint: Path) -> dict[str, Any]:
    saved = read(checkpoint)
    return {name: saved[name] for name in TRAINED if name in saved}
