"""Misspelt options, found without importing what they are for: that takes seconds.

The names are read from the sources: arguments of the constructors that the command line fills in,
and options as the parsers add them.
"""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from dietnerf.errors import UserError
from dietnerf.optional import missing

PACKAGE = Path(__file__).parent
OPTION = re.compile(r'"(--[a-z][\w-]+)"')  # as a parser adds it
OF_LIGHTNING = ("--config", "--ckpt_path", "--print_config", "--seed_everything", "--weights_only")
SECTIONS = {
    "model": ("training/system.py", "DietNeRF"),
    "data": ("training/datamodule.py", "SceneDataModule"),
}


def check_training(words: list[str]) -> None:
    """Refuse misspelt options of `fit` and the like, as far as no class decides what there is.

    Raises:
        UserError: names the option, and one that is like it.
    """
    lightning = find_spec("pytorch_lightning")
    if lightning is None:
        raise UserError(missing("pytorch_lightning"))
    of_trainer = Path(str(lightning.origin)).parent / "trainer/trainer.py"
    known = {f"--trainer.{name}" for name in _arguments(of_trainer, "Trainer")}
    for section, (file, cls) in SECTIONS.items():
        known |= {f"--{section}.{name}" for name in _arguments(PACKAGE / file, cls)}
    known |= {*OF_LIGHTNING, "--return_predictions", "--trainer", "--model", "--data"}
    known |= {*_added("training/parser.py"), *_added("training/scene_options.py")}
    _check(words, known)


def check_command(words: list[str], files: Iterable[str]) -> None:
    """Refuse misspelt options of another command.

    Args:
        words: after its name.
        files: of the package, which add its options.

    Raises:
        UserError: names the option, and one that is like it.
    """
    _check(words, {option for file in files for option in _added(file)})


def _check(words: list[str], known: set[str]) -> None:
    for word in words:
        name = word.partition("=")[0].removesuffix("+")
        fixed = ".".join(name.split(".")[:2])  # what follows belongs to the class that is chosen
        if not name.startswith("--") or fixed in {*known, "--", "--help"}:
            continue
        close = difflib.get_close_matches(fixed, sorted(known), n=1)
        meant = f"did you mean {close[0]}?" if close else "--help says what there is"
        raise UserError(f"there is no option {name}: {meant}")


def _arguments(file: Path, cls: str) -> Iterator[str]:
    """What the constructor of a class takes."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == cls:
            begin = next(
                n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"
            )
            yield from (one.arg for one in (*begin.args.args[1:], *begin.args.kwonlyargs))


def _added(file: str) -> list[str]:
    return OPTION.findall((PACKAGE / file).read_text(encoding="utf-8"))
