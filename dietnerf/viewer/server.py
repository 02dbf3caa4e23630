"""Serves a scene to browsers: coarse pictures while somebody moves, fine ones where they stay."""

import contextlib
import itertools
import math
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dietnerf.fields.base import AbstractField, AbstractRadianceField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings
from dietnerf.geometry.rays import Rendering
from dietnerf.progressive import Preview, shrunk
from dietnerf.renderer import inference_autocast, render_image
from dietnerf.sampling.base import AbstractSampler
from dietnerf.viewer.camera_path import CameraPath
from dietnerf.viewer.listening import address_of, serve_at, way_from_elsewhere
from dietnerf.viewer.notices import Notices
from dietnerf.viewer.views import (
    browser_camera,
    field_of_view,
    occluding_depth,
    pyramid_depth,
    quaternion,
)
from dietnerf.viewer.watcher import Watcher
from dietnerf.visualize import Mode, depth_range, to_image

STILL = 0.5  # seconds of the finest picture: whoever moves has to wait for it
SHOWN: dict[str, Mode] = {"color": "rgb", "depth": "depth", "opacity": "opacity"}
BEYOND = 1.05  # the photograph of a drawn camera that one stands in
BLUE = (43, 98, 184)


class Viewer:
    """A viser server that shows a field.

    Nothing is rendered but by `paint`, in its caller's thread: it never meets an optimizer's step.
    Nothing that a browser does reaches that thread as an exception.

    Args:
        field: what is seen.
        sampler: where along each ray it is evaluated.
        cameras: the training cameras, drawn as pyramids if asked for; a click on one goes there.
        background: color behind the scene, (3,), on the device of the field.
        run: folder that a camera path is written into, or a file of splats, beside which it is.
        photos: of the cameras, drawn in their pyramids, (n, h, w, 3), 8 bit; or None.
        host, port: where browsers find it.

    Raises:
        UserError: viser is not installed, or the port is taken.
    """

    def __init__(
        self,
        field: AbstractRadianceField,
        sampler: AbstractSampler,
        cameras: Cameras,
        background: Tensor,
        run: Path,
        photos: Tensor | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
    ) -> None:
        self.field, self.sampler, self.background = field, sampler, background
        self.cameras, self.around = cameras, Surroundings.of(cameras)
        self.preview = Preview(self._render, has_strips=isinstance(field, AbstractField))
        self.wake = threading.Event()
        self.version = 0
        self._turns = itertools.count(1)
        self._watchers: dict[int, Watcher] = {}
        self.notices = Notices()
        self.server = serve_at(host, port, self.notices)
        port = self.server.get_port()
        self.address, self.way = address_of(host, port), way_from_elsewhere(host, port)
        self._prepare_scene(photos)
        self._prepare_panel(run)

        @self.server.on_client_connect
        async def welcome(client: Any) -> None:  # in the order of events, as threads would not be
            self._welcome(client)

        @self.server.on_client_disconnect
        async def part(client: Any) -> None:
            self._part(client)

    @property
    def is_watched(self) -> bool:
        """Whether any browser is there."""
        return bool(self._watchers)

    def field_changed(self) -> None:
        """Pictures shown so far are of an older field."""
        self.version += 1

    def paint(self, still_seconds: float = STILL, only_moved: bool = False) -> bool:
        """Render one picture for whoever needs it most, if anybody does.

        Args:
            still_seconds: what the finest picture may take.
            only_moved: leave finer and newer pictures of the same view for later.
        """
        for watcher in sorted(self._watchers.values(), key=Watcher.urgency):
            wanted = watcher.wanted
            try:
                if self._paint_for(watcher, still_seconds, only_moved):
                    return True
            except Exception as error:  # of this view, or of a device without room for it
                watcher.is_lost = watcher.wanted == wanted
                self.notices.say("a picture could not be made, and was left out", error)
        return False

    def _paint_for(self, watcher: Watcher, still_seconds: float, only_moved: bool) -> bool:
        if watcher.is_lost or (only_moved and watcher.shrink is not None):
            return False
        wanted, version = watcher.wanted, self.version
        cameras = browser_camera(watcher.client.camera, self.cameras, self.around)
        shrink = watcher.next_shrink(self.preview, cameras, still_seconds, version)
        if shrink is None:
            return False
        watcher.turn, seen = next(self._turns), shrunk(cameras, shrink)
        is_first, is_awaited = watcher.shrink is None, partial(self._is_awaited, watcher, wanted)
        # Whoever moves meanwhile does not wait for a finer picture.
        rendering = self.preview.render_while(seen, lambda: is_first or is_awaited())
        if rendering is None:
            return True
        self._show(watcher.client, rendering, seen.height)
        if watcher.wanted == wanted:
            watcher.shrink, watcher.version = shrink, version
        return True

    def _is_awaited(self, watcher: Watcher, wanted: int) -> bool:
        """Whether a finer picture is still of what a browser looks at, and none waits for its first
        one."""
        others = list(self._watchers.values())
        has_left = self._watchers.get(watcher.client.client_id) is not watcher
        waits = any(other.shrink is None and not other.is_lost for other in others)
        return watcher.wanted == wanted and not (has_left or waits)

    def serve(self) -> None:
        """Show a finished field until the process is interrupted, in the end with each pixel."""
        self.preview.warm_up(self.cameras[[0]])
        while True:
            self.wake.wait()
            self.wake.clear()
            while self.paint(math.inf):
                pass

    def close(self) -> None:
        self.notices.end()
        self.server.stop()

    def _render(self, cameras: Cameras) -> Rendering:
        with _evaluated(self.field, self.sampler), inference_autocast(self.background.device):
            return render_image(cameras, 0, self.field, self.sampler, self.background)

    def _show(self, client: Any, rendering: Rendering, height: int) -> None:
        mode = SHOWN[self._choice]
        drawn = to_image(rendering, mode, height, depth_range(rendering)).cpu().numpy()
        if client.client_id not in self._watchers:  # it has left meanwhile
            return
        client.scene.set_background_image(
            drawn, format="jpeg", jpeg_quality=90, depth=occluding_depth(rendering, height)
        )

    def _prepare_scene(self, photos: Tensor | None) -> None:
        scene, first, radius = self.server.scene, self.cameras.c2w[0], self.around.radius
        scene.set_up_direction(self.around.up.numpy())
        start = self.server.initial_camera
        distance = float((first[:, 3] - self.around.center).norm())
        start.position = first[:, 3].double().numpy()
        start.look_at = (first[:, 3] - distance * first[:, 2]).double().numpy()
        start.up = self.around.up.double().numpy()
        start.fov = field_of_view(self.cameras)
        self._size = 0.05 * radius
        # Who stands in a camera would see its photograph, and take it for the scene.
        start.near = BEYOND * pyramid_depth(self.cameras, self._size)
        start.far = 1e3 * radius
        self._frusta = [self._frustum(i, photos) for i in range(len(self.cameras))]

    def _frustum(self, index: int, photos: Tensor | None) -> Any:
        cameras = self.cameras[[index]]
        frustum = self.server.scene.add_camera_frustum(
            f"/cameras/{index}",
            field_of_view(cameras),
            cameras.width / cameras.height,
            scale=self._size,
            thickness=0.02 * self._size,
            color=BLUE,
            image=None if photos is None else photos[index].numpy(),
            wxyz=quaternion(cameras.c2w[0]),
            position=cameras.c2w[0, :, 3].numpy(),
            visible=False,
        )

        @frustum.on_click
        @self.notices.catch
        def go_there(event: Any) -> None:
            with event.client.atomic():
                event.client.camera.wxyz = frustum.wxyz
                event.client.camera.position = frustum.position

        return frustum

    def _prepare_panel(self, run: Path) -> None:
        gui = self.server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.set_panel_label("dietnerf")
        self._choice = "color"
        self._shown = gui.add_dropdown("Show", tuple(SHOWN))
        self._shown.on_update(self.notices.catch(self._choose))
        cameras = gui.add_checkbox("Training cameras", False)  # they hide what is behind them

        @cameras.on_update
        @self.notices.catch
        def draw(event: Any) -> None:
            for frustum in self._frusta:
                frustum.visible = cameras.value

        self.path = CameraPath(self.server, run, 0.8 * self._size, self.notices)

    def _choose(self, event: Any) -> None:
        if self._shown.value not in SHOWN:  # viser takes any text for a choice
            self._shown.value = self._choice
            return
        self._choice = self._shown.value
        for watcher in list(self._watchers.values()):
            watcher.look_anew()
        self.wake.set()

    def _welcome(self, client: Any) -> None:
        watcher = self._watchers[client.client_id] = Watcher(client)

        @client.camera.on_update
        @self.notices.catch
        def moved(camera: Any) -> None:
            watcher.look_anew()
            self.wake.set()

        self.wake.set()

    def _part(self, client: Any) -> None:
        self._watchers.pop(client.client_id, None)
        self.wake.set()


@contextlib.contextmanager
def _evaluated(*modules: torch.nn.Module) -> Iterator[None]:
    """Modules as they are for pictures, and then as they were."""
    were = [module.training for module in modules]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for module, was in zip(modules, were, strict=True):
            module.train(was)
