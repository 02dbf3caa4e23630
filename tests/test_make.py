"""Photos in, a film out, in one command that goes on where it was broken off."""

from pathlib import Path

import imageio.v3 as iio
import pytest
import yaml

from dietnerf.data import Procedural
from dietnerf.export import render
from dietnerf.make import _check_same, _film, main, parse
from dietnerf.prepare import command
from dietnerf.runs.checkpoints import checkpoints_of, find_checkpoint, load_scene, read_checkpoint
from tests.formats import write_transforms
from tests.helpers import refused


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos, whose poses are found at once."""
    whole = Procedural(resolution=16, n_train=5).read("train")
    scene = type(whole)(whole.images[..., :3], whole.cameras, whole.view_ids, whole.names)
    (tmp_path / "photos").mkdir()
    for i in range(5):
        (tmp_path / f"photos/train_{i}.jpg").touch()
    monkeypatch.setattr(command, "run", lambda options: write_transforms(scene, options.scene))
    return tmp_path / "photos"


def test_it_ends_with_a_film_and_goes_on(photos: Path, tmp_path: Path, capsys):
    out = tmp_path / "scene"
    main([str(photos), "--out", str(out), "--steps", "4"])
    (film,) = [path for path in (out / "run").iterdir() if path.suffix in (".gif", ".mp4")]
    assert len(iio.imread(film)) > 10
    said = capsys.readouterr().out
    assert "1 of 3" in said and f" view {out}/run" in said
    film.unlink()
    main([str(photos), "--out", str(out), "--steps", "6"])
    assert read_checkpoint(find_checkpoint(out / "run"))["global_step"] == 6
    assert film.exists() and "has the poses already" in capsys.readouterr().out
    assert checkpoints_of(out / "run")
    _check_same(photos, ("view0_of_train_2", "view1_of_train_2"), out)  # of a panorama
    (tmp_path / "others").mkdir()
    (tmp_path / "others/IMG_1.jpg").touch()
    assert "was made of other photos" in refused(capsys, main, tmp_path / "others", "--out", out)


def test_the_film_and_the_training_can_be_short(photos: Path, tmp_path: Path, monkeypatch, capsys):
    asked = []
    place = command.run
    monkeypatch.setattr(command, "run", lambda options: (asked.append(options), place(options)))
    out = tmp_path / "scene"
    words = [str(photos), "--out", str(out), "--panorama", "no", "--downscale", "2"]
    main([*words, "--minutes", "0.01", "--no-film"])
    said = capsys.readouterr().out
    assert "1 of 2" in said and "2 of 2" in said and "3 of 3" not in said
    assert asked[0].panorama == "no"
    assert "steps took the 0.01 minutes of --minutes" in said
    main([*words, "--minutes", "0.01", "--no-film"])
    assert "--minutes are used up: --minutes 0.02 goes on" in capsys.readouterr().out
    config = yaml.safe_load((out / "run/config.yaml").read_text())
    assert config["minutes"] == 0.01
    assert config["data"]["reader"]["init_args"]["downscale"] == 2
    scene = load_scene(find_checkpoint(out / "run"))
    assert scene.cameras["train"].width == 8
    assert not [path for path in (out / "run").iterdir() if path.suffix in (".gif", ".mp4")]
    main([*words, "--film_frames", "3", "--steps", "1"])
    (film,) = [path for path in (out / "run").iterdir() if path.suffix in (".gif", ".mp4")]
    assert len(iio.imread(film)) == 3


SMALL = ["--size", "480", "360"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {"field": {"class_path": "dietnerf.fields.HashGrid"}}}, SMALL),
        ({"model": {"field": {"class_path": "dietnerf.gaussians.Gaussians"}}}, []),
        ({"model": {"field": "MLP"}}, SMALL),
        ({"model": None}, SMALL),
    ],
)
def test_films_of_what_renders_slowly_are_small(content, words: list[str], tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(render, "main", calls.append)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    options = parse([str(tmp_path), "--out", str(tmp_path)])
    _film(options, tmp_path, 1600, 1200)
    assert calls == [[str(tmp_path), *words]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "3", "--minutes", "1"], "--minutes: not allowed with argument --steps"),
        (["--no_film", "--film_frames", "3"], "not allowed with argument --no_film"),
        (["--film_frames", "0"], "--film_frames: '0' is not a whole number from 1 to"),
        (["--minutes", "0"], "--minutes: '0' is not a number from 0.01 to"),
        (["--downscale", "0.5"], "--downscale: '0.5' is neither auto nor a number from 1"),
        (["--panorama", "maybe"], "--panorama: invalid choice: 'maybe'"),
        (["--viewer", "--views", "3"], "unrecognized arguments: --views 3"),
    ],
)
def test_wrong_options_are_said_before_poses_are_looked_for(words, said, photos, tmp_path, capsys):
    assert said in refused(capsys, main, photos, "--out", tmp_path / "scene", *words)


def test_mistakes_are_one_sentence(tmp_path: Path, capsys):
    assert "required: --out" in refused(capsys, main, tmp_path)
    assert "there is no folder of photos" in refused(
        capsys, main, tmp_path / "x", "--out", tmp_path
    )
    (tmp_path / "file").touch()
    assert "is a file" in refused(capsys, main, tmp_path, "--out", tmp_path / "file" / "x")


def test_a_scene_that_is_none_is_one_sentence(photos: Path, tmp_path: Path, capsys):
    out = tmp_path / "scene"
    out.mkdir()
    for content in ("{", "[]", '{"frames": 3}', '{"frames": [{}]}'):
        (out / "transforms.json").write_text(content)
        assert "transforms.json" in refused(capsys, main, photos, "--out", out)
