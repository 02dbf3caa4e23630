"""What is said of long tasks."""

import pytest

from dietnerf.prepare import progress as module
from dietnerf.prepare.progress import progress, tracked


def test_where_there_is_no_terminal_it_is_a_line_now_and_then(capsys):
    with progress("matches", 1000, "pairs") as bar:
        for _ in range(1000):
            bar.update(1)
    said = capsys.readouterr()
    assert said.out == "" and "\r" not in said.err
    assert said.err.splitlines() == ["matches: 0 of 1000 pairs, 00:00 passed, ? left"]


def test_lines_tell_what_is_done_and_the_time_left(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("features", 4, "photos") as bar:
        bar.update(2)
    assert "features: 2 of 4 photos, 00:00 passed, 00:00 left" in capsys.readouterr().err


def test_items_come_as_they_are(capsys):
    assert list(tracked("abc", "copies", "photos")) == ["a", "b", "c"]
    assert capsys.readouterr().err.startswith("copies: 0 of 3 photos")
