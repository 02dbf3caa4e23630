"""The view of a step, and its losses."""

import torch

from dietnerf.data import Procedural
from dietnerf.data.view_sampling import ViewBatch, ViewSource
from dietnerf.gaussians import Gaussians, Points
from dietnerf.losses import AbsoluteError
from dietnerf.sampling import Stratified
from dietnerf.schedules.base import Progress
from dietnerf.training.objective import Objective
from dietnerf.training.view_losses import ViewLosses


class Recording(ViewSource):
    """Remembers how wide its views were."""

    widths: list[int]

    def draw(self, generator: torch.Generator, n_halvings: int = 0) -> ViewBatch:
        batch = super().draw(generator, n_halvings)
        self.widths.append(batch.camera.width)
        return batch


def test_views_grow_up_to_the_photographs():
    train = Procedural(resolution=256, n_train=2).read("train")
    assert train is not None
    gaussians = Gaussians(20, 20, growth=1.0)
    gaussians.place(Points(torch.randn(20, 3), torch.rand(20, 3)))
    gaussians.prepare(train.cameras)
    source = Recording(train, torch.ones(3))
    source.widths = []
    objective = Objective(gaussians, Stratified(), [AbsoluteError()])
    losses = ViewLosses(objective, source, (0.2, 0.5, 0.75), rank=0)
    for step in (0, 3, 4, 9, 10, 14, 15, 19):
        losses(Progress(step, 20), 1, 1.0, with_stats=False)
    assert source.widths == [64, 64, 64, 64, 128, 128, 256, 256]
