"""Scores are read as they were written, or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dietnerf.errors import UserError
from dietnerf.runs.results import read_results

GOOD = {"checkpoint": "runs/a/checkpoints/last.ckpt", "protocol": "9 views", "mean": {"psnr": 21}}
TEXTS = {
    "nothing": "",
    "half": '{"mean": {"psnr": 2',
    "a list": "[]",
    "null": "null",
    "a number": "7",
    "no scores": "{}",
    "scores that are null": '{"mean": null}',
    "scores in a list": '{"mean": [1.0]}',
    "a score that is text": '{"mean": {"psnr": "21"}}',
    "a score that is true": '{"mean": {"psnr": true}}',
    "a score that is a list": '{"mean": {"psnr": [21]}}',
    "NaN": '{"mean": {"psnr": NaN}}',
    "infinity": '{"mean": {"psnr": 1e999}}',
    "a large number": '{"mean": {"psnr": 1%s}}' % ("0" * 400),
    "a number that Python does not read": '{"mean": {"psnr": 1%s}}' % ("0" * 5000),
    "nested": "[" * 100_000,
    "nested objects": '{"mean":' * 10_000,
    "a metric that is markup": '{"mean": {"![x](http://e.example)": 1}}',
    "a metric that is bold": '{"mean": {"__x__": 1}}',
    "a long metric": '{"mean": {"%s": 1}}' % ("a" * 1000),
    "a checkpoint that is a number": '{"mean": {}, "checkpoint": 5}',
    "a protocol that is an object": '{"mean": {}, "protocol": {}}',
}


def test_scores_come_back(tmp_path: Path):
    assert read_results(tmp_path) is None
    (tmp_path / "metrics.json").write_text(json.dumps(GOOD))
    results = read_results(tmp_path)
    assert results is not None
    assert (results.checkpoint, results.protocol) == ("last.ckpt", "9 views")
    assert results.mean == {"psnr": 21.0}


@pytest.mark.parametrize("name", TEXTS)
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str):
    (tmp_path / "metrics.json").write_text(TEXTS[name])
    assert_refused(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", json.dumps(GOOD).encode("utf-16"), bytes(2**25)])
def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path, content: bytes):
    (tmp_path / "metrics.json").write_bytes(content)
    assert_refused(tmp_path)


MADE: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to elsewhere": lambda path: path.symlink_to("../elsewhere.json"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_is_no_file_of_the_run_is_one_sentence(tmp_path: Path, kind: str):
    (tmp_path / "elsewhere.json").write_text(json.dumps(GOOD))
    run = tmp_path / "run"
    run.mkdir()
    MADE[kind](run / "metrics.json")
    assert_refused(run)


def assert_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"metrics.json cannot be read \(.+\); write it") as error:
        read_results(run)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
