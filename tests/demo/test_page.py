"""The page without a browser: streamlit's own test of what it shows."""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from dietnerf.demo import scenes
from dietnerf.gaussians.ply import write_splats
from tests.browser import ROOT
from tests.gaussians.scenes import ball

pytest.importorskip("streamlit", reason="streamlit is not installed: pip install -e '.[app]'")


def opened(monkeypatch: pytest.MonkeyPatch, *sources: Path):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(sys, "argv", ["app.py", *map(str, sources)])
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not page.exception
    return page


def reason(page) -> str:
    """Why nothing is shown, as the page tells it."""
    assert [error.value for error in page.error] == ["This cannot be shown:"]
    (text,) = page.main.text
    return str(text.value)


def headings(page) -> list[str]:
    return [one.proto.body for one in page.main.get("html") if "<h3>" in one.proto.body]


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


def test_a_file_of_splats_is_a_scene(tmp_path: Path, monkeypatch):
    write_splats(tmp_path / "ball.ply", ball())
    page = opened(monkeypatch, tmp_path / "ball.ply")
    assert not page.error and len(pictures(page)) == 1
    captions = [str(one.value) for one in page.main.caption]
    assert "A file of splats, which names neither photos nor scores." in captions
    assert "Film" in [one.label for one in page.sidebar.expander]


def test_two_checkpoints_side_by_side(finished_run: Path, monkeypatch):
    page = opened(monkeypatch, finished_run)
    page.sidebar.selectbox[1].set_value("small (000004)").run()
    assert not page.exception and not page.error
    shown = pictures(page)
    assert len(shown) == 2 and shown[0] != shown[1]
    assert headings(page) == ["<h3>small</h3>", "<h3>small (000004)</h3>"]


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
    assert "three views" in [text.value for text in page.text]


def test_a_film_to_take_away(finished_run: Path, monkeypatch):
    page = opened(monkeypatch, finished_run)
    slider(page, "Frames").set_value(10)
    (button,) = [button for button in page.sidebar.button if button.label == "Make it"]
    button.click().run()
    assert not page.exception and not page.error
    assert len(page.get("download_button")) == 1


def test_an_empty_folder_is_one_sentence(tmp_path: Path, monkeypatch):
    page = opened(monkeypatch, tmp_path)
    assert reason(page).startswith(f"there is no checkpoint in {tmp_path}; train a scene")


def test_a_broken_checkpoint_is_one_sentence(finished_run: Path, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"torn")
    page = opened(monkeypatch, run)
    assert "last.ckpt is not a readable checkpoint" in reason(page)
    page.sidebar.selectbox[0].set_value("run (best)").run()
    assert not page.error and len(pictures(page)) == 1


MARKUP = "![x](http:/e.example/a.png) <img src=e.example> **b** :smile: $x$ `c`"


def test_the_name_of_a_run_is_no_markup(finished_run: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / MARKUP)
    page = opened(monkeypatch, tmp_path)
    assert MARKUP in page.sidebar.selectbox[0].options
    assert headings(page)[0].startswith("<h3>![x](") and "<img" not in headings(page)[0]
    assert_no_markup(page)


def test_what_a_run_says_of_itself_is_no_markup(finished_run: Path, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    results = {"checkpoint": "last.ckpt", "mean": {"psnr": 1.0}, "protocol": MARKUP + "\n# a\x1b"}
    (run / "metrics.json").write_text(json.dumps(results))
    page = opened(monkeypatch, run)
    (shown,) = page.main.text
    assert shown.value.startswith(MARKUP) and "\n" not in shown.value
    assert_no_markup(page)
    results["mean"] = {MARKUP: 1.0}
    (run / "metrics.json").write_text(json.dumps(results))
    page.run()
    assert not page.exception and not page.metric and len(pictures(page)) == 1
    assert_no_markup(page)


def test_why_a_run_cannot_be_shown_is_no_markup(finished_run: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / MARKUP)
    for checkpoint in (tmp_path / MARKUP / "checkpoints").iterdir():
        checkpoint.write_bytes(b"torn")
    page = opened(monkeypatch, tmp_path)
    assert MARKUP in reason(page)
    assert_no_markup(page)


def assert_no_markup(page) -> None:
    """Nothing that takes Markdown has words of a run."""
    texts = [one.value for name in MARKDOWN for one in page.get(name)]
    labels = [one.label for name in LABELLED for one in page.get(name)]
    assert not [text for text in (*texts, *labels) if "e.example" in text]


MARKDOWN = ("markdown", "caption", "title", "header", "subheader", "error", "warning", "info")
LABELLED = ("metric", "slider", "select_slider", "selectbox", "radio", "button", "expander")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"mean": {"psnr": "9"}, "checkpoint": "last.ckpt"}', "[" * 100_000]
)
def test_scores_that_cannot_be_read_are_one_sentence(
    finished_run: Path, tmp_path: Path, monkeypatch, content: str
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "metrics.json").write_text(content)
    page = opened(monkeypatch, run)
    assert not page.error and len(pictures(page)) == 1
    (text,) = page.main.text
    assert "metrics.json cannot be read" in text.value


def test_a_run_whose_name_is_not_utf8(finished_run: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "b\udcffd")
    page = opened(monkeypatch, tmp_path)
    assert page.sidebar.selectbox[0].value == r"b\udcffd"
    assert page.error or len(pictures(page)) == 1


def test_whatever_else_goes_wrong_is_one_sentence(finished_run: Path, monkeypatch):
    def fail(scene: object) -> None:
        raise ZeroDivisionError("no\nradius")

    monkeypatch.setattr(scenes.LoadedScene, "height", property(fail))
    page = opened(monkeypatch, finished_run)
    assert "ZeroDivisionError: no" in reason(page)


def test_streamlit_keeps_to_this_machine():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["enableCORS"] and config["server"]["enableXsrfProtection"]
    assert not config["browser"]["gatherUsageStats"]
    assert config["client"]["showErrorDetails"] == "none"
