"""What is published of a run says what the run says, and holds nothing from elsewhere."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.export.card import model_card
from dietnerf.export.film import write_film
from dietnerf.export.push import gather
from dietnerf.runs.results import Results

MARKUP = "![x](http://e.example/a.png) <img src=//e.example> **b**\n# c | `d`"
HISTORY = {"steps": 1200, "seconds": 60.0}


def card(**values: Any) -> str:
    facts = {"version": "1.0", "history": HISTORY, "camera_set": {"view_ids": {"train": [0, 5]}}}
    results = values.pop("results", None)
    return model_card("someone/lego", facts | values, results, None)


def test_numbers_are_listed():
    text = card(results=Results("last.ckpt", "9 views", {"psnr": 21.25}))
    assert "1,200 steps in 60 seconds" in text and "Training views: 0, 5." in text
    assert "9 views:" in text and "| PSNR (dB) | 21.25 |" in text


@pytest.mark.parametrize(
    "values",
    [
        {"version": MARKUP},
        {"camera_set": {"view_ids": {"train": [MARKUP]}}},
        {"results": Results("last.ckpt", MARKUP, {"psnr": 1.0})},
    ],
    ids=["version", "views", "protocol"],
)
def test_texts_of_a_run_are_no_markup(values: dict[str, Any]):
    text = card(**values)
    assert r"\!\[x\]\(http\:\/\/e\.example\/a\.png\) \<img" in text
    assert r"\*\*b\*\*" in text and "\n# c" not in text and r"\| \`d\`" in text


def test_films_are_shown_by_their_kind():
    facts = {"version": "1.0", "history": HISTORY, "camera_set": {"view_ids": {"train": [0]}}}
    assert "![lego](orbit.gif)" in model_card("someone/lego", facts, None, "orbit.gif")
    assert '<video src="walk.mp4" controls' in model_card("someone/lego", facts, None, "walk.mp4")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A run with one film of its own."""
    shutil.copytree(finished_run, tmp_path / "run")
    iio.imwrite(tmp_path / "run" / "orbit.gif", np.zeros((2, 8, 8, 3), np.uint8))
    return tmp_path / "run"


def published(run: Path) -> set[str]:
    out = run.parent / "published"
    out.mkdir()
    gather(run / "checkpoints" / "last.ckpt", run, "someone/lego", out)
    return {path.name for path in out.iterdir()} - {"README.md", "config.yaml", "scene.safetensors"}


def test_nothing_but_a_film_is_published_as_one(run: Path):
    """Least of all what a link of that name leads to."""
    (run.parent / "secret").write_bytes(b"GIF89a of somebody else")
    (run / "link.gif").symlink_to(run.parent / "secret")
    (run / "text.gif").write_text("text")
    (run / "folder.gif").mkdir()
    (run / "](http:e.example).gif").write_bytes(b"GIF89a")
    os.mkfifo(run / "pipe.gif")
    for path in run.glob("*.gif"):
        os.utime(path, (2e9, 2e9), follow_symlinks=False)
    os.utime(run / "orbit.gif", (1e9, 1e9))
    assert published(run) == {"orbit.gif"}


def test_options_from_elsewhere_are_not_published(run: Path):
    (run.parent / "secret.yaml").write_text("data: {secret: 1}")
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to("../secret.yaml")
    published(run)
    assert "secret" not in (run.parent / "published" / "config.yaml").read_text()


def test_broken_scores_are_one_sentence(run: Path):
    (run / "metrics.json").write_text(json.dumps({"mean": {"psnr": "21"}}))
    with pytest.raises(UserError, match=r"metrics.json cannot be read \(mean psnr must be"):
        published(run)


def test_the_newest_film_is_published_be_it_an_mp4(run: Path):
    os.utime(run / "orbit.gif", (1e9, 1e9))
    (run / "text.mp4").write_text("some text")
    write_film(iter([{"rgb": torch.zeros(16, 16, 3, dtype=torch.uint8)}] * 2), run / "walk.mp4", 20)
    assert published(run) == {"walk.mp4"}
