"""The page: choice of scene, view and mode; images, a film to download, and the scores.

Names of runs and texts of their files are shown by `st.text`, `st.html` or as choices: most other
elements take Markdown, whose images a browser fetches from anywhere.
"""

import argparse
import html
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import streamlit as st
from torch import Tensor

from dietnerf.demo.scenes import (
    Depths,
    LoadedScene,
    View,
    ViewImages,
    film,
    film_frames,
    find_scenes,
    of_height,
)
from dietnerf.errors import UserError, printable
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.turntable import Bounds
from dietnerf.training.runtime import prepare_process
from dietnerf.visualize import Mode

SHOWN: dict[str, Mode] = {"color": "rgb", "depth": "depth", "opacity": "opacity"}
SIZES = (100, 200, 400, 800)  # rows
WIDTH = 480  # of a picture on the page, if there is room
STYLE = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 2rem; padding-bottom: 1rem}
[data-testid="stSidebarHeader"] {height: 1rem}
</style>"""  # Streamlit leaves a fifth of the window empty
SECONDS = 0.15  # until the first image; the transfer to the browser takes some more
FPS = 20


def main() -> None:
    """Show the page; the command line names folders of runs, by default `runs`."""
    prepare_process()
    st.set_page_config("dietnerf", layout="wide")
    st.html(STYLE)
    try:
        _show(*_choose(find_scenes(_sources())))
    except UserError as error:
        _tell(str(error))
    except Exception as error:  # any error of an untrusted checkpoint
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        _tell(f"the checkpoint may have been changed, or come from another version ({reason})")


def _tell(reason: str) -> None:
    """Show an error."""
    st.error("This cannot be shown:")
    st.text(printable(reason))


def _sources() -> list[str]:
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", description=__doc__)
    parser.add_argument("sources", nargs="*", default=["runs"], help="runs, or folders of them")
    return list(parser.parse_known_args(sys.argv[1:])[0].sources)


def _choose(found: dict[str, str]) -> tuple[list[str], list[LoadedScene]]:
    """The names of the one or two chosen scenes, and their sources."""
    side = st.sidebar
    side.title("dietnerf")
    chosen = side.selectbox("Scene", list(found))
    others = [name for name in found if name != chosen]
    beside = side.selectbox(
        "Beside it", [None, *others], format_func=lambda name: name or "nothing"
    )
    names = [chosen] if beside is None else [chosen, beside]
    return names, [_load(os.fsencode(found[name]), _stamp(found[name])) for name in names]


def _stamp(source: str) -> float:
    """When a checkpoint was written, so that a new version is loaded again."""
    path = Path(source)
    return path.stat().st_mtime if path.exists() else 0.0


@st.cache_resource(max_entries=4, show_spinner="Loading the scene")
def _load(source: bytes, stamp: float) -> LoadedScene:
    """As bytes: not every file name is valid text."""
    return LoadedScene(os.fsdecode(source))


def _show(names: list[str], scenes: list[LoadedScene]) -> None:
    view = _sliders(scenes[0], names[0])
    mode = SHOWN[st.sidebar.radio("Show", list(SHOWN), horizontal=True)]
    columns = st.columns(len(scenes))
    for name, column in zip(names, columns, strict=True):
        column.html(f"<h3>{html.escape(name)}</h3>")
    _pictures(scenes, columns, view, mode)
    for scene, column in zip(scenes, columns, strict=True):
        _facts(column, scene)
    _film(names, scenes, view, mode)


def _sliders(scene: LoadedScene, name: str) -> View:
    """Sliders of the view, within the range that the scene's cameras cover."""
    table = scene.turntable
    azimuth, elevation, distance = table.home

    def slide(label: str, bounds: Bounds, home: float) -> float:
        low, high, home, step = even_steps(bounds, home)
        return st.sidebar.slider(
            label, low, high, home, step, format="%g", key=f"{label} of {name}"
        )

    def angle(label: str, bounds: Bounds, home: float) -> float:
        low, high = bounds
        return slide(label, (math.degrees(low), math.degrees(high)), math.degrees(home))

    return View(
        angle("Azimuth (degrees)", table.azimuths, azimuth),
        angle("Elevation (degrees)", table.elevations, elevation),
        slide("Distance (scene units)", table.distances, distance),
        st.sidebar.select_slider(
            "Rows of the picture", SIZES, _nearest(scene.height), key=f"rows of {name}"
        ),
    )


def even_steps(bounds: Bounds, home: float) -> tuple[float, float, float, float]:
    """Both ends of a slider, its start and its step, with few digits, so that the page shows
    exactly the rendered values."""
    low, high = bounds
    digits = -math.floor(math.log10((high - low) / 50))
    step = 10.0**-digits
    ends = math.ceil(low / step) * step, math.floor(high / step) * step
    low, high, home = (round(value, digits) for value in (*ends, home))
    return low, high, min(max(home, low), high), round(step, max(digits, 0))


def _nearest(height: int) -> int:
    return min(SIZES, key=lambda size: abs(size - height))


def _pictures(
    scenes: Sequence[LoadedScene], columns: Sequence[Any], view: View, mode: Mode
) -> None:
    """Render coarse to fine, all scenes with the first one's camera and scale of depths.

    Until the first image is ready the page keeps those of the last view, as an empty place would
    flicker with each move.
    """
    cameras = scenes[0].camera(view)
    rounds = zip_longest(
        *(scene.preview.shrinks(cameras, SECONDS / len(scenes)) for scene in scenes), fillvalue=1
    )
    places = list(columns)
    for shrinks in rounds:
        depths: Depths | None = None
        for i, (scene, shrink) in enumerate(zip(scenes, shrinks, strict=True)):
            checkpoints = scenes[0].checkpoint, scene.checkpoint
            key = (*(os.fsencode(path) for path in checkpoints), id(scene))
            frame = _frame(key, view, shrink, depths, scene, cameras)
            depths = frame.depths
            places[i] = places[i].image(frame.urls[mode], _caption(mode, depths), width=WIDTH)


def _caption(mode: Mode, depths: Depths) -> str | None:
    near, far = depths
    is_scaled = mode == "depth"
    return f"from {near:.3g} (bright) to {far:.3g} (dark) scene units" if is_scaled else None


@st.cache_data(max_entries=200, show_spinner=False)
def _frame(
    key: tuple[Any, ...],
    view: View,
    shrink: int,
    depths: Depths | None,
    _scene: LoadedScene,
    _cameras: Cameras,
) -> ViewImages:
    """Cached by all arguments but the last two, which follow from the others."""
    return _scene.frame(_cameras, shrink, depths)


def _facts(column: Any, scene: LoadedScene) -> None:
    """History and scores of the scene."""
    history, n_views = scene.model.history, len(scene.turntable.cameras)
    if history is None:
        column.caption("A file of splats, which names neither photos nor scores.")
        return
    column.caption(f"{n_views} views, {history.steps:d} steps in {history.seconds:.0f} s")
    try:
        results = scene.results()
    except UserError as error:
        column.text(printable(error))
        return
    if results is None:
        column.caption("No scores yet: `dietnerf test --run ...` measures them.")
        return
    column.text(printable(results.protocol))
    mean = results.mean
    for part, name in zip(column.columns(max(1, len(mean))), mean, strict=False):
        part.metric(name, f"{mean[name]:.2f}" if name == "psnr" else f"{mean[name]:.4f}")


def _film(names: list[str], scenes: list[LoadedScene], view: View, mode: Mode) -> None:
    """A turn around the scene at the view of the sliders, to download."""
    with st.sidebar.expander("Film"):
        ending = st.radio("Format", (".gif", ".mp4"), horizontal=True)
        n_frames = st.slider("Frames", 10, 120, 40, 10)
        inputs = (*names, view.elevation_deg, view.distance, view.height, mode, ending, n_frames)
        if st.button("Make it"):
            cameras = of_height(
                scenes[0].turntable.full_turn(
                    n_frames, math.radians(view.elevation_deg), view.distance
                ),
                view.height,
            )
            frames = _with_progress(film_frames(scenes, cameras, [mode]), n_frames)
            st.session_state.film = (inputs, film(frames, ending, FPS))
        made_of, content = st.session_state.get("film", (None, b""))
        if made_of == inputs:
            st.download_button("Download", content, re.sub(r"[^\w.-]", "_", names[0]) + ending)


def _with_progress(
    frames: Iterable[dict[str, Tensor]], n_frames: int
) -> Iterator[dict[str, Tensor]]:
    bar = st.progress(0.0)
    for i, frame in enumerate(frames):
        bar.progress((i + 1) / n_frames)
        yield frame
    bar.empty()
