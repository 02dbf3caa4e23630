"""The viewer without a browser: a stand-in for viser's client says what it is shown."""

import contextlib
import math
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.export import paths, render
from dietnerf.geometry.poses import Surroundings
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.viewer import Viewer, camera_path
from dietnerf.viewer.__main__ import main, open_run, parse
from dietnerf.viewer.listening import address_of, way_from_elsewhere
from dietnerf.viewer.views import browser_camera
from dietnerf.visualize import to_uint8
from tests.browser import free_port, wait_for
from tests.viewer.client import Client

pytest.importorskip("viser", reason="viser is not installed: pip install -e '.[viewer]'")

from dietnerf.viewer import connections


@pytest.fixture
def viewer(shown_run: Path):
    made = open_run(parse([str(shown_run), "--port", str(free_port())]))
    yield made
    made.close()


def test_a_camera_goes_to_the_browser_and_back(shown_run: Path):
    cameras = load_scene(find_checkpoint(shown_run)).camera_set.cameras["train"]
    around = Surroundings.of(cameras)
    back = browser_camera(Client(cameras, 64, 64).camera, cameras, around)
    torch.testing.assert_close(back.c2w, cameras.c2w[:1], atol=1e-6, rtol=0)
    torch.testing.assert_close(back.focal, cameras.focal[:1], atol=1e-4, rtol=0)
    torch.testing.assert_close(back.center, cameras.center[:1], atol=1e-4, rtol=0)
    torch.testing.assert_close(back.near, cameras.near[:1], atol=1e-5, rtol=0)


def test_pictures_get_finer_until_somebody_moves(viewer: Viewer):
    client = Client(viewer.cameras)
    viewer._welcome(client)
    viewer.preview.seconds_per_pixel = 1e-3  # a slow field
    assert viewer.paint()
    assert len(client.pictures[0]) < 64
    while viewer.paint():
        pass
    sizes = [len(shown) for shown in client.pictures]
    assert sizes == sorted(sizes) and sizes[-1] == 64
    client.move(viewer.cameras[[1]])
    assert viewer.paint() and not viewer.paint(only_moved=True)
    assert (client.pictures[-1].mean((0, 1)) != client.pictures[-2].mean((0, 1))).any()


def test_who_stays_sees_each_pixel_however_slow_the_field(viewer: Viewer):
    """Also where the first call takes long, as it does."""
    client, render, calls = Client(viewer.cameras, 96, 96), viewer._render, []

    def slow(cameras):
        calls.append(cameras.width * cameras.height)
        time.sleep(1.0 if len(calls) == 1 else 1e-4 * calls[-1])
        return render(cameras)

    viewer.preview._render = slow
    viewer._welcome(client)
    threading.Thread(target=viewer.serve, daemon=True).start()
    wait_for(lambda: client.pictures and len(client.pictures[-1]) == 96, seconds=20)
    assert max(calls) * 1e-4 < 0.5, "who moves does not wait for the whole"


def test_who_moves_does_not_wait_for_the_finest_picture(viewer: Viewer):
    client, render = Client(viewer.cameras), viewer._render
    viewer._welcome(client)
    viewer.preview.seconds_per_pixel = 1e-3
    assert viewer.paint(math.inf) and len(client.pictures) == 1
    calls = []

    def moving(cameras):
        calls.append(cameras)
        client.move(viewer.cameras[[1]])
        return render(cameras)

    viewer.preview._render = moving
    viewer.preview.seconds_per_pixel = 1e-3
    assert viewer.paint(math.inf)
    assert len(calls) == 1 and len(client.pictures) == 1, "it was given up after a strip"


def test_nothing_lies_over_the_first_picture(viewer: Viewer):
    assert not any(frustum.visible for frustum in viewer._frusta)
    handles = viewer.server.gui._gui_input_handle_from_uuid.values()
    (box,) = (handle for handle in handles if handle.label == "Training cameras")
    assert box.value is False
    box.value = True
    wait_for(lambda: all(frustum.visible for frustum in viewer._frusta), seconds=10)


def test_the_finest_picture_is_the_field_at_that_camera(viewer: Viewer, shown_run: Path):
    client = Client(viewer.cameras)
    viewer._welcome(client)
    while viewer.paint(still_seconds=60):
        pass
    system = load_scene(find_checkpoint(shown_run))
    cameras = system.camera_set.cameras["train"].resized(64, 64)
    expected = (
        to_uint8(system.render_rays_of(cameras, 0, torch.ones(3)).rgb).view(64, 64, 3).numpy()
    )
    difference = abs(client.pictures[-1].astype(int) - expected)
    assert difference.mean() < 0.2, "the same but for a camera that went through a quaternion"


def test_a_changed_field_is_shown_anew(viewer: Viewer):
    client = Client(viewer.cameras)
    viewer._welcome(client)
    while viewer.paint():
        pass
    viewer.field_changed()
    assert not viewer.paint(only_moved=True)
    assert viewer.paint() and not viewer.paint()


@pytest.mark.parametrize("size", [(0, 0), (1, 0), (10**6, 10**6), (10**7, 1), (3, 10**7)])
def test_a_picture_has_some_pixels_but_not_too_many(size: tuple[int, int]):
    cameras = Procedural(resolution=16, n_test=1).cameras("test")
    seen = browser_camera(Client(cameras, *size).camera, cameras, Surroundings.of(cameras))
    assert min(seen.width, seen.height) > 0 and max(seen.width, seen.height) <= 4096
    assert (seen.focal > 0).all() and seen.focal.isfinite().all()


def test_a_view_that_cannot_be_rendered_is_left_out(viewer: Viewer, monkeypatch, capsys):
    client, other = Client(viewer.cameras), Client(viewer.cameras)
    other.client_id = 1
    viewer._welcome(client)
    viewer._welcome(other)
    render, calls = viewer._render, []

    def fail_once(cameras):
        calls.append(cameras)
        if len(calls) == 1:
            raise RuntimeError("no room \x1b[2J left")
        return render(cameras)

    monkeypatch.setattr(viewer.preview, "_render", fail_once)
    while viewer.paint():
        pass
    assert not client.pictures and other.pictures
    client.move(viewer.cameras[[1]])
    while viewer.paint():
        pass
    assert client.pictures
    (line,) = capsys.readouterr().err.splitlines()
    assert "no room" in line and "\x1b" not in line


def test_browsers_that_move_take_turns(viewer: Viewer):
    clients = [Client(viewer.cameras) for _ in range(3)]
    for client_id, client in enumerate(clients):
        client.client_id = client_id
        viewer._welcome(client)
    for _ in range(9):
        for client in clients:
            client.move(viewer.cameras[[1]])
        assert viewer.paint()
    assert [len(client.pictures) for client in clients] == [3, 3, 3]


def test_a_path_has_a_bound(viewer: Viewer, monkeypatch):
    monkeypatch.setattr(camera_path, "MOST_VIEWS", 3)
    event = SimpleNamespace(client=Client(viewer.cameras, 64, 0))
    for _ in range(5):
        viewer.path._add(event)
    assert len(viewer.path.poses) == 3 and "3 views at most" in viewer.path._note.content


@pytest.mark.parametrize(
    "name", ["![x](http://evil.example)", "<img src=//evil.example>", "\udcff", "a; b"]
)
def test_a_run_of_any_name_is_told_as_text(viewer: Viewer, tmp_path: Path, name: str):
    viewer.path._run = tmp_path / name.replace("/", ":")
    event = SimpleNamespace(client=Client(viewer.cameras))
    viewer.path._add(event)
    viewer.path._write(event)
    told = viewer.path._note.content
    assert "render.py &#x27;/" in told, "quoted: the name could hold another command"
    assert "has 1 views" in told and "<img" not in told and "\udcff" not in told


def test_a_path_that_cannot_be_written_is_told(viewer: Viewer, tmp_path: Path):
    viewer.path._run = tmp_path / "file" / "run"
    (tmp_path / "file").write_text("")
    event = SimpleNamespace(client=Client(viewer.cameras))
    viewer.path._add(event)
    viewer.path._write(event)
    assert "was not written" in viewer.path._note.content


def test_nobody_there_costs_no_picture(viewer: Viewer):
    client = Client(viewer.cameras)
    assert not viewer.is_watched and not viewer.paint()
    viewer._welcome(client)
    assert viewer.is_watched
    viewer._part(client)
    assert not viewer.is_watched and not viewer.paint() and not client.pictures


def test_render_py_flies_along_the_written_path(viewer: Viewer, tmp_path: Path, shown_run: Path):
    client = Client(viewer.cameras)
    viewer.path._run = tmp_path
    viewer.path._write(SimpleNamespace(client=client))
    assert not (tmp_path / "path.json").exists(), "nothing to write yet"
    for index in (0, 3, 5, 2):
        client.move(viewer.cameras[[index]])
        viewer.path._add(SimpleNamespace(client=client))
    viewer.path._remove(SimpleNamespace(client=client))
    viewer.path._write(SimpleNamespace(client=client))
    path = tmp_path / "path.json"
    assert f"render.py {tmp_path} --path interpolate --poses {path}" in viewer.path._note.content
    poses = paths.read_poses(path)
    torch.testing.assert_close(poses, viewer.cameras.c2w[[0, 3, 5]], atol=1e-5, rtol=0)
    options = ["--path", "interpolate", "--poses", str(path), "--frames", "3"]
    render.main([str(shown_run), *options, "--out", str(tmp_path / "film.gif")])


def test_a_path_that_cannot_be_written_is_said_on_the_page(viewer: Viewer, tmp_path: Path):
    client = Client(viewer.cameras)
    viewer.path._run = tmp_path
    (tmp_path / "path.json").mkdir()
    viewer.path._add(SimpleNamespace(client=client))
    viewer.path._write(SimpleNamespace(client=client))
    assert f"{tmp_path / 'path.json'} is a folder" in viewer.path._note.content


def test_a_taken_port_is_one_sentence(finished_run: Path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main([str(finished_run), "--port", str(port)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"cannot listen at 127.0.0.1:{port}" in line and "choose another port" in line


@pytest.mark.parametrize("place", [("127.0.0.1", "70000"), ("nowhere.invalid", "0"), ("", "0")])
def test_a_place_that_is_none_is_one_sentence(finished_run: Path, place: tuple[str, str]):
    with pytest.raises(UserError, match=r"cannot listen at|port: .70000. is not a whole"):
        open_run(parse([str(finished_run), "--host", place[0], "--port", place[1]]))


def test_a_viser_that_cannot_be_guarded_does_not_serve(finished_run: Path, monkeypatch):
    monkeypatch.setattr(connections, "guarded", lambda *args: contextlib.nullcontext())
    with pytest.raises(UserError, match=r"cannot guard viser .*; install"):
        open_run(parse([str(finished_run), "--port", "0"]))


def test_the_way_from_another_machine_is_told():
    assert "ssh -L 8080:127.0.0.1:8080" in way_from_elsewhere("127.0.0.1", 8080)
    assert not way_from_elsewhere("0.0.0.0", 8080)
    assert address_of("::1", 80) == "http://[::1]:80"
    assert "0.0.0.0" not in address_of("0.0.0.0", 80)


def test_without_viser_the_extra_is_named(finished_run: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match=r"pip install -e .\.\[viewer\]"):
        open_run(parse([str(finished_run)]))


def test_a_folder_without_a_run(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "there is no checkpoint at" in capsys.readouterr().err


def test_only_this_machine_unless_asked(finished_run: Path):
    assert parse([str(finished_run)]).host == "127.0.0.1"
