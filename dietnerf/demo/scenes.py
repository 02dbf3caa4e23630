"""Scenes of the demo page: finding, loading and rendering checkpoints."""

import base64
import io
import itertools
import math
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dietnerf.errors import UserError, printable
from dietnerf.export.film import write_film
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering
from dietnerf.geometry.turntable import Turntable
from dietnerf.progressive import Preview, shrunk
from dietnerf.renderer import inference_autocast
from dietnerf.runs.checkpoints import find_checkpoint, load_scene, run_of
from dietnerf.runs.results import Results, is_own_file, read_results
from dietnerf.visualize import Mode, depth_range, to_image

HUB = "hf:"
MODES: tuple[Mode, ...] = ("rgb", "depth", "opacity")
Depths = tuple[float, float]


@dataclass(frozen=True)
class View:
    """The values of the sliders.

    Args:
        azimuth_deg, elevation_deg: degrees, as in `Turntable`.
        distance: from the middle of the scene, scene units.
        height: rows of the picture.
    """

    azimuth_deg: float
    elevation_deg: float
    distance: float
    height: int


@dataclass(frozen=True)
class ViewImages:
    """The pictures of one view.

    Args:
        urls: by mode, PNGs as `data:` URLs, which a page shows without another request.
        depths: the depths drawn brightest and darkest.
    """

    urls: dict[Mode, str]
    depths: Depths


def find_scenes(sources: Sequence[str]) -> dict[str, str]:
    """The checkpoints in folders, by the names shown on the page; the last one of a run has the
    name of the run. Links that lead out of a folder are skipped.

    Args:
        sources: runs, folders of runs, checkpoint files, files of splats, or `hf://user/name`.

    Raises:
        UserError: there is none, or a folder may not be read.
    """
    scenes: dict[str, str] = {}
    for source in sources:
        if source.startswith(HUB):
            scenes[source] = source
            continue
        folder = Path(source)
        for path in _checkpoints(folder):
            scenes[_free(_label(path, folder), scenes)] = str(path)
    if not scenes:
        raise UserError(
            f"there is no checkpoint in {' or '.join(sources)}; train a scene with "
            "`python train.py fit --config configs/quickstart.yaml --run runs/demo`, or name "
            "another folder: `streamlit run app.py -- FOLDER`"
        )
    return dict(sorted(scenes.items()))


def _checkpoints(source: Path) -> list[Path]:
    try:
        if source.is_dir():
            os.listdir(source)  # below it, `rglob` skips unreadable folders
        if source.is_file():
            return [source]
        return sorted(path for path in source.rglob("*.ckpt") if is_own_file(path, source))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; name another folder") from error


def _label(checkpoint: Path, folder: Path) -> str:
    run = run_of(checkpoint)
    inside = run.relative_to(folder) if run.is_relative_to(folder) else run
    name = str(inside) if inside.name else run.resolve().name
    return printable(name if checkpoint.stem == "last" else f"{name} ({checkpoint.stem})")


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with a number appended if it is taken."""
    names = itertools.chain([name], (f"{name} #{n}" for n in itertools.count(2)))
    return next(free for free in names if free not in taken)


class LoadedScene:
    """A loaded checkpoint with its turntable.

    Args:
        source: a checkpoint, a run, a file of splats, or `hf://user/name`.

    Raises:
        UserError: it cannot be fetched, or cannot be read.
    """

    def __init__(self, source: str) -> None:
        self.checkpoint = find_checkpoint(Path(source))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_scene(self.checkpoint).to(device)
        camera_set = self.model.refined_camera_set()
        self.background = camera_set.background
        self.turntable = Turntable.of(camera_set.cameras["train"])
        self.preview = Preview(lambda cameras: self.render(cameras, 0))
        self.preview.warm_up(self.turntable.cameras[:1])

    @property
    def height(self) -> int:
        """Rows of the photographs."""
        return self.turntable.cameras.height

    def render(self, cameras: Cameras, index: int) -> Rendering:
        """One whole image."""
        with inference_autocast(self.model.device):
            return self.model.render_rays_of(cameras, index, self.background)

    def camera(self, view: View) -> Cameras:
        """The camera of a view, with the photographs' proportions."""
        angles = math.radians(view.azimuth_deg), math.radians(view.elevation_deg)
        return of_height(self.turntable.camera(*angles, view.distance), view.height)

    def frame(self, cameras: Cameras, shrink: int = 1, depths: Depths | None = None) -> ViewImages:
        """The pictures of one camera, both sides divided by `shrink`, with its own scale of depths
        unless one is given."""
        small = shrunk(cameras, shrink)
        rendering = self.preview.render(small)
        depths = depths or depth_range(rendering)
        pixels = {mode: to_image(rendering, mode, small.height, depths) for mode in MODES}
        return ViewImages({mode: as_url(values.cpu()) for mode, values in pixels.items()}, depths)

    def results(self) -> Results | None:
        """The results of `train.py test` for this checkpoint, or None.

        Raises:
            UserError: it cannot be read.
        """
        results = read_results(run_of(self.checkpoint))
        is_of_this = results is not None and results.checkpoint == self.checkpoint.name
        return results if is_of_this else None


def of_height(cameras: Cameras, height: int) -> Cameras:
    """The same view with so many rows, and columns in proportion."""
    return cameras.resized(max(1, round(cameras.width * height / cameras.height)), height)


def as_url(pixels: Tensor) -> str:
    """8-bit pixels (height, width, 3) as a PNG in a `data:` URL."""
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def film_frames(
    scenes: Sequence[LoadedScene], cameras: Cameras, modes: Sequence[Mode]
) -> Iterator[dict[str, Tensor]]:
    """Frame after frame, every scene's pictures in turn, with one scale of depths for all."""
    depths: Depths | None = None
    for i in range(len(cameras)):
        renderings: list[Rendering] = [scene.render(cameras, i) for scene in scenes]
        depths = depths or depth_range(renderings[0])
        yield {
            f"{place} {mode}": to_image(rendering, mode, cameras.height, depths).cpu()
            for place, rendering in enumerate(renderings)
            for mode in modes
        }


def film(frames: Iterator[dict[str, Tensor]], ending: str, fps: float) -> bytes:
    """A film as the content of a file; `ending` is .gif or .mp4."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"film{ending}"
        write_film(frames, out, fps)
        return out.read_bytes()
