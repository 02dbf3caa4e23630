"""The command line: LightningCLI's subcommands, with a folder for each run."""

import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, Namespace
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dietnerf.errors import UserError, exit_on_user_error
from dietnerf.training.callbacks import (
    FinalMetrics,
    PredictedPictures,
    ProgressBar,
    Stopwatch,
    TestResults,
    ValidationPictures,
)
from dietnerf.training.checkpoints import find_checkpoint, read_checkpoint
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.process import prepare_process
from dietnerf.training.system import DietNeRF

_PACKAGE = Path(__file__).parents[1]
# Beside the code in an installed package, at the top of a checkout.
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"

TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": -1,  # the length of a run is max_steps
    "max_steps": 10_000,
    "val_check_interval": 1000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}


class Parser(LightningArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        sentence = re.sub(r"\s+", " ", message).replace("Parser key ", "option ")
        # Of all the types that an option may have, the first is what it is for.
        sentence = re.sub(r"Does not validate.*? Errors: - (.*?) - Expected.*", r"\1", sentence)
        raise UserError(sentence)


class DietNeRFCLI(LightningCLI):
    """LightningCLI with one folder for each run."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, default="runs/latest", help="folder of all results")
        parser.add_argument(
            "--save_every", type=int, default=5000, help="steps between checkpoints that are kept"
        )
        parser.add_argument(
            "--lpips_weights",
            type=str | None,
            default=None,
            help="torchvision's VGG-16 weights for the LPIPS metric, if not in torch's cache",
        )

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they were given: a checkpoint does not overrule the command line."""

    def before_instantiate_classes(self) -> None:
        options = self._options()
        options.ckpt_path = _choose_checkpoint(self.subcommand, options)
        if options.trainer.max_steps < 1:
            raise UserError(
                f"trainer.max_steps is {options.trainer.max_steps}; "
                "give the number of training steps"
            )
        if self.subcommand != "fit":
            self.save_config_callback = None
        if self.subcommand == "predict":
            options.return_predictions = False  # they are written, one by one

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        options, trainer = self._options(), self._get(self.config_init, "trainer")
        if trainer["logger"] in (None, True):
            kwargs["logger"] = TensorBoardLogger(
                options.run, name="", version="", default_hp_metric=False
            )
        kwargs["default_root_dir"] = options.run
        kwargs["callbacks"] = [*(trainer["callbacks"] or []), *self._callbacks(options)]
        try:
            return super().instantiate_trainer(**kwargs)
        except MisconfigurationException as error:
            raise UserError(f"trainer: {error}") from error

    def _callbacks(self, options: Namespace) -> list[Callback]:
        bar: list[Callback] = (
            [] if options.trainer.enable_progress_bar is False else [ProgressBar()]
        )
        if self.subcommand == "test":
            return [*bar, TestResults(options.run, options.lpips_weights)]
        if self.subcommand == "predict":
            return [*bar, PredictedPictures(options.run)]
        if self.subcommand == "validate":
            return bar
        saving = [] if options.trainer.enable_checkpointing is False else _checkpoints(options)
        return [*bar, Stopwatch(), ValidationPictures(), FinalMetrics(), *saving]

    def _run_subcommand(self, subcommand: str) -> None:
        # Whatever is wrong with the photographs is found before anything is written.
        self.datamodule.setup(subcommand)
        super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        run = self._options().run
        print(
            f"The scene is in {run}. Next:\n"
            f"  python train.py test --run {run}\n"
            f"  python render.py {run}\n"
            f"  tensorboard --logdir {run}"
        )

    def _options(self) -> Namespace:
        return self.config[self.subcommand]


def _checkpoints(options: Namespace) -> list[Callback]:
    """Keep one every n steps, the last, and the best on validation."""
    folder = Path(options.run) / "checkpoints"
    kept = ModelCheckpoint(
        folder,
        "{step:06d}",
        auto_insert_metric_name=False,
        save_top_k=-1,
        save_last=True,
        every_n_train_steps=options.save_every,
        enable_version_counter=False,
    )
    best = ModelCheckpoint(
        folder, "best", monitor="val/psnr", mode="max", enable_version_counter=False
    )
    return [kept, best]


def _choose_checkpoint(subcommand: str | None, options: Namespace) -> str | None:
    """The checkpoint to start from: none for a new fit, by default the last of the run for
    everything else.

    Raises:
        UserError: it is missing or unreadable, or a new fit would write over an old one.
    """
    run = Path(options.run)
    if subcommand == "fit" and options.ckpt_path is None:
        if (run / "checkpoints").exists():
            raise UserError(
                f"{run} holds a run already; "
                "go on with it by --ckpt_path last, or name another --run"
            )
        return None
    by_name = {None: run, "last": run, "best": run / "checkpoints" / "best.ckpt"}
    path = find_checkpoint(Path(by_name.get(options.ckpt_path, options.ckpt_path)))
    read_checkpoint(path)
    return str(path)


def _complete(args: list[str]) -> list[str]:
    """Find configs that come with the package, and for a finished run the one it began with."""
    args = [_find_config(before, arg) for before, arg in zip(["", *args], args, strict=False)]
    if not args or args[0] not in ("validate", "test", "predict"):
        return args
    run = next((args[i + 1] for i, arg in enumerate(args[:-1]) if arg == "--run"), None)
    if run is None or any(arg.split("=")[0] in ("--config", "-c") for arg in args):
        return args
    config = Path(run) / "config.yaml"
    if not config.is_file():
        raise UserError(
            f"there is no run at {run}: {config} is missing; train one with `fit --run {run}`"
        )
    return [args[0], "--config", str(config), *args[1:]]


def _find_config(before: str, arg: str) -> str:
    if before not in ("--config", "-c") or Path(arg).exists():
        return arg
    packaged = CONFIGS / f"{Path(arg).stem}.yaml"
    if not packaged.is_file():
        known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise UserError(
            f"there is no config {arg}; give a file, or one of those that come along: {known}"
        )
    return str(packaged)


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Run one subcommand; `args` defaults to the command line."""
    prepare_process()
    given = sys.argv[1:] if args is None else args
    sys.argv = [sys.argv[0]]  # LightningCLI would warn that arguments came twice
    DietNeRFCLI(
        DietNeRF,
        SceneDataModule,
        args=_complete(given),
        parser_class=Parser,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
    )
