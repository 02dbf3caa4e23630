"""`pull`: makes a run of a scene on the model hub."""

import argparse
from functools import partial

from dietnerf.arguments import path_name
from dietnerf.errors import UserError
from dietnerf.files import check_writable
from dietnerf.runs.hub import pull, repository_of
from dietnerf.training.allowed_classes import ALLOWLIST


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `pull`."""
    parser.add_argument("name", help="owner/name on the hub")
    parser.add_argument("folder", type=path_name, help="run to be made")


def check(options: argparse.Namespace) -> None:
    """Check the name and the folder.

    Raises:
        UserError: the name is invalid, or the folder is not empty.
    """
    repository_of(options.name)
    check_writable(options.folder, "folder")
    if options.folder.is_dir() and any(options.folder.iterdir()):
        raise UserError(f"{options.folder} is not empty, and stays as it is: name a new folder")


def run(options: argparse.Namespace) -> None:
    """Make the run."""
    pull(options.name, options.folder, partial(ALLOWLIST.config_of_run, trains=True))
    print(f"{options.folder}: `python render.py {options.folder}` shows it")
