"""Work that is broken off, and gone on with."""

from contextlib import suppress
from pathlib import Path

import pytest

from dietnerf.errors import UserError
from dietnerf.prepare.kept import KEY, kept_beside, kept_work, key_of


def broken_off(folder: Path, key: str) -> None:
    with suppress(KeyboardInterrupt), kept_work(folder, key) as work:
        (work / "found").write_text("after an hour")
        (work / "more").mkdir(exist_ok=True)
        raise KeyboardInterrupt


def test_work_that_is_broken_off_stays_and_is_gone_on_with(tmp_path: Path, capsys):
    folder = kept_beside(tmp_path / "scene")
    broken_off(folder, "these photos")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.partial"]
    assert f"kept in {folder}, and the same command goes on" in capsys.readouterr().err
    with kept_work(kept_beside(tmp_path / "scene"), "these photos") as work:
        assert (work / "found").read_text() == "after an hour"
    assert list(tmp_path.iterdir()) == []


def test_other_work_begins_anew(tmp_path: Path):
    broken_off(tmp_path / "scene.partial", "these photos")
    with kept_work(tmp_path / "scene.partial", "other photos") as work:
        assert not (work / "found").exists() and not (work / "more").exists()


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path):
    (tmp_path / "scene.partial").mkdir()
    (tmp_path / "scene.partial" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match=r"scene\.partial is in the way .* rename it"):
        kept_beside(tmp_path / "scene")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / KEY).touch()
    (tmp_path / "link.partial").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match=r"link\.partial is in the way"):
        kept_beside(tmp_path / "link")


def test_the_key_tells_photos_and_settings_apart(tmp_path: Path):
    photo = tmp_path / "a.png"
    photo.write_bytes(b"1")
    key = key_of([photo], "fast")
    assert key == key_of([photo], "fast") and key != key_of([photo], "normal")
    photo.write_bytes(b"2")
    assert key != key_of([photo], "fast")


@pytest.mark.parametrize("key", ["these photos", "other photos"])
def test_links_out_of_kept_work_are_not_followed(key: str, tmp_path: Path):
    broken_off(tmp_path / "scene.partial", "these photos")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/thesis.txt").write_text("all of it")
    (tmp_path / "scene.partial/database.db").symlink_to(tmp_path / "outside/thesis.txt")
    (tmp_path / "scene.partial/small").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link to"), kept_work(tmp_path / "scene.partial", key):
        pass
    assert (tmp_path / "outside/thesis.txt").read_text() == "all of it"
