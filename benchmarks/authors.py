"""The paper authors' arithmetic in plain PyTorch: the rival of the benchmarks and the yardstick of
the tests.

Written from the formulas: octave-interleaved encoding, an 8x256 MLP with the encoding again after
layer 4, unnormalized directions whose length is in the intervals, a last interval of 1e10, their
inverse CDF.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def encode(x: Tensor, n_octaves: int) -> Tensor:
    """[x, sin x, cos x, sin 2x, cos 2x, ...], (n, 3 + 6 * n_octaves)."""
    features = [x]
    for k in range(n_octaves):
        features += [torch.sin(x * 2.0**k), torch.cos(x * 2.0**k)]
    return torch.cat(features, dim=-1)


class Network(nn.Module):
    """Raw color and density of encoded positions (63) and directions (27)."""

    def __init__(self) -> None:
        super().__init__()
        widths = [63] + [256 + 63 if i == 4 else 256 for i in range(7)]
        self.points = nn.ModuleList(nn.Linear(n, 256) for n in widths)
        self.density = nn.Linear(256, 1)
        self.feature = nn.Linear(256, 256)
        self.views = nn.Linear(256 + 27, 128)
        self.color = nn.Linear(128, 3)

    def forward(self, encoded: Tensor) -> Tensor:
        points, views = torch.split(encoded, [63, 27], dim=-1)
        hidden = points
        for i, layer in enumerate(self.points):
            hidden = F.relu(layer(hidden))
            if i == 4:
                hidden = torch.cat([points, hidden], dim=-1)
        density = self.density(hidden)
        hidden = F.relu(self.views(torch.cat([self.feature(hidden), views], dim=-1)))
        return torch.cat([self.color(hidden), density], dim=-1)


def query(network: Network, points: Tensor, viewdirs: Tensor) -> Tensor:
    """Raw outputs (n_rays, n_samples, 4) at points (n_rays, n_samples, 3)."""
    directions = viewdirs[:, None].expand(points.shape).reshape(-1, 3)
    encoded = torch.cat([encode(points.reshape(-1, 3), 10), encode(directions, 4)], dim=-1)
    return network(encoded).reshape(*points.shape[:-1], 4)


def composite(raw: Tensor, z: Tensor, rays_d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Color on white (n, 3), weights (n, m), opacity, depth (n,) of raw (n, m, 4), z (n, m)."""
    intervals = torch.cat([z[:, 1:] - z[:, :-1], torch.full_like(z[:, :1], 1e10)], dim=-1)
    intervals = intervals * rays_d[:, None].norm(dim=-1)
    rgbs = torch.sigmoid(raw[..., :3])
    alphas = 1 - torch.exp(-F.relu(raw[..., 3]) * intervals)
    ones = torch.ones_like(alphas[:, :1])
    weights = alphas * torch.cumprod(torch.cat([ones, 1 - alphas + 1e-10], -1), -1)[:, :-1]
    opacity = weights.sum(-1)
    rgb = (weights[..., None] * rgbs).sum(-2) + (1 - opacity[:, None])
    return rgb, weights, opacity, (weights * z).sum(-1)


def stratify(near: float, far: float, u: Tensor) -> Tensor:
    """Distances (n, m) jittered by u (n, m) in cells bounded by the middles between even ones."""
    t = torch.linspace(0, 1, u.shape[1])
    z = (near * (1 - t) + far * t).expand(u.shape)
    middles = (z[:, 1:] + z[:, :-1]) / 2
    upper = torch.cat([middles, z[:, -1:]], dim=-1)
    lower = torch.cat([z[:, :1], middles], dim=-1)
    return lower + (upper - lower) * u


def inverse_cdf(bins: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Distances (n, k) at u (n, k) for weights (n, m) between bins (n, m + 1)."""
    weights = weights + 1e-5
    cdf = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    found = torch.searchsorted(cdf, u.contiguous(), right=True)
    below, above = (found - 1).clamp(min=0), found.clamp(max=cdf.shape[-1] - 1)
    denominator = cdf.gather(1, above) - cdf.gather(1, below)
    denominator = torch.where(denominator < 1e-5, torch.ones_like(denominator), denominator)
    share = (u - cdf.gather(1, below)) / denominator
    start, end = bins.gather(1, below), bins.gather(1, above)
    return start + share * (end - start)


def render(
    coarse: Network, fine: Network, rays_o: Tensor, rays_d: Tensor, u: Tensor, u_fine: Tensor
) -> tuple[Tensor, Tensor]:
    """Coarse and fine colors (n, 3) between near 2 and far 6, given all random numbers."""
    viewdirs = rays_d / rays_d.norm(dim=-1, keepdim=True)
    z = stratify(2.0, 6.0, u)
    points = rays_o[:, None] + rays_d[:, None] * z[..., None]
    coarse_rgb, weights, _, _ = composite(query(coarse, points, viewdirs), z, rays_d)
    middles = (z[:, 1:] + z[:, :-1]) / 2
    drawn = inverse_cdf(middles, weights[:, 1:-1].detach(), u_fine)
    z, _ = torch.sort(torch.cat([z, drawn], -1), -1)
    points = rays_o[:, None] + rays_d[:, None] * z[..., None]
    fine_rgb, _, _, _ = composite(query(fine, points, viewdirs), z, rays_d)
    return coarse_rgb, fine_rgb
