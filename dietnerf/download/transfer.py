"""Resumable downloads (RFC 9110, section 14).

Received bytes are in NAME.part; NAME.part.json identifies the file and its version. The rest is
requested only if the host still has that version (`If-Range`).
"""

import base64
import errno
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dietnerf
from dietnerf.errors import FULL, UserError
from dietnerf.files import check_regular, write_file
from dietnerf.prepare.progress import progress_of_bytes

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # without a byte, seconds
TRIES, PAUSE = 5, 1.0  # attempts in a row without data; seconds after the first, then doubled
LARGEST_STATE = 1e5  # bytes
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # status codes worth another attempt
UNWRITABLE = (*FULL, errno.EACCES, errno.EPERM, errno.EISDIR)
BROKEN = (http.client.HTTPException, OSError)  # connections; a URLError is an OSError
SAID = {401: "wants a login", 403: "refuses", 404: "does not have it", 410: "has it no more"}


class Absent(UserError):
    """A host does not have a file, or denies access."""


class Unreachable(UserError):
    """A host cannot be reached, and nothing was received before."""


class _Changed(Exception):
    """A host has another version than the partial file."""


@dataclass(frozen=True)
class Remote:
    """A version of a file on a host.

    Args:
        address: the requested URL.
        size: in bytes, if the host states it.
        validator: what `If-Range` takes: a strong ETag, or the date of the last change.
        digest: "sha256:..." or "md5:..." in hexadecimal digits, if the host states one.
    """

    address: str
    size: int | None = None
    validator: str | None = None
    digest: str | None = None


def part_of(path: Path) -> Path:
    """The partial file of a download."""
    return path.with_name(f"{path.name}.part")


def fetch(address: str, path: Path, check: Callable[[int | None, int | None], None]) -> Remote:
    """Download a file, or the rest of it, into its partial file.

    Args:
        address: http or https.
        path: of the complete file, which is not created here.
        check: called with the size of the file and the number of missing bytes, as far as the host
            states them, before any data; may raise.

    Returns:
        The version on the host.

    Raises:
        Absent: the host does not have it.
        Unreachable: it does not respond.
        UserError: the connection breaks again and again, or the disk is full.
    """
    part, n_failed = part_of(path), 0
    begin = before = _size(part)
    while True:
        try:
            return _fetch_once(address, part, check)
        except _Changed:
            print("the host has another version by now: from the beginning", flush=True)
            forget(path)
            failure: Exception = http.client.HTTPException("it has another version each time")
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise _full(part, error) from error
            failure = error
        n_failed = 1 if _size(part) > before else n_failed + 1
        before = _size(part)
        if n_failed == TRIES or not (before > begin or _may_pass(failure)):
            raise _refusal(address, part, failure) from failure
        time.sleep(PAUSE * 2 ** (n_failed - 1))


def _fetch_once(
    address: str, part: Path, check: Callable[[int | None, int | None], None]
) -> Remote:
    known, start = _read_state(part), _size(part)
    if known is None or known.address != address or None in (known.size, known.validator):
        known, start = Remote(address), 0
    if start and start == known.size:
        return known
    response, stated = _ask(address, start, known.validator)
    with response:
        goes_on = response.status == http.client.PARTIAL_CONTENT
        if goes_on and not _is_rest(response.headers, start, known):
            raise _Changed
        if start and not goes_on:
            print("the host has another version by now: from the beginning", flush=True)
        remote = known if goes_on else _remote(address, response.headers, stated)
        start = start if goes_on else 0
        check(remote.size, None if remote.size is None else remote.size - start)
        write_file(_state_of(part), json.dumps(asdict(remote)))
        _receive(response, part, start, remote.size)
    return remote


def _receive(response: Any, part: Path, start: int, size: int | None) -> None:
    """Append received data to the first `start` bytes of the partial file."""
    with part.open("ab") as file, progress_of_bytes("download", size, start) as bar:
        file.truncate(start)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            file.flush()  # so that a full disk raises here
            bar.update(len(chunk))
        end = file.tell()
    if size is not None and end != size:
        raise http.client.HTTPException(f"it ended after {end:,} of {size:,} bytes")


def _ask(address: str, start: int, validator: str | None) -> tuple[Any, str | None]:
    """The response, and the SHA-256 that a redirecting host stated."""
    headers = {"User-Agent": f"dietnerf/{dietnerf.__version__}", "Accept-Encoding": "identity"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    try:
        response = opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _Changed from error
        raise
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise Absent(f"{address} is a page for a browser, not the file: a login or a warning?")
    return response, redirects.stated


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from HTTPS to HTTP."""

    stated: str | None = None

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Any:
        if req.type == "https" and not newurl.startswith("https:"):
            raise Absent(f"{req.full_url} passes on to {newurl}, which is not encrypted")
        # Hugging Face states the SHA-256 of a large file here.
        found = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-ETag", ""))
        self.stated = found[1] if found else self.stated
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _remote(address: str, headers: http.client.HTTPMessage, stated: str | None) -> Remote:
    size = headers.get("Content-Length", "")
    digest = f"sha256:{stated}" if stated else _md5(headers)
    return Remote(address, int(size) if size.isdecimal() else None, _validator(headers), digest)


def _validator(headers: http.client.HTTPMessage) -> str | None:
    tag = headers.get("ETag")
    # A weak ETag may stay the same for other bytes.
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _is_rest(headers: http.client.HTTPMessage, start: int, known: Remote) -> bool:
    """Whether the response holds the missing part of the known version: some hosts ignore
    `If-Range`."""
    assert known.size is not None
    wanted = f"bytes {start}-{known.size - 1}/{known.size}"
    return headers.get("Content-Range") == wanted and _validator(headers) == known.validator


def _md5(headers: http.client.HTTPMessage) -> str | None:
    """What Google's storage states."""
    found = re.search(r"md5=([\w+/]{22}==)", ",".join(headers.get_all("x-goog-hash", [])))
    return f"md5:{base64.b64decode(found[1]).hex()}" if found else None


def digest_of(path: Path, kind: str = "sha256") -> str:
    """Digest of a file, hexadecimal."""
    digest = hashlib.new(kind, usedforsecurity=False)
    size = check_regular(path)
    with path.open("rb") as file, progress_of_bytes("checksum", size) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def forget(path: Path) -> None:
    """Remove the partial file and its state."""
    for old in (part_of(path), _state_of(part_of(path))):
        old.unlink(missing_ok=True)


def keep(path: Path) -> None:
    """Rename the complete partial file to the file."""
    part_of(path).replace(path)
    forget(path)


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> Remote | None:
    """The file and version of a partial file, if known."""
    state = _state_of(part)
    with suppress(OSError, ValueError, TypeError):
        if part.is_file() and state.stat().st_size < LARGEST_STATE:
            return Remote(**json.loads(state.read_text(encoding="utf-8")))
    return None


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in AGAIN
    # Other errors mean that there is no network, or that a name is wrong.
    return not isinstance(error, urllib.error.URLError)


def _refusal(address: str, part: Path, error: BaseException) -> UserError:
    if isinstance(error, urllib.error.HTTPError):
        what = SAID.get(error.code, "may do so later")
        return Absent(f"{address}: the host answers {error.code} {error.reason}: it {what}")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    why = getattr(reason, "strerror", None) or reason
    if not _size(part):
        return Unreachable(f"{address} cannot be reached ({why})")
    return UserError(
        f"{address} broke off ({why}): {_size(part):,} bytes are kept in {part}, and the same "
        "command goes on from there"
    )


def _full(part: Path, error: OSError) -> UserError:
    return UserError(
        f"{part} cannot be written ({error.strerror}): what came is kept, and with more room the "
        "same command goes on from there"
    )
