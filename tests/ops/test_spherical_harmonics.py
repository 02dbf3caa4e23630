"""Spherical harmonics: orthonormality. Their signs are in test_eval_sh.py."""

import torch

from dietnerf.ops.spherical_harmonics import sh_basis


def test_the_basis_is_orthonormal() -> None:
    directions = torch.nn.functional.normalize(torch.randn(400_000, 3), dim=-1)
    basis = sh_basis(3, directions)
    products = 4 * torch.pi * basis.T @ basis / len(basis)
    torch.testing.assert_close(products, torch.eye(16), rtol=0, atol=0.03)
