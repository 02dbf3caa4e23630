"""Connections of browsers to viser's server, held to what the viewer's own page needs of them."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import viser
from websockets.asyncio import server
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event

from dietnerf.viewer.messages import is_understood
from dietnerf.viewer.notices import Notices
from dietnerf.viewer.origins import refusal

MOST = 64  # connections at a time; a run has files of its own to open
LONGEST = 2**14  # bytes of a message
SECONDS_PER_MESSAGE = 0.01  # a page sends 50 moves a second
OTHER_VERSION = 1002  # the page then says so itself
# A page can be led to another server by its address, and would run scripts from there.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
)


class Connection(server.ServerConnection):
    """Hands on the messages that are understood, and no more than a page sends."""

    def __init__(self, notices: Notices, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._notices = notices

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.server.handlers) > MOST:
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.CONT:
            self.transport.abort()  # a page sends no message in parts, which could be without end
            return
        super().process_event(event)

    async def recv(self, decode: bool | None = None) -> Any:
        while True:
            await asyncio.sleep(SECONDS_PER_MESSAGE)
            content = await super().recv(decode=False)
            if is_understood(content):
                return content
            self._notices.say("a message that no page of the viewer sends was passed over")


@contextlib.contextmanager
def guarded(listening: socket.socket, names: Collection[str], notices: Notices) -> Iterator[None]:
    """While the block runs, a viser server that starts listens at this socket, behind the guard.

    viser has no options for it, but makes its server by `websockets.asyncio.server.serve`.

    Args:
        listening: the socket.
        names: of this machine, as browsers may call it.
        notices: where refusals are said.
    """
    serve = server.serve
    logging.getLogger("asyncio").addFilter(_says_something)

    def serve_guarded(
        handler: Callable[[Any], Awaitable[None]],
        *place: Any,
        process_request: Callable[[Any, Request], Response | None],
        **options: Any,
    ) -> server.serve:
        options |= {
            "sock": listening,
            "max_size": LONGEST,
            "logger": logging.Logger("viewer", logging.CRITICAL),  # browsers would fill a terminal
            "create_connection": partial(Connection, notices),
            "process_request": partial(_answer, process_request, names, notices),
        }
        return serve(partial(_handle, handler, notices), **options)

    server.serve = serve_guarded  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        server.serve = serve  # type: ignore[misc]


def _says_something(record: logging.LogRecord) -> bool:
    """Whether asyncio says more than that a browser is gone, once for each thing sent to it."""
    return "socket.send() raised exception" not in record.getMessage()


def _answer(
    answer: Callable[[Any, Request], Response | None],
    names: Collection[str],
    notices: Notices,
    connection: server.ServerConnection,
    request: Request,
) -> Response | None:
    """The response to an HTTP request, or None to go on as a WebSocket."""
    headers = request.headers
    reason = refusal(headers.get_all("Host"), headers.get_all("Origin"), names)
    if reason is not None:
        notices.say("a request that did not come from the viewer's page was refused")
        return connection.respond(HTTPStatus.FORBIDDEN, reason + "\n")
    try:
        response = answer(connection, request)
    except (OSError, ValueError, LookupError):  # a name that no file can have, a header twice
        return connection.respond(HTTPStatus.BAD_REQUEST, "no such page\n")
    if response is not None:
        response.headers["Content-Security-Policy"] = POLICY
    return response


async def _handle(
    handler: Callable[[Any], Awaitable[None]],
    notices: Notices,
    connection: server.ServerConnection,
) -> None:
    if connection.subprotocol != f"viser-v{viser.__version__}":
        await connection.close(OTHER_VERSION, "The page is of another version: load it again.")
        return
    try:
        await handler(connection)
    except Exception as error:  # of this browser alone
        notices.say("a browser was disconnected", error)
