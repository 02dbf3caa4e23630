"""The viewer's server against browsers that are broken or hostile."""

import contextlib
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("viser", reason="viser is not installed: pip install -e '.[viewer]'")

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from dietnerf.viewer import Viewer
from dietnerf.viewer.__main__ import open_run, parse
from tests.browser import wait_for
from tests.viewer import hostile

FOV = 0.7  # of a camera that the test waits for


@pytest.fixture(scope="module")
def viewer(finished_run: Path) -> Iterator[Viewer]:
    made = open_run(parse([str(finished_run), "--port", "0"]))
    yield made
    made.close()


@pytest.fixture
def browser(viewer: Viewer) -> Iterator[ClientConnection]:
    """A connection that has the viewer to itself."""
    with hostile.visit(port_of(viewer)) as connection:
        yield connection
    wait_for(lambda: not viewer.is_watched)


def port_of(viewer: Viewer) -> int:
    return int(viewer.address.rpartition(":")[2])


def is_shown_a_picture(viewer: Viewer, browser: ClientConnection) -> bool:
    """Whether the viewer goes on to paint for this browser."""
    browser.send(hostile.camera(fov=FOV))
    wait_for(
        lambda: [w for w in viewer._watchers.values() if w.client.camera.fov == FOV], seconds=10
    )
    while viewer.paint():
        pass
    return all(watcher.shrink == 1 for watcher in viewer._watchers.values())


def wait_for_messages(viewer: Viewer, browser: ClientConnection) -> None:
    """Until all that was sent so far has come to the viewer."""
    name = controls(viewer)["Training cameras"]
    box = viewer.server.gui._gui_input_handle_from_uuid[name]
    wanted = not box.value
    browser.send(hostile.update(name, value=wanted))
    wait_for(lambda: box.value == wanted, seconds=10)


def wait_for_end(connection: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        list(connection)


def controls(viewer: Viewer) -> dict[str, str]:
    """What a page calls them by."""
    handles = viewer.server.gui._gui_input_handle_from_uuid
    return {handle.label: name for name, handle in handles.items()}


@pytest.mark.parametrize("name", hostile.BROKEN)
def test_a_broken_message_is_passed_over(viewer: Viewer, browser: ClientConnection, name: str):
    browser.send(hostile.BROKEN[name])
    wait_for_messages(viewer, browser)
    while viewer.paint():
        pass
    assert is_shown_a_picture(viewer, browser)


@pytest.mark.parametrize("name", hostile.ODD)
def test_an_odd_message_is_taken_as_it_is(
    viewer: Viewer, browser: ClientConnection, name: str, capfd
):
    browser.send(hostile.ODD[name])
    wait_for_messages(viewer, browser)
    while viewer.paint():
        pass
    assert is_shown_a_picture(viewer, browser)
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    "updates",
    [
        {"value": "nope"},
        {"value": 1e300},
        {"value": None},
        {"value": ["depth"]},
        {"value": "x" * 1000},
        {"removed": True},
        {"update_cb": []},
        {"sync_cb": 5},
        {"nothing": 0},
    ],
    ids=str,
)
def test_a_control_takes_no_other_value(viewer: Viewer, browser: ClientConnection, updates: dict):
    for uuid in controls(viewer).values():
        browser.send(hostile.update(uuid, **updates))
        browser.send(hostile.upload(uuid))
    browser.send(hostile.update(controls(viewer)["Show"], value="depth"))
    assert is_shown_a_picture(viewer, browser)
    wait_for(lambda: viewer._shown.value == "depth")
    browser.send(hostile.update(controls(viewer)["Show"], value="color"))
    wait_for(lambda: viewer._shown.value == "color")


def test_a_choice_that_is_none_is_taken_back(viewer: Viewer, browser: ClientConnection):
    browser.send(hostile.camera())
    wait_for(lambda: viewer.is_watched)
    browser.send(hostile.update(controls(viewer)["Show"], value="nope"))
    wait_for(lambda: "nope" in str(viewer._shown.value) or viewer._shown.update_timestamp)
    wait_for(lambda: viewer._shown.value == "color")
    assert is_shown_a_picture(viewer, browser)


def test_a_window_of_any_size_is_a_picture_of_bounded_size(
    viewer: Viewer, browser: ClientConnection, monkeypatch
):
    sizes = []
    render = viewer.preview.render
    monkeypatch.setattr(
        viewer.preview,
        "render",
        lambda cameras: sizes.append(cameras.width * cameras.height) or render(cameras),
    )
    for width, height in ((16384, 1), (1, 16384), (16384, 16384), (16384, 9)):
        viewer.preview.seconds_per_pixel = 1.0
        browser.send(hostile.camera(image_width=width, image_height=height, fov=FOV))
        wait_for(lambda: [w for w in viewer._watchers.values() if w.client.camera.fov == FOV])
        assert viewer.paint(still_seconds=0.0)
        browser.send(hostile.camera())
        wait_for(lambda: [w for w in viewer._watchers.values() if w.client.camera.fov != FOV])
    assert max(sizes) < 200, "of a slow field"


def test_a_long_message_ends_its_connection_alone(viewer: Viewer, browser: ClientConnection):
    with hostile.visit(port_of(viewer)) as other:
        other.send(b"\0" * 1_000_000)
        wait_for_end(other)
        assert other.close_code == 1009
    assert is_shown_a_picture(viewer, browser)


def test_a_message_in_parts_ends_its_connection_alone(viewer: Viewer, browser: ClientConnection):
    with hostile.visit(port_of(viewer)) as other:
        with contextlib.suppress(ConnectionClosed):
            other.send(iter([b""] * 1000))
        wait_for_end(other)
    assert is_shown_a_picture(viewer, browser)


def test_whoever_vanishes_is_no_visitor_any_more(viewer: Viewer):
    for _ in range(5):
        gone = hostile.visit(port_of(viewer))
        gone.send(hostile.camera())
        wait_for(lambda: viewer.is_watched)
        gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(7))
        gone.socket.close()
        while viewer.paint():
            pass
        wait_for(lambda: not viewer.is_watched)


def test_connections_have_a_bound(viewer: Viewer):
    from dietnerf.viewer.connections import MOST

    before = len(os.listdir("/proc/self/fd"))
    idle = [socket.create_connection(("127.0.0.1", port_of(viewer))) for _ in range(2 * MOST)]
    for one in idle:
        one.settimeout(10)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) - before - len(idle) <= MOST)
    for one in idle:
        one.close()
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before)
    with hostile.visit(port_of(viewer)) as browser:
        assert is_shown_a_picture(viewer, browser)


def test_what_goes_wrong_is_said_once(finished_run: Path, capfd):
    viewer = open_run(parse([str(finished_run), "--port", "0"]))
    try:
        for content in list(hostile.BROKEN.values())[::6]:
            for origin in (None, "http://evil.example"):
                with (
                    contextlib.suppress(InvalidHandshake),
                    hostile.visit(port_of(viewer), origin=origin) as browser,
                ):
                    browser.send(content)
                    assert is_shown_a_picture(viewer, browser)
        for _ in range(3):
            with connect(f"ws://127.0.0.1:{port_of(viewer)}", subprotocols=["viser-v0.1"]) as old:
                wait_for_end(old)
                assert "another version" in old.close_reason
    finally:
        viewer.close()
    captured = capfd.readouterr()
    said = [line for line in captured.err.splitlines() if line.startswith("viewer:")]
    assert len(said) == len(set(said)) == 2
    assert "Traceback" not in captured.err and "viser-v0.1" not in captured.out


OWN = "http://127.0.0.1:{port}"
REQUESTS = {  # host, origin, whether it is answered
    "the page itself": ("127.0.0.1:{port}", OWN, True),
    "a program": ("127.0.0.1:{port}", None, True),
    "a tunnel": ("localhost:9000", "http://localhost:9000", True),
    "this machine by its name": (socket.gethostname(), f"http://{socket.gethostname()}", True),
    "an address of the network": ("192.168.7.7:8080", "http://192.168.7.7:8080", True),
    "behind TLS": ("[::1]:8080", "https://[::1]:8080", True),
    "another site": ("127.0.0.1:{port}", "http://evil.example", False),
    "a site like it": ("127.0.0.1:{port}", "http://127.0.0.1.evil.example:{port}", False),
    "another port": ("127.0.0.1:{port}", "http://127.0.0.1:1", False),
    "a file": ("127.0.0.1:{port}", "null", False),
    "no address": ("127.0.0.1:{port}", "http://[", False),
    "another name that leads here": ("evil.example:{port}", "http://evil.example:{port}", False),
    "the same without an origin": ("evil.example:{port}", None, False),
    "no name": ("", None, False),
}


@pytest.fixture(params=REQUESTS)
def request_of(request: pytest.FixtureRequest, viewer: Viewer) -> tuple[str, str | None, bool]:
    host, origin, is_answered = REQUESTS[request.param]
    port = str(port_of(viewer))
    place = origin and origin.replace("{port}", port)
    return host.replace("{port}", port), place, is_answered


def test_the_page_is_for_its_own_readers(viewer: Viewer, request_of):
    host, origin, is_answered = request_of
    request = urllib.request.Request(viewer.address, headers={"Host": host})
    if origin is not None:
        request.add_header("Origin", origin)
    if not is_answered:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)
        return
    with urllib.request.urlopen(request, timeout=10) as response:
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_the_scene_is_for_its_own_page(viewer: Viewer, request_of):
    host, origin, is_answered = request_of
    if not host:
        return  # a client without one does not exist
    way = socket.create_connection(("127.0.0.1", port_of(viewer)))
    options = {"sock": way, "origin": origin, "subprotocols": [hostile.SUBPROTOCOL]}
    if not is_answered:
        with pytest.raises(InvalidHandshake):
            connect(f"ws://{host}", **options)
        return
    with connect(f"ws://{host}", **options) as browser:
        assert is_shown_a_picture(viewer, browser)
    wait_for(lambda: not viewer.is_watched)


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"b" * 300 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/_viser.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    ],
    ids=lambda line: line[:30].decode("latin-1"),
)
def test_a_broken_request_is_refused(viewer: Viewer, browser, request_line: bytes, capfd):
    with socket.create_connection(("127.0.0.1", port_of(viewer)), timeout=10) as raw:
        raw.sendall(request_line)
        answer = raw.recv(100)
    assert not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 5"))
    assert is_shown_a_picture(viewer, browser)
    assert "Traceback" not in capfd.readouterr().err
