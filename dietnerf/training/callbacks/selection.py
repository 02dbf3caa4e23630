"""The callbacks of each subcommand."""

from pathlib import Path

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import Namespace

from dietnerf.locks import FolderLock
from dietnerf.training.callbacks.budget import Budget
from dietnerf.training.callbacks.divergence import NaNGuard, RestartTraining
from dietnerf.training.callbacks.folder import KeepFolder
from dietnerf.training.callbacks.progress import ProgressBar, Stopwatch
from dietnerf.training.callbacks.results import PredictedImages, TestResults
from dietnerf.training.callbacks.saving import BestCheckpoint, Checkpoints
from dietnerf.training.callbacks.stopping import StopOnSignal
from dietnerf.training.callbacks.validation import FinalMetrics, ValidationImages
from dietnerf.training.callbacks.viewer import LiveViewer


def callbacks_of(
    subcommand: str,
    options: Namespace,
    lock: FolderLock,
    stop_on_signal: StopOnSignal,
    restart: RestartTraining | None,
) -> list[Callback]:
    """The package's own callbacks, in the order in which they are called.

    Args:
        subcommand: of the command line.
        options: of that subcommand.
        lock: of the folder of the run.
        stop_on_signal: ends the subcommand on a signal.
        restart: what ended the attempt before this one.
    """
    if subcommand == "report":
        return []
    bar: list[Callback] = [] if options.trainer.enable_progress_bar is False else [ProgressBar()]
    if subcommand == "test":
        return [*bar, TestResults(options.run, options.lpips_weights), stop_on_signal]
    if subcommand == "predict":
        return [*bar, PredictedImages(options.run), stop_on_signal]
    if subcommand == "validate":
        return [*bar, stop_on_signal]
    saving = [] if options.trainer.enable_checkpointing is False else _checkpoints(options)
    # First, so that its pictures do not count as training.
    viewer = [LiveViewer(port=options.viewer_port)] if options.viewer else []
    budget = [] if options.minutes is None else [Budget(options.minutes)]
    guard = NaNGuard(options.run, restart)
    own = [KeepFolder(lock), Stopwatch(), *budget, guard, stop_on_signal]
    return [*viewer, *bar, *own, ValidationImages(), FinalMetrics(), *saving]


def _checkpoints(options: Namespace) -> list[Callback]:
    """Keep one every n steps, the last, and the best on validation."""
    folder = Path(options.run) / "checkpoints"
    return [Checkpoints(folder, options.save_every), BestCheckpoint(folder)]
