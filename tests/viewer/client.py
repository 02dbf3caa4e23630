"""A stand-in for a browser."""

from types import SimpleNamespace

import numpy as np

from dietnerf.geometry.cameras import Cameras
from dietnerf.viewer.views import field_of_view, quaternion


class Client:
    """A browser at one camera: remembers its pictures."""

    client_id = 0

    def __init__(self, cameras: Cameras, width: int = 64, height: int = 64) -> None:
        self.pictures: list[np.ndarray] = []
        self.scene = SimpleNamespace(set_background_image=self._show)
        self.moves: list = []
        self.camera = SimpleNamespace(
            wxyz=quaternion(cameras.c2w[0]),
            position=cameras.c2w[0, :, 3].numpy(),
            fov=field_of_view(cameras),
            image_width=width,
            image_height=height,
            on_update=self.moves.append,
        )

    def _show(self, image: np.ndarray, **others: object) -> None:
        self.pictures.append(image)

    def move(self, cameras: Cameras) -> None:
        self.camera.wxyz = quaternion(cameras.c2w[0])
        self.camera.position = cameras.c2w[0, :, 3].numpy()
        for moved in self.moves:
            moved(self.camera)
