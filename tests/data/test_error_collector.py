"""Mistakes that are said together."""

from pathlib import Path

import pytest

from dietnerf.data.error_collector import MOST, ErrorCollector
from dietnerf.errors import UserError


def test_all_are_said_and_each_once():
    problems = ErrorCollector(Path("scene"))
    for sentence in ("one", "two", "one"):
        with problems.caught():
            raise UserError(sentence)
    with pytest.raises(UserError) as raised:
        problems.stop()
    assert raised.value.args == ("scene has 2 problems:", "one", "two")


def test_a_listing_of_nothing_but_mistakes_is_not_read_to_its_end():
    problems = ErrorCollector(Path("scene"))
    for i in range(MOST - 1):
        problems.add(str(i))
    with pytest.raises(UserError, match=f"scene has {MOST} problems"):
        problems.add("one more")
    problems = ErrorCollector(Path("scene"))
    for _ in range(MOST - 1):
        problems.add("always the same")
    with pytest.raises(UserError, match="always the same"):
        problems.add("always the same")
