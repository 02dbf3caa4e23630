"""Views put in a row by hand, for `render.py --path interpolate --poses`."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dietnerf.files import replace_file
from dietnerf.geometry.poses import interpolate
from dietnerf.viewer.views import pose, quaternion

ORANGE = (230, 120, 30)
FRAMES_PER_STOP, FPS = 30, 15  # of the preview
PIECES = 20  # of the drawn line from one view to the next


def write_path(poses: list[Tensor], path: Path) -> None:
    """Poses (3, 4), in the manner of `transforms.json`, in the order that they are flown in."""
    frames = [{"transform_matrix": [*one.tolist(), [0.0, 0.0, 0.0, 1.0]]} for one in poses]
    with replace_file(path) as part:
        part.write_text(json.dumps({"frames": frames}, indent=2) + "\n")


class CameraPath:
    """The panel that edits a path, and its drawing in the scene.

    Args:
        server: viser's.
        run: folder that `path.json` is written into.
        size: of a drawn camera, scene units.
    """

    def __init__(self, server: Any, run: Path, size: float) -> None:
        self.poses: list[Tensor] = []
        self._server, self._run, self._size = server, run, size
        self._drawn: list[Any] = []
        with server.gui.add_folder("Camera path", expand_by_default=False):
            server.gui.add_button("Add this view").on_click(self._add)
            server.gui.add_button("Remove the last").on_click(self._remove)
            server.gui.add_button("Fly along").on_click(self._fly)
            server.gui.add_button("Write path.json").on_click(self._write)
            self._note = server.gui.add_markdown("No views yet.")

    def _add(self, event: Any) -> None:
        camera = event.client.camera
        self.poses.append(pose(camera.wxyz, camera.position))
        self._draw(camera.fov, camera.aspect)

    def _remove(self, event: Any) -> None:
        if self.poses:
            self.poses.pop()
            self._draw(event.client.camera.fov, event.client.camera.aspect)

    def _fly(self, event: Any) -> None:
        if not self.poses:
            return
        camera = event.client.camera
        for frame in interpolate(torch.stack(self.poses), FRAMES_PER_STOP * len(self.poses)):
            with event.client.atomic():
                camera.wxyz = quaternion(frame)
                camera.position = frame[:, 3].double().numpy()
            time.sleep(1 / FPS)

    def _write(self, event: Any) -> None:
        if not self.poses:
            return
        path = self._run / "path.json"
        try:
            write_path(self.poses, path)
        except OSError as error:
            self._note.content = f"{path} cannot be written: {error.strerror}"
            return
        command = f"python render.py {self._run} --path interpolate --poses {path}"
        self._note.content = f"{path} has {len(self.poses)} views. Next:\n\n`{command}`"

    def _draw(self, fov: float, aspect: float) -> None:
        for node in self._drawn:
            node.remove()
        scene, n = self._server.scene, len(self.poses)
        self._drawn = [
            scene.add_camera_frustum(
                f"/path/{i}",
                fov,
                aspect,
                scale=self._size,
                thickness=0.02 * self._size,
                color=ORANGE,
                wxyz=quaternion(one),
                position=one[:, 3].numpy(),
            )
            for i, one in enumerate(self.poses)
        ]
        if n > 1:
            line = interpolate(torch.stack(self.poses), PIECES * (n - 1) + 1)[:, :, 3].numpy()
            pieces = np.stack([line[:-1], line[1:]], axis=1)
            self._drawn.append(
                scene.add_line_segments("/path/line", pieces, ORANGE, thickness=0.03 * self._size)
            )
        self._note.content = f"{n} views, not written yet." if n else "No views yet."
