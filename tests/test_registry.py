"""What options may name, and what becomes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from dietnerf.errors import UserError
from dietnerf.fields import AbstractField, Ensemble, HashGrid
from dietnerf.registry import TRUSTED, OptionReader
from dietnerf.sampling import AbstractSampler, Importance
from dietnerf.specs import Spec, built, plain

FILE = Path("config.yaml")
GRID = {"class_path": "HashGrid", "init_args": {"log2_table_size": 6, "finest_resolution": 32}}


def read(value: Any, hint: Any) -> Any:
    return OptionReader(FILE).value(value, hint, "option")


@pytest.mark.parametrize(
    "path", ["HashGrid", "dietnerf.fields.HashGrid", HashGrid.__module__ + ".HashGrid"]
)
def test_a_class_is_found_by_its_name_and_by_what_imports_it(path: str):
    found = read(GRID | {"class_path": path}, AbstractField | None)
    assert isinstance(found, Spec) and found.cls is HashGrid
    field = found.build()
    assert isinstance(field, HashGrid) and field.table.shape[0] <= 8 * 2**6


def test_nested_objects_are_built_with_their_own_types():
    spec = {"class_path": "Importance", "init_args": {"coarse": GRID, "n_coarse": 8, "n_fine": 4}}
    sampler = read(spec, AbstractSampler).build()
    assert isinstance(sampler, Importance) and isinstance(sampler.coarse, HashGrid)


def test_a_factory_builds_a_new_object_at_each_call():
    ensemble = read({"class_path": "Ensemble", "init_args": {"field": GRID, "n": 2}}, AbstractField)
    field = ensemble.build()
    assert isinstance(field, Ensemble)
    first, second = field.fields
    assert first is not second and not first.table.equal(second.table)


def test_what_is_written_out_is_read_as_the_same():
    read_once = read({"class_path": "Ensemble", "init_args": {"field": GRID}}, AbstractField)
    assert read(plain(read_once), AbstractField) == read_once


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, float, 3.0),
        ("1e-3", float, 1e-3),
        (None, int | None, None),
        ("auto", float | Literal["auto"], "auto"),
        ((1, 2), list[int], [1, 2]),
        (True, int | bool, True),
    ],
)
def test_plain_values_keep_their_meaning(value: Any, hint: Any, expected: Any):
    found = read(value, hint)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "sentence"),
    [
        (1.5, int, "option must be a whole number, got 1.5"),
        (True, int, "option must be a whole number, got True"),
        (1, bool, "option must be true or false, got 1"),
        ("x", float, "option must be a number, got 'x'"),
        (10**400, float, "option must be a number"),
        (10**30, int, "beyond all numbers"),
        ("a\0b", str, "null character"),
        ("white", Literal["black"], "option must be 'black', got 'white'"),
        (True, Literal[1], "option must be 1, got True"),
        (5, list[int], "option must be a list, got 5"),
        ({"class_path": "HashGrid"}, Any, "names the class 'HashGrid'"),
        ({"class_path": "HashGrid"}, object, "names the class 'HashGrid'"),
        ({"class_path": "os.system"}, Callable, "names the class 'os.system'"),
        ({"class_path": "HashGrid"}, Callable[[], int], "names the class 'HashGrid'"),
        ({"class_path": "HashGrid"}, dict[str, Any], "names the class 'HashGrid'"),
        ("HashGrid", AbstractField, "names the class 'HashGrid'"),
        ("os.system", str | AbstractField, "names the class 'os.system'"),
        ({"class_path": "AbstractField"}, AbstractField, "names the class 'AbstractField'"),
        ({"class_path": "Stratified"}, AbstractField, "names the class 'Stratified'"),
        ({"class_path": ["HashGrid"]}, AbstractField, "names the class ['HashGrid']"),
        ({"class_path": "HashGrid", "dict_kwargs": {}}, AbstractField, "'dict_kwargs'"),
        ({"class_path": "HashGrid", "init_args": 3}, AbstractField, "must hold options, got 3"),
        ({"init_args": {}}, AbstractField, "names the class None"),
        (GRID | {"init_args": {"width.x": 3}}, AbstractField, "HashGrid has no option 'width.x'"),
    ],
)
def test_what_is_wrong_is_one_sentence(value: Any, hint: Any, sentence: str):
    with pytest.raises(UserError) as refused:
        read(value, hint)
    assert sentence in str(refused.value) and str(refused.value).startswith("config.yaml")


def test_nothing_is_imported_by_its_name(tmp_path: Path, monkeypatch):
    mark = tmp_path / "mark"
    (tmp_path / "importable.py").write_text(
        f"from pathlib import Path\nfrom dietnerf.fields import HashGrid\n"
        f"Path({str(mark)!r}).touch()\nclass Field(HashGrid): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"set {TRUSTED}=importable"):
        read({"class_path": "importable.Field"}, AbstractField)
    assert not mark.exists()
    monkeypatch.setenv(TRUSTED, "importable")
    assert read({"class_path": "importable.Field"}, AbstractField).cls.__name__ == "Field"
    assert mark.exists()


def test_a_trusted_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setenv(TRUSTED, "nowhere_at_all")
    with pytest.raises(UserError, match="nowhere_at_all of DIETNERF_TRUSTED cannot be imported"):
        read({"class_path": "nowhere_at_all.Field"}, AbstractField)


def test_a_class_that_the_program_imported_itself_can_be_named():
    class Own(HashGrid):
        pass

    assert read({"class_path": "Own"}, AbstractField).cls is Own


def test_options_without_end_are_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UserError):
        OptionReader(FILE).options({"bounds": endless}, HashGrid, "field")
    many = {"class_path": "Ensemble", "init_args": {"field": GRID}}
    for _ in range(300):
        many = {"class_path": "Ensemble", "init_args": {"field": many}}
    with pytest.raises(UserError, match="more than 200 objects"):
        read(many, AbstractField)
    with pytest.raises(UserError, match="more than 100000 options"):
        read([[0] * 1000] * 1000, list[list[int]])


def test_built_and_plain_leave_values_alone():
    assert built([1, "a", None]) == plain([1, "a", None]) == [1, "a", None]
