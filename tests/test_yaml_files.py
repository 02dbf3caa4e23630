"""YAML that is none, or that would never be read to its end."""

from pathlib import Path

import pytest

from dietnerf.errors import UserError
from dietnerf.yaml_files import MOST_BYTES, read_yaml

MERGED = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
ALIASES = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(2000))
BROKEN = {
    "aliases of aliases": ALIASES,
    "a long text many times": f"a: &a {'x' * 50_000}\nb: [{', '.join(['*a'] * 5000)}]",
    "aliases in each other": DEEP,
    "a list that holds itself": "a: &a [*a]",
    "a truth that is none": "a: !!bool x",
    "a number that is none": "a: !!int ''",
    "a date that is none": "a: !!timestamp x",
    "a number beyond numbers": f"a: 1{':00' * 300}.5",
    "a letter beyond letters": 'a: "\\UFFFFFFFF"',
    "lists in lists": "[" * 5000,
    "merges of merges": MERGED,
    "no end": "a" * (MOST_BYTES + 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(name: str, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(BROKEN[name])
    with pytest.raises(UserError, match=r"a\.yaml "):
        read_yaml(tmp_path / "a.yaml")


def test_aliases_are_read(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("a: &a [1, {b: 2}]\nc: *a\nd: {e: *a}")
    content = read_yaml(tmp_path / "a.yaml")
    assert content["c"] == content["d"]["e"] == [1, {"b": 2}]
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml") is None


def test_merge_keys_are_read(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}")
    assert read_yaml(tmp_path / "a.yaml")["b"] == {"x": 1, "y": 2}
