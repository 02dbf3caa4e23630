"""Which requests the page answers."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="streamlit is not installed: pip install -e '.[app]'")

from dietnerf.demo.door import Door

REQUESTS = {  # host, origin, whether it is answered
    "the page itself": ("localhost:8501", "http://localhost:8501", True),
    "a program": ("127.0.0.1:8501", None, True),
    "another site": ("localhost:8501", "http://evil.example", False),
    "another name that leads here": ("evil.example:8501", "http://evil.example:8501", False),
    "the same without an origin": ("evil.example:8501", None, False),
    "no name": (None, None, False),
    "a name that is not ASCII": ("\xff", None, False),
}


def sent(kind: str, host: str | None, origin: str | None) -> list[dict[str, Any]]:
    """What a request is answered; `through` if it came through the door."""
    answers = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "through"})

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        answers.append(message)

    named = {"host": host, "origin": origin}
    headers = [(k.encode(), v.encode("latin-1")) for k, v in named.items() if v is not None]
    asyncio.run(Door(behind)({"type": kind, "headers": headers}, receive, send))
    return answers


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("name", REQUESTS)
def test_requests_of_the_page_come_through(name: str, kind: str):
    host, origin, is_answered = REQUESTS[name]
    answers = sent(kind, host, origin)
    assert (answers[0]["type"] == "through") == is_answered
    if not is_answered:
        assert answers[0].get("status", 403) == 403 and answers[-1]["type"] != "through"


def test_the_start_of_the_server_comes_through():
    assert sent("lifespan", None, None) == [{"type": "through"}]
