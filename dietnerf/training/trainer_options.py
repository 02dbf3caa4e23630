"""Checks of options of Lightning's trainer, callbacks, loggers and profilers."""

import os
import re
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.cli import Namespace

from dietnerf.devices import usable_device
from dietnerf.errors import UserError
from dietnerf.training import xla
from dietnerf.training.distributed import check_strategy

PRECISIONS = (None, "32", "32-true", 32, "bf16-mixed", "16-mixed")
TPU_PRECISIONS = (None, "32", "32-true", 32, "bf16-true")
MOST_DEVICES = 1024  # of one machine; Lightning makes an object for each before it counts
FEW_PROCESSES = 8  # allowed on any number of cores
MEASURED = re.compile("val/psnr|train/.+")  # metrics that can be monitored
PARTS = re.compile(r"(pytorch_lightning|lightning_fabric)\W(callbacks|loggers|profilers)\W")
OWN = str(Path(__file__).parents[1])  # the package
UNSUITED = {  # callbacks of Lightning's, and what to do instead
    "BackboneFinetuning": "it thaws a network that was trained before, and a scene has none",
    "BaseFinetuning": "it thaws a network that was trained before, and a scene has none",
    "BatchSizeFinder": "set data.samples_per_step",
    "GradientAccumulationScheduler": "set data.samples_per_step",
    "LearningRateFinder": "set model.learning_rate",
    "SpikeDetection": "steps whose numbers are not finite are skipped anyway",
    "StochasticWeightAveraging": "use EMAWeightAveraging, as configs/ema.yaml does",
    "Timer": "use --minutes",
}


def check_options(options: Namespace) -> None:
    """Refuse options that no run can use.

    Raises:
        UserError: an option is out of its range.
    """
    trainer = options.trainer
    steps = {
        "trainer.max_steps": trainer.max_steps,
        "trainer.log_every_n_steps": trainer.log_every_n_steps,
        "save_every": options.save_every,
    }
    for name, value in steps.items():
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; give a number of steps, at least 1")
    for name in ("val_check_interval", "check_val_every_n_epoch"):
        if trainer[name] == 0:
            raise UserError(f"trainer.{name} is 0; give a number, at least 1, or null")
    if trainer.fast_dev_run:
        raise UserError(
            "trainer.fast_dev_run would leave a run without a config: try --trainer.max_steps "
            f"{int(trainer.fast_dev_run)} in a folder of its own"
        )
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            "trainer.accumulate_grad_batches is not used: a step of any data.rays_per_step is "
            "computed in chunks of rays, so raise that, and data.samples_per_step with it"
        )
    if trainer.gradient_clip_val is not None or trainer.gradient_clip_algorithm is not None:
        raise UserError("trainer.gradient_clip_val is not used: set model.max_gradient_norm")
    if trainer.barebones:
        raise UserError(
            "trainer.barebones would leave a run without checkpoints and scores: leave it out; "
            "--trainer.enable_progress_bar false and --trainer.logger false save time as well"
        )
    for callback in trainer.callbacks or []:
        name = callback.class_path.rpartition(".")[2]
        if name in UNSUITED and callback.class_path.startswith("pytorch_lightning."):
            raise UserError(f"{name} does not go with a scene: {UNSUITED[name]}")
        init_args = callback.get("init_args", {})
        if name == "WeightAveraging" and init_args.get("use_buffers", True):
            raise UserError(f"{name} cannot average occupancy grids: set its use_buffers to false")
        decay, device = init_args.get("decay"), init_args.get("device")
        if device is not None and trainer.accelerator not in xla.NAMES:
            usable_device(device, f"{callback.class_path}: device")
        if decay is not None and not 0 <= decay <= 1:
            raise UserError(f"{callback.class_path}: decay is {decay}; give a number from 0 to 1")
    is_on_cpu = trainer.accelerator == "cpu"
    most = max(os.cpu_count() or 1, FEW_PROCESSES) if is_on_cpu else MOST_DEVICES
    if str(trainer.devices).isdecimal() and int(trainer.devices) > most:
        raise UserError(f"trainer.devices is {trainer.devices}; at most {most} are joined here")
    check_strategy(trainer.strategy)
    is_tpu = trainer.accelerator in xla.NAMES
    if trainer.precision not in (TPU_PRECISIONS if is_tpu else PRECISIONS):
        known = "32-true, bf16-true" if is_tpu else "32-true, bf16-mixed, 16-mixed"
        raise UserError(f"trainer.precision is {trainer.precision}; use one of {known}")


def check_monitored(trainer: pl.Trainer) -> None:
    """Refuse callbacks of Lightning that monitor a metric that does not exist.

    Raises:
        UserError: names the callback and the metric.
    """
    names = [(type(one), getattr(one, "monitor", None)) for one in trainer.callbacks]  # type: ignore[attr-defined]
    own = [cls for cls, _ in names if not cls.__module__.startswith(("pytorch_light", "dietnerf"))]
    for cls, name in names:
        if name is not None and not own and not MEASURED.fullmatch(name):
            raise UserError(
                f"{cls.__name__} monitors {name!r:.60}, which nothing measures; "
                "validation measures val/psnr, training train/psnr, train/loss and others"
            )


def part_behind(error: BaseException) -> str | None:
    """The callback, logger or profiler of Lightning's that an error was raised in, by its class.

    They check their options when they are first called, not when they are built.
    """
    step, part = error.__traceback__, None
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if PARTS.search(file):
            part = type(step.tb_frame.f_locals.get("self")).__name__
        elif file.startswith(OWN):  # a fault of ours, whoever called it
            part = None
        step = step.tb_next
    return part
