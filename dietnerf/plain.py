"""Escapes untrusted names of files and folders for Markdown."""

import re

from dietnerf.errors import printable

PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")  # of ASCII: all that Markdown has a meaning for


def as_markdown(text: object) -> str:
    """Markdown that shows the text as it is: no link, no picture, no format."""
    return PUNCTUATION.sub(r"\\\1", printable(text))
