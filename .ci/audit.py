"""Asks whether faults are known of the packages that lock files pin.

    python .ci/audit.py LOCK [LOCK ...]        # `make audit`, in an environment of its own

Ends with 0 if none is known, 1 if some are, 3 if not all packages could be asked about. Packages
that other platforms would install are left out.
"""

import json
import subprocess
import sys
from textwrap import shorten
from typing import Any

SERVICES = ("pypi", "osv")
OPTIONS = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
FOUND, NOT_ASKED = 1, 3


class Unanswered(Exception):
    """Why a service says nothing."""


def ask(service: str, lock: str) -> list[dict[str, Any]]:
    """What a service knows of each package of a lock file.

    Raises:
        Unanswered: it does not answer, or not for all of them.
    """
    what = ("--vulnerability-service", service, "--requirement", lock)
    command = [sys.executable, "-m", "pip_audit", *OPTIONS, *what]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise Unanswered(f"{service} does not answer ({shorten(last, 80)})") from error
    # pip-audit calls clean what its service has not heard of.
    unknown = sum("skip_reason" in package for package in packages)
    if unknown or not packages:
        raise Unanswered(f"{service} has no word on {unknown} of {len(packages)} packages")
    return packages


def faults(package: dict[str, Any]) -> list[str]:
    name = f"{package['name']} {package['version']}"
    return [
        f"{name}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version yet'}"
        for fault in package["vulns"]
    ]


def main(locks: list[str]) -> int:
    reasons = []
    for service in SERVICES:
        try:
            packages = [package for lock in locks for package in ask(service, lock)]
        except Unanswered as why:
            reasons.append(str(why))
            continue
        found = sorted({line for package in packages for line in faults(package)})
        print("\n".join(found) or f"{service} knows of no fault in {len(packages)} packages")
        return FOUND if found else 0
    print(f"the audit was not done: {'; '.join(reasons)}", file=sys.stderr)
    return NOT_ASKED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
