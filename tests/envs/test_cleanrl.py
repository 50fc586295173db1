"""A PPO in one file, in the style of CleanRL, trains on the flat views: one box of numbers to see, one whole number to do."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical

STEPS, ENVS = 32, 16


class Agent(nn.Module):
    """As such programs have it: sizes from the spaces' shapes."""

    def __init__(self, envs):
        super().__init__()
        seen = int(np.array(envs.single_observation_space.shape).prod())
        self.critic = nn.Sequential(nn.Linear(seen, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(seen, 64), nn.Tanh(), nn.Linear(64, int(envs.single_action_space.n)))

    def forward(self, seen, action=None):
        policy = Categorical(logits=self.actor(seen))
        action = policy.sample() if action is None else action
        return action, policy.log_prob(action), policy.entropy(), self.critic(seen)[..., 0]


def ppo(envs, updates):
    """Mean reward of a step, update by update."""
    torch.manual_seed(0)
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=5e-3, eps=1e-5)
    seen, rewards_of = torch.as_tensor(envs.reset(seed=0)[0]).float(), []
    for _ in range(updates):
        kept, done = [], torch.zeros(ENVS)
        for _ in range(STEPS):
            with torch.no_grad():
                action, log_prob, _, value = agent(seen)
            after, reward, terminated, truncated, _ = envs.step(action.numpy())
            done = torch.as_tensor(terminated | truncated).float()
            kept.append((seen, action, log_prob, value, torch.as_tensor(reward).float(), done))
            seen = torch.as_tensor(after).float()
        saw, acted, before, value, reward, done = (torch.stack(x) for x in zip(*kept))
        with torch.no_grad():
            following, advantage, last = agent(seen)[3], torch.zeros_like(reward), torch.zeros(ENVS)
            for t in reversed(range(STEPS)):
                delta = reward[t] + 0.95 * following * (1 - done[t]) - value[t]
                advantage[t] = last = delta + 0.95 * 0.95 * (1 - done[t]) * last
                following = value[t]
        returns = advantage + value
        for _ in range(4):
            _, log_prob, entropy, now = agent(saw, acted)
            ratio = (log_prob - before).exp()
            scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy = -torch.minimum(ratio * scaled, ratio.clamp(0.8, 1.2) * scaled).mean()
            loss = policy - 0.01 * entropy.mean() + 0.5 * (now - returns).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
        rewards_of.append(reward.mean().item())
    return rewards_of


@pytest.mark.slow
def test_it_learns_to_copy():
    envs = gym.make_vec("envs:hardattn/CopyDiscrete-v0", ENVS, "vector_entry_point", autoreset_mode="NextStep")
    envs = gym.wrappers.vector.FlattenObservation(envs)
    rewards = ppo(envs, 60)
    # A random player is paid less than nothing; one that copies is paid 1 at every step.
    assert np.mean(rewards[:2]) < 0 and np.mean(rewards[-5:]) > 0.8


def test_it_trains_on_single_environments():
    def make():
        return gym.wrappers.FlattenObservation(gym.make("envs:hardattn/CopyDiscrete-v0"))

    envs = gym.vector.SyncVectorEnv([make] * ENVS, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    assert np.isfinite(ppo(envs, 2)).all()


@pytest.mark.parametrize("name", ["Catch", "Reverse"])
def test_the_flat_views_have_shapes(name):
    env = gym.wrappers.FlattenObservation(gym.make(f"envs:hardattn/{name}Discrete-v0"))
    seen, _ = env.reset(seed=0)
    assert isinstance(env.observation_space, gym.spaces.Box) and seen.shape == env.observation_space.shape
    assert isinstance(env.action_space, gym.spaces.Discrete)
    env.step(env.action_space.sample())
