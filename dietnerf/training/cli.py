"""The command line: LightningCLI's subcommands, with a folder for each run."""

import os
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, Namespace
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from dietnerf.arguments import typed
from dietnerf.errors import (
    ITEM,
    UserError,
    exit_on_user_error,
    leaving_on_signals,
    naming_missing_packages,
)
from dietnerf.files import check_writable, remove_parts
from dietnerf.history import History
from dietnerf.locks import FolderLock
from dietnerf.runs.checkpoints import read_checkpoint, set_aside
from dietnerf.runs.resuming import check_declared, check_unused, choose_checkpoint, load_weights
from dietnerf.training import xla
from dietnerf.training.callbacks import budget
from dietnerf.training.callbacks.divergence import RestartTraining
from dietnerf.training.callbacks.folder import needs_lock
from dietnerf.training.callbacks.saving import (
    EventFiles,
    SaveConfig,
    WholeFiles,
)
from dietnerf.training.callbacks.selection import callbacks_of
from dietnerf.training.callbacks.states import check_callbacks
from dietnerf.training.callbacks.stopping import StopOnSignal
from dietnerf.training.command_line import complete
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.distributed import (
    check_backend,
    raise_on_all_ranks,
    register_strategies,
    shutdown,
)
from dietnerf.training.failures import (
    how_to_go_on,
    naming_bad_options,
    naming_checkpoint,
    sentence_for,
)
from dietnerf.training.first_words import say_what_is_trained_on
from dietnerf.training.parser import Parser, add_run_options
from dietnerf.training.runtime import prepare_process
from dietnerf.training.system import DietNeRF
from dietnerf.training.trainer import TRAINER_DEFAULTS, Trainer
from dietnerf.training.trainer_options import check_monitored, check_options

SEMANTIC = ".SemanticConsistency"
AVERAGING = "WeightAveraging"


class DietNeRFCLI(LightningCLI):
    """LightningCLI with one folder for each run.

    Args:
        held: holds the lock of the run's folder while it is open.
        restart: what ended the attempt before this one.
        options: of LightningCLI.
    """

    def __init__(
        self, *args: Any, held: ExitStack, restart: RestartTraining | None = None, **options: Any
    ) -> None:
        self.held, self.restart = held, restart
        self.stop_on_signal = StopOnSignal()
        super().__init__(*args, **options)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**LightningCLI.subcommands(), "report": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_run_options(parser)

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they were given: a checkpoint does not overrule the command line."""

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"seed_everything: {error}") from error

    def instantiate_classes(self) -> None:
        """Check options and photographs before anything is written."""
        with raise_on_all_ranks():
            self._settle_options()
            with naming_bad_options(), naming_missing_packages():
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
        if subcommand == "report":
            check_writable(Path(options.run), "--run")
            self.save_config_callback, options.trainer.logger = None, False
            options.ckpt_path = None
            return
        if self.restart is not None:
            self._begin_again(options, self.restart)
        checkpoint = choose_checkpoint(subcommand, Path(options.run), options.ckpt_path, DietNeRF)
        options.ckpt_path = None if checkpoint is None else str(checkpoint)
        if checkpoint is not None:
            check_declared(options.model.as_dict(), DietNeRF, checkpoint)
        if subcommand == "fit":
            if checkpoint is not None:  # rays and jitter continue with their seed
                history = read_checkpoint(checkpoint)["dietnerf"].get("history")
                options.seed_everything = History.from_dict(history).seed
                self._set_seed()
                if options.minutes is not None:  # an earlier part may have gone beyond the config
                    options.trainer.max_steps = budget.MOST_STEPS
            return
        self.save_config_callback = None
        # The weights in a checkpoint are the average already.
        callbacks = options.trainer.callbacks or []
        options.trainer.callbacks = [c for c in callbacks if not c.class_path.endswith(AVERAGING)]
        if subcommand == "validate" and not os.access(options.run, os.W_OK):
            options.trainer.logger = False
        if subcommand == "predict":
            options.return_predictions = False  # they are written, one by one

    def _begin_again(self, options: Namespace, restart: RestartTraining) -> None:
        """Choose the checkpoint and the seed of another attempt."""
        options.ckpt_path = None if restart.checkpoint is None else str(restart.checkpoint)
        if restart.checkpoint is None:
            set_aside(Path(options.run))
        if restart.seed is not None:
            options.seed_everything = restart.seed
            self._set_seed()

    def _lock_folder(self) -> None:
        if not needs_lock(self.trainer, str(self.subcommand)):
            return
        self.held.enter_context(self.lock)
        if self.subcommand == "fit" and self._options().ckpt_path is None:
            check_unused(self.lock.folder)  # another run may have ended since the first check

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        options, trainer = self._options(), self._get(self.config_init, "trainer")
        if trainer["logger"] in (None, True):
            kwargs["logger"] = EventFiles(options.run, name="", version="", default_hp_metric=False)
        kwargs["default_root_dir"] = options.run
        kwargs["accelerator"] = xla.accelerator(trainer["accelerator"])
        if trainer["accelerator"] not in xla.NAMES:  # there Lightning's own fetches the tensors
            kwargs["plugins"] = [*(trainer["plugins"] or []), WholeFiles()]
        own = callbacks_of(
            str(self.subcommand), options, self.lock, self.stop_on_signal, self.restart
        )
        kwargs["callbacks"] = [*(trainer["callbacks"] or []), *own]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error

    def _prepare(self, subcommand: str) -> None:
        strategy = self.trainer.strategy
        check_backend(strategy)
        check_monitored(self.trainer)
        xla.check(strategy.root_device, self.model.field, self.model.sampler)
        self.datamodule.setup("fit" if subcommand == "report" else subcommand)
        self.datamodule.check_devices(subcommand, self.trainer.world_size)
        if subcommand in ("fit", "report"):
            say_what_is_trained_on(self.datamodule, trains=subcommand == "fit")
        if subcommand == "fit":
            is_resumed = self._options().ckpt_path is not None
            self.model.prepare(self.datamodule, strategy.root_device, is_resumed)
        if self._options().ckpt_path is not None:
            checkpoint = Path(self._options().ckpt_path)
            load_weights(self.model, self.model.hparams, checkpoint)
            if subcommand == "fit":
                states = read_checkpoint(checkpoint)["callbacks"]
                callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
                check_callbacks(states, callbacks, checkpoint)
        for folder in (".", "checkpoints", "test", "predict"):
            remove_parts(Path(self._options().run) / folder)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it, and say how to resume if it fails."""
        run, checkpoint = self._options().run, self._options().ckpt_path
        try:
            with naming_checkpoint(checkpoint, self._is_restoring):
                super()._run_subcommand(subcommand)
        except SIGTERMException:
            if self.trainer.is_global_zero:
                print(f"stopped; {how_to_go_on(subcommand, run)}", file=sys.stderr)
            sys.exit(128 + (self.stop_on_signal.received or signal.SIGTERM))
        except UserError as error:
            sentence = f"{error}; {how_to_go_on(subcommand, run)}"
            raise type(error)(*sentence.split(ITEM)) from error
        except Exception as error:
            if not (failure := sentence_for(error, run)):
                raise
            raise UserError(f"{failure}; {how_to_go_on(subcommand, run)}") from error
        shutdown()

    def _is_restoring(self) -> bool:
        return self.subcommand == "fit" and not self.stop_on_signal.has_begun

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
        minutes = self._options().minutes
        if minutes is not None:
            print(
                f"{self.trainer.global_step} steps took the {minutes:g} minutes of --minutes, all "
                f"parts of the run together: {typed('fit')} --run {name} --ckpt_path last "
                f"--minutes {2 * minutes:g} goes on"
            )
        lines = [f"The scene is in {run}. Next:"]
        lines += [f"  {typed('test')} --run {name}"] * ("test" in self.model.camera_set.cameras)
        lines += [f"  {typed('render')} {name}", f"  {typed('view')} {name}"]
        print("\n".join([*lines, f"  tensorboard --logdir {name}"]))

    def _options(self) -> Namespace:
        return self.config[self.subcommand]


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
            restart = error
        print(restart, file=sys.stderr)
        _run(args, held, restart)


def _run(args: list[str] | None, held: ExitStack, restart: RestartTraining | None = None) -> None:
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
        restart=restart,
    )
