"""What is printed, whatever names files have."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dietnerf.errors import ITEM, UserError, exit_on_user_error, printable
from dietnerf.training import cli
from tests.helpers import SMALL_RUN

EVIL = "\x1b[2J\x1b]0;title\x07\r\nerror: none\x9b31m\u202e\udcff"
SHOWN = r"\x1b[2J\x1b]0;title\x07\r\nerror: none\x9b31m\u202e\udcff"


def test_what_moves_the_cursor_is_escaped_and_other_text_is_not():
    assert printable(EVIL) == SHOWN
    plain = "Übung 2, «ça» 写真 😀 \\n e\u0301"
    assert printable(plain) == plain
    assert len(printable("x" * 10**7)) < 10_000


def test_an_error_has_lines_of_its_own_alone():
    assert str(UserError("scene has 2 problems:", EVIL, "b")) == (
        f"scene has 2 problems:\n  - {SHOWN}\n  - b"
    )
    again = UserError(*f"{UserError('two:', EVIL, 'b')}; go on".split(ITEM))
    assert str(again) == f"two:\n  - {SHOWN}\n  - b; go on"


@pytest.mark.parametrize("error", [UserError(f"{EVIL} is broken"), OSError(2, "is broken", EVIL)])
def test_errors_are_printed_in_one_line(error: Exception, capsys):
    @exit_on_user_error
    def main() -> None:
        raise error

    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and SHOWN in said
    assert said.strip().isprintable()


def test_warnings_are_printed_in_one_line(capsys, monkeypatch):
    @exit_on_user_error
    def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            monkeypatch.setattr(warnings, "_showwarnmsg_impl", SHOW)
            warnings.warn(EVIL, stacklevel=1)
            warnings.warn(EVIL, DeprecationWarning, stacklevel=1)

    main()
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"warning: {SHOWN}"
    assert "test_errors.py" in second and second.endswith(f"DeprecationWarning: {SHOWN}")


def SHOW(message: warnings.WarningMessage) -> None:  # noqa: N802
    """What Python does of its own, and not pytest."""
    text = warnings.formatwarning(
        message.message, message.category, message.filename, message.lineno, message.line
    )
    sys.stderr.write(text)


def test_names_that_are_no_utf_8_are_printed(tmp_path: Path):
    """By a process of its own, whose output is strict."""
    run = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b")
    code = "import sys; from dietnerf.errors import exit_on_user_error as e; e(print)(sys.argv[1])"
    printed = subprocess.run([sys.executable, "-c", code, run], capture_output=True, check=True)
    assert printed.stdout.decode().strip().endswith("\\udcff\x1b")


def test_a_scene_with_evil_names_is_reported(tmp_path: Path, capsys):
    root = tmp_path / "\x1b[31m\nred"
    root.mkdir()
    (root / "transforms.json").write_text(
        '{"frames": [{"file_path": "\x1b[2J"}]}'.replace("\x1b", "\\u001b")
    )
    options = ["--data.reader", "dietnerf.data.Transforms", "--data.reader.root", str(root)]
    with pytest.raises(SystemExit):
        cli.main(["report", *SMALL_RUN[:2], *options, "--run", str(tmp_path / "run")])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and said.isprintable()


@pytest.mark.parametrize("words", [["--help"], ["download"]])
def test_a_reader_that_has_enough_is_no_error(words: list[str]):
    """As `dietnerf --help | head -1`, where the reader is gone before anything is printed."""
    program = [sys.executable, "-m", "dietnerf", *words]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
