"""Views put in a row by hand, for `render.py --path interpolate --poses`."""

import html
import json
import shlex
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dietnerf.errors import UserError, printable
from dietnerf.files import check_links, write_file
from dietnerf.geometry.poses import interpolate
from dietnerf.viewer.notices import Notices
from dietnerf.viewer.views import pose, quaternion

ORANGE = (230, 120, 30)
FRAMES_PER_STOP, FPS = 30, 15  # of the preview
PIECES = 20  # of the drawn line from one view to the next
MOST_VIEWS = 200  # in a path
STYLE = "font-size: 0.875rem; padding: 0 0.75rem 0.5rem; overflow-wrap: anywhere"


def write_path(poses: list[Tensor], path: Path) -> None:
    """Poses (3, 4), in the manner of `transforms.json`, in the order that they are flown in."""
    frames = [{"transform_matrix": [*one.tolist(), [0.0, 0.0, 0.0, 1.0]]} for one in poses]
    write_file(path, json.dumps({"frames": frames}, indent=2) + "\n")


class CameraPath:
    """The panel that edits a path, and its drawing in the scene.

    Args:
        server: viser's.
        run: folder that `path.json` is written into.
        size: of a drawn camera, scene units.
        notices: where failures are said.
    """

    def __init__(self, server: Any, run: Path, size: float, notices: Notices) -> None:
        self.poses: list[Tensor] = []
        self._editing = threading.Lock()  # viser calls back in threads
        self._flying: set[int] = set()  # browsers that are led along the path
        self._server, self._run, self._size = server, run, size
        self._drawn: list[Any] = []
        with server.gui.add_folder("Camera path", expand_by_default=False):
            for label, press in (
                ("Add this view", self._add),
                ("Remove the last", self._remove),
                ("Fly along", self._fly),
                ("Write path.json", self._write),
            ):
                server.gui.add_button(label).on_click(notices.catch(press))
            self._note = server.gui.add_html("")
        self._tell("No views yet.")

    def _add(self, event: Any) -> None:
        camera = event.client.camera
        with self._editing:
            if len(self.poses) == MOST_VIEWS:
                self._tell(f"A path has {MOST_VIEWS} views at most.")
                return
            self.poses.append(pose(camera.wxyz, camera.position))
            self._draw(camera)

    def _remove(self, event: Any) -> None:
        with self._editing:
            if self.poses:
                self.poses.pop()
                self._draw(event.client.camera)

    def _fly(self, event: Any) -> None:
        visitor = event.client.client_id
        if not self.poses or visitor in self._flying:
            return
        self._flying.add(visitor)
        try:
            self._lead(event.client)
        finally:
            self._flying.discard(visitor)

    def _lead(self, client: Any) -> None:
        poses = torch.stack(self.poses)
        for frame in interpolate(poses, FRAMES_PER_STOP * len(poses)):
            if client.client_id not in self._server.get_clients():  # it has left
                return
            with client.atomic():
                client.camera.wxyz = quaternion(frame)
                client.camera.position = frame[:, 3].double().numpy()
            time.sleep(1 / FPS)

    def _write(self, event: Any) -> None:
        if not self.poses:
            return
        is_file = self._run.is_file()  # of splats
        name = f"{self._run.stem}-path.json" if is_file else "path.json"
        path = self._run.with_name(name) if is_file else self._run / name
        try:
            if not is_file:
                check_links(self._run)
            write_path(self.poses, path)
        except (UserError, OSError) as error:
            self._tell(f"{path} was not written: {error}")
            return
        options = ["--path", "interpolate", "--poses", str(path)]
        command = shlex.join(["python", "render.py", str(self._run), *options])
        self._tell(f"{path} has {len(self.poses)} views. Next:", command)

    def _tell(self, sentence: str, command: str = "") -> None:
        """Show plain text: the name of a run can be anything."""
        sentence, command = (html.escape(printable(text)) for text in (sentence, command))
        self._note.content = f'<div style="{STYLE}"><p>{sentence}</p><code>{command}</code></div>'

    def _draw(self, camera: Any) -> None:
        for node in self._drawn:
            node.remove()
        scene, n = self._server.scene, len(self.poses)
        self._drawn = [
            scene.add_camera_frustum(
                f"/path/{i}",
                camera.fov,
                max(1, camera.image_width) / max(1, camera.image_height),
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
        self._tell(f"{n} views, not written yet." if n else "No views yet.")
