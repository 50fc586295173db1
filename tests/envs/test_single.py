import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence

from envs.digits import Digits, DigitsConfig
from envs.single import GlimpseEnv
from hardattn.contract import Batch
from hardattn.glimpse import summed_area_table, window_corners

IDS = [f"hardattn/Glimpse{name}-v0" for name in ("", "Box", "MultiDiscrete", "Discrete")]
NOTHING = 10


def act(x: float = 0.0, y: float = 0.0, label: int = NOTHING) -> dict:
    return {"gaze": np.array([x, y], np.float32), "label": label}


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_finds_no_fault(name):
    """Warnings are errors in all tests: the checker's complaints, too."""
    check_env(gym.make(f"envs:{name}").unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_a_whole_episode_passes_the_passive_checker(name):
    env = gym.make(name, max_episode_steps=50)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(12):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.close()
    env.close()


def test_spaces():
    env = gym.make(IDS[0], task={"scales": 3, "side": 6})
    assert env.observation_space["glimpse"] == gym.spaces.Box(0, 1, (3, 6, 6), np.float32)
    assert env.observation_space["gaze"] == gym.spaces.Box(-1, 1, (2,), np.float32)
    assert env.observation_space["t"] == gym.spaces.Box(0, 1, (1,), np.float32)
    assert env.action_space == gym.spaces.Dict(
        {"gaze": gym.spaces.Box(-1, 1, (2,), np.float32), "label": gym.spaces.Discrete(11)}
    )
    assert gym.make(IDS[1]).action_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    assert gym.make(IDS[2], grid=4).action_space == gym.spaces.MultiDiscrete([16, 11])
    assert gym.make(IDS[3], grid=4).action_space == gym.spaces.Discrete(26)


@pytest.mark.parametrize("right", [True, False])
def test_t_glimpses_are_t_minus_1_moves_and_then_an_answer(right):
    env = GlimpseEnv({"glimpses": 4})
    observation, info = env.reset(seed=0)
    assert set(observation) == {"glimpse", "gaze", "t"}  # and not the target
    for glimpse in range(1, 4):
        assert observation["t"] == np.float32(glimpse / 4)
        # The label is the right one, but answers are read after the last glimpse only.
        observation, reward, terminated, truncated, info = env.step(act(glimpse / 10, label=info["target"]))
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert observation["gaze"].tolist() == [np.float32(glimpse / 10), 0]
    last = observation
    label = info["target"] if right else (info["target"] + 1) % 10
    observation, reward, terminated, truncated, info = env.step(act(-1, -1, label))
    assert (reward, terminated, truncated) == (float(right), True, False)
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool and type(info["target"]) is int
    assert data_equivalence(observation, last, exact=True)  # the move after the last glimpse does not exist
    with pytest.raises(ValueError, match=r"has ended .* Dict\(.*found \{'gaze'"):
        env.step(act())


def test_no_answer_after_the_last_glimpse_truncates():
    env = GlimpseEnv({"glimpses": 2})
    env.reset(seed=0)
    assert env.step(act())[1:4] == (0.0, False, False)
    assert env.step(act())[1:4] == (0.0, False, True)


def test_an_early_answer_ends_the_episode_and_saves_the_cost_of_moves():
    env = GlimpseEnv(early_answer=True, glimpse_cost=0.25)
    _, info = env.reset(seed=0)
    assert env.step(act())[1:4] == (-0.25, False, False)
    assert env.step(act(label=info["target"]))[1:4] == (1.0, True, False)


def test_the_gaze_only_view_pays_nothing_and_is_truncated_after_the_last_glimpse():
    env = gym.make(IDS[1])
    env.reset(seed=0)
    outcomes = [env.step(np.zeros(2, np.float32))[1:4] for _ in range(6)]
    assert outcomes == [(0.0, False, False)] * 5 + [(0.0, False, True)]


def test_look_or_answer():
    env = gym.make(IDS[3], grid=3)
    _, info = env.reset(seed=0)
    observation, *outcome, _ = env.step(2)
    assert observation["gaze"].tolist() == [1, -1] and outcome == [0.0, False, False]
    assert env.step(9 + info["target"])[1:4] == (1.0, True, False)


def test_relative_moves_add_up_and_are_limited():
    env = GlimpseEnv(gaze_mode="relative", max_move=0.25)
    before = env.reset(seed=1)[0]["gaze"]
    after = env.step(act(0.0, -0.5 * np.sign(before[1])))[0]["gaze"]
    assert np.allclose(after - before, [0, -0.125 * np.sign(before[1])], atol=1e-6)
    further = env.step(act(-3 * np.sign(after[0]), -4 * np.sign(after[1])))[0]["gaze"]
    assert np.allclose(np.abs(further - after), [0.15, 0.2], atol=1e-6)


def test_it_shows_what_the_core_shows():
    """Value for value, from the number of the scene alone."""
    task = Digits(DigitsConfig(pieces=2, scales=3))
    env = GlimpseEnv(task, split="validation")
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        batch = task.scenes("validation", torch.tensor([info["scene"]]))
        assert info["target"] == batch.target
        assert np.array_equal(observation["gaze"], batch.question.gaze[0])
        assert np.array_equal(observation["glimpse"], batch.question.look(batch.question.gaze)[0])
        observation, *_ = env.step(act(0.3, -0.9))
        assert np.array_equal(observation["glimpse"], batch.question.look(torch.tensor([[0.3, -0.9]]))[0])


class Repainted:
    """The small task with some pixels of its images replaced."""

    def __init__(self, pixels: torch.Tensor, paint: torch.Tensor) -> None:
        self.task = Digits(DigitsConfig())
        self.spec = self.task.spec
        self.pixels, self.paint = pixels, paint

    def size(self, split: str) -> int:
        return self.task.size(split)

    def scenes(self, split: str, index: torch.Tensor, seed: int = 0) -> Batch:
        question, target, _ = self.task.scenes(split, index, seed)
        image = torch.where(self.pixels, self.paint, question.image)
        return Batch(question._replace(image=image, table=summed_area_table(image, block=question.eye.coarsest)), target)


def test_pixels_never_looked_at_change_nothing():
    moves = [act(-0.9, 0.8), act(-0.5, 0.9), act(-0.9, -0.9), act(1.0, -0.7), act(0.2, -1.0), act(label=3)]

    def episode(task):
        env = GlimpseEnv(task)
        return [env.reset(seed=5), *(env.step(move) for move in moves)]

    plain = Digits(DigitsConfig())
    eye = plain.config.eye
    seen = torch.zeros(40, 40, dtype=torch.bool)
    shown = episode(plain)
    for observation, *_ in shown:
        widths = tuple(eye.side * 2**i for i in range(eye.scales))
        corners = window_corners(torch.from_numpy(observation["gaze"]), size=(40, 40), reach=eye.reach, widths=widths)
        for (left, top), width in zip(corners.tolist(), widths):
            seen[max(top, 0) : top + width, max(left, 0) : left + width] = True
    assert 200 < seen.sum() < 1400  # some of both kinds
    noise = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    assert data_equivalence(episode(Repainted(~seen, noise)), shown, exact=True)
    # The comparison is able to fail: one pixel that was seen.
    y, x = seen.nonzero()[0].tolist()
    one = torch.zeros_like(seen)
    one[y, x] = True
    assert not data_equivalence(episode(Repainted(one, 1 - noise)), shown, exact=True)


def test_the_same_seed_gives_the_same_episodes_and_no_seed_goes_on():
    env = GlimpseEnv()
    first, later = env.reset(seed=11), [env.reset() for _ in range(3)]
    assert len({info["scene"] for _, info in (first, *later)}) == 4
    assert data_equivalence(env.reset(seed=11), first, exact=True)
    assert data_equivalence([env.reset() for _ in range(3)], later, exact=True)
    assert env.reset(seed=12)[1] != first[1]


def test_a_scene_can_be_asked_for():
    env = GlimpseEnv(split="test")
    assert env.reset(options={"scene": 17})[1]["scene"] == 17
    with pytest.raises(ValueError, match=r'split "test", found scene outside 0 to 3599: 3600'):
        env.reset(options={"scene": 3600})


def test_what_was_returned_can_be_changed_without_consequences():
    one, two = GlimpseEnv(gaze_mode="relative"), GlimpseEnv(gaze_mode="relative")
    (spoilt, _), _ = one.reset(seed=0), two.reset(seed=0)
    for values in spoilt.values():
        values[:] = 0.5
    assert data_equivalence(one.step(act(0.1, 0.1)), two.step(act(0.1, 0.1)), exact=True)


def test_it_can_be_pickled_in_the_middle_of_an_episode():
    env = gym.make(IDS[0], render_mode="rgb_array")
    env.reset(seed=0)
    env.step(act(0.5, 0.5))
    copy = pickle.loads(pickle.dumps(env))
    for _ in range(3):
        assert data_equivalence(copy.step(act(0.1, 0.1)), env.step(act(0.1, 0.1)), exact=True)
        assert np.array_equal(copy.render(), env.render())
    assert data_equivalence(copy.reset(), env.reset(), exact=True)


def test_its_specification_survives_json():
    """A configuration may be given as such; JSON turns it into a dictionary, which means the same."""
    env = gym.make(IDS[2], task=DigitsConfig(height=48, scales=1), grid=4)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert json.loads(env.spec.to_json())["kwargs"]["task"]["height"] == 48
    again = gym.make(spec)
    assert again.unwrapped.game.task.config == DigitsConfig(height=48, scales=1)
    assert data_equivalence(again.reset(seed=3), env.reset(seed=3), exact=True)


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"split": "tests"}, '"train", "validation" or "test", found \'tests\''),
        ({"view": "tuple"}, "view must be one of dict, box, multidiscrete, discrete, found 'tuple'"),
        ({"view": "discrete"}, "needs early_answer=True"),
        ({"grid": 0}, "grid=0"),
        ({"task": {"hight": 60}}, "fields of DigitsConfig: .*hight"),
        ({"task": 3}, "found a int"),
        ({"task": {"source": "mnist"}, "data_dir": "nowhere"}, "expected MNIST at nowhere"),
        ({"max_move": 0.0}, "max_move must be above 0"),
        ({"render_mode": "human"}, "render_mode must be None or \"rgb_array\", found 'human'"),
    ],
)
def test_a_wrong_argument_is_named(kwargs, found):
    with pytest.raises(ValueError, match=found):
        GlimpseEnv(**kwargs)


def test_it_must_be_reset_first():
    env = GlimpseEnv()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(act())
