"""Text of anybody's is shown as text."""

import pytest

from dietnerf.plain import as_markdown, printable


@pytest.mark.parametrize("text", ["runs/lego", "caf\u00e9 \u5b57", "a_b-c (best)", "![x](y)"])
def test_what_can_be_shown_stays(text: str):
    assert printable(text) == text


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x00", "\udcff", "\u202e", "\u200b", "\x7f"])
def test_what_cannot_be_shown_is_marked(character: str):
    assert printable(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_no_character_means_anything_to_markdown():
    every = "".join(map(chr, range(33, 127)))
    escaped = as_markdown(every)
    assert escaped.replace("\\", "") == every.replace("\\", "")
    assert all(
        escaped[i - 1] == "\\" for i, one in enumerate(escaped) if not one.isalnum() and one != "\\"
    )
