"""A library that is not ours trains on the environments as they are."""

import re
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it imports may use deprecated names
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env
    from stable_baselines3.common.vec_env import DummyVecEnv

VIEWS = ["Box", "MultiDiscrete", "Discrete"]


# Glimpses have the shape of images and are to be treated as numbers.
@pytest.mark.filterwarnings("ignore:.*image:UserWarning")
@pytest.mark.parametrize("view", VIEWS)
def test_its_checker_finds_no_fault(view):
    check_env(gym.make(f"envs:hardattn/Glimpse{view}-v0").unwrapped)


@pytest.mark.parametrize("view", VIEWS)
def test_ppo_trains(view):
    env = DummyVecEnv([lambda: gym.make(f"envs:hardattn/Glimpse{view}-v0")] * 2)
    agent = stable_baselines3.PPO("MultiInputPolicy", env, n_steps=64, batch_size=64, n_epochs=2, seed=0, device="cpu")
    before = [p.clone() for p in agent.policy.parameters()]
    agent.learn(256)
    assert any((p != q).any() for p, q in zip(agent.policy.parameters(), before))
    if view == "MultiDiscrete":
        assert {episode["l"] for episode in agent.ep_info_buffer or []} <= {6}
    observation = env.reset()
    action, _ = agent.predict(observation, deterministic=True)
    observation, reward, _, infos = env.step(action)
    assert observation["glimpse"].shape == (2, 2, 8, 8) and np.isfinite(reward).all()
    assert all(0 <= info["target"] < 10 for info in infos)


def test_the_documented_example_runs():
    text = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "stable_baselines3" in block)
    exec(block.replace("200_000", "768").replace("answered < 400", "answered < 8"), {})
