"""What a command says when it ends before its time."""

import errno
import os

import pytest
import torch

from dietnerf.errors import exit_on_user_error


def said(capsys: pytest.CaptureFixture[str], error: BaseException) -> tuple[int, str]:
    """Exit code and words of a command that meets an error."""

    @exit_on_user_error
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FULL, "error: a file cannot be written: No space left on device\n"),
        (caused(ValueError("of a logger"), FULL), "error: a file cannot be written: No space"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a.json"),
            "error: a.json: No such file\n",
        ),
        (MemoryError(), "error: there is not enough memory; use smaller batches: "),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate"),
            "error: there is not enough memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory.\nProcess 1 has"), "CUDA out of memory.\n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "error: there is not enough memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_machine_lacks_is_one_sentence(error: Exception, sentence: str, capsys):
    code, words = said(capsys, error)
    assert code == 2 and sentence in words and words.count("\n") == 1


def test_ctrl_c_is_no_traceback(capsys):
    assert said(capsys, KeyboardInterrupt()) == (130, "")


def test_other_errors_stay_what_they_are():
    @exit_on_user_error
    def main() -> None:
        raise ValueError("a fault of the program")

    with pytest.raises(ValueError, match="a fault"):
        main()
