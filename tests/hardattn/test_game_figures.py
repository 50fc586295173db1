"""Pictures of heads on tapes show every step of every episode, and what was wrong."""

import numpy as np
import pytest
import torch

from hardattn.figures.games import _check, film, film_strip, head_paths


def case(b=3, n=7, t=9, rows=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    tape = torch.randint(0, 5, (b, n, rows), generator=g)
    head = torch.stack([torch.arange(t).expand(b, -1), torch.randint(0, rows, (b, t), generator=g)], -1)
    written = torch.randint(-1, 5, (b, t), generator=g)
    return tape, head, written


def count(picture, colour):
    return int((np.abs(picture.astype(int) - colour).max(-1) <= 2).sum())


ORANGE = (201, 80, 10)


@pytest.mark.parametrize(("b", "n", "t", "rows"), [(1, 1, 1, 1), (3, 7, 9, 1), (2, 6, 20, 3), (5, 32, 70, 1)])
def test_it_draws_any_number_of_steps_and_rows(b, n, t, rows):
    picture = head_paths(*case(b, n, t, rows), title="Copy")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 5


def test_wrong_symbols_are_orange():
    tape, head, written = case()
    written[:] = 2
    right = torch.ones(3, 9, dtype=torch.bool)
    assert count(head_paths(tape, head, written, right=right), ORANGE) == 0
    right[1, 4] = False
    assert count(head_paths(tape, head, written, right=right), ORANGE) > 5
    assert count(head_paths(tape, head, written, right=right, steps=torch.tensor([9, 4, 9])), ORANGE) == 0


def test_a_head_that_is_lost_stays_on_the_page():
    tape, head, written = case()
    usual = head_paths(tape, head, written)
    head[0, :, 0] = -1000
    lost = head_paths(tape, head, written)
    assert lost.shape[1] < usual.shape[1] + 3 * 5 * 26 + 5


def test_parts_that_do_not_fit_are_refused():
    tape, head, written = case()
    for parts in ((tape[:2], head, written), (tape, head[:, :0], written[:, :0]), (tape, head, written[:, :4])):
        with pytest.raises(ValueError, match="the same episodes and steps"):
            _check(*parts, None, None)


def frame(value):
    return np.full((4, 6, 3), value, np.uint8)


def test_a_film_lasts_as_long_as_its_longest_episode_and_the_others_stand_still():
    frames = film([[frame(1), frame(2)], [frame(3)], [frame(4), frame(5), frame(6)]], across=2, end=1)
    assert [f.shape for f in frames] == [(8, 12, 3)] * 4
    assert [f[::4, ::6, 0].ravel().tolist() for f in frames] == [[1, 3, 4, 255], [2, 3, 5, 255], [2, 3, 6, 255], [2, 3, 6, 255]]


def test_a_strip_has_a_row_for_every_episode():
    assert film_strip([[frame(0), frame(3)], [frame(9), frame(8)]])[::4, ::6, 0].tolist() == [[0, 3], [9, 8]]
    with pytest.raises(ValueError, match=r"as many frames of every episode, found \[2, 1\]"):
        film_strip([[frame(0), frame(3)], [frame(9)]])


@pytest.mark.parametrize("episodes", [[], [[]], [[frame(0)], []], [[frame(0), frame(0)[:2]]]])
def test_frames_of_several_sizes_or_none_are_refused(episodes):
    with pytest.raises(ValueError, match="at least one frame"):
        film(episodes)
