"""A host on this machine that breaks off, changes its files, passes on, and states checksums."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Host(ThreadingHTTPServer):
    """Serves `content` at any address.

    Args:
        content: what is served.

    Attributes:
        breaks_after: bytes that each of the next answers, one number an answer, stops at.
        status: answered instead of the content, if it is not 200.
        moves_to: address that it passes on to.
        headers: further ones.
        knows_ranges, knows_if_range, has_size: what it understands and tells.
        requests: the `Range` of each.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.breaks_after: list[int] = []
        self.status = 200
        self.moves_to = ""
        self.headers: dict[str, str] = {}
        self.knows_ranges = self.knows_if_range = self.has_size = True
        self.requests: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/toys.zip"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        host, content = self.server, self.server.content
        host.requests.append(self.headers["Range"])
        tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        is_same = self.headers["If-Range"] == tag or not host.knows_if_range
        start = 0
        if host.moves_to:
            self.send_response(302)
            self.send_header("Location", host.moves_to)
        elif host.status != 200:
            self.send_response(host.status)
        elif self.headers["Range"] and host.knows_ranges and is_same:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        is_content = not host.moves_to and host.status == 200
        body = content[start:] if is_content else b""
        if host.has_size:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", tag)
        for name, value in host.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if host.breaks_after and is_content:
            body = body[: host.breaks_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(content: bytes) -> Iterator[Host]:
    """A host that serves until the block ends."""
    with Host(content) as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield host
        host.shutdown()
        thread.join()
