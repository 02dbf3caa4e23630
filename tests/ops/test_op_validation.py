"""Raw calls of kernels: invalid arguments raise an error that names the op, and no value in a valid
tensor makes them crash or hang."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dietnerf.ops import is_compiled
from tests.ops.arguments import (
    BACKWARD,
    FORWARD,
    OPS,
    call,
    fresh,
    is_answered,
    is_ignored,
    quick,
    right,
    tensors_of,
)

pytestmark = pytest.mark.skipif(
    not is_compiled("composite", torch.device("cpu")), reason="no kernels were built"
)
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
    twists = list(TWISTS) if given_.dim() else ["a dim more"]  # all that a number can have
    twist = data.draw(st.sampled_from(twists))
    dim = data.draw(st.integers(0, max(given_.dim() - 1, 0)))
    if given_.dim() and given_.shape[dim] == 0:
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
        if kind == "mkldnn" and arguments[name].dim() == 0:
            continue  # which has no single numbers
        arguments[name] = change(arguments[name])
        try:
            call(op, arguments)
        except (RuntimeError, ValueError) as error:
            sentence = str(error).splitlines()[0]
            assert f"{op}: " in sentence and said in sentence, sentence
        else:
            is_left_out = kind == "missing" and (name == "jitter" or name.startswith("grad_"))
            assert is_left_out or right(op)[name].numel() == 0 or is_ignored(op, name), name
