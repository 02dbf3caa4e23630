"""Pictures of the page and of the viewer for the documentation, in a headless Chromium:

python -m tests.screenshots runs/demo docs/images
"""

import sys
import threading
import time
from pathlib import Path

from dietnerf.viewer.__main__ import open_run, parse
from tests.browser import (
    chromium,
    close_notices,
    free_port,
    program,
    slide,
    wait_for,
    wait_for_port,
)
from tests.demo.test_in_browser import Page

ROWS = 400  # of the page's picture
STEPS = 1  # of its slider, from 200 rows to those


def of_page(run: Path, out: Path) -> None:
    port = free_port()
    words = ("-m", "streamlit", "run", "app.py", "--server.port", str(port), "--", str(run))
    with chromium(1280, 745) as driver, program(*words):
        wait_for_port(port)
        page = Page(driver, port)
        wait_for(page.address)
        slide(driver, "Rows of the picture", STEPS)
        wait_for(lambda: page.address(ROWS))
        page.rest()
        out.write_bytes(driver.get_screenshot_as_png())


def of_viewer(run: Path, out: Path) -> None:
    viewer = open_run(parse([str(run), "--port", str(free_port())]))
    threading.Thread(target=viewer.serve, daemon=True).start()
    with chromium() as driver:
        driver.get(viewer.address)
        wait_for(lambda: viewer.is_watched)
        (watcher,) = viewer._watchers.values()
        time.sleep(2)  # the browser tells of its window again
        wait_for(lambda: watcher.shrink == 1)
        close_notices(driver)
        time.sleep(2)  # the picture is unpacked, and the notice fades
        out.write_bytes(driver.get_screenshot_as_png())
    viewer.close()


if __name__ == "__main__":
    run, folder = map(Path, sys.argv[1:])
    of_page(run, folder / "page.png")
    of_viewer(run, folder / "viewer.png")
