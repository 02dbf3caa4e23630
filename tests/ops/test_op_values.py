"""Raw calls with values that are none: every op bears them or refuses them by a sentence."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dietnerf.ops import is_compiled
from dietnerf.ops.hash_encode import _check_levels
from tests.ops.arguments import (
    COUNTS,
    OPS,
    SIZES,
    SPECIAL,
    call,
    fresh,
    is_answered,
    names_of,
    quick,
    right,
    tensors_of,
)

pytestmark = pytest.mark.skipif(
    not is_compiled("composite", torch.device("cpu")), reason="no kernels were built"
)


@quick
@given(
    st.sampled_from([op for op in OPS if "ray_offsets" in names_of(op)]),
    st.lists(st.integers(-2, 90) | st.sampled_from(SIZES), min_size=5, max_size=5),
    st.booleans(),
)
def test_offsets_are_checked(op: str, values: list[int], is_sorted: bool) -> None:
    values = [0, *sorted(values[1:])] if is_sorted else values
    arguments = fresh(op)
    arguments["ray_offsets"] = torch.tensor(values)
    has_spare = op.startswith(("composite", "distortion", "render"))
    fits = values[-1] <= sum(COUNTS) if has_spare else values[-1] == sum(COUNTS)
    fits &= values[0] == 0 and values == sorted(values)
    assert is_answered(op, arguments) == fits


@quick
@given(
    st.sampled_from([op for op in OPS if "levels" in names_of(op)]),
    st.lists(st.integers(-2, 140) | st.sampled_from(SIZES), min_size=3, max_size=3),
    st.integers(0, 2),
)
def test_levels_are_checked(op: str, row: list[int], at: int) -> None:
    arguments = fresh(op)
    arguments["levels"][at] = torch.tensor(row)
    try:
        _check_levels(arguments["levels"].tolist(), len(arguments["table"]))
        fits = True
    except ValueError:
        fits = False
    assert is_answered(op, arguments) == fits


@quick
@given(st.data())
def test_any_number_is_borne(data: st.DataObject) -> None:
    """NaN, infinities, and numbers that no int32 holds."""
    op = data.draw(st.sampled_from(OPS))
    arguments = fresh(op)
    floats = [name for name in tensors_of(op) if arguments[name].is_floating_point()]
    for name in data.draw(st.lists(st.sampled_from(floats), min_size=1, unique=True)):
        flat = arguments[name].view(-1)
        for _ in range(data.draw(st.integers(1, 3))):
            if len(flat):
                flat[data.draw(st.integers(0, len(flat) - 1))] = data.draw(st.sampled_from(SPECIAL))
    answered = is_answered(op, arguments)
    assert answered or "aabb" in floats or "opacities" in floats


@quick
@given(st.data())
def test_any_integer_is_answered_or_refused(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(OPS))
    names = [k for k, v in right(op).items() if type(v) is int and k != "capacity"]
    if names:
        name = data.draw(st.sampled_from(names))
        value = data.draw(st.sampled_from(SIZES))
        answered = is_answered(op, {**fresh(op), name: value})
        is_free = ("gaussians" in op and value >= 1) or (name == "degree" and 0 <= value <= 2)
        assert not answered or name == "output_mask" or value == right(op)[name] or is_free


BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
REFUSED = [
    ("adam_step", {"beta1": math.nan}, "beta1 and beta2 must be in"),
    ("adam_step", {"beta2": 1.0}, "beta1 and beta2 must be in"),
    ("adam_step", {"eps": math.nan}, "eps must not be negative"),
    ("composite", {"early_stop": math.nan}, "early_stop must be a number"),
    ("composite_backward", {"early_stop": math.nan}, "early_stop must be a number"),
    ("eval_sh", {"degree": -1}, "degree must be from 0 to 3, got -1"),
    ("eval_sh_backward", {"degree": 3}, "rest must have 15 coefficients or more for degree 3"),
    ("march_rays", {"resolution": 2**40}, "resolution must be a multiple of 8 from 8 to 1024"),
    ("march_rays", {"resolution": 0}, "resolution must be a multiple of 8 from 8 to 1024"),
    ("march_rays", {"step": math.nan}, "step must be positive"),
    ("march_rays", {"step": 0.0}, "step must be positive"),
    ("march_rays", {"step": 1e-9}, "step must be at least"),
    ("march_rays", {"step": 1e-300}, "step must be at least"),
    ("march_rays", {"cone_angle": math.nan}, "cone_angle must not be negative"),
    ("march_rays", {"capacity": -1}, "capacity must not be negative"),
    ("march_rays", {"capacity": 2**40}, "samples are more than can be indexed"),
    ("march_rays", {"aabb": BOX.flip(0)}, "aabb must be a lower and a higher corner"),
    ("march_rays", {"aabb": BOX * math.nan}, "aabb must be a lower and a higher corner"),
    ("project_gaussians", {"near": math.nan}, "near must be at least 0"),
    ("project_gaussians", {"blur": -0.1}, "blur must be at least 0"),
    ("project_gaussians", {"height": 0}, "width and height must be at least 1"),
    ("rasterize_gaussians", {"width": 2**15}, "width and height must be from 1 to 16384"),
    ("rasterize_gaussians", {"opacities": torch.full((78,), 1.1)}, "opacities must be from 0 to 1"),
    ("render_hash_grid", {"aabb": BOX * math.inf}, "aabb must be a lower and a higher"),
    ("render_hash_grid", {"aabb": BOX.flip(0)}, "aabb must be a lower and a higher"),
    ("render_hash_grid", {"early_stop": math.nan}, "early_stop must be a number"),
    ("render_hash_grid", {"width": 0}, "width and n_geometry must be multiples of 16 from 16"),
    ("render_hash_grid", {"color_layers": 0}, "color_layers must be from 1 to 64"),
    ("render_hash_grid", {"color_layers": -1}, "color_layers must be from 1 to 64"),
    (
        "structural_similarity",
        {"x": torch.ones(10, 40, 3), "y": torch.ones(10, 40, 3)},
        "x and y must be at least 11 pixels high and wide",
    ),
    ("sample_stratified", {"n_samples": -1, "jitter": None}, "ray_offsets must ascend"),
]


@pytest.mark.parametrize(("op", "wrong", "sentence"), REFUSED, ids=str)
def test_refused(op: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=f"{op}: {sentence}|{sentence}"):
        call(op, {**fresh(op), **wrong})


def test_products_of_sizes_do_not_wrap_around() -> None:
    """No ray, so that the tensor is empty; 16 x 2^60 weights would be none in 64 bits."""
    arguments = fresh("render_hash_grid")
    arguments |= {"directions": torch.empty(0, 2**60), "ray_offsets": torch.zeros(1).long()}
    arguments |= {name: torch.empty(0, 3) for name in ("rays_o", "rays_d")}
    with pytest.raises(RuntimeError, match="n_directions must be at most"):
        call("render_hash_grid", arguments)


def test_more_samples_than_can_be_indexed() -> None:
    arguments = {"near": torch.rand(1), "far": torch.rand(1), "jitter": None, "lindisp": False}
    arguments |= {"ray_offsets": torch.tensor([0, 2**60]), "n_samples": 2**60}
    with pytest.raises(RuntimeError, match="sample_stratified: n_samples must be from 0 to"):
        call("sample_stratified", arguments)


@pytest.mark.parametrize("cone_angle", [0.0, 1e-12])
def test_a_ray_that_t_cannot_follow_has_no_samples(cone_angle: float) -> None:
    """From so far away that an interval is lost in the rounding of t, it would never arrive."""
    rays_o, rays_d = torch.tensor([[-1e12, 0.1, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]])
    near, far = torch.zeros(1), torch.full((1,), 1e30)
    bounds = torch.tensor([[-1e5, -1.0, -1.0], [1e5, 1.0, 1.0]])
    occupied = torch.full((1, 64), 255, dtype=torch.uint8)
    grid = (bounds, occupied, 8, 1.0, cone_angle)
    ts, *_ = torch.ops.dietnerf.march_rays(rays_o, rays_d, near, far, *grid, None, None)
    assert len(ts) == 0


BACKWARDS = """
import math, torch, dietnerf.ops
rays_o, rays_d = torch.zeros(1, 3), torch.tensor([[1.0, math.nan, 1.0]])
near, far = torch.full((1,), -3.0), torch.full((1,), 3.0)
bounds = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
occupied = torch.zeros(2, 64, dtype=torch.uint8)
grid = (bounds, occupied, 8, 1.0, 1.0)
ts, *_ = torch.ops.dietnerf.march_rays(rays_o, rays_d, near, far, *grid, None, None)
assert len(ts) == 0
"""


def test_a_ray_of_no_direction_does_not_march_backwards_for_ever() -> None:
    """In a process that can be stopped: intervals of growing ones were as negative as t."""
    subprocess.run([sys.executable, "-c", BACKWARDS], check=True, timeout=120)


@pytest.mark.parametrize("fraction", [-math.inf, -1e30, 1.5, math.nan])
def test_a_ray_with_a_jitter_outside_of_its_intervals_has_no_samples(fraction: float) -> None:
    arguments = fresh("march_rays") | {"jitter": torch.tensor([0.5, 0.5, fraction, 0.5])}
    arguments["occupied"].fill_(255)
    _, _, ray_offsets, _ = call("march_rays", arguments | {"capacity": None})
    assert ray_offsets[2] == ray_offsets[3] < ray_offsets[4]


def test_a_capacity_bounds_the_march() -> None:
    """Rays of 2^19 samples, of which one fits: few others are marched."""
    n_rays = 600
    rays_o = torch.tensor([-3.0, 0.1, 0.1]).expand(n_rays, 3)
    rays_d = torch.tensor([1.0, 0.0, 0.0]).expand(n_rays, 3)
    near, far = torch.zeros(n_rays), torch.full((n_rays,), 9.0)
    occupied = torch.full((1, 64), 255, dtype=torch.uint8)
    grid = (BOX, occupied, 8, 2**-18, 0.0)
    ts, _, ray_offsets, _ = torch.ops.dietnerf.march_rays(
        rays_o, rays_d, near, far, *grid, None, 2**19 + 2**18
    )
    assert len(ts) == 2**19 + 2**18
    assert ray_offsets[1] == ray_offsets[-1] and abs(int(ray_offsets[1]) - 2**19) <= 8
