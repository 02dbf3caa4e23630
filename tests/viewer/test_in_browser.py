"""The viewer in a real browser: what a drag changes, and how soon."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dietnerf.geometry.cameras import Cameras
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.viewer import Viewer
from dietnerf.viewer.__main__ import open_run, parse
from dietnerf.viewer.views import browser_camera
from dietnerf.visualize import to_uint8
from tests.browser import (
    Driver,
    chromium,
    close_notices,
    console_errors,
    free_port,
    keep_screenshot,
    wait_for,
)

pytest.importorskip("viser", reason="viser is not installed: pip install -e '.[viewer]'")

from websockets.sync.server import serve

TOLERANCE = 2  # of 255, on average: the browser scales a JPEG
PANELS = 170  # rows that controls cover


@pytest.fixture
def viewer(shown_run: Path) -> Iterator[Viewer]:
    """In this process, so that a test can ask for its cameras."""
    made = open_run(parse([str(shown_run), "--port", str(free_port())]))
    threading.Thread(target=made.serve, daemon=True).start()
    yield made
    made.close()


def settled(viewer: Viewer) -> None:
    """Until nothing is left to be rendered."""
    (watcher,) = viewer._watchers.values()

    def is_fine() -> bool:
        wanted = watcher.wanted
        time.sleep(1.5)  # the browser tells of its camera, and unpacks a picture
        return watcher.shrink == 1 and watcher.wanted == wanted

    wait_for(is_fine)


def drag(driver: Driver, columns: int) -> None:
    from selenium.webdriver import ActionChains

    canvas = driver.find_element("tag name", "canvas")
    actions = ActionChains(driver, duration=50).move_to_element_with_offset(canvas, -300, 0)
    actions.click_and_hold().move_by_offset(columns, 0).release().perform()


def test_a_drag_changes_the_picture(viewer: Viewer, shown_run: Path):
    with chromium(900, 600) as driver:
        driver.get(viewer.address)
        wait_for(lambda: viewer.is_watched)
        settled(viewer)
        first = keep_screenshot(driver, "viewer")
        window, before = (first.shape[1], first.shape[0]), below_panels(first)
        drag(driver, 120)
        start = time.perf_counter()
        wait_for(lambda: distance(below_panels(keep_screenshot(driver, "viewer")), before) > 1)
        seconds_to_change = time.perf_counter() - start
        settled(viewer)
        (watcher,) = viewer._watchers.values()
        cameras = browser_camera(watcher.client.camera, viewer.cameras, viewer.around)
        expected = below_panels(rendered(shown_run, cameras, window))
        wait_for(
            lambda: distance(below_panels(keep_screenshot(driver, "viewer")), expected) < TOLERANCE,
            seconds=20,
        )
        assert distance(before, expected) > 2 * TOLERANCE
        assert not console_errors(driver)
        show_cameras(driver, viewer)
    wait_for(lambda: not viewer.is_watched)

    start = time.perf_counter()
    viewer.preview.render(cameras.framed(200, 200))
    print(
        f"\n200x200: {time.perf_counter() - start:.3f} s in the server; "
        f"{seconds_to_change:.3f} s in the browser from the end of a drag to another picture"
    )


def test_who_stands_in_a_camera_sees_the_scene_and_not_its_photograph(shown_run: Path):
    system = load_scene(find_checkpoint(shown_run))
    cameras, white = system.camera_set.cameras["train"], torch.ones(3)
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(len(cameras), 96, 96, 3)
    viewer = Viewer(system.field, system.sampler, cameras, white, shown_run, red, port=free_port())
    threading.Thread(target=viewer.serve, daemon=True).start()
    try:
        with chromium(900, 600) as driver:
            driver.get(viewer.address)
            wait_for(lambda: viewer.is_watched)
            (watcher,) = viewer._watchers.values()
            wait_for(lambda: watcher.shrink is not None)
            time.sleep(3)  # photographs come with the picture, or later
            middle = keep_screenshot(driver, "standing")[PANELS:-20, 200:-200].astype(int)
    finally:
        viewer.close()
    assert (abs(middle - [255, 0, 0]).max(axis=-1) < 30).mean() < 0.05


def test_the_page_cannot_be_led_to_another_server(finished_run: Path):
    """By its address, which any site can link to; that server's scripts would run in the page."""
    viewer = open_run(parse([str(finished_run), "--port", str(free_port())]))
    visits = []
    with serve(visits.append, "127.0.0.1", 0, process_request=visits.append) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{other.socket.getsockname()[1]}"
        try:
            with chromium(900, 600) as driver:
                for option in (f"websocket=ws://{place}", f"playbackPath=http://{place}/a.viser"):
                    driver.get(f"{viewer.address}/?{option}")
                    wait_for(lambda: "Content Security Policy" in " ".join(console_errors(driver)))
        finally:
            viewer.close()
    assert not visits


def show_cameras(driver: Driver, viewer: Viewer) -> None:
    """A picture of the page from behind the training cameras."""
    close_notices(driver)
    for frustum in viewer._frusta:
        frustum.visible = True
    (watcher,) = viewer._watchers.values()
    center = viewer.around.center.numpy()
    watcher.client.camera.position = center + 1.7 * (watcher.client.camera.position - center)
    settled(viewer)
    keep_screenshot(driver, "cameras")


def below_panels(pixels: np.ndarray) -> np.ndarray:
    return pixels[PANELS:].astype(int)


def distance(some: np.ndarray, others: np.ndarray) -> float:
    return float(abs(some - others).mean())


def rendered(run: Path, cameras: Cameras, window: tuple[int, int]) -> np.ndarray:
    """What a camera sees of a run, scaled to a window of another resolution."""
    pixels = to_uint8(
        load_scene(find_checkpoint(run)).render_rays_of(cameras, 0, torch.ones(3)).rgb
    )
    image = Image.fromarray(pixels.view(cameras.height, cameras.width, 3).numpy())
    return np.asarray(image.resize(window, Image.Resampling.BILINEAR))
