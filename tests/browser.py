"""A real browser, and the programs that it looks at."""

import io
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "screenshots"
Driver = Any  # selenium's, which may not be installed
T = TypeVar("T")


def chromium_or_skip() -> tuple[str, str]:
    """Where the browser and its driver are."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in found:
        pytest.skip("no chromium with chromedriver; on Debian: apt install chromium-driver")
    return str(found[0]), str(found[1])


@contextmanager
def chromium(width: int = 1280, height: int = 800) -> Iterator[Driver]:
    """A browser without a window."""
    binary, driver_path = chromium_or_skip()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--enable-unsafe-swiftshader",  # WebGL without a GPU
        f"--window-size={width},{height}",
    ):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def program(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the repository while the block runs; its output is shown if a test fails."""
    process = subprocess.Popen([sys.executable, *args], cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def wait_for(what: Callable[[], T], seconds: float = 60) -> T:
    """What is true in the end."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what}")


def console_errors(driver: Driver) -> list[str]:
    """What the page complains about."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def close_notices(driver: Driver) -> None:
    """Of the viewer: that WebGL has no GPU here."""
    for notice in driver.find_elements("css selector", ".mantine-Notification-closeButton"):
        notice.click()


def requested(driver: Driver) -> set[str]:
    """The servers that the page has asked for anything."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    urls = (event["params"].get("request", {}).get("url", "") for event in events)
    return {urlsplit(url).netloc for url in urls if url.startswith(("http", "ws"))}


def keep_screenshot(driver: Driver, name: str) -> np.ndarray:
    """The page as it looks, (height, width, 3), 8 bit, also kept as a file."""
    content = driver.get_screenshot_as_png()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.png").write_bytes(content)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def slide(driver: Driver, label: str, steps: int) -> float:
    """Move a slider of a page by the keyboard, and say where it stands then."""
    place = f'input[type="range"][aria-label="{label}"]'
    from selenium.webdriver import ActionChains

    (slider,) = wait_for(lambda: driver.find_elements("css selector", place))
    driver.execute_script("arguments[0].focus()", slider)  # transparent: nothing can click on it
    for _ in range(steps):
        ActionChains(driver).send_keys("\ue014").perform()  # arrow to the right
    return float(slider.get_attribute("value"))


def wait_for_port(port: int) -> None:
    """Until a program listens."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens)
