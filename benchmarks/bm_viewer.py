"""What it costs a training run to be watched in the live viewer.

    python benchmarks/bm_viewer.py

configs/quickstart.yaml for some steps, in turns: without a viewer, with a viewer that no browser is
open at, and with one in use, dragged for half of the time. The visitor stands in for a browser:
pictures are rendered and encoded for it as for any other, but nothing draws them, which a browser
on the same machine would do at its own cost.

`ratio` is the time of a watched run over that of one without a viewer; `closed` the same for a
viewer without an open browser. Medians over rounds.
"""

import argparse
import itertools
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import median_ratio, report

from dietnerf.training import cli
from dietnerf.training.callbacks import viewer
from dietnerf.training.callbacks.progress import Stopwatch
from dietnerf.viewer import Viewer
from dietnerf.viewer.views import field_of_view, quaternion

WINDOW = (800, 600)
SECONDS_BETWEEN_MOVES = 0.1
VISITS = ("without", "closed", "watched")


class Visitor:
    """At one training camera after the other, while dragging; then still for as long."""

    client_id = 0

    def __init__(self, viewer: Viewer) -> None:
        self.n_pictures = 0
        self.viewer, self.cameras = viewer, viewer.cameras
        self.scene = SimpleNamespace(set_background_image=self._shown)
        self.camera = SimpleNamespace(
            fov=field_of_view(self.cameras),
            image_width=WINDOW[0],
            image_height=WINDOW[1],
            on_update=lambda moved: setattr(self, "moved", moved),
        )
        self._stand_at(0)
        viewer._welcome(self)
        self.is_gone = threading.Event()
        threading.Thread(target=self._drag, daemon=True).start()

    def _stand_at(self, index: int) -> None:
        pose = self.cameras.c2w[index % len(self.cameras)]
        self.camera.wxyz = quaternion(pose)
        self.camera.position = pose[:, 3].numpy()

    def _drag(self) -> None:
        for i in itertools.count():
            if self.is_gone.wait(SECONDS_BETWEEN_MOVES):
                return
            if i // 20 % 2 == 0:
                self._stand_at(i)
                self.moved(self.camera)

    def _shown(self, image: np.ndarray, **options: Any) -> None:
        self.n_pictures += 1
        self.viewer.server.scene.set_background_image(image, **options)


class Clock(Stopwatch):
    """Seconds from the first step to the last."""

    seconds = 0.0

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        Clock.seconds = -time.perf_counter()

    def on_train_end(self, *args: Any) -> None:
        Clock.seconds += time.perf_counter()
        super().on_train_end(*args)


def train(visit: str, steps: int) -> tuple[float, int]:
    """Seconds of a run, and the pictures that were shown."""
    visitors: list[Visitor] = []

    class Visited(Viewer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if visit == "watched":
                visitors.append(Visitor(self))

    viewer.Viewer = Visited  # type: ignore[misc]
    cli.Stopwatch = Clock  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", "quickstart", "--run", str(Path(folder) / "run")]
        options += ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
        options += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        options += ["--trainer.enable_checkpointing", "false"]
        if visit != "without":
            options += ["--viewer", "true", "--viewer_port", "8099"]
        cli.main(["fit", *options])
    for visitor in visitors:
        visitor.is_gone.set()
    return Clock.seconds, sum(visitor.n_pictures for visitor in visitors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    train("without", 20)
    done = [{visit: train(visit, args.steps) for visit in VISITS} for _ in range(args.rounds)]
    times = [{visit: seconds for visit, (seconds, _) in each.items()} for each in done]
    pictures = [each["watched"][1] / each["watched"][0] for each in done]
    report(
        "viewer",
        median(each["watched"] for each in times),
        "s",
        median(each["without"] for each in times),
        ratio=round(median_ratio(times, "watched", "without"), 4),
        closed=round(median_ratio(times, "closed", "without"), 4),
        pictures_per_second=round(median(pictures), 2),
        rounds=args.rounds,
        steps=args.steps,
    )


if __name__ == "__main__":
    main()
