"""The command line: LightningCLI's subcommands, with a folder for each run."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, Namespace
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from dietnerf.arguments import typed
from dietnerf.capture_report import look
from dietnerf.errors import (
    ITEM,
    UserError,
    exit_on_user_error,
    full_disk_behind,
    leaving_on_signals,
    naming_missing_packages,
)
from dietnerf.files import UNWRITABLE, check_writable, remove_parts
from dietnerf.history import History
from dietnerf.locks import FolderLock
from dietnerf.runs.checkpoints import checkpoints_of, read_checkpoint, set_aside
from dietnerf.training import xla
from dietnerf.training.budget import Budget
from dietnerf.training.callback_checks import check_callbacks
from dietnerf.training.callbacks import (
    FinalMetrics,
    PredictedPictures,
    ProgressBar,
    Stopwatch,
    TestResults,
    ValidationPictures,
)
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.distributed import (
    check_backend,
    is_loss_of_a_process,
    leave,
    raise_on_all_ranks,
    register_strategies,
)
from dietnerf.training.divergence import NaNGuard, RestartTraining
from dietnerf.training.first_words import say_what_is_trained_on
from dietnerf.training.folder import KeepFolder, needs_lock
from dietnerf.training.parser import Parser
from dietnerf.training.runs import (
    LATEST,
    check_declared,
    check_unused,
    choose_checkpoint,
    complete,
    load_weights,
)
from dietnerf.training.runtime import prepare_process
from dietnerf.training.saving import (
    BestCheckpoint,
    Checkpoints,
    EventFiles,
    SaveConfig,
    StopOnSignal,
    WholeFiles,
)
from dietnerf.training.system import DietNeRF
from dietnerf.training.trainer_options import check_monitored, check_options, part_behind
from dietnerf.training.viewer_callback import LiveViewer

SEMANTIC = ".SemanticConsistency"
AVERAGING = "WeightAveraging"
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": -1,  # the length of a run is max_steps
    "max_steps": 10_000,
    "val_check_interval": 1000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # views are shared out so that none counts twice
}


class Trainer(pl.Trainer):
    """Lightning's, with one subcommand more."""

    def look(
        self,
        model: DietNeRF,
        datamodule: SceneDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Say what the training views cover, and draw their cameras, before anything is trained.

        The last two are there because the config of a run names them.
        """
        dataset = datamodule.datasets["train"]
        picture = Path(self.default_root_dir) / "capture.png"
        has_depths = dataset.depths is not None
        look(dataset.cameras, dataset.names, picture, dataset.is_cut_out, has_depths)


class DietNeRFCLI(LightningCLI):
    """LightningCLI with one folder for each run.

    Args:
        held: keeps the lock of the run's folder, for as long as it is open.
        setback: what ended the attempt before this one.
        options: of LightningCLI.
    """

    def __init__(
        self, *args: Any, held: ExitStack, setback: RestartTraining | None = None, **options: Any
    ) -> None:
        self.held, self.setback = held, setback
        self.stop_on_signal = StopOnSignal()
        super().__init__(*args, **options)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**LightningCLI.subcommands(), "look": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, default=LATEST, help="folder of all results")
        parser.add_argument(
            "--save_every", type=int, default=5000, help="steps between checkpoints that are kept"
        )
        parser.add_argument(
            "--minutes",
            type=float | None,
            default=None,
            help="train for that long, instead of trainer.max_steps",
        )
        parser.add_argument(
            "--use_semantic_loss",
            type=bool,
            default=True,
            help="false takes the semantic loss out of any config",
        )
        parser.add_argument(
            "--viewer",
            type=bool,
            default=False,
            help="true shows the scene in a browser while it trains",
        )
        parser.add_argument("--viewer_port", type=int, default=8080)
        parser.add_argument(
            "--lpips_weights",
            type=str | None,
            default=None,
            help="torchvision's VGG-16 weights for the LPIPS metric, if not in torch's cache",
        )

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they were given: a checkpoint does not overrule the command line."""

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"seed_everything: {error}") from error

    def instantiate_classes(self) -> None:
        """Find whatever is wrong with options and photographs, or does not suit them, before
        anything is written."""
        with raise_on_all_ranks():
            self._settle_options()
            with _naming_bad_options(), naming_missing_packages():
                super().instantiate_classes()
            self._lock_folder()
            self._prepare(str(self.subcommand))

    def _settle_options(self) -> None:
        options = self._options()
        self.lock = FolderLock(Path(options.run), str(self.subcommand), "--run")
        check_options(options)
        if not options.use_semantic_loss and options.model.losses is not None:
            losses = [x for x in options.model.losses if not x.class_path.endswith(SEMANTIC)]
            options.model.losses = losses or None
        subcommand = str(self.subcommand)
        if subcommand == "look":
            check_writable(Path(options.run), "--run")
            self.save_config_callback, options.trainer.logger = None, False
            options.ckpt_path = None
            return
        if self.setback is not None:
            self._make_way(options, self.setback)
        checkpoint = choose_checkpoint(subcommand, Path(options.run), options.ckpt_path)
        options.ckpt_path = None if checkpoint is None else str(checkpoint)
        if checkpoint is not None:
            check_declared(options.model.as_dict(), checkpoint)
        if subcommand == "fit":
            if checkpoint is not None:  # rays and jitter go on with the seed that they began with
                history = read_checkpoint(checkpoint)["dietnerf"].get("history")
                options.seed_everything = History.from_dict(history).seed
                self._set_seed()
            return
        self.save_config_callback = None
        # The weights in a checkpoint are the average already.
        callbacks = options.trainer.callbacks or []
        options.trainer.callbacks = [c for c in callbacks if not c.class_path.endswith(AVERAGING)]
        if subcommand == "validate" and not os.access(options.run, os.W_OK):
            options.trainer.logger = False
        if subcommand == "predict":
            options.return_predictions = False  # they are written, one by one

    def _make_way(self, options: Namespace, setback: RestartTraining) -> None:
        """Let the command begin where a setback says."""
        options.ckpt_path = None if setback.checkpoint is None else str(setback.checkpoint)
        if setback.checkpoint is None:
            set_aside(Path(options.run))
        if setback.seed is not None:
            options.seed_everything = setback.seed
            self._set_seed()

    def _lock_folder(self) -> None:
        if not needs_lock(self.trainer, str(self.subcommand)):
            return
        self.held.enter_context(self.lock)
        if self.subcommand == "fit" and self._options().ckpt_path is None:
            check_unused(self.lock.folder)  # another may have ended since it was looked at

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        options, trainer = self._options(), self._get(self.config_init, "trainer")
        if trainer["logger"] in (None, True):
            kwargs["logger"] = EventFiles(options.run, name="", version="", default_hp_metric=False)
        kwargs["default_root_dir"] = options.run
        kwargs["accelerator"] = xla.accelerator(trainer["accelerator"])
        if trainer["accelerator"] not in xla.NAMES:  # there Lightning's own fetches the tensors
            kwargs["plugins"] = [*(trainer["plugins"] or []), WholeFiles()]
        kwargs["callbacks"] = [*(trainer["callbacks"] or []), *self._callbacks(options)]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error

    def _callbacks(self, options: Namespace) -> list[Callback]:
        if self.subcommand == "look":
            return []
        bar: list[Callback] = (
            [] if options.trainer.enable_progress_bar is False else [ProgressBar()]
        )
        if self.subcommand == "test":
            return [*bar, TestResults(options.run, options.lpips_weights), self.stop_on_signal]
        if self.subcommand == "predict":
            return [*bar, PredictedPictures(options.run), self.stop_on_signal]
        if self.subcommand == "validate":
            return [*bar, self.stop_on_signal]
        saving = [] if options.trainer.enable_checkpointing is False else _checkpoints(options)
        # First, so that its pictures do not count as training.
        watched = [LiveViewer(port=options.viewer_port)] if options.viewer else []
        guard = NaNGuard(options.run, self.setback)
        budget = [] if options.minutes is None else [Budget(options.minutes)]
        watching = [KeepFolder(self.lock), Stopwatch(), *budget, guard, self.stop_on_signal]
        return [*watched, *bar, *watching, ValidationPictures(), FinalMetrics(), *saving]

    def _prepare(self, subcommand: str) -> None:
        strategy = self.trainer.strategy
        check_backend(strategy)
        check_monitored(self.trainer)
        xla.check(strategy.root_device, self.model.sampler)
        self.datamodule.setup("fit" if subcommand == "look" else subcommand)
        self.datamodule.check_devices(subcommand, self.trainer.world_size)
        if subcommand in ("fit", "look"):
            say_what_is_trained_on(self.datamodule, trains=subcommand == "fit")
        if subcommand == "fit":
            self.model.prepare(self.datamodule, strategy.root_device)
        if self._options().ckpt_path is not None:
            checkpoint = Path(self._options().ckpt_path)
            load_weights(self.model, checkpoint)
            if subcommand == "fit":
                states = read_checkpoint(checkpoint)["callbacks"]
                callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
                check_callbacks(states, callbacks, checkpoint)
        for folder in (".", "checkpoints", "test", "predict"):
            remove_parts(Path(self._options().run) / folder)

    def _run_subcommand(self, subcommand: str) -> None:
        """Carry it out, and say how to go on if it ends before its time."""
        try:
            with self._naming_the_checkpoint():
                super()._run_subcommand(subcommand)
        except SIGTERMException:
            if self.trainer.is_global_zero:
                print(f"stopped; {self._how_to_go_on()}", file=sys.stderr)
            sys.exit(128 + (self.stop_on_signal.received or signal.SIGTERM))
        except UserError as error:
            raise type(error)(*f"{error}; {self._how_to_go_on()}".split(ITEM)) from error
        except (OSError, ValueError) as error:  # Lightning's, of what a logger says
            disk = full_disk_behind(error) or error
            if not isinstance(disk, OSError) or (
                disk.errno not in UNWRITABLE and disk.filename is None
            ):
                raise
            place = os.fsdecode(disk.filename or self._options().run)  # TensorBoard's are bytes
            fault = " cannot be written" if disk.errno in UNWRITABLE else ""
            sentence = f"{place}{fault}: {disk.strerror}"
            raise UserError(f"{sentence}; {self._how_to_go_on()}") from error
        except Exception as error:
            if is_loss_of_a_process(error):
                sentence = "another process of this run is gone; see what it said"
            elif part := part_behind(error):
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                sentence = f"{part}, in the options of trainer, cannot go on ({reason})"
            else:
                raise
            raise UserError(f"{sentence}; {self._how_to_go_on()}") from error
        leave()

    @contextmanager
    def _naming_the_checkpoint(self) -> Iterator[None]:
        """Turn what goes wrong while the state of a run is restored into one sentence."""
        try:
            yield
        except Exception as error:
            checkpoint = self._options().ckpt_path
            is_known = isinstance(error, UserError | OSError) or is_loss_of_a_process(error)
            is_restoring = self.subcommand == "fit" and not self.stop_on_signal.has_begun
            if checkpoint is None or is_known or full_disk_behind(error) or not is_restoring:
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UserError(
                f"training cannot go on from {checkpoint} ({reason}); it may have been changed, or "
                "come from another version"
            ) from error

    def _how_to_go_on(self) -> str:
        run, subcommand = self._options().run, str(self.subcommand)
        command = f"{typed(subcommand)} --run {shlex.quote(run)}"
        if subcommand != "fit":
            return f"what was written so far stays; begin again: {command}"
        if not checkpoints_of(Path(run)):
            return "there is no checkpoint yet, so begin again"
        return f"go on from the last checkpoint: {command} --ckpt_path last"

    def after_fit(self) -> None:
        if not self.trainer.is_global_zero:
            return
        run = self._options().run
        if not self.stop_on_signal.has_begun:
            steps, most = self.trainer.global_step, self.trainer.max_steps
            print(f"{run} has {steps} steps already, and ends at {most}: nothing was trained")
            return
        assert self.model.camera_set is not None
        name = shlex.quote(run)
        lines = [f"The scene is in {run}. Next:"]
        lines += [f"  {typed('test')} --run {name}"] * ("test" in self.model.camera_set.cameras)
        lines += [f"  {typed('render')} {name}", f"  {typed('view')} {name}"]
        print("\n".join([*lines, f"  tensorboard --logdir {name}"]))

    def _options(self) -> Namespace:
        return self.config[self.subcommand]


@contextmanager
def _naming_bad_options() -> Iterator[None]:
    """Turn what Lightning's classes say of their options into one sentence."""
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"an option cannot be used ({reason})") from error


def _checkpoints(options: Namespace) -> list[Callback]:
    """Keep one every n steps, the last, and the best on validation."""
    folder = Path(options.run) / "checkpoints"
    return [Checkpoints(folder, options.save_every), BestCheckpoint(folder)]


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Run one subcommand; `args` defaults to the command line."""
    prepare_process()
    register_strategies()
    if args is None:
        # Completed in place: further processes of a distributed run are started with the same.
        sys.argv[1:] = complete(sys.argv[1:])
    else:
        args = complete(args)
    with ExitStack() as held:
        try:
            _run(args, held)
            return
        except RestartTraining as error:
            setback = error
        print(setback, file=sys.stderr)
        _run(args, held, setback)


def _run(args: list[str] | None, held: ExitStack, setback: RestartTraining | None = None) -> None:
    DietNeRFCLI(
        DietNeRF,
        SceneDataModule,
        trainer_class=Trainer,
        args=args,
        parser_class=Parser,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=0,
        save_config_callback=SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
        auto_configure_optimizers=False,
        held=held,
        setback=setback,
    )
