"""What packages need while they are imported and containers may lack: a user name and a temporary
folder."""

import getpass
import os
import sys
import tempfile
from pathlib import Path


def name_user() -> None:
    """Give a user whom the system does not know a name and a home, as containers do: packages name
    and place their caches by them."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # by the version of Python and the system
        os.environ["USER"] = "unnamed"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep


def check_temporary_folder() -> None:
    """Exit with a sentence where no folder for temporary files can be written to.

    While modules are imported, so that no command could say it.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        print(
            f"error: {error.strerror}; set TMPDIR to a folder for temporary files", file=sys.stderr
        )
        sys.exit(2)
