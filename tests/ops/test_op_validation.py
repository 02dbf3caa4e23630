"""Raw calls of kernels: invalid arguments raise an error that names the op, and no value in a valid
tensor makes them crash or hang."""

import functools
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dietnerf.ops import is_compiled
from dietnerf.ops.hash_encode import _check_levels
from tests.ops import test_march_rays, test_render_hash_grid
from tests.ops.contract import offsets

pytestmark = pytest.mark.skipif(
    not is_compiled("composite", torch.device("cpu")), reason="no kernels were built"
)
quick = settings(max_examples=150, deadline=None, derandomize=True)

COUNTS = [3, 0, 70, 5]
FORWARD = (
    *("composite", "distortion", "hash_encode", "march_rays", "render_hash_grid"),
    *("sample_pdf", "sample_stratified"),
)
BACKWARD = tuple(f"{name}_backward" for name in FORWARD if name != "march_rays")
OPS = ("adam_step", *FORWARD, *BACKWARD)
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-45, 3e38, -3e38, 5e9, 1e10)
SIZES = (0, -1, 1, 7, 8, 24, 2**31, 2**32, 2**40, 2**60, 2**62, 2**63 - 1, -(2**63))


def names_of(op: str) -> list[str]:
    return [a.name for a in getattr(torch.ops.dietnerf, op).default._schema.arguments]


def call(op: str, arguments: dict[str, Any]) -> Any:
    return getattr(torch.ops.dietnerf, op)(*(arguments[name] for name in names_of(op)))


def numbers(op: str) -> dict[str, Any]:
    """Right arguments of an op, not of a backward one."""
    n, n_rays = sum(COUNTS), len(COUNTS)
    if op == "adam_step":
        tensors = {name: torch.rand(40, 30) for name in names_of(op)[:4]}
        rule = torch.tensor([0.1, 1.0, 0.99]).double()
        return {**tensors, "rule": rule, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    if op == "march_rays":
        values = test_march_rays.make_with(3, 0.02, 400)(COUNTS, torch.float32)
        return dict(zip(names_of(op), values, strict=True))
    if op == "render_hash_grid":
        made = test_render_hash_grid.make(COUNTS)
        made = {k: v.detach() if isinstance(v, Tensor) else v for k, v in made.items()}
        return {**made, "saves_samples": True}
    if op == "hash_encode":
        levels = torch.tensor([[2, 0, 32], [3, 32, 72], [40, 104, 128]])
        return {
            "table": torch.rand(232, 4),
            "positions": torch.rand(n, 3),
            "levels": levels,
            "level_weights": torch.rand(3),
        }
    per_sample = {name: torch.rand(n) for name in names_of(op)}
    return {
        **per_sample,
        "rgbs": torch.rand(n, 3),
        "near": torch.rand(n_rays),
        "far": torch.rand(n_rays) + 1,
        "u": torch.rand(n_rays, 5),
        "ray_offsets": offsets(COUNTS),
        "n_samples": n,
        "lindisp": False,
        "early_stop": 1e-4,
    }


@functools.cache
def right(op: str) -> dict[str, Any]:
    torch.manual_seed(1)
    forward = op.removesuffix("_backward")
    arguments = {k: v for k, v in numbers(forward).items() if k in names_of(forward)}
    if op == forward:
        return arguments
    outputs = call(forward, arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = [name for name in names_of(op) if name.startswith("grad_")]
    for name, output in zip(grads, outputs, strict=True):
        arguments |= {name: torch.rand_like(output), name.removeprefix("grad_"): output}
    return {name: arguments[name] for name in names_of(op) if name != "output_mask"} | {
        "output_mask": 15
    }


def fresh(op: str) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in right(op).items()}


def tensors_of(op: str) -> list[str]:
    return [name for name, value in right(op).items() if isinstance(value, Tensor)]


def is_ignored(op: str, name: str) -> bool:
    """Whether the op does not read a gradient: that of what is saved for the backward."""
    return op == "render_hash_grid_backward" and name in ("grad_encoded", "grad_rgbs")


def is_answered(op: str, arguments: dict[str, Any]) -> bool:
    """Or refused as it ought to be."""
    try:
        call(op, arguments)
    except (RuntimeError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        assert f"{op.removesuffix('_backward')}" in sentence, sentence
        named = [*names_of(op), "floating arguments", "samples are more than", "n_features"]
        assert any(name in sentence for name in named), sentence
        return False
    return True


TWISTS = {
    "one more": lambda t, dim: torch.cat([t, t.narrow(dim, 0, 1)], dim),
    "one less": lambda t, dim: t.narrow(dim, 0, max(t.shape[dim] - 1, 0)),
    "none": lambda t, dim: t.narrow(dim, 0, 0),
    "a dim more": lambda t, dim: t.unsqueeze(dim),
    "a dim less": lambda t, dim: t.select(dim, 0),
    "a number": lambda t, dim: t.flatten()[0],
}
MISSHAPEN = ("a dim more", "a dim less", "a number")


@pytest.mark.parametrize("op", OPS)
def test_right_arguments_are_answered(op: str) -> None:
    assert is_answered(op, fresh(op))


@quick
@given(st.data())
def test_wrong_shapes_and_types_are_refused(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(OPS))
    name = data.draw(st.sampled_from(tensors_of(op)))
    arguments = fresh(op)
    given_ = arguments[name]
    if data.draw(st.booleans()):
        types = (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool)
        other = data.draw(st.sampled_from([t for t in types if t != given_.dtype]))
        is_right = name == "table" and other == torch.float16
        arguments[name] = given_.to(other)
        assert is_answered(op, arguments) == is_right or is_ignored(op, name)
        return
    twist = data.draw(st.sampled_from(list(TWISTS)))
    dim = data.draw(st.integers(0, given_.dim() - 1))
    if given_.shape[dim] == 0:
        return
    arguments[name] = TWISTS[twist](given_, dim)
    answered = is_answered(op, arguments)
    assert not (answered and twist in MISSHAPEN) or is_ignored(op, name) or op == "adam_step"


@quick
@given(st.data())
def test_layout_does_not_matter(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(FORWARD + BACKWARD))
    arguments = dict(right(op))
    for name in data.draw(st.lists(st.sampled_from(tensors_of(op)), unique=True)):
        value = arguments[name]
        spread = torch.stack([value, torch.full_like(value, 7)], dim=-1)[..., 0]
        arguments[name] = value.T.contiguous().T if value.dim() == 2 else spread
    expected, found = call(op, right(op)), call(op, arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_adam_refuses_what_it_cannot_write_to() -> None:
    for name in ("parameter", "grad", "exp_avg", "exp_avg_sq"):
        arguments = fresh("adam_step")
        arguments[name] = arguments[name].T.contiguous().T
        with pytest.raises(RuntimeError, match=f"adam_step: {name} must be contiguous"):
            call("adam_step", arguments)


def negated(t: Tensor) -> Tensor:
    return torch.complex(t, t).conj().imag


@pytest.mark.parametrize("view", [torch._neg_view, negated])
def test_a_negated_view_is_read_but_not_written_to(view: Callable[[Tensor], Tensor]) -> None:
    """For which torch looks for a result to copy back, and aborts where there is none."""
    for name in ("parameter", "exp_avg", "exp_avg_sq"):
        arguments = fresh("adam_step")
        arguments[name] = view(arguments[name])
        with pytest.raises(ValueError, match=f"adam_step: {name} must not be a negated or"):
            call("adam_step", arguments)
    expected, found = fresh("adam_step"), fresh("adam_step")
    expected["grad"], found["grad"] = -expected["grad"], view(found["grad"])
    for arguments in (expected, found):
        call("adam_step", arguments)
    assert torch.equal(found["parameter"], expected["parameter"])


def test_adam_refuses_tensors_that_share_memory() -> None:
    flat = torch.rand(40 * 30 + 30)
    for one, other in itertools.permutations(("parameter", "grad", "exp_avg", "exp_avg_sq"), 2):
        arguments = fresh("adam_step")
        arguments[one], arguments[other] = flat[:-30].view(40, 30), flat[30:].view(40, 30)
        with pytest.raises(RuntimeError, match="exp_avg_sq must not share memory"):
            call("adam_step", arguments)


def shrunk(t: Tensor) -> Tensor:
    t = t.clone()
    t.untyped_storage().resize_(t.untyped_storage().nbytes() - 1)
    return t


ODD = {  # how a tensor is changed, and what is then said of it
    "missing": (lambda t: None, "must"),
    "shrunk": (shrunk, "is longer than its storage"),
    "meta": (lambda t: t.to("meta"), "on meta"),
    "sparse": (Tensor.to_sparse, "must be a plain tensor, got one that is torch.sparse_coo"),
    "mkldnn": (lambda t: t.float().to_mkldnn(), "must be a plain tensor"),
    "quantized": (
        lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
        "must be a plain tensor, got one that is quantized",
    ),
    "conjugate": (lambda t: t.to(torch.complex64).conj(), "must"),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kind", ODD)
def test_tensors_of_other_kinds_are_refused(kind: str, op: str) -> None:
    change, said = ODD[kind]
    for name in tensors_of(op):
        arguments = fresh(op)
        if kind == "shrunk" and arguments[name].numel() == 0:
            continue  # it has no storage that could be smaller
        arguments[name] = change(arguments[name])
        try:
            call(op, arguments)
        except (RuntimeError, ValueError) as error:
            sentence = str(error).splitlines()[0]
            assert f"{op}: " in sentence and said in sentence, sentence
        else:
            is_left_out = kind == "missing" and (name == "jitter" or name.startswith("grad_"))
            assert is_left_out or right(op)[name].numel() == 0 or name == "grad_encoded", name


@quick
@given(
    st.sampled_from([op for op in OPS if "ray_offsets" in names_of(op)]),
    st.lists(st.integers(-2, 90) | st.sampled_from(SIZES), min_size=5, max_size=5),
    st.booleans(),
)
def test_offsets_are_looked_at(op: str, values: list[int], is_sorted: bool) -> None:
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
def test_levels_are_looked_at(op: str, row: list[int], at: int) -> None:
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
    assert answered or "aabb" in floats


@quick
@given(st.data())
def test_any_integer_is_answered_or_refused(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(OPS))
    names = [k for k, v in right(op).items() if type(v) is int and k != "capacity"]
    if names:
        name = data.draw(st.sampled_from(names))
        value = data.draw(st.sampled_from(SIZES))
        answered = is_answered(op, {**fresh(op), name: value})
        assert not answered or name == "output_mask" or value == right(op)[name]


BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
REFUSED = [
    ("adam_step", {"beta1": math.nan}, "beta1 and beta2 must be in"),
    ("adam_step", {"beta2": 1.0}, "beta1 and beta2 must be in"),
    ("adam_step", {"eps": math.nan}, "eps must not be negative"),
    ("composite", {"early_stop": math.nan}, "early_stop must be a number"),
    ("composite_backward", {"early_stop": math.nan}, "early_stop must be a number"),
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
    ("render_hash_grid", {"aabb": BOX * math.inf}, "aabb must be a lower and a higher"),
    ("render_hash_grid", {"aabb": BOX.flip(0)}, "aabb must be a lower and a higher"),
    ("render_hash_grid", {"early_stop": math.nan}, "early_stop must be a number"),
    ("render_hash_grid", {"width": 0}, "width and n_geometry must be multiples of 16 from 16"),
    ("render_hash_grid", {"color_layers": 0}, "color_layers must be from 1 to 64"),
    ("render_hash_grid", {"color_layers": -1}, "color_layers must be from 1 to 64"),
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
