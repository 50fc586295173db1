"""RL-NTM's tasks for Gymnasium."""

import math
import re
import warnings
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode

from envs.tapes import MACHINES, ThreeTapesEnv, ThreeTapesVectorEnv
from envs.tapes.three_tape_environments import SURE
from tests.envs.side_by_side import equals_singles, goes_on_from_pickles

IDS = [f"hardattn/RLNTM{name}{view}-v0" for name in MACHINES for view in ("", "MultiDiscrete")]
BACK, STAY, FORWARD = range(3)
SMALL = {"symbols": 5, "longest": 3, "steps": 12, "cells": 5}


@pytest.mark.parametrize("id", IDS)
def test_gymnasium_finds_no_fault(id):
    check_env(gym.make(f"envs:{id}").unwrapped)


def test_spaces():
    spaces = gym.spaces
    flat = gym.make("hardattn/RLNTMCopyMultiDiscrete-v0", depth=4)
    assert flat.action_space == spaces.MultiDiscrete([3, 3, 2, 31, 5])
    assert flat.observation_space["tape"] == spaces.MultiDiscrete([31] * 5) and flat.observation_space["memory"].shape == (5, 4)
    parts = gym.make("hardattn/RLNTMReverse-v0").action_space
    assert parts["scores"].shape == (31,) and parts["keep"].shape == parts["add"].shape == (5, 31)
    assert gym.make("hardattn/RLNTMRepeatCopy-v0").unwrapped.game.config.steps == 44


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_equals_single_environments_bit_for_bit(name, mode):
    """Some are reset in between, so that not all end at the same time."""
    id = f"hardattn/RLNTM{name}{'MultiDiscrete' if mode is AutoresetMode.NEXT_STEP else ''}-v0"
    equals_singles(
        id,
        mode,
        ThreeTapesVectorEnv,
        rounds=25,
        again=4,
        **{**SMALL, "steps": 10, "hurried": mode is not AutoresetMode.DISABLED},
    )


def played(env: gym.Env, choose) -> tuple[list[float], dict]:
    """Rewards, and the last infos, of who is told what may be known."""
    observation, info = env.reset(seed=0)
    rewards, terminated = [], False
    while not terminated:
        observation, reward, terminated, truncated, info = env.step(choose(observation, info))
        assert not truncated
        rewards.append(reward)
    return rewards, info


def test_who_reads_the_tape_copies_it():
    env = ThreeTapesEnv("Copy", view="multidiscrete", **SMALL)
    rewards, info = played(env, lambda seen, info: np.array([FORWARD, STAY, 1, seen["tape"][2], 0]))
    letters = info["letters"]
    assert sum(rewards) == pytest.approx(letters * math.log(SURE), rel=1e-5) and rewards[letters:] == [0.0] * (12 - letters)
    assert info["said"][:letters].tolist() == info["target"][:letters].tolist() and info["wrong"] == 0

    def surely(seen, info):
        scores = np.where(np.arange(6) == seen["tape"][2], 1.0, -1.0).astype(np.float32)
        nothing = np.zeros((5, 6), np.float32)
        return {"tape": FORWARD, "memory": STAY, "output": 1, "scores": scores, "keep": nothing, "add": nothing}

    rewards, info = played(ThreeTapesEnv("Copy", **SMALL), surely)
    assert sum(rewards) == pytest.approx(0, abs=1e-5) and info["wrong"] == 0


def test_what_is_put_into_the_memory_is_read_there():
    """Reverse, with an input head that cannot go back: marks are put down on the way, and read on the way back."""
    env = ThreeTapesEnv("ForwardReverse", view="multidiscrete", complexity=3, **SMALL)

    def choose(seen, info):
        symbol, cell, done = int(seen["tape"][2]), seen["memory"][2], int((info["said"] >= 0).sum())
        if symbol != 5:
            return np.array([FORWARD, FORWARD, 0, 0, symbol])
        last = int(cell.argmax()) if cell.any() else 5
        return np.array([BACK, BACK, int(cell.any() or done == 3), last, 6])

    rewards, info = played(env, choose)
    assert info["said"].tolist() == info["target"].tolist() and sum(rewards) == pytest.approx(4 * math.log(SURE), rel=1e-5)


def test_inputs_grow_with_success():
    """Copying: who reads the tape comes on after a hundred episodes, who says nothing right does not."""
    env = ThreeTapesVectorEnv(2, "Copy", view="multidiscrete", **SMALL)
    observation, infos = env.reset(seed=0)
    levels = []
    for _ in range(230 * 12):
        right, wrong = observation["tape"][0, 2], (observation["tape"][1, 2] + 1) % 6
        observation, _, _, _, infos = env.step(np.array([[FORWARD, STAY, 1, right, 6], [FORWARD, STAY, 1, wrong, 6]]))
        levels.append(infos["level"].tolist())
    assert [levels.index([level, 1]) // 12 for level in (1, 2, 3)] == [0, 99, 199]
    assert {tuple(level) for level in levels} == {(1, 1), (2, 1), (3, 1)}
    _, infos = env.reset(seed=[1, None])
    assert infos["level"].tolist() == [1, 1]


def test_without_a_curriculum_all_complexities_come():
    env = ThreeTapesVectorEnv(300, "Copy", view="multidiscrete", curriculum=False, **SMALL)
    counts = np.bincount(env.reset(seed=0)[1]["length"] - 1, minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 70
    env = ThreeTapesVectorEnv(300, "Copy", view="multidiscrete", **SMALL)  # level 1: mostly 2, sometimes more
    assert np.bincount(env.reset(seed=0)[1]["length"] - 1, minlength=4).argmax() == 2


def test_a_move_that_may_not_be_made_is_not_and_the_output_comes_in_time():
    env = ThreeTapesEnv("ForwardReverse", view="multidiscrete", **SMALL)
    before, info = env.reset(seed=0)
    assert info["allowed_tape"].tolist() == [False, True, True] and info["allowed_output"].tolist() == [True, True]
    after, *_ = env.step(np.array([BACK, STAY, 0, 0, 6]))
    assert data_equivalence(before, after, exact=True)
    rewards, info = played(env, lambda seen, info: np.array([STAY, STAY, 0, 0, 6]))
    letters = info["letters"]
    assert all(rewards[-letters:]) and not any(rewards[:-letters])
    assert (info["said"][:letters] == 0).all() and not info["allowed_output"].any()


def test_in_a_hurry_a_shorter_output_comes_sooner():
    for complexity, deadline in ((1, 8), (4, 20)):
        env = ThreeTapesEnv(
            view="multidiscrete", complexity=complexity, **{**SMALL, "longest": 4, "steps": 20, "hurried": True}
        )
        _, info = env.reset(seed=0)
        rewards, info = played(env, lambda seen, info: np.array([STAY, STAY, 0, 0, 6]))
        assert np.flatnonzero(rewards).tolist() == list(range(deadline - info["letters"], deadline)) and len(rewards) == 20


def test_the_memory_stays_within_its_space():
    env = ThreeTapesEnv(marked=True, **SMALL)
    observation, _ = env.reset(seed=0)
    most = {name: np.full(box.shape, box.high.max(), np.float32) for name, box in env.action_space.items() if box.shape}
    for _ in range(12):
        assert env.observation_space.contains(observation)
        observation, *_ = env.step({"tape": STAY, "memory": STAY, "output": 0, **most})
    assert env.observation_space.contains(observation) and observation["memory"].max() == 13


def test_both_views_mean_the_same():
    flat, parts = (ThreeTapesEnv("Reverse", view=view, **SMALL) for view in ("multidiscrete", "dict"))
    for env in (flat, parts):
        env.reset(seed=1)
    probability = np.full(6, (1 - SURE) / 5)
    probability[2] = SURE
    keep, add = np.ones((5, 6), np.float32), np.zeros((5, 6), np.float32)
    keep[2], add[2, 4] = 0, 1
    scores = (np.log(probability) / 20).astype(np.float32)
    ours = flat.step(np.array([FORWARD, BACK, 1, 2, 4]))
    theirs = parts.step({"tape": FORWARD, "memory": BACK, "output": 1, "scores": scores, "keep": keep, "add": add})
    assert ours[1] == pytest.approx(theirs[1], rel=1e-4) and ours[0]["memory"][3, 4] == 1
    assert data_equivalence((ours[0], ours[2:]), (theirs[0], theirs[2:]), exact=True)


def test_the_same_seed_gives_the_same_rollout_and_pickles_go_on_with_it():
    goes_on_from_pickles("hardattn/RLNTMRepeatCopy-v0")


def test_its_specification_survives_json():
    env = gym.make("hardattn/RLNTMCopyMultiDiscrete-v0", complexity=2, longest=4)
    again = gym.make(EnvSpec.from_json(env.spec.to_json())).unwrapped.game
    assert (again.config.longest, again.complexity, again.view) == (4, 2, "multidiscrete")


def test_pictures():
    env = ThreeTapesEnv("Copy", view="multidiscrete", render_mode="rgb_array", complexity=3, **SMALL)
    env.reset(seed=0)
    pictures = [env.render()]
    for action in ([FORWARD, STAY, 1, 0, 6], [FORWARD, BACK, 1, 0, 6], [BACK, BACK, 0, 0, 6]):
        env.step(np.array(action))
        pictures.append(env.render())
    assert {p.shape for p in pictures} == {pictures[0].shape} and all(not np.array_equal(p, q) for p, q in pairwise(pictures))
    env.render_mode = "ansi"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", env.render()).splitlines()
    word = "".join("ABCDE."[s] for s in env.reset(seed=0)[1]["target"])
    repeated = ThreeTapesEnv("RepeatCopy", view="multidiscrete", render_mode="ansi", complexity=4, **SMALL)
    repeated.reset(seed=0)
    assert re.sub(r"\x1b\[[0-9;]*m", "", repeated.render()).splitlines()[1].startswith("input   x3")
    assert plain == ["step 3 of 12", f"input   {word}", "memory  cell 3 of 5", "output  AA", f"target  {word}"]


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"task": "Sort"}, "task must be one of Copy, .*, found 'Sort'"),
        ({"view": "box"}, "view must be one of dict, multidiscrete, found 'box'"),
        ({"complexity": 99}, "complexity must be a whole number from 1 to 9, found 99"),
        ({"cells": 2}, "a window must fit the memory"),
        ({"tapes": 2}, "expected fields of ThreeTapesConfig: .*'tapes'"),
        ({"render_mode": "human"}, 'render_mode must be None or one of "ansi", "rgb_array"'),
    ],
)
def test_a_wrong_argument_is_named(kwargs, found):
    with pytest.raises(ValueError, match=found):
        ThreeTapesEnv(**kwargs)


@pytest.mark.parametrize(
    ("view", "change", "found"),
    [
        ("multidiscrete", np.array([3, 0, 0, 0, 0]), r"action outside 0 to 2: 3 at \[0\]"),
        ("multidiscrete", np.zeros(5), "dtype float64"),
        ("dict", None, "a NoneType"),
        ("dict", {"output": 2}, "output outside 0 to 1: 2"),
        ("dict", {"scores": np.full(6, np.nan, np.float32)}, "scores that is not finite"),
        ("dict", {"keep": np.zeros((6, 5), np.float32)}, r"keep of shape \(6, 5\) instead of \(5, 6\)"),
        ("dict", {"more": 0}, "the keys .*'more'"),
    ],
)
def test_a_wrong_action_is_named_beside_its_space(view, change, found):
    env = ThreeTapesEnv(view=view, **SMALL)
    env.reset(seed=0)
    action = {**env.action_space.sample(), **change} if isinstance(change, dict) else change
    with pytest.raises(ValueError, match=r"(?s)expected an action in .*, found .*" + found):
        env.step(action)


def test_no_action_after_the_end():
    env = ThreeTapesEnv(view="multidiscrete", **SMALL)
    played(env, lambda seen, info: env.action_space.sample())
    with pytest.raises(ValueError, match="the episode has ended and takes no action in MultiDiscrete"):
        env.step(env.action_space.sample())


def test_stable_baselines3_trains():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports may use deprecated names
        sb3 = pytest.importorskip("stable_baselines3")
        from stable_baselines3.common.env_checker import check_env as check
        from stable_baselines3.common.env_util import make_vec_env

        check(gym.make("envs:hardattn/RLNTMCopyMultiDiscrete-v0").unwrapped)
    env = make_vec_env("envs:hardattn/RLNTMCopyMultiDiscrete-v0", n_envs=2, seed=0)
    agent = sb3.PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(64)
    assert len(agent.ep_info_buffer) > 1
