"""A server at the port that was asked for, or one sentence."""

import contextlib
import io
import socket
from typing import Any

from dietnerf.errors import UserError


def serve_at(host: str, port: int) -> Any:
    """A viser server at this very port.

    Raises:
        UserError: viser is not installed, or the port is taken.
    """
    try:
        import viser
    except ImportError as error:
        raise UserError("the viewer needs viser: pip install 'dietnerf[viewer]'") from error
    _check_port(host, port)  # viser would go on to the next one
    with contextlib.redirect_stdout(io.StringIO()):  # it says its address in a box
        return viser.ViserServer(host=host, port=port, verbose=False)


def _check_port(host: str, port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"the viewer cannot listen at {host}:{port} ({error}); choose another port, or end "
            "the program that has it"
        ) from error
