import pytorch_lightning as pl
import torch

from dietnerf.randomness import step_generator


def draw(*key: object) -> list[float]:
    return torch.rand(4, generator=step_generator(*key)).tolist()


def test_depends_on_seed_purpose_step_and_rank_alone():
    pl.seed_everything(1)
    first = draw("rays", 3, 0)
    torch.rand(10)
    assert draw("rays", 3, 0) == first
    others = [draw("jitter", 3, 0), draw("rays", 4, 0), draw("rays", 3, 1)]
    pl.seed_everything(2)
    others.append(draw("rays", 3, 0))
    assert all(other != first for other in others)
