"""A trained scene, independent of training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dietnerf.data.camera_set import CameraSet
from dietnerf.fields import MLP, AbstractRadianceField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.history import History
from dietnerf.renderer import render_image
from dietnerf.sampling import AbstractSampler, Stratified

PARTS = ("field", "sampler", "refinement")  # what a picture needs


@dataclass(frozen=True)
class RenderedImage:
    """A whole image.

    Args:
        rgb: colors in [0, 1], (height, width, 3).
        depth: expected distance along the camera axis in scene units, times opacity,
            (height, width).
        opacity: opacity of the scene, (height, width) in [0, 1].
    """

    rgb: Tensor
    depth: Tensor
    opacity: Tensor

    @classmethod
    def of(cls, rendering: Rendering, height: int) -> "RenderedImage":
        """Of height * width rays, row by row."""
        rgb = rendering.rgb.view(height, -1, 3)
        return cls(rgb, rendering.depth.view(height, -1), rendering.opacity.view(height, -1))

    def numpy(self) -> dict[str, np.ndarray]:
        """`rgb`, `depth` and `opacity` as float32 arrays on the CPU."""
        values = {"rgb": self.rgb, "depth": self.depth, "opacity": self.opacity}
        return {name: value.float().cpu().numpy() for name, value in values.items()}


class SceneModel(nn.Module):
    """A radiance field with what renders it, and the cameras that it was trained from.

        scene = dietnerf.load("runs/lego")
        image = scene.render(scene.cameras["test"][[0]]).numpy()["rgb"]

    Args:
        field: what is rendered.
        sampler: where along each ray the field is evaluated.
        refinement: corrections of the training cameras; None where they were taken as exact.
    """

    def __init__(
        self,
        field: AbstractRadianceField | None = None,
        sampler: AbstractSampler | None = None,
        refinement: CameraRefinement | None = None,
    ) -> None:
        super().__init__()
        self.field = field or MLP()
        self.sampler = sampler or Stratified()
        self.refinement = refinement
        self.camera_set: CameraSet | None = None
        self.history: History | None = None

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def cameras(self) -> dict[str, Cameras]:
        """By split, `train`, `val` and `test`, as far as there are any; those of training as
        corrected."""
        return {str(split): cameras for split, cameras in self.refined_camera_set().cameras.items()}

    @property
    def background(self) -> Tensor:
        """The color behind the scene, (3,)."""
        return self.refined_camera_set().background

    def render(self, cameras: Cameras, background: Tensor | None = None) -> RenderedImage:
        """The image of one camera, without randomness and without gradients.

        Args:
            cameras: a batch of one.
            background: (3,); None takes the scene's.

        Raises:
            ValueError: there is not one camera.
        """
        if len(cameras) != 1:
            raise ValueError(f"render: expected one camera, got {len(cameras)}; use render_path")
        behind = self.background if background is None else background
        return RenderedImage.of(self.render_rays_of(cameras, 0, behind), cameras.height)

    def render_path(
        self, cameras: Cameras, background: Tensor | None = None
    ) -> Iterator[RenderedImage]:
        """The images of cameras, one after the other."""
        return (self.render(cameras[[i]], background) for i in range(len(cameras)))

    def render_rays_of(self, cameras: Cameras, index: int, background: Tensor) -> Rendering:
        """All pixels of one of several cameras, (height * width) rays row by row."""
        return render_image(cameras, index, self.field, self.sampler, background.to(self.device))

    def refined_camera_set(self) -> CameraSet:
        """The cameras, those of training as corrected."""
        assert self.camera_set is not None, "a scene that was trained or loaded has its cameras"
        if self.refinement is None:
            return self.camera_set
        cameras = dict(self.camera_set.cameras)
        cameras["train"] = self.refinement.refined(cameras["train"])
        return replace(self.camera_set, cameras=cameras)
