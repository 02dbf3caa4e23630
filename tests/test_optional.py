"""How what is missing can be had: dietnerf is on no package index."""

import re
import tomllib
from pathlib import Path

import pytest

from dietnerf import optional
from dietnerf.optional import how_to_install

ROOT = Path(__file__).parents[1]
CALL = re.compile(r"how_to_install\(['\"](\w+)['\"]\)")


def test_it_names_the_checkout_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert how_to_install("viewer") == f"`pip install -e '.[viewer]'` in {ROOT}"
    assert how_to_install() == f"`pip install -e .` in {ROOT}"
    monkeypatch.setattr(optional, "ROOT", tmp_path)
    assert how_to_install("app") == "`pip install '.[app]'` in a checkout of dietnerf"


def test_every_extra_is_one_and_no_message_names_a_package_that_is_not_published():
    from dietnerf.doctor import OPTIONAL

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sources = "\n".join(path.read_text() for path in (ROOT / "dietnerf").rglob("*.py"))
    named = {*CALL.findall(sources), *(extra for _, extra in OPTIONAL.values())}
    assert {"prepare", "viewer", "app", "export"} < named <= set(project["optional-dependencies"])
    assert not re.search(r"pip install [\"']?dietnerf", sources)
