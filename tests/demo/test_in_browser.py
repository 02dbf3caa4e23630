"""The page in a real browser: what a move of a slider changes, and how soon."""

import json
import shutil
import time
import urllib.request
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from dietnerf.demo.scenes import LoadedScene, View
from tests.browser import (
    Driver,
    chromium,
    console_errors,
    free_port,
    keep_screenshot,
    program,
    requested,
    slide,
    wait_for,
    wait_for_port,
)

ROWS = 200
MAX_DIFFERENCE = 1  # of 255: the same computation in another process, rounded


class Page:
    """The page as its visitor sees it."""

    def __init__(self, driver: Driver, port: int) -> None:
        self.driver = driver
        driver.get(f"http://127.0.0.1:{port}")

    def address(self, columns: int = 1) -> str:
        """Of the picture, which holds it, once it has as many columns."""
        return str(
            self.driver.execute_script(
                "const i = document.querySelector('[data-testid=\"stImage\"] img');"
                "return i && i.complete && i.naturalWidth >= arguments[0] ? i.src : ''",
                columns,
            )
        )

    def count_blanks(self) -> None:
        """From now on, of the moments in which the page shows no picture."""
        self.driver.execute_script(
            "window.blanks = 0; new MutationObserver(() => { window.blanks +="
            " document.querySelector('[data-testid=\"stImage\"] img') ? 0 : 1; })"
            ".observe(document.body, {childList: true, subtree: true})"
        )

    def n_blanks(self) -> int:
        return int(self.driver.execute_script("return window.blanks"))

    def rest(self) -> None:
        """Wait until everything on the page is of the last move."""
        at_rest = '[data-test-script-state="notRunning"]'
        wait_for(lambda: self.driver.find_elements("css selector", at_rest))

    def press(self, label: str) -> None:
        place = f"//button[.='{label}']"
        (button,) = wait_for(lambda: self.driver.find_elements("xpath", place))
        self.driver.execute_script("arguments[0].click()", button)

    def pixels(self) -> np.ndarray:
        """The picture at its full size."""
        return pixels(wait_for(lambda: self.address(ROWS)))


def pixels(url: str) -> np.ndarray:
    """Those of a `data:` address, (height, width, 3)."""
    with urllib.request.urlopen(url) as content:
        return iio.imread(content.read()).astype(int)


def test_a_moved_slider_changes_the_picture(shown_run: Path):
    port = free_port()
    page_of = ("-m", "streamlit", "run", "app.py", "--server.port", str(port))
    with chromium() as driver, program(*page_of, "--", str(shown_run)):
        wait_for_port(port)
        page = Page(driver, port)
        wait_for(page.address)
        slide(driver, "Rows of the picture", 1)
        before = page.pixels()
        shown = wait_for(lambda: page.address(ROWS))

        page.count_blanks()
        start = time.perf_counter()
        azimuth = slide(driver, "Azimuth (degrees)", 1)
        wait_for(lambda: page.address() not in ("", shown))
        seconds_to_change = time.perf_counter() - start
        wait_for(lambda: page.address(ROWS) not in ("", shown))
        seconds_to_full = time.perf_counter() - start
        after = page.pixels()

        elevation, distance = (
            slide(driver, label, 0) for label in ("Elevation (degrees)", "Distance (scene units)")
        )
        keep_screenshot(driver, "page")
        page.rest()
        driver.find_element("css selector", '[data-testid="stExpander"] summary').click()
        page.press("Make it")
        wait_for(lambda: driver.find_elements("xpath", "//button[.='Download']"))
        assert page.n_blanks() == 0, "the last picture stays until the next one is there"
        assert not console_errors(driver)

    scene = LoadedScene(str(shown_run))
    cameras = scene.camera(View(azimuth, elevation, distance, ROWS))
    start = time.perf_counter()
    frame = scene.frame(cameras)
    print(
        f"\n{ROWS}x{ROWS}: {time.perf_counter() - start:.3f} s in the server; in the browser "
        f"{seconds_to_change:.3f} s to the changed picture, {seconds_to_full:.3f} s to the full one"
    )
    expected = pixels(frame.urls["rgb"])
    assert abs(after - expected).max() <= MAX_DIFFERENCE
    assert abs(after - before).max() > 20


def test_nothing_is_fetched_from_elsewhere(finished_run: Path, tmp_path: Path):
    """Though the name of a run, its scores and its checkpoints would have it so."""
    picture = "![x](http:/127.0.0.1:9/a.png)"
    run = tmp_path / f"{picture} <img src=http:" / "127.0.0.1:9" / "b.png>"
    shutil.copytree(finished_run, run)
    results = {"checkpoint": "last.ckpt", "mean": {"psnr": 1.0}, "protocol": f"{picture} of it"}
    (run / "metrics.json").write_text(json.dumps(results))
    for checkpoint in ("best", "000004"):
        (run / "checkpoints" / f"{checkpoint}.ckpt").write_bytes(b"torn")
    port = free_port()
    page_of = ("-m", "streamlit", "run", "app.py", "--server.port", str(port))
    with chromium() as driver, program(*page_of, "--", str(tmp_path)):
        wait_for_port(port)
        page = Page(driver, port)
        wait_for(page.address)
        wait_for(lambda: f"{picture} of it" in driver.find_element("tag name", "body").text)
        page.rest()
        keep_screenshot(driver, "markup")
        choose(driver, "Scene", 1)
        wait_for(lambda: "is not a readable checkpoint" in driver.page_source)
        page.rest()
        keep_screenshot(driver, "torn")
        assert requested(driver) == {f"127.0.0.1:{port}"}


def choose(driver: Driver, label: str, steps: int) -> None:
    """The next choice but so many of a list."""
    place = f'input[role="combobox"][aria-label*="{label}"]'
    (box,) = wait_for(lambda: driver.find_elements("css selector", place))
    box.click()
    box.send_keys("\ue015" * steps, "\ue007")  # arrow down, and enter
