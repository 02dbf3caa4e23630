"""Where Gaussians begin: at points on surfaces, each with a color."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

N_NEIGHBORS = 3


@dataclass(frozen=True)
class Points:
    """Colored points.

    Args:
        positions: scene units, (n, 3).
        rgb: in [0, 1], (n, 3).
    """

    positions: Tensor
    rgb: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Tensor) -> "Points":
        return Points(self.positions[index], self.rgb[index])

    def spacing(self) -> Tensor:
        """Root mean square distance of each point to its three nearest, or to as many as there
        are, float32, (n,); 1 for a single point."""
        positions = self.positions.double().cpu().numpy()
        k = min(N_NEIGHBORS, len(self) - 1)
        if k < 1:
            return torch.ones(len(self))
        distances, _ = cKDTree(positions).query(positions, k=k + 1)
        return torch.from_numpy(np.sqrt((distances[:, 1:] ** 2).mean(axis=1))).float()

    def thinned(self, n: int, cell: float, generator: torch.Generator) -> "Points":
        """At most n of them, in random order, at most one in each cell of a grid.

        Args:
            cell: length of its edges, scene units.
        """
        mixed = self[torch.randperm(len(self), generator=generator)]
        cells = np.floor(mixed.positions.double().numpy() / cell)
        _, first = np.unique(cells, axis=0, return_index=True)
        return mixed[torch.from_numpy(np.sort(first))[:n]]
