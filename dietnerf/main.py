"""The command `dietnerf`: a subcommand, and its options.

Mistakes in the arguments are found before torch is imported, which takes seconds.
"""

import difflib
import sys
from importlib import import_module

from dietnerf.commands import COMMANDS, overview
from dietnerf.errors import UserError, exit_on_user_error
from dietnerf.option_names import check_command, check_training
from dietnerf.optional import missing


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Carry out one command; `args` defaults to the command line."""
    words = sys.argv[1:] if args is None else args
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        print(overview())
    elif name == "--version":
        print(f"dietnerf {import_module('dietnerf').__version__}")
    elif name in COMMANDS:
        _carry_out(name, words[1:], args is None)
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {close[0]}?" if close else "dietnerf --help has all"
        raise UserError(f"there is no command {name!r:.60}: {meant}")


def _carry_out(name: str, words: list[str], is_command_line: bool) -> None:
    command = COMMANDS[name]
    if {"-h", "--help"} & set(words):
        is_whole = "all" in words or (not command.is_training and words[0] not in ("-h", "--help"))
        if not is_whole:
            print(command.help_text(name))
            return
        words = [word for word in words if word != "all"]
    elif not words and command.needs:
        raise UserError(f"{command.needs}, as in: {command.examples[0]}")
    elif command.is_training:
        check_training(words)
    else:
        check_command(words, command.files)
    try:
        run = import_module(command.module).main
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "dietnerf":
            raise
        raise UserError(missing(str(error.name))) from error
    words = [name, *words] if command.is_training else words
    if is_command_line and command.is_training:
        # Further processes of a distributed run are started with what stands there.
        sys.argv[1:] = words
        run()
    else:
        run(words)
