"""A step of the paper's field on two virtual devices, which share out its rays, against one CPU."""

import numpy as np
import torch
import torch_xla
import torch_xla.core.xla_model as xm
import torch_xla.distributed.spmd as xs
import torch_xla.runtime as xr
from torch import Tensor

from dietnerf.data import Procedural
from dietnerf.fields import MLP
from dietnerf.geometry.rays import Rays
from dietnerf.renderer import render_rays
from dietnerf.sampling import Importance

xr.use_spmd()
assert xr.global_runtime_device_count() == 2
torch.manual_seed(0)
cameras = Procedural(resolution=16, n_train=2).read("train").cameras
field, sampler = MLP(depth=2, width=32), Importance(n_coarse=8, n_fine=8)
field.prepare(cameras)
sampler.prepare(cameras, field)


def gradients(rays: Rays, background: Tensor) -> list[Tensor]:
    fine, coarse = render_rays(rays, field, sampler, background)
    assert coarse is not None
    loss = fine.rgb.square().mean() + coarse.rgb.square().mean()
    return [
        own.cpu() for own in torch.autograd.grad(loss, [*field.parameters(), *sampler.parameters()])
    ]


rays = cameras.image_rays(0)
expected = gradients(rays, torch.ones(3))
device = xm.xla_device()
field.to(device)
sampler.to(device)
mesh = xs.Mesh(np.arange(2), (2,), ("rays",))
shared = rays.to(device)
for tensor in (shared.rays_o, shared.rays_d):
    xs.mark_sharding(tensor, mesh, ("rays", None))
for tensor in (shared.near, shared.far):
    xs.mark_sharding(tensor, mesh, ("rays",))
assert torch_xla._XLAC._get_xla_sharding_spec(shared.rays_o) == "{devices=[2,1]0,1}"
for own, other in zip(gradients(shared, torch.ones(3, device=device)), expected, strict=True):
    torch.testing.assert_close(own, other, rtol=0, atol=2e-4)
print("the gradients of two devices are those of one")
