"""Writes the licenses of all locked packages into a table, as the installed packages state them.

python .ci/licenses.py requirements.lock docs/licenses.md        # `make licenses`

The table is what follows the marker in the file. Packages and versions that only other platforms
or versions of Python install are listed without a license.
"""

import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker

MARKER = "<!-- What follows is written by `make licenses`. -->\n"
LOCKED = re.compile(r"^([\w.-]+)==([\w.]+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)
LONGEST = 60  # characters of a "License" that is a name and not the text
SENTENCE = "not installed here"


@dataclass(frozen=True)
class Locked:
    """A package of a lock file, with the platforms that it is for ("" for all)."""

    name: str
    version: str
    platforms: str

    @property
    def is_wanted_here(self) -> bool:
        return not self.platforms or Marker(self.platforms).evaluate()


def read_lock(lock: Path) -> list[Locked]:
    return [Locked(*found.groups(default="")) for found in LOCKED.finditer(lock.read_text())]


def stated_license(name: str, version: str) -> str:
    """What a package states, or else how its license begins.

    Raises:
        SystemExit: another version is installed, or none.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        sys.exit(f"{name} {version} is locked, but not installed: run `make build`")
    if found.version != version:
        sys.exit(f"{name} {version} is locked, but {found.version} installed: run `make build`")
    files = [path for path in found.files or [] if "licen" in path.name.lower()]
    lines = files[0].locate().read_text().split("\n") if files else []
    begin = next((line.strip() for line in lines if line.strip()), "")
    return in_metadata(found.metadata) or (f"its file says: {begin}" if begin else "not stated")


def in_metadata(metadata: PackageMetadata) -> str:
    """The expression, the name, or the classifiers, whichever is there first."""
    named = (metadata.get("License") or "").strip()
    is_name = len(named) <= LONGEST and "\n" not in named and named != "UNKNOWN"
    classifiers = metadata.get_all("Classifier") or []
    kinds = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License :: ")]
    return metadata.get("License-Expression") or (named if is_name else "") or ", ".join(kinds)


def table(packages: list[Locked]) -> str:
    lines = ["| package | version | license | only where |", "|---|---|---|---|"]
    for package in packages:
        is_here = package.is_wanted_here
        found = stated_license(package.name, package.version) if is_here else SENTENCE
        where = f"`{package.platforms}`" if package.platforms else ""
        lines.append(f"| {package.name} | {package.version} | {found} | {where} |")
    return "\n".join(lines) + "\n"


def main(lock: Path, document: Path) -> None:
    prose = document.read_text().partition(MARKER)[0]
    document.write_text(f"{prose}{MARKER}\n{table(read_lock(lock))}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
