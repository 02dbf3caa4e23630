"""What is installed, what is missing, and how it is had."""

import importlib.util

import pytest

from dietnerf import doctor


def test_all_is_said(capsys):
    doctor.main([])
    said = capsys.readouterr().out
    for word in ("cores", "torch ", "pycolmap", "CPU kernels:", "DIETNERF_DATA", "CLIP weights"):
        assert word in said


def test_what_is_missing_comes_with_its_remedy(capsys, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda n: None if n == "pycolmap" else find(n))
    doctor.main([])
    said = capsys.readouterr().out
    assert "pycolmap is not there" in said and "`pip install -e '.[prepare]'` in" in said
