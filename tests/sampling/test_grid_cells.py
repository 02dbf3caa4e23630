"""Cells of a grid: bits are packed in order, and a fixed number of the occupied ones is drawn."""

import pytest
import torch

from dietnerf.sampling.grid_cells import OCCUPIED_INTERVAL, fixed_number_of, pack_bits


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 1.0])
def test_occupied_cells_are_drawn_without_waiting_for_their_number(share: float, device: str):
    is_occupied = (torch.rand(32**3) < share).to(device)
    n_places, n_occupied = 32**3 // 32, int(is_occupied.sum())
    every = max(OCCUPIED_INTERVAL, -(-n_occupied // n_places))
    places = is_occupied.nonzero().squeeze(1)
    for first in (0.0, 0.3, 0.999):
        of = torch.tensor([7], device=device), torch.tensor([first], device=device)
        found = fixed_number_of(is_occupied, *of)
        expected = places[int(first * every) :: every]
        assert len(found) == n_places
        assert torch.equal(found[: len(expected)], expected)
        assert (found[len(expected) :] == 7).all()


def test_bits_are_packed_from_the_lowest():
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 0] = mask[0, 9] = mask[1, 7] = True
    assert pack_bits(mask).tolist() == [[1, 2], [128, 0]]
