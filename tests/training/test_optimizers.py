"""How parameters are updated."""

from pathlib import Path

import pytest
import torch

from dietnerf.training import cli, system
from dietnerf.training.system import DietNeRF
from tests.helpers import SMALL_RUN


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")], ids=["plain", "scaled"])
def test_with_a_loss_scale_callbacks_see_gradients_without_it(
    scaler: torch.amp.GradScaler | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A fused optimizer unscales by itself, after the callbacks between backward pass and step."""
    made = []

    def recorded(*args, **options):
        made.append(system_make(*args, **options))
        return made[-1]

    system_make = system.make_optimizer
    monkeypatch.setattr(system, "make_optimizer", recorded)
    monkeypatch.setattr(DietNeRF, "_scaler", lambda self: scaler)
    cli.main(["fit", *SMALL_RUN, "--model.optimizer", "adam", "--run", str(tmp_path / "run")])
    unscales_itself = getattr(made[0], "_step_supports_amp_scaling", False)
    assert unscales_itself == (scaler is None)
