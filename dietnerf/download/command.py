"""`dietnerf download NAME`: a public data set, ready for `dietnerf fit`."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dietnerf.arguments import Parser, path_name, typed
from dietnerf.download.catalog import DataSet, find_data_set, listing
from dietnerf.download.transfer import (
    Absent,
    Remote,
    Unreachable,
    digest_of,
    fetch,
    forget,
    keep,
    part_of,
)
from dietnerf.download.unpack import check_room, unpack
from dietnerf.errors import UserError, exit_on_user_error, leaving_on_signals
from dietnerf.files import check_writable
from dietnerf.locks import FolderLock

MARKS = ("transforms_train.json", "transforms.json", "poses_bounds.npy", "sparse")  # of scenes


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = Parser(prog="dietnerf download", description=__doc__)
    add = parser.add_argument
    add("name", nargs="?", help="of a data set; all are listed without one")
    places = "default: $DIETNERF_DATA, or data"
    add("--out", type=path_name, help=f"folder that the data set's folder is made in ({places})")
    add("--sha256", type=_sha256, help="that the archive must have, instead of the published one")
    add("--keep_archive", action="store_true", help="after it was unpacked")
    options = parser.parse_args(args)
    if options.out is None:
        options.out = Path(os.environ.get("DIETNERF_DATA") or "data")
    return options


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not 64 hexadecimal digits")
    return text.lower()


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """List the data sets, or download one; `args` defaults to the command line."""
    options = parse(args)
    if options.name is None:
        print(f"{listing()}\n\nNext: {typed('download')} NAME [--out FOLDER]")
        return
    data = find_data_set(options.name)
    folder = options.out / options.name
    print("\n".join(_introduction(options.name, data)), flush=True)
    if folder.is_dir() and any(folder.iterdir()):
        _check_complete(data, folder)
        print(f"{folder} is there already, and stays as it is")
    else:
        check_writable(folder, "--out")
        task = f"download-{options.name.replace('/', '-')}"
        archive = options.out / data.archive
        with FolderLock(options.out, task, "--out"), _telling_how_to_go_on(archive):
            _download(data, folder, archive, options)
    scene = shlex.quote(str(_scene(data, folder)))
    print(f"{folder} is ready. Next:\n  {typed('fit')} --scene {scene}")


def _check_complete(data: DataSet, folder: Path) -> None:
    """Refuse a folder that holds something else, or one of several scenes.

    Raises:
        UserError: a scene is missing.
    """
    missing = [scene for scene in data.scenes if not (folder / scene).is_dir()]
    if missing:
        raise UserError(
            f"{folder} is there already, but without {', '.join(missing)}: name another --out, or "
            "remove it"
        )


@contextmanager
def _telling_how_to_go_on(archive: Path) -> Iterator[None]:
    """Print what is kept when a signal ends the download."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        kept = next((path for path in (archive, part_of(archive)) if path.exists()), None)
        if kept is not None:
            with suppress(OSError):  # where the terminal is gone
                print(
                    f"\nstopped: {kept.stat().st_size:,} bytes are kept in {kept}, and the same "
                    "command goes on from there",
                    file=sys.stderr,
                    flush=True,
                )
        raise


def _introduction(name: str, data: DataSet) -> list[str]:
    return [
        f"{name}: {data.summary}",
        f"  page:    {data.page}",
        f"  license: {data.terms}; by downloading you accept its authors' terms",
    ]


def _download(data: DataSet, folder: Path, archive: Path, options: argparse.Namespace) -> None:
    """Download, check and unpack an archive; an existing archive is used, and kept."""
    was_there = archive.exists()
    if was_there:
        print(f"{archive} is there already")
        _check(archive, archive, data, options.sha256, None)
    else:
        remote = _fetch(data, archive)
        _check(part_of(archive), archive, data, options.sha256, remote)
        keep(archive)
    n_files = unpack(archive, folder, data.inside)
    print(f"{n_files:,} files are in {folder}")
    if not (options.keep_archive or was_there):
        archive.unlink()


def _fetch(data: DataSet, archive: Path) -> Remote:
    """Download the archive from the first host that has it."""

    def check(size: int | None, n_left: int | None) -> None:
        if size is None or n_left is None:
            print("  size:    the host does not say it")
            return
        print(
            f"  size:    {size / 1e9:.2f} GB, {n_left / 1e9:.2f} GB of it are to come", flush=True
        )
        # Photos hardly shrink, so unpacked they take as much room again.
        check_room(archive.parent, size + n_left, f"{archive.name} with what is in it takes")

    refusals: list[UserError] = []
    for address in data.addresses:
        print(f"  from:    {address}", flush=True)
        try:
            return fetch(address, archive, check)
        except (Absent, Unreachable) as error:
            refusals.append(error)
    absent = [str(error) for error in refusals if isinstance(error, Absent)]
    if absent:
        raise UserError(f"{'; '.join(absent)} ({data.page} may say where else it is)")
    raise UserError(f"{refusals[0]}: is there a network? Without one, put the file at {archive}")


def _check(
    path: Path, archive: Path, data: DataSet, wanted: str | None, remote: Remote | None
) -> None:
    """Compare an archive with its known digest.

    Raises:
        UserError: they differ; a downloaded archive is removed.
    """
    found = digest_of(path)
    print(f"  SHA-256: {found}")
    expected, who = wanted or data.sha256, "--sha256 says" if wanted else "its publishers say"
    if expected is None and remote is not None and remote.digest is not None:
        kind, _, expected = remote.digest.partition(":")
        who, found = f"the host says ({kind})", found if kind == "sha256" else digest_of(path, kind)
    if expected is None:
        print("  no checksum is published for it: compare this one with somebody else's")
    elif found == expected:
        print(f"  that is what {who}")
    else:
        is_new = path != archive
        if is_new:
            forget(archive)
        raise UserError(
            f"{path} has the checksum {found}, not {expected}, as {who}: it "
            f"{'was removed' if is_new else 'is not unpacked; remove it'}, and the same command "
            "brings it anew; --sha256 takes another version"
        )


def _scene(data: DataSet, folder: Path) -> Path:
    """The scene to name in the next command, if one is known."""
    for name in data.scenes:
        if (folder / name).is_dir():
            return folder / name
    found = (path.parent for mark in MARKS for path in sorted(folder.rglob(mark)))
    return next(found, folder)
