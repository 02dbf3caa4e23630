"""Marching: the contract of every op, the same samples as the reference, and closed forms."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf import ops
from dietnerf.ops import OccupancyGrid, is_compiled
from dietnerf.ops.march_rays import reference as reference_on_grid
from tests.ops.contract import CHECKS, Op

BOX = torch.tensor([[-1.0, -1.2, -0.7], [1.1, 0.9, 1.3]])


def march_rays(*args: Any) -> tuple[Tensor, ...]:
    """The op, with the arguments of `torch.ops.dietnerf.march_rays`, but for last ones."""
    return ops.march_rays(*args[:4], OccupancyGrid(*args[4:9]), *args[9:])


def reference(*args: Any) -> tuple[Tensor, ...]:
    return reference_on_grid(*args[:4], OccupancyGrid(*args[4:9]), *args[9:])


def pack(is_occupied: Tensor) -> Tensor:
    """(n_levels, resolution, resolution, resolution) -> bits, z first."""
    values = is_occupied.reshape(len(is_occupied), -1, 8) * 2 ** torch.arange(8)
    return values.sum(dim=-1).to(torch.uint8)


def random_bits(resolution: int, n_levels: int, fraction: float) -> Tensor:
    """Single occupied cells, and blobs of them with empty space to skip between them."""
    shape = (n_levels, resolution, resolution, resolution)
    coarse = F.interpolate(torch.rand(1, n_levels, 4, 4, 4), shape[1:], mode="trilinear")[0]
    return pack(
        (torch.rand(shape) < fraction / 4) | (coarse > coarse.flatten().quantile(1 - fraction))
    )


def rays_towards(box: Tensor, n_rays: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """From inside and outside of the box, along axes and askew, some past it."""
    sizes = box[1] - box[0]
    rays_o = box.mean(dim=0) + (torch.rand(n_rays, 3) - 0.5) * 4 * sizes
    rays_d = box[0] + torch.rand(n_rays, 3) * 1.4 * sizes - rays_o
    rays_d *= torch.rand(n_rays, 1) + 0.2
    rays_o[::7], rays_d[::7, 0] = box[0] + torch.rand(3) * sizes, 0.0
    rays_d[::14, 2] = 0.0
    return rays_o.to(dtype), rays_d.to(dtype)


def make_with(n_levels: int, cone_angle: float, capacity: int | None) -> Any:
    def make(counts: list[int], dtype: torch.dtype) -> tuple[Any, ...]:
        n_rays = len(counts)
        rays_o, rays_d = rays_towards(BOX, n_rays, dtype)
        near, far = torch.rand(n_rays).to(dtype), torch.full((n_rays,), 9.0).to(dtype)
        jitter, bits = torch.rand(n_rays).to(dtype), random_bits(16, n_levels, 0.2)
        floats = (rays_o, rays_d, near, far, BOX.to(dtype))
        return *floats, bits, 16, 0.1, cone_angle, jitter, capacity

    return make


WRONG = [
    (0, torch.rand(4, 2).double(), "rays_o must be (n_rays, 3) with n_rays = 4, got (4, 2)"),
    (1, torch.rand(3, 3).double(), "rays_d must be (n_rays, 3) with n_rays = 4, got (3, 3)"),
    (2, torch.rand(4, 1).double(), "near must be (n_rays,), got 2 dims"),
    (3, torch.rand(4), "far must be torch.float64 like rays_o, got torch.float32"),
    (4, torch.rand(3, 2).double(), "aabb must be (2, 3), got (3, 2)"),
    (5, torch.ones(1, 64).byte(), "occupied must be (n_levels, n_bytes) with n_levels = 1, "
     "n_bytes = 512, got (1, 64)"),
    (5, torch.ones(1, 512), "occupied must be uint8, got torch.float32"),
    (5, torch.ones(0, 512).byte(), "occupied must have one level or more, got 0"),
    (6, 12, "resolution must be a multiple of 8, got 12"),
    (7, 0.0, "step must be positive, got 0.0"),
    (8, -0.1, "cone_angle must not be negative, got -0.1"),
    (9, torch.rand(5).double(), "jitter must be (n_rays,) with n_rays = 4, got (5,)"),
    (10, -1, "capacity must not be negative, got -1"),
]  # fmt: skip
OPS = [
    Op(
        "march_rays",
        march_rays,
        reference,
        make_with(*kind),
        WRONG,
        has_offsets=False,
        is_differentiable=False,
    )
    for kind in ((1, 0.0, None), (3, 0.02, None), (1, 0.0, 40))
]


@pytest.mark.parametrize("op", OPS, ids=["even", "growing", "capacity"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, op: Op, device: str) -> None:
    check(op, device)


def cases(dtype: torch.dtype) -> Any:
    fractions, cones, resolutions = (0.0, 0.02, 0.3, 1.0), (0.0, 0.004, 0.05), (8, 24, 32, 64)
    for n_levels, fraction, cone_angle, is_jittered in itertools.product(
        (1, 2, 4), fractions, cones, (True, False)
    ):
        resolution = resolutions[int(torch.randint(4, ()))]
        box = torch.rand(2, 3) + torch.tensor([[-1.0], [1.0]]) * (0.1 + torch.rand(3))
        box = box.sort(dim=0).values
        rays_o, rays_d = rays_towards(box * 2 ** (n_levels - 1), 300, dtype)
        near, far = torch.rand(300) * 0.5, 1 + torch.rand(300) * 3
        bits = random_bits(resolution, n_levels, fraction)
        step = float((box[1] - box[0]).norm()) / (20 + 200 * float(torch.rand(())))
        jitter = torch.rand(300).to(dtype) if is_jittered else None
        floats = (tensor.to(dtype) for tensor in (near, far, box))
        yield rays_o, rays_d, *floats, bits, resolution, step, cone_angle, jitter, None


def on(device: str, args: tuple[Any, ...]) -> list[Any]:
    return [a.to(device) if isinstance(a, Tensor) else a for a in args]


def test_has_the_samples_of_the_reference(device: str) -> None:
    n_samples = 0
    for args in cases(torch.float64):
        ts, deltas, ray_offsets, n_total = march_rays(*on(device, args))
        expected = reference(*on(device, args))
        assert n_total == len(ts)
        assert torch.equal(ray_offsets, expected[2]), args[5:9]
        torch.testing.assert_close((ts, deltas), expected[:2], rtol=1e-12, atol=1e-12)
        n_samples += len(ts)
    assert n_samples > 100_000  # the cases are not all misses


def test_has_nearly_the_samples_of_the_reference_in_float32(device: str) -> None:
    # A sample within 1e-5 cells of a wall may be rounded to either side of it: with some 3e5
    # samples and three walls each that is expected a few times.
    n_flips = n_samples = 0
    for args in cases(torch.float32):
        _, _, ray_offsets, _ = march_rays(*on(device, args))
        _, _, expected, _ = reference(*on(device, args))
        n_flips += int((ray_offsets.diff() - expected.diff()).abs().sum())
        n_samples += int(expected[-1])
    assert n_flips <= 1e-4 * n_samples


@pytest.mark.parametrize("fraction", [0.0, 0.4, 0.9, 1.0, 1.3])
def test_capacity_keeps_the_first_rays_that_fit(fraction: float, device: str) -> None:
    for args in itertools.islice(cases(torch.float32), 0, None, 11):
        args = on(device, args)
        ts, deltas, ray_offsets, n_total = march_rays(*args)
        capacity = int(fraction * len(ts))
        found = march_rays(*args[:-1], capacity)
        last = int(ray_offsets[ray_offsets <= capacity].max())
        assert torch.equal(found[2], ray_offsets.clamp(max=last))
        assert found[3] == n_total == len(ts)
        for got, target in zip(found[:2], (ts, deltas), strict=True):
            assert len(got) == capacity
            assert torch.equal(got[:last], target[:last]) and (got[last:] == 0).all()


def test_full_grid_gives_the_whole_lattice(device: str) -> None:
    """A box of side 2 crossed along x by rays of length 2: t from 1 to 2, 10 intervals of 0.1."""
    rays_o = torch.tensor([[-3.0, 0.1, 0.2]], dtype=torch.float64, device=device)
    rays_d = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64, device=device)
    near, far = rays_o.new_tensor([0.0]), rays_o.new_tensor([9.0])
    aabb = rays_o.new_tensor([[-1.0] * 3, [1.0] * 3])
    full = torch.full((1, 64), 255, dtype=torch.uint8, device=device)
    ts, deltas, ray_offsets, _ = march_rays(rays_o, rays_d, near, far, aabb, full, 8, 0.2)
    torch.testing.assert_close(ts, rays_o.new_tensor([1.05 + 0.1 * k for k in range(10)]))
    torch.testing.assert_close(deltas, torch.full_like(ts, 0.1))
    assert ray_offsets.tolist() == [0, 10]


def test_intervals_grow_with_distance(device: str) -> None:
    rays_o, rays_d = torch.zeros(1, 3, device=device), torch.tensor([[0.0, 0, 3]], device=device)
    near, far = torch.tensor([0.1], device=device), torch.tensor([8.0], device=device)
    aabb = torch.tensor([[-1.0] * 3, [1.0] * 3], device=device)
    full = torch.full((6, 64), 255, dtype=torch.uint8, device=device)
    jitter = torch.zeros(1, device=device)
    ts, deltas, *_ = march_rays(rays_o, rays_d, near, far, aabb, full, 8, 0.06, 0.1, jitter)
    torch.testing.assert_close(deltas, (0.1 * ts).clamp(min=0.02))
    torch.testing.assert_close(ts[1:], ts[:-1] + deltas[:-1])
    assert ts[0] == 0.1 and ts[-1] < 8 <= ts[-1] + deltas[-1]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_one_cell_of_each_level(level: int, device: str) -> None:
    """The ray along x through the cell (7, 4, 4) of 8^3, whose level spans +-2^level."""
    bits = torch.zeros(3, 8, 8, 8, dtype=torch.bool)
    bits[level, 4, 4, 7] = True
    rays_o, rays_d = torch.tensor([[-9.0, 0.01, 0.01]]), torch.tensor([[1.0, 0, 0]])
    args = rays_o, rays_d, torch.zeros(1), torch.full((1,), 99.0)
    aabb = torch.tensor([[-1.0] * 3, [1.0] * 3])
    ts, *_ = march_rays(*on(device, (*args, aabb, pack(bits), 8, 0.003)))
    edge = 2**level
    torch.testing.assert_close(
        (ts - 9).aminmax(), (ts.new_tensor(edge * 0.75), ts.new_tensor(edge * 1.0)),
        rtol=0, atol=0.003,
    )  # fmt: skip
    assert len(ts) == pytest.approx(edge * 0.25 / 0.003, abs=1)


def test_rays_that_are_none_have_no_samples(device: str) -> None:
    nan, inf = float("nan"), float("inf")
    rays_o = torch.tensor([[0, 0, 0], [nan, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 5, 0],
                           [0, 0, 0], [inf, 0, 0], [0, 0, 0], [0, 0, 0]])  # fmt: skip
    rays_d = torch.tensor([[0, 0, 0], [1, 0, 0], [1, nan, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0],
                           [1, 0, 0], [-1, 0, 0], [1, nan, 0], [1, 0, 0]]).float()  # fmt: skip
    near = torch.tensor([0, 0, 0, nan, 0, 0, 2, 0, -3, 0]).float()
    far = torch.tensor([9, 9, 9, 9, nan, 9, 1, inf, 9, inf]).float()
    aabb = torch.tensor([[-1.0] * 3, [1.0] * 3])
    full = torch.full((1, 64), 255, dtype=torch.uint8)
    args = on(device, (rays_o, rays_d, near, far, aabb, full, 8, 0.1))
    for cone_angle in (0.0, 0.01):
        counts = march_rays(*args, cone_angle)[2].diff()
        assert counts[:-1].tolist() == [0] * 9 and counts[-1] > 0
        assert torch.equal(reference(*args, cone_angle, None, None)[2].diff(), counts)


def test_memory_goes_with_the_samples_kept() -> None:
    """Rays through a grid with one occupied corner: all their intervals would take 2 GB."""
    resource = pytest.importorskip("resource")
    n_rays, resolution = 200_000, 16
    if not is_compiled("march_rays", torch.device("cpu")):
        pytest.skip("the reference looks at every interval")
    bits = torch.zeros(1, resolution**3 // 8, dtype=torch.uint8)
    bits[0, 0] = 1
    rays_o, rays_d = rays_towards(BOX, n_rays, torch.float32)
    near, far = torch.zeros(n_rays), torch.full((n_rays,), 9.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    ts, _, ray_offsets, _ = march_rays(rays_o, rays_d, near, far, BOX, bits, resolution, 0.002)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert 0 < len(ts) == ray_offsets[-1] < 10 * n_rays
    assert grown < 200_000
