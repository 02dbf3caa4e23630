"""Which requests come from the viewer's own page.

Any web page can send requests to a server on the machine of its reader. Its `Origin` tells it
apart; or its `Host`, where its own name has been made to lead here (DNS rebinding).
"""

import ipaddress
import socket
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit


def own_names(host: str) -> set[str]:
    """The names that browsers may know this machine by, beside its addresses.

    Args:
        host: where the server listens, an address or a name.
    """
    names = {"localhost", host, socket.gethostname()}
    if not is_loopback(host):
        names.add(socket.getfqdn())  # can take a while, where there is no network
    return {name.lower() for name in names}


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server at `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def refusal(hosts: Sequence[str], origins: Sequence[str], names: Collection[str]) -> str | None:
    """Why a request is not answered, or None if it is.

    Args:
        hosts: its `Host` headers.
        origins: its `Origin` headers; programs other than browsers send none.
        names: of this machine.
    """
    if len(hosts) != 1 or not _is_here(hosts[0], names):
        return (
            "The viewer does not know this name for its machine. Use the machine's address instead."
        )
    if any(_place(origin) != hosts[0].lower() for origin in origins):
        return "The viewer answers its own page only."
    return None


def _is_here(host: str, names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return name in names or name.endswith(".localhost") or _is_address(name)


def _is_address(name: str) -> bool:
    """Whether it is one in numbers, which no other site can make lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
