"""The parser of `fit` and the other subcommands, whose errors are one sentence."""

import difflib
import re
from typing import NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from dietnerf.data import AbstractReader, AbstractViewSelector
from dietnerf.errors import UserError
from dietnerf.fields import AbstractRadianceField
from dietnerf.losses import AbstractLoss
from dietnerf.registry import KINDS
from dietnerf.runs.configs import LATEST
from dietnerf.sampling import AbstractSampler
from dietnerf.schedules import AbstractSchedule
from dietnerf.specs import concrete_subclasses, constructor_hints

BASES: dict[str, type] = {  # of the classes that an option can be of
    "reader": AbstractReader,
    "views": AbstractViewSelector,
    "val_views": AbstractViewSelector,
    "field": AbstractRadianceField,
    "sampler": AbstractSampler,
    "losses": AbstractLoss,
    "schedules": AbstractSchedule,
}
KIND = re.compile(r"Expected a <class '(\w+)'>\.?( Got value: )?")


class Parser(LightningArgumentParser):
    """LightningCLI's."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        sentence = re.sub(r"\s+", " ", message).replace("Parser key ", "option ")
        if "required: " in sentence and "data.reader" in sentence:
            raise UserError(
                "name a scene, --scene FOLDER, or a preset: --config quickstart is a made-up scene"
            )
        if "AbstractReader is abstract" in sentence:
            raise UserError(
                "data.reader has options but no class: --scene FOLDER finds it by what lies in the "
                "folder, or name one, as --data.reader dietnerf.data.Transforms"
            )
        # Of the types of an option, the first is the intended one.
        sentence = re.sub(r"Does not validate.*? Errors: - (.*?) - Expected.*", r"\1", sentence)
        # A value from the command line was also tried as the name of a file.
        sentence = re.sub(
            r"- Expected a path but .*? either not accessible or invalid - ", "", sentence
        )
        # Nor does it matter in how many ways a class could have been named.
        sentence = re.sub(r" - Not a valid subclass of .*", "", sentence)
        raise UserError(_with_suggestion(KIND.sub(_kind, sentence)))


def add_run_options(parser: LightningArgumentParser) -> None:
    """The options beside those of model, data and trainer."""
    parser.add_argument("--run", type=str, default=LATEST, help="folder of all results")
    parser.add_argument(
        "--save_every", type=int, default=5000, help="steps between checkpoints that are kept"
    )
    parser.add_argument(
        "--minutes",
        type=float | None,
        default=None,
        help="train for that long, instead of trainer.max_steps",
    )
    parser.add_argument(
        "--use_semantic_loss",
        type=bool,
        default=True,
        help="false takes the semantic loss out of any config",
    )
    parser.add_argument(
        "--viewer",
        type=bool,
        default=False,
        help="true shows the scene in a browser while it trains",
    )
    parser.add_argument("--viewer_port", type=int, default=8080)
    parser.add_argument(
        "--lpips_weights",
        type=str | None,
        default=None,
        help="torchvision's VGG-16 weights for the LPIPS metric, if not in torch's cache",
    )


def _kind(found: re.Match[str]) -> str:
    names = {kind.__name__: text for kind, text in KINDS.items()}
    return f"it must be {names.get(found[1], found[1])}" + (", got " if found[2] else "")


def _with_suggestion(sentence: str) -> str:
    """A sentence about a misspelt class or option, with the closest existing name."""
    option = re.search(r"option \"(?:\w+\.)*(\w+)\"", sentence)
    base = BASES.get(option[1]) if option else None
    if base is None or "did you mean" in sentence:
        return sentence
    known = {cls.__name__: cls for cls in concrete_subclasses(base)}
    if found := re.search(r"class_path '([\w.]+)': .*has no attribute", sentence):
        close = difflib.get_close_matches(found[1].rpartition(".")[2], known, n=1)
        there = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
        return f"there is no class {found[1]}: {there}"
    if found := re.search(r"Option '([\w.]+)' is not accepted", sentence):
        names = {name for cls in known.values() for name in constructor_hints(cls)}
        close = difflib.get_close_matches(found[1], sorted(names), n=1)
        return f"{sentence}: did you mean {close[0]}?" if close else sentence
    return sentence
