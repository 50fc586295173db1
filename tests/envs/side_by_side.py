"""Environments beside one another: they must live through the same."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv


def equals_singles(id: str, mode: AutoresetMode, kind: type, *, seed: Any = 3, rounds: int, again: int, **kwargs: Any) -> None:
    """Random actions for three environments, bit for bit the same, through several endings; after `again` rounds two of them are reset in the middle, one
    with a seed."""
    count = 3
    native = gym.make_vec(f"envs:{id}", count, autoreset_mode=mode, **kwargs)
    singles = SyncVectorEnv([lambda: gym.make(id, **kwargs)] * count, autoreset_mode=mode)
    assert isinstance(native, kind) and native.metadata == singles.metadata
    assert native.action_space == singles.action_space and native.observation_space == singles.observation_space
    native.action_space.seed(0)

    def same(ours: Any, theirs: Any) -> Any:
        assert data_equivalence(ours, theirs, exact=True)
        return ours

    same(native.reset(seed=seed), singles.reset(seed=seed))
    endings = 0
    for t in range(rounds):
        actions = native.action_space.sample()
        _, _, terminated, truncated, _ = same(native.step(actions), singles.step(actions))
        endings += (terminated | truncated).sum()
        if mode is AutoresetMode.DISABLED and terminated.any():
            same(native.reset(options={"reset_mask": terminated}), singles.reset(options={"reset_mask": terminated.copy()}))
        elif t == again:
            options = {"reset_mask": np.array([True, True, False]), "instance": 9}
            same(*(env.reset(seed=[4, None, None], options=dict(options)) for env in (native, singles)))
    assert endings >= count
    same(native.reset(), singles.reset())


def goes_on_from_pickles(id: str) -> None:
    """Two environments with one seed live through the same for 60 steps, one of them pickled after every step."""
    one, two = (gym.make(id, render_mode="ansi") for _ in range(2))
    assert data_equivalence(one.reset(seed=7), two.reset(seed=7), exact=True)
    one.action_space.seed(0)
    for _ in range(60):
        action = one.action_space.sample()
        ours = one.step(action)
        assert data_equivalence(ours, two.step(action), exact=True) and one.render() == two.render()
        if ours[2]:
            assert data_equivalence(one.reset(), two.reset(), exact=True)
        two = pickle.loads(pickle.dumps(two))
