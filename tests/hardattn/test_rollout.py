"""Episodes of unequal length, played together."""

from typing import NamedTuple

import torch

from hardattn.contract import Played
from hardattn.rollout import play


class Countdown(NamedTuple):
    """Episode i ends by itself after `lengths[i]` moves and pays what was done; the number of the move is seen."""

    key: torch.Tensor
    lengths: torch.Tensor
    limit: int = 5
    patience: int = 9

    def reset(self):
        return torch.zeros(len(self.key))

    def observe(self, state):
        return state[:, None]

    def step(self, state, action):
        state = state + 1
        return state, action[:, 0], state >= self.lengths, state >= self.patience


def of(lengths, **more):
    return Countdown(torch.arange(len(lengths)), torch.tensor(lengths), **more)


def test_episodes_end_one_by_one_and_pay_nothing_after():
    game = of([1, 3, 2])
    assert isinstance(game, Played)
    episodes = play(game, lambda i, seen: torch.full((3, 1), float(i + 1)))
    assert episodes.reward.T.tolist() == [[1, 0, 0], [1, 2, 3], [1, 2, 0]]
    assert episodes.terminated.T.int().tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert episodes.over.T.int().tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]
    assert episodes.alive.T.int().tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert episodes.seen[:, 1, 0].tolist() == [0, 1, 2, 3]


def test_the_limit_is_a_truncation_and_so_is_the_games_own():
    for game in (of([9, 2], limit=3), of([9, 2], patience=3)):
        episodes = play(game, lambda i, seen: torch.ones(2, 1))
        assert len(episodes.reward) == 3
        assert episodes.over[-1].all() and episodes.terminated.any(0).tolist() == [False, True]
