"""Rejects requests of foreign pages, as the viewer does.

Streamlit accepts a page of any host name that resolves to this machine, and contacts an address on
the internet to find the machine's own before it refuses another.
"""

from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config

from dietnerf.viewer.origins import own_names, refusal


class Door:
    """An ASGI middleware.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        others: list[str] = config.get_option("server.allowedHosts")
        self.names = own_names(config.get_option("server.address") or "") | set(others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = None if scope["type"] == "lifespan" else self._refusal(scope["headers"])
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # before it was accepted: 403
        else:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": reason.encode()})

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        hosts, origins = (
            [value.decode("latin-1") for key, value in headers if key == name]
            for name in (b"host", b"origin")
        )
        return refusal(hosts, origins, self.names)
