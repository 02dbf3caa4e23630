"""A run that is watched while it trains."""

import socket
import threading
import time
from pathlib import Path

import pytest

from dietnerf.training.callbacks import viewer
from dietnerf.training.callbacks.viewer import LiveViewer
from dietnerf.viewer import Viewer
from tests.browser import free_port, wait_for
from tests.helpers import fit, weights
from tests.viewer.client import Client

pytest.importorskip("viser", reason="viser is not installed: pip install -e '.[viewer]'")

from tests.viewer import hostile


class Visit:
    """Opens a stand-in for a browser as soon as the viewer is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        visit = self

        class Visited(Viewer):
            def __init__(self, *args, **kwargs) -> None:
                super().__init__(*args, **kwargs)
                visit.viewer, visit.client = self, Client(self.cameras)
                self._welcome(visit.client)

        monkeypatch.setattr(viewer, "Viewer", Visited)

    def leave(self) -> None:
        self.viewer._part(self.client)


def watched(run: Path, *options: str) -> None:
    fit(run, "--viewer", "true", "--viewer_port", str(free_port()), *options)


def test_a_watched_run_shows_pictures_and_ends_with_the_same_weights(
    finished_run: Path, tmp_path: Path, monkeypatch, capsys
):
    visit = Visit(monkeypatch)
    monkeypatch.setattr(viewer, "SHARE", 10.0)  # a picture after every step
    watched(tmp_path)
    assert "while it trains" in capsys.readouterr().out
    pictures = visit.client.pictures
    assert len(pictures) >= 3
    alike = [shown for shown in pictures if shown.shape == pictures[-1].shape]
    assert (alike[0] != alike[-1]).any(), "the field goes on"
    mine, others = (weights(run / "checkpoints" / "last.ckpt") for run in (tmp_path, finished_run))
    assert all((mine[name] == others[name]).all() for name in others)


def attackers_of(viewer: Viewer) -> list[hostile.ClientConnection]:
    """One that sends all there is, and one that sends nothing wrong, but reads nothing either."""
    both = [hostile.visit(viewer.server.get_port()) for _ in range(2)]
    controls = viewer.server.gui._gui_input_handle_from_uuid
    touched = [name for name, handle in controls.items() if handle.label != "Pause"]
    for content in (
        *hostile.BROKEN.values(),
        *hostile.ODD.values(),
        *(hostile.update(name, value="nope") for name in touched),
        *(hostile.upload(name) for name in controls),
        hostile.camera(fov=0.7),
    ):
        both[0].send(content)
    both[1].send(hostile.camera(image_width=2000, image_height=2000))
    wait_for(lambda: {w.client.camera.fov for w in viewer._watchers.values()} == {0.7, 0.8})
    return both


def test_a_run_that_is_attacked_ends_with_the_same_weights(
    finished_run: Path, tmp_path: Path, monkeypatch, capfd
):
    monkeypatch.setattr(viewer, "SHARE", 10.0)  # a picture after every step
    step, attackers = LiveViewer.on_train_batch_start, []

    def attack(callback: LiveViewer, *args: object) -> None:
        if not attackers:
            attackers.extend(attackers_of(callback.viewer))
        step(callback, *args)

    monkeypatch.setattr(LiveViewer, "on_train_batch_start", attack)
    watched(tmp_path)
    assert attackers
    mine, others = (weights(run / "checkpoints" / "last.ckpt") for run in (tmp_path, finished_run))
    assert all((mine[name] == others[name]).all() for name in others)
    assert "Traceback" not in capfd.readouterr().err


def test_a_viewer_that_fails_does_not_end_the_run(
    finished_run: Path, tmp_path: Path, monkeypatch, capfd
):
    def fail(*args, **options) -> None:
        raise ZeroDivisionError("of the viewer")

    Visit(monkeypatch)
    monkeypatch.setattr(Viewer, "paint", fail)
    watched(tmp_path)
    mine, others = (weights(run / "checkpoints" / "last.ckpt") for run in (tmp_path, finished_run))
    assert all((mine[name] == others[name]).all() for name in others)
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "viewer:" in line)
    assert "the run goes on without it (ZeroDivisionError" in line


def test_the_curves_are_those_of_the_log(tmp_path: Path, monkeypatch):
    recorded = []
    monkeypatch.setattr(
        viewer.Progress,
        "record",
        lambda self, *point: recorded.append(point),
        raising=True,
    )
    watched(tmp_path)
    assert [step for step, _, _ in recorded] == [4, 8, 12]
    assert all(0 < loss < 1 and 0 < psnr < 60 for _, loss, psnr in recorded)


def test_a_pause_lasts_until_the_last_visitor_leaves(tmp_path: Path, monkeypatch):
    visit = Visit(monkeypatch)
    began = threading.Event()
    draw = viewer.Progress.draw

    def pause(progress: viewer.Progress) -> None:
        draw(progress)
        if not began.is_set():
            progress._pause(None)
            began.set()

    monkeypatch.setattr(viewer.Progress, "draw", pause)
    seconds = []

    def leave_later() -> None:
        wait_for(began.is_set)
        start = time.perf_counter()
        wait_for(lambda: len(visit.client.pictures) > 1)  # it is still served
        time.sleep(0.5)
        seconds.append(time.perf_counter() - start)
        assert not (tmp_path / "checkpoints").exists()
        visit.leave()

    visitor = threading.Thread(target=leave_later)
    visitor.start()
    watched(tmp_path)
    visitor.join(10)
    assert seconds and (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_taken_port_ends_the_command_before_it_trains(tmp_path: Path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            fit(tmp_path, "--viewer", "true", "--viewer_port", str(port))
    assert ended.value.code == 2
    assert f"cannot listen at 127.0.0.1:{port}" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()


def test_the_share_of_time_is_kept(monkeypatch):
    """With steps of 10 ms and pictures of 50 ms, whatever a visitor wants."""
    clock = [0.0]
    monkeypatch.setattr(viewer.time, "perf_counter", lambda: clock[0])

    class Slow:
        is_watched = True
        painted = 0.0

        def field_changed(self) -> None:
            pass

        def paint(self, still_seconds: float, only_moved: bool) -> bool:
            clock[0] += 0.05
            self.painted += 0.05
            return True

    callback = LiveViewer()
    callback.viewer = slow = Slow()
    callback.progress = type("Still", (), {"draw": lambda self: None, "is_paused": False})()
    for _ in range(2000):
        callback.on_train_batch_start(None, None, None, 0)
        clock[0] += 0.01
    assert 0.10 < slow.painted / 20 < 0.15


def test_photographs_are_drawn_small(tmp_path: Path, monkeypatch):
    shown = []
    frustum = Viewer._frustum
    monkeypatch.setattr(
        Viewer,
        "_frustum",
        lambda self, i, photos: shown.append(photos[i]) or frustum(self, i, photos),
    )
    watched(tmp_path, "--data.reader.init_args.resolution", "120")
    assert len(shown) == 16 and {tuple(photo.shape) for photo in shown} == {(96, 96, 3)}
    assert (shown[0] != shown[1]).any()
