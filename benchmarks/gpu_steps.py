"""Whole steps and frames on a GPU: `fit`, a bare loop, a frame, the semantic loss, time to quality.

The steps are taken by `train.py fit` in this process, with windows of bare steps between
(bm_fast_step.py); the trained scene is then rendered, and evaluated by the semantic loss.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import bm_fast_step
import bm_frame
import pytorch_lightning as pl
import torch
from bm_semantic import Bench, MeanColor, Untrained, step_of
from common import has_lego, seconds_in_turns

from dietnerf.fields import MLP
from dietnerf.sampling import Importance
from dietnerf.training.cli import main as dietnerf
from dietnerf.training.system import DietNeRF

Result = dict[str, Any]
PAPER_STEPS, PAPER_EVERY, PAPER_RAYS = 200_000, 10, 168  # steps, semantic ones, a side of theirs
QUALITY = "quality.json"
GOALS = (30.0, 35.0)  # dB
TINY = {
    "data.reader.init_args.resolution": 16,
    "data.reader.init_args.n_test": 2,
    "data.rays_per_step": 32,
    "model.sampler.init_args.resolution": 16,
    "model.sampler.init_args.n_steps": 32,
    "model.sampler.init_args.warmup_steps": 4,
    "trainer.log_every_n_steps": 2,  # windows end there, however many steps a range has
}
TINY_NERF = {
    "data.reader.init_args.resolution": 16,
    "data.rays_per_step": 8,
    "model.field.init_args.depth": 2,
    "model.field.init_args.width": 16,
    "trainer.log_every_n_steps": 2,
}
TOY = ("--data.reader", "dietnerf.data.Procedural")


def options(values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


class Steps:
    """Runs of a device and a size.

    Args:
        device: where they run.
        small: whether only to see that they run.
        sizes: of the fast field.
        n_samples: of a step of it.
        words: further ones for `train.py fit` of the fast field.
    """

    def __init__(
        self,
        device: torch.device,
        small: bool,
        sizes: dict[str, int],
        n_samples: int,
        words: Sequence[str],
    ) -> None:
        self.device, self.small = device, small
        self.accelerator = "gpu" if device.type == "cuda" else "cpu"
        fast = {f"model.field.init_args.{name}": size for name, size in sizes.items()}
        fast["data.samples_per_step"] = n_samples
        if device.type == "cuda":
            fast |= {"trainer.precision": "16-mixed", "model.use_cuda_graphs": "true"}
            fast["data.rays_per_step"] = 4096  # as configs/gpu.yaml: few sizes to be captured
        self.scene = ["--config", "fast", "--config", "dense"] if has_lego() and not small else []
        self.scene = self.scene or ["--config", "quickstart"]
        self.fast = [*self.scene, *options(fast | (TINY if small else {})), *words]

    def autocast(self, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
        is_on = self.device.type == "cuda"  # and without a cache, as in `fit`: graphs refuse one
        return torch.autocast(self.device.type, dtype, enabled=is_on, cache_enabled=False)

    def _windows(self, words: Sequence[str], run: Path, warmup: int, window: int) -> Result:
        plan = {"warmup": 4, "window": 2, "rounds": 2}
        if not self.small:
            plan = {"warmup": warmup, "window": window, "rounds": 5}
        found = bm_fast_step.measure(words, run, accelerator=self.accelerator, **plan)
        rounds = found["rounds"]

        def per_step(what: str, scale: float = 1.0) -> float:
            return round(scale * median(r[what] / r["steps"] for r in rounds), 4)

        return {
            "ms": per_step("fit_seconds", 1e3),
            "bare_ms": per_step("bare_seconds", 1e3),
            "n_samples": per_step("marched"),
            "n_bare_samples": per_step("bare_marched"),
            "n_rays": per_step("rays"),
            "what": " ".join(words),
        }

    def fast_step(self, run: Path) -> Result:
        """A training step of the fast field, in `fit` and bare; the run is left in `run`."""
        return self._windows(self.fast, run, warmup=1000, window=200)

    def frame(self, run: Path) -> Result:
        """A frame of 800x800 of what `fast_step` has trained."""
        side = 16 if self.small else 800
        with self.autocast(torch.float16):
            rounds = bm_frame.frames(run, (side,), 2 if self.small else 20, str(self.device))
        seconds = [times[side] for times in rounds]
        return {"ms": 1e3 * median(seconds), "worst_ms": 1e3 * max(seconds), "side": side}

    def semantic_step(self, run: Path) -> Result:
        """Forward and backward of the semantic loss, of the same run at 224x224."""
        side, bench = (8 if self.small else 224), Bench(run, self.device)
        loss = bench.semantic_loss(self._encoder(), resolution=side)
        return self._timed(bench, loss, bench.context(), side)

    def paper_steps(self, run: Path, plain_run: Path) -> Result:
        """The paper's recipe, two networks of 8x256 and 64 + 128 samples, by its steps."""
        bench = Bench(run, self.device)
        side, size = (4, {"depth": 2, "width": 16}) if self.small else (PAPER_RAYS, {})
        words = ["--config", "nerf", *TOY, *options(TINY_NERF if self.small else {})]
        if self.device.type == "cuda":
            words += ["--trainer.precision", "bf16-mixed", "--model.use_cuda_graphs", "true"]
        plain = self._windows(words, plain_run, warmup=50, window=50)
        field, coarse = (MLP(**size).to(self.device) for _ in range(2))
        context = bench.context(field, Importance(coarse, 64, 128).to(self.device))
        semantic = self._timed(
            bench, bench.semantic_loss(self._encoder(), resolution=side), context, side
        )
        seconds = PAPER_STEPS * (plain["ms"] + semantic["ms"] / PAPER_EVERY) / 1e3
        return plain | {"semantic_ms": semantic["ms"], "projected_minutes": seconds / 60}

    def _encoder(self) -> Any:
        return MeanColor() if self.small else Untrained("ViT-B-32-quickgelu", "bfloat16")

    def _timed(self, bench: Bench, loss: Any, context: Any, side: int) -> Result:
        def step() -> None:
            with self.autocast(torch.bfloat16):
                step_of(loss, context)

        times = seconds_in_turns({"step": step}, rounds=2 if self.small else 10, warmup=1)
        return {"ms": 1e3 * median(t["step"] for t in times), "side": side}

    def quality(self, run: Path) -> Result:
        """Seconds of training until the validation views of lego at 800x800 are good."""
        steps, every = (8, 4) if self.small else (20_000, 500)
        words = {
            "data.reader.init_args.downscale": 1,
            "trainer.max_steps": steps,
            "trainer.val_check_interval": every,
            "save_every": steps,
            "trainer.enable_progress_bar": "false",
        }
        if self.small:
            words.pop("data.reader.init_args.downscale")
        callback = json.dumps([{"class_path": "gpu_steps.Quality"}])
        with contextlib.redirect_stdout(sys.stderr):
            dietnerf(
                ["fit", *self.fast, *options(words), "--run", str(run)]
                + ["--trainer.callbacks", callback]
                + ["--trainer.accelerator", self.accelerator, "--trainer.devices", "1"]
            )
        curve = json.loads((run / QUALITY).read_text())
        reached = {f"seconds_to_{goal:g}_db": first_at(curve, goal) for goal in GOALS}
        last = curve[-1]
        return {"psnr": last["psnr"], "seconds": last["seconds"], **reached, "curve": curve}


class Quality(pl.Callback):
    """Writes down how good validation is after how many seconds of training."""

    def __init__(self) -> None:
        self.curve: list[dict[str, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DietNeRF)
        if trainer.sanity_checking:
            return
        history, score = pl_module.history, float(trainer.callback_metrics["val/psnr"])
        self.curve.append({"step": history.steps, "seconds": history.seconds, "psnr": score})
        (Path(trainer.default_root_dir) / QUALITY).write_text(json.dumps(self.curve))


def first_at(curve: Sequence[dict[str, float]], goal: float) -> float | None:
    """Seconds at which the curve is first as good as a goal."""
    return next((point["seconds"] for point in curve if point["psnr"] >= goal), None)
