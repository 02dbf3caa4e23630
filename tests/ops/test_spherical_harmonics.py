"""Colors by spherical harmonics: the signs of 3DGS, orthonormality, and what is refused."""

import re

import pytest
import torch

from dietnerf.ops import eval_sh
from dietnerf.ops.spherical_harmonics import sh_basis


def by_3dgs(sh: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """With the constants and in the order of 3DGS' files, (n, 16, 3) to (n, 3)."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    factors = [
        0.28209479177387814 * torch.ones_like(x),
        *(-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x),
        *(1.0925484305920792 * x * y, -1.0925484305920792 * y * z),
        0.31539156525252005 * (2 * zz - xx - yy),
        *(-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)),
        *(-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z),
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        *(1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy)),
    ]
    return sum(f[:, None] * sh[:, k] for k, f in enumerate(factors)) + 0.5


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_has_the_convention_of_3dgs(degree: int) -> None:
    sh = torch.randn(50, 16, 3, dtype=torch.float64)
    directions = torch.randn(50, 3, dtype=torch.float64)
    shown = sh.clone()
    shown[:, (degree + 1) ** 2 :] = 0
    expected = by_3dgs(shown, torch.nn.functional.normalize(directions, dim=-1)).clamp(min=0)
    assert (expected == 0).any()
    torch.testing.assert_close(eval_sh(degree, sh, directions), expected)


def test_the_basis_is_orthonormal() -> None:
    directions = torch.nn.functional.normalize(torch.randn(400_000, 3), dim=-1)
    basis = sh_basis(3, directions)
    products = 4 * torch.pi * basis.T @ basis / len(basis)
    torch.testing.assert_close(products, torch.eye(16), rtol=0, atol=0.03)


def test_gradients() -> None:
    sh = torch.randn(6, 16, 3, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *args: eval_sh(3, *args), (sh, directions))


@pytest.mark.parametrize(
    ("degree", "sh", "directions", "message"),
    [
        (4, (5, 25, 3), (5, 3), "degree must be from 0 to 3, got 4"),
        (2, (5, 8, 3), (5, 3), "sh must be (n, 9 or more, 3) for degree 2, got (5, 8, 3)"),
        (1, (5, 4, 3), (4, 3), "directions must be (n, 3) with n = 5, got (4, 3)"),
    ],
)
def test_says_what_is_wrong(
    degree: int, sh: tuple[int, ...], directions: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape('eval_sh: ' + message)}$"):
        eval_sh(degree, torch.rand(sh), torch.rand(directions))
