"""Text from files and folders that anybody may have named, made fit to be shown."""

import re

PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")  # of ASCII: all that Markdown has a meaning for


def printable(text: object) -> str:
    """The text with a mark for each control character and each byte that is not UTF-8."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def as_markdown(text: object) -> str:
    """Markdown that shows the text as it is: no link, no picture, no format."""
    return PUNCTUATION.sub(r"\\\1", printable(text))
