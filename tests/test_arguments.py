"""Numbers of command lines, and what is none."""

import pytest

from dietnerf.arguments import Parser, number, path_name, with_values
from dietnerf.errors import UserError


def parsed(*words: str) -> object:
    parser = Parser()
    parser.add_argument("--whole", type=number(int, 1, 100))
    parser.add_argument("--rate", type=number(float, 0.5, 1000))
    parser.add_argument("--out", type=path_name)
    return parser.parse_args(words)


@pytest.mark.parametrize("value", ["1", "100"])
def test_bounds_are_within(value: str):
    assert parsed("--whole", value).whole == int(value)


@pytest.mark.parametrize(
    "value", ["0", "-1", "nan", "inf", "-inf", "1e300", str(10**30), "", "many", "1.5", "9" * 5000]
)
@pytest.mark.parametrize("option", ["--whole", "--rate"])
def test_what_is_no_such_number_is_one_sentence(option: str, value: str):
    if (option, value) == ("--rate", "1.5"):
        return
    with pytest.raises(UserError) as refused:
        parsed(option, value)
    assert str(refused.value).startswith(f"{option}: ") and "\n" not in str(refused.value)


def test_an_empty_name_is_not_the_folder_that_one_is_in():
    with pytest.raises(UserError, match="--out: it names nothing"):
        parsed("--out", "")


def test_an_option_that_is_true_or_false_may_stand_alone():
    for words in (["--viewer"], ["a", "--viewer", "--b"], ["--viewer", "photos/"]):
        found = with_values(words, "--viewer")
        assert found[found.index("--viewer") + 1] == "true" and len(found) == len(words) + 1
    for words in ([], ["--viewer", "false"], ["--viewer=true"], ["x", "--viewer", "true", "y"]):
        assert with_values(words, "--viewer") == words
