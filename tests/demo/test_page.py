"""The page without a browser: streamlit's own test of what it shows."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.browser import ROOT

pytest.importorskip("streamlit", reason="streamlit is not installed: pip install 'dietnerf[app]'")


def opened(monkeypatch: pytest.MonkeyPatch, *sources: Path):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(sys, "argv", ["app.py", *map(str, sources)])
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not page.exception
    return page


def slider(page, label: str):
    (found,) = [slider for slider in page.sidebar.slider if label in slider.label]
    return found


def pictures(page) -> list[str]:
    """As addresses that hold them."""
    return [url for image in page.main.get("image") for url in image.value]


def test_every_control_changes_the_picture(finished_run: Path, monkeypatch):
    page = opened(monkeypatch, finished_run)
    seen = [pictures(page)]
    for label, value in (("Azimuth", 40.0), ("Elevation", 30.0), ("Distance", 3.0)):
        slider(page, label).set_value(value).run()
        seen.append(pictures(page))
    for shown in ("depth", "opacity"):
        page.sidebar.radio[0].set_value(shown).run()
        seen.append(pictures(page))
    assert not page.exception and not page.error
    assert all(len(shown) == 1 for shown in seen)
    assert len({shown[0] for shown in seen}) == len(seen)


def test_sliders_stay_where_the_scene_has_something_to_show(finished_run: Path, monkeypatch):
    page = opened(monkeypatch, finished_run)
    azimuth, elevation, distance = (
        slider(page, label) for label in ("Azimuth", "Elevation", "Distance")
    )
    assert (azimuth.min, azimuth.max, azimuth.value) == (-180, 180, 0)
    assert -89 <= elevation.min < elevation.value < elevation.max <= 89
    assert 0 < distance.min < distance.value < distance.max


def test_two_checkpoints_side_by_side(finished_run: Path, monkeypatch):
    page = opened(monkeypatch, finished_run)
    page.sidebar.selectbox[1].set_value("small (000004)").run()
    assert not page.exception and not page.error
    shown = pictures(page)
    assert len(shown) == 2 and shown[0] != shown[1]
    assert [title.value for title in page.subheader] == ["small", "small (000004)"]


def test_scores_are_shown(finished_run: Path, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    results = {
        "protocol": "three views",
        "checkpoint": "last.ckpt",
        "mean": {"psnr": 21.234, "ssim": 0.7, "lpips": None},
    }
    (run / "metrics.json").write_text(json.dumps(results))
    page = opened(monkeypatch, run)
    assert [(m.label, m.value) for m in page.metric] == [("psnr", "21.23"), ("ssim", "0.7000")]
    assert "three views" in [caption.value for caption in page.caption]


def test_a_film_to_take_away(finished_run: Path, monkeypatch):
    page = opened(monkeypatch, finished_run)
    slider(page, "Frames").set_value(10)
    (button,) = [button for button in page.sidebar.button if button.label == "Make it"]
    button.click().run()
    assert not page.exception and not page.error
    assert len(page.get("download_button")) == 1


def test_an_empty_folder_is_one_sentence(tmp_path: Path, monkeypatch):
    page = opened(monkeypatch, tmp_path)
    (error,) = page.error
    assert error.value.startswith(f"there is no checkpoint in {tmp_path}; train a scene")


def test_a_broken_checkpoint_is_one_sentence(finished_run: Path, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"torn")
    page = opened(monkeypatch, run)
    (error,) = page.error
    assert "last.ckpt is not a readable checkpoint" in error.value
    page.sidebar.selectbox[0].set_value("run (best)").run()
    assert not page.error and len(pictures(page)) == 1
