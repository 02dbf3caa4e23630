"""Machines that lack what packages need while they are imported."""

import getpass
import os
from pathlib import Path

import pytest

from dietnerf.machine import check_temporary_folder, name_user


def test_a_user_without_a_name_and_a_home_gets_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "getuid", lambda: 987654321)
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    name_user()
    assert getpass.getuser() == "unnamed" and Path.home() == Path("/")


def test_a_user_with_a_name_and_a_home_keeps_them(monkeypatch: pytest.MonkeyPatch):
    known = {"USER": "ada", "HOME": "/home/ada"}
    monkeypatch.setattr(os, "environ", dict(known))
    name_user()
    assert os.environ == known


def test_no_folder_for_temporary_files_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys):
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(SystemExit) as ended:
        check_temporary_folder()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith("; set TMPDIR to a folder for temporary files\n") and said.count("\n") == 1
