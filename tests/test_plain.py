"""Text of anybody's is shown as text."""

import pytest

from dietnerf.plain import as_markdown


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x00", "\udcff", "\u202e", "\u200b", "\x7f"])
def test_what_cannot_be_shown_is_escaped(character: str):
    shown = as_markdown(f"a{character}b")
    assert character not in shown and shown.startswith("a\\\\") and shown.endswith("b")


def test_no_character_means_anything_to_markdown():
    every = "".join(map(chr, range(33, 127)))
    escaped = as_markdown(every)
    assert escaped.replace("\\", "") == every.replace("\\", "")
    assert all(
        escaped[i - 1] == "\\" for i, one in enumerate(escaped) if not one.isalnum() and one != "\\"
    )
