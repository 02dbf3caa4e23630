"""How training goes: curves of loss and PSNR, and a button that pauses it."""

import time
from typing import Any

import numpy as np

from dietnerf.viewer.notices import Notices

MOST_POINTS = 600  # of a curve; then every other one goes
SECONDS_BETWEEN = 1.0  # drawings


class Progress:
    """A panel above the others.

    Args:
        server: viser's.
        max_steps: of the run.
        notices: where failures are said.
        can_pause: whether there is a button for it.
    """

    def __init__(
        self, server: Any, max_steps: int, notices: Notices, can_pause: bool = True
    ) -> None:
        self.is_paused = False
        self.points: list[tuple[int, float, float]] = []
        self.max_steps, self._every, self._seen = max_steps, 1, 0
        self._drawn_at, self._n_drawn = 0.0, 0
        with server.gui.add_folder("Training", order=-1):
            self._note = server.gui.add_markdown("It begins.")
            if can_pause:
                self._button = server.gui.add_button("Pause")
                self._button.on_click(notices.catch(self._pause))
            self._plots = [_plot(server, name) for name in ("loss", "PSNR")]

    def record(self, step: int, loss: float, psnr: float) -> None:
        """One more point of the curves."""
        if self._seen % self._every == 0:
            self.points.append((step, loss, psnr))
        self._seen += 1
        if len(self.points) > MOST_POINTS:
            self.points, self._every = self.points[::2], 2 * self._every

    def draw(self) -> None:
        """Show what is new, if the last time is long enough ago."""
        now = time.perf_counter()
        is_new = self._seen > self._n_drawn
        if not is_new or len(self.points) < 2 or now - self._drawn_at < SECONDS_BETWEEN:
            return
        self._drawn_at, self._n_drawn = now, self._seen
        steps, *curves = np.array(self.points).T
        for plot, curve in zip(self._plots, curves, strict=True):
            plot.data = (steps, curve)
        step, loss, psnr = self.points[-1]
        self._note.content = f"step {step} of {self.max_steps}, loss {loss:.5f}, PSNR {psnr:.2f} dB"

    def _pause(self, event: Any) -> None:
        self.is_paused = not self.is_paused
        self._button.label = "Go on" if self.is_paused else "Pause"

    def go_on(self) -> None:
        """End a pause that nobody is there to end."""
        if self.is_paused:
            self._pause(None)


def _plot(server: Any, name: str) -> Any:
    nothing = np.zeros(1)
    return server.gui.add_uplot(
        (nothing, nothing),
        series=({"label": "step"}, {"label": name, "stroke": "#2b62b8", "width": 2}),
        title=name,
        scales={"x": {"time": False}, "y": {"distr": 3}}
        if name == "loss"
        else {"x": {"time": False}},
        aspect=2.0,
    )
