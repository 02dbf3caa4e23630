"""A server at the port that was asked for, or one sentence."""

import contextlib
import io
import socket
import warnings
from typing import Any

from dietnerf.errors import UserError
from dietnerf.optional import how_to_install
from dietnerf.viewer.notices import Notices
from dietnerf.viewer.origins import is_loopback, own_names


def serve_at(host: str, port: int, notices: Notices) -> Any:
    """A viser server at this very port, which answers its own page only.

    Raises:
        UserError: viser is not installed, is one that cannot be guarded, or the port is taken.
    """
    try:
        import viser

        from dietnerf.viewer.connections import guarded
    except ImportError as error:
        raise UserError(f"the viewer needs viser: {how_to_install('viewer')}") from error
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    box = io.StringIO()  # viser says its address in one
    with guarded(listening, own_names(host), notices), contextlib.redirect_stdout(box):
        server = viser.ViserServer(host=host, port=port, verbose=False)
    if server.get_port() != port:  # it has opened a port of its own
        server.stop()
        listening.close()
        raise UserError(f"the viewer cannot guard viser {viser.__version__}; install 1.1.1")
    # A browser can leave at any time.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection", UserWarning)
    server.get_event_loop().set_exception_handler(
        lambda loop, context: notices.say("a connection failed", context.get("exception"))
    )
    return server


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((place[0], port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"the viewer cannot listen at {host}:{port} ({error}); choose another port, or end "
            "the program that has it"
        ) from error


def address_of(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{_bracketed(name)}:{port}"


def way_from_elsewhere(host: str, port: int) -> str:
    """A sentence on how to see the viewer from another machine; empty if it is open to all."""
    if not is_loopback(host):
        return ""
    tunnel = f"ssh -L {port}:{_bracketed(host)}:{port} {socket.gethostname()}"
    return f" From another machine, first run there: {tunnel}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
