"""The page: which scene, from where, what of it; pictures, a film to take away, and the scores."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import streamlit as st
from torch import Tensor

from dietnerf.demo.scenes import (
    Depths,
    Frame,
    LoadedScene,
    View,
    film,
    film_frames,
    find_scenes,
    of_height,
)
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.turntable import Bounds
from dietnerf.pictures import Mode
from dietnerf.training.process import prepare_process

SHOWN: dict[str, Mode] = {"colour": "rgb", "depth": "depth", "opacity": "opacity"}
SIZES = (100, 200, 400, 800)  # rows
WIDTH = 480  # of a picture on the page, if there is room
STYLE = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 2rem; padding-bottom: 1rem}
[data-testid="stSidebarHeader"] {height: 1rem}
</style>"""  # Streamlit leaves a fifth of the window empty
SECONDS = 0.15  # until something is shown; the way to the browser takes some more
NOTHING = "nothing"
FPS = 20


def main() -> None:
    """Show the page; the command line names folders of runs, by default `runs`."""
    prepare_process()
    st.set_page_config("dietnerf", layout="wide")
    st.html(STYLE)
    try:
        _show(*_choose(find_scenes(_sources())))
    except UserError as error:
        st.error(str(error))


def _sources() -> list[str]:
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", description=__doc__)
    parser.add_argument("sources", nargs="*", default=["runs"], help="runs, or folders of them")
    return list(parser.parse_known_args(sys.argv[1:])[0].sources)


def _choose(found: dict[str, str]) -> tuple[list[str], list[LoadedScene]]:
    """The names of the one or two scenes that are looked at, and what they name."""
    side = st.sidebar
    side.title("dietnerf")
    chosen = side.selectbox("Scene", list(found))
    others = [name for name in found if name != chosen]
    beside = side.selectbox("Beside it", [NOTHING, *others])
    names = [chosen] if beside == NOTHING else [chosen, beside]
    return names, [_load(found[name], _stamp(found[name])) for name in names]


def _stamp(source: str) -> float:
    """When a checkpoint was written: one that was written anew is another one."""
    path = Path(source)
    return path.stat().st_mtime if path.exists() else 0.0


@st.cache_resource(max_entries=4, show_spinner="Loading the scene")
def _load(source: str, stamp: float) -> LoadedScene:
    return LoadedScene(source)


def _show(names: list[str], scenes: list[LoadedScene]) -> None:
    view = _sliders(scenes[0], names[0])
    mode = SHOWN[st.sidebar.radio("Show", list(SHOWN), horizontal=True)]
    columns = st.columns(len(scenes))
    for name, column in zip(names, columns, strict=True):
        column.subheader(name)
    _pictures(scenes, columns, view, mode)
    for scene, column in zip(scenes, columns, strict=True):
        _facts(column, scene)
    _film(names, scenes, view, mode)


def _sliders(scene: LoadedScene, name: str) -> View:
    """Where to look from, within what the scene's cameras give reason to."""
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
    """Both ends of a slider, where it begins, and its step, all of few digits: so that the numbers
    on the page are those that are rendered."""
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
    """Coarse to fine, every scene through the first one's camera and with its scale of depths.

    Until the first one is there the page keeps those of the last view: an empty place for it would
    be a flicker with each move.
    """
    cameras = scenes[0].camera(view)
    rounds = zip_longest(
        *(scene.preview.shrinks(cameras, SECONDS / len(scenes)) for scene in scenes), fillvalue=1
    )
    places = list(columns)
    for shrinks in rounds:
        depths: Depths | None = None
        for i, (scene, shrink) in enumerate(zip(scenes, shrinks, strict=True)):
            key = (str(scenes[0].checkpoint), str(scene.checkpoint), id(scene))
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
) -> Frame:
    """Kept by all arguments but the last two, which follow from the others."""
    return _scene.frame(_cameras, shrink, depths)


def _facts(column: Any, scene: LoadedScene) -> None:
    """How the scene came to be, and what it scored."""
    history, n_views = scene.system.history, len(scene.turntable.cameras)
    column.caption(f"{n_views} views, {history.steps} steps in {history.seconds:.0f} s")
    results = scene.results()
    if results is None:
        column.caption("No scores yet: `python train.py test --run ...` measures them.")
        return
    column.caption(results["protocol"])
    scores = {name: value for name, value in results["mean"].items() if value is not None}
    for part, name in zip(column.columns(max(1, len(scores))), scores, strict=False):
        part.metric(name, f"{scores[name]:.2f}" if name == "psnr" else f"{scores[name]:.4f}")


def _film(names: list[str], scenes: list[LoadedScene], view: View, mode: Mode) -> None:
    """A turn around the scene from where the sliders stand, to download."""
    with st.sidebar.expander("Film"):
        ending = st.radio("Format", (".gif", ".mp4"), horizontal=True)
        n_frames = st.slider("Frames", 10, 120, 40, 10)
        asked = (*names, view.elevation_deg, view.distance, view.height, mode, ending, n_frames)
        if st.button("Make it"):
            cameras = of_height(
                scenes[0].turntable.full_turn(
                    n_frames, math.radians(view.elevation_deg), view.distance
                ),
                view.height,
            )
            frames = _with_progress(film_frames(scenes, cameras, [mode]), n_frames)
            st.session_state.film = (asked, film(frames, ending, FPS))
        made_of, content = st.session_state.get("film", (None, b""))
        if made_of == asked:
            st.download_button("Download", content, f"{names[0].replace('/', '_')}{ending}")


def _with_progress(
    frames: Iterable[dict[str, Tensor]], n_frames: int
) -> Iterator[dict[str, Tensor]]:
    bar = st.progress(0.0)
    for i, frame in enumerate(frames):
        bar.progress((i + 1) / n_frames)
        yield frame
    bar.empty()
