"""Steps without numbers, and fields that collapse: what is skipped, gone back from, begun anew."""

import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf import synchronization
from dietnerf.fields import HashGrid
from dietnerf.losses import Photometric
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.training.callbacks import divergence
from dietnerf.training.callbacks.divergence import fault_of, is_collapsed
from dietnerf.training.ray_stats import RayStats
from dietnerf.training.system import DietNeRF
from tests.helpers import fit

NAN = float("nan")


def spoil(monkeypatch, is_bad) -> None:
    """Let the photometric loss be no number in the steps of a system for which that holds."""
    forward, prepare, systems = Photometric.forward, DietNeRF.prepare, []

    def prepared(self, *args):
        systems.append(self)
        prepare(self, *args)

    def spoiled(self, step):
        system = systems[-1]
        return forward(self, step) * (NAN if is_bad(system, step.index) else 1.0)

    monkeypatch.setattr(DietNeRF, "prepare", prepared)
    monkeypatch.setattr(Photometric, "forward", spoiled)


def saved(run: Path, name: str) -> dict:
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)


@pytest.mark.parametrize("optimizer", ["adam", "skipping_adam"])
def test_a_step_without_numbers_is_skipped_and_counted(optimizer: str, tmp_path, monkeypatch):
    spoil(monkeypatch, lambda _, step: step in (4, 5, 6, 7))
    fit(tmp_path / "run", "--model.optimizer", optimizer)
    before, after = (saved(tmp_path / "run", name) for name in ("000004", "000008"))
    for name, value in before["state_dict"].items():
        if name.startswith("field."):
            assert torch.equal(after["state_dict"][name], value), name
    for found, expected in zip(
        after["optimizer_states"][0]["state"].values(),
        before["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert all(
            torch.equal(torch.as_tensor(found[k]), torch.as_tensor(expected[k])) for k in expected
        )
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.value for event in events.Scalars("train/skipped_steps")] == [0, 4, 4]
    end = saved(tmp_path / "run", "last")["state_dict"]
    assert not torch.equal(end["field.table"], before["state_dict"]["field.table"])


def test_where_the_device_is_not_waited_for_the_gradient_is_none(tmp_path, monkeypatch):
    """What runs on a GPU, on a CPU: the same for an optimizer that skips what has no gradient."""
    monkeypatch.setattr(synchronization, "SYNC_FREE_DEVICES", ())
    spoil(monkeypatch, lambda _, step: step in (4, 5, 6, 7))
    fit(tmp_path / "run")
    before, after = (saved(tmp_path / "run", name) for name in ("000004", "000008"))
    for name, value in before["state_dict"].items():
        if name.startswith("field."):
            assert torch.equal(after["state_dict"][name], value), name
    end = saved(tmp_path / "run", "last")["state_dict"]
    assert not torch.equal(end["field.table"], before["state_dict"]["field.table"])
    assert all(value.isfinite().all() for name, value in end.items() if name.startswith("field."))


def test_training_goes_back_and_on_at_a_lower_rate(tmp_path, monkeypatch, capsys):
    """To the checkpoint before the steps without numbers, not to the last one."""
    spoil(monkeypatch, lambda system, step: step >= 10 and system.history.rate_factor == 1)
    fit(tmp_path / "run", "--trainer.max_steps", "40")
    assert "steps in a row, from step 10 on, were skipped" in capsys.readouterr().err
    last = saved(tmp_path / "run", "last")
    assert last["dietnerf"]["history"]["rate_factor"] == divergence.RATE_FACTOR
    rates = [group["lr"] for group in last["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([divergence.RATE_FACTOR * 2e-3] * len(rates))
    assert load_scene(find_checkpoint(tmp_path / "run")).field.table.isfinite().all()


def test_it_goes_back_once_and_then_says_what_was_without_a_number(tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, lambda system, step: step >= 10)
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path / "run", "--trainer.max_steps", "60")
    assert ended.value.code == 2
    gone_back, stopped = capsys.readouterr().err.strip().splitlines()[-2:]
    place = re.search("going back to (.*) with 0.25 times the learning rate", gone_back).group(1)
    assert place == str(tmp_path / "run/checkpoints/000008.ckpt")
    assert stopped.startswith("error: ") and "the first that were not: photometric" in stopped
    assert "--ckpt_path last" in stopped


def test_a_gradient_without_numbers_is_named(tmp_path, monkeypatch, capsys):
    prepare = HashGrid.prepare

    def hooked(self, cameras):
        prepare(self, cameras)
        self.table.register_hook(lambda grad: grad * NAN)

    monkeypatch.setattr(HashGrid, "prepare", hooked)
    with pytest.raises(SystemExit):
        fit(tmp_path / "run", "--trainer.max_steps", "40")
    gone_back, stopped = capsys.readouterr().err.strip().splitlines()[-2:]
    assert "going back to the beginning" in gone_back
    assert "the first that were not: the gradient of field.table;" in stopped
    assert (tmp_path / "run/checkpoints-abandoned").is_dir(), "nothing of the first is lost"


def test_a_collapsed_field_begins_anew_once(tmp_path, monkeypatch, capsys):
    """The weights of one seed see nothing, those of the next do."""
    density = HashGrid.density

    def dead(self, samples):
        sigmas, features = density(self, samples)
        return sigmas * (0.0 if torch.initial_seed() == 7 else 1.0), features

    monkeypatch.setattr(HashGrid, "density", dead)
    monkeypatch.setattr(HashGrid, "render", super(HashGrid, HashGrid).render)
    monkeypatch.setattr(divergence, "COLLAPSED_STEPS", 16)
    run = tmp_path / "run"
    fit(run, "--seed_everything", "7", "--trainer.max_steps", "40")
    said = capsys.readouterr().err
    assert said.count("the field collapsed; beginning anew with other weights, from seed 8") == 1
    history = saved(run, "last")["dietnerf"]["history"]
    assert history["seed"] == 8 and history["steps"] == 40 and history["has_restarted"]
    assert (run / "checkpoints-abandoned/last.ckpt").is_file()
    assert "seed_everything: 8" in (run / "config.yaml").read_text()


GRAYS = torch.linspace(0, 1, 100)[:, None].expand(100, 3)
WHITE = torch.ones(100, 3)
PICTURES = {
    "nothing where something is": (0.0, WHITE, GRAYS, True),
    "nothing where nothing is": (0.0, WHITE, WHITE, False),
    "a white wall where something is": (1.0, WHITE, GRAYS, True),
    "a wall where a wall is": (1.0, WHITE, WHITE, False),
    "an opaque room": (1.0, GRAYS, GRAYS, False),
    "fog": (0.5, WHITE, GRAYS, False),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_what_counts_as_collapsed(picture: str):
    opacity, rgb, target, expected = PICTURES[picture]
    seen = RayStats(torch.full((100,), opacity), rgb, target, WHITE, torch.full((100,), 2.0))
    assert is_collapsed(seen) == expected
    assert (fault_of(seen) is not None) == expected


def test_fog_right_before_the_cameras_is_a_fault():
    fog = RayStats(torch.full((100,), 0.99), GRAYS, GRAYS, WHITE, torch.full((100,), 1.01))
    assert "right before the cameras (mean opacity 0.9900, median depth 1.01" in fault_of(fog)


def test_a_field_that_sees_nothing_is_warned_of_early(tmp_path, monkeypatch):
    density = HashGrid.density
    monkeypatch.setattr(
        HashGrid, "density", lambda *args: (0 * density(*args)[0], density(*args)[1])
    )
    monkeypatch.setattr(HashGrid, "render", super(HashGrid, HashGrid).render)
    monkeypatch.setattr(divergence, "FIRST_LOOK", 8)
    with pytest.warns(UserWarning, match=r"8 steps the field is empty .*0\.0000.*near and far"):
        fit(tmp_path / "run")
