"""The picture of a memory's use must show the rows that were used, and the bits that are wrong."""

import numpy as np
import pytest
import torch

from hardattn.figures.memory import _check, _used, memory_use


def case(t=9, heads=1, n=16):
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(t, 3, generator=g) < 0.5).float()
    weights, writes = (torch.randn(t, heads, n, generator=g).softmax(-1) for _ in range(2))
    return [torch.rand(t, 4, generator=g), target, 0.9 * target + 0.05, weights, writes]


def orange(picture):
    return int((np.abs(picture.astype(int) - (201, 80, 10)).max(-1) <= 2).sum())


@pytest.mark.parametrize(("t", "heads"), [(1, 1), (9, 1), (60, 2), (260, 1)])
def test_it_draws_any_length_and_number_of_heads(t, heads):
    picture = memory_use(*case(t, heads), title="One sequence")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 5


def test_a_machine_without_a_memory_has_no_panels_for_it():
    with_heads, without = (memory_use(*case(heads=heads, n=n)) for heads, n in ((1, 16), (0, 0)))
    assert without.shape[0] < with_heads.shape[0] and without.shape[1] == with_heads.shape[1]


def test_wrong_bits_are_orange_where_they_count():
    parts = case()
    assert orange(memory_use(*parts)) == 0
    parts[2][4, 1] = 1 - parts[2][4, 1]
    assert orange(memory_use(*parts)) > 20
    assert orange(memory_use(*parts, counts=torch.arange(9) != 4)) == 0


def test_the_rows_shown_are_those_used_around_the_ring():
    most = np.zeros(8)
    assert _used(most).tolist() == list(range(8))
    most[[1, 3]] = 1.0
    assert _used(most).tolist() == [1, 2, 3]
    most[[1, 3]], most[[0, 7, 6]] = 0, 0.5
    assert _used(most).tolist() == [6, 7, 0]
    most[:] = 1
    assert sorted(_used(most)) == list(range(8))
    most[:] = 0
    most[5] = 1
    assert _used(most).tolist() == [5]


@pytest.mark.parametrize("steps", [(9, 8), (0, 0)])
def test_parts_of_different_lengths_are_refused(steps):
    with pytest.raises(ValueError, match="the same number of steps, at least 1"):
        _check({name: torch.zeros(t, 2) for name, t in zip(("input", "output"), steps)})
