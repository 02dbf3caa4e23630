"""Gaussians and cameras that tests share."""

import torch

from dietnerf.gaussians import Gaussians, Points
from dietnerf.geometry.cameras import Cameras


def camera(width: int = 48, height: int = 40, distance: float = 4.0, **lens: object) -> Cameras:
    """At (0, 0, distance), looking along -z at the origin."""
    c2w = torch.eye(4)[None, :3].clone()
    c2w[0, 2, 3] = distance
    return Cameras(
        c2w,
        torch.tensor([[60.0, 60.0]]),
        torch.tensor([[width / 2, height / 2]]),
        torch.tensor([1.0]),
        torch.tensor([10.0]),
        width,
        height,
        **lens,  # type: ignore[arg-type]
    )


def ball(n: int = 400, capacity: int = 500, **options: object) -> Gaussians:
    """Colored Gaussians on the unit sphere, nearly opaque."""
    generator = torch.Generator().manual_seed(0)
    places = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    gaussians = Gaussians(capacity, n, antialias=False, **options)  # type: ignore[arg-type]
    gaussians.place(Points(places, (places + 1) / 2))
    with torch.no_grad():
        gaussians.opacity_logits.fill_(3.0)
    return gaussians
