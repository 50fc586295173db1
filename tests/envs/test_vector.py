import pickle
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.digits import Digits, DigitsConfig
from envs.vector import GlimpseVectorEnv
from hardattn.contract import Answer, Trace

IDS = [f"hardattn/Glimpse{name}-v0" for name in ("", "Box", "MultiDiscrete", "Discrete")]
# Episodes of equal length, which end together, and of different lengths, which do not.
GAMES = {
    "published": {"task": {"glimpses": 4}},
    "stopping": {"early_answer": True, "gaze_mode": "relative", "max_move": 0.37, "glimpse_cost": 0.01, "split": "test"},
    "brightest": {"task": {"glimpses": 3, "pool": "max", "scales": 3, "pieces": 2}, "split": "validation"},
}


def act(count: int, label: int = 10) -> dict:
    return {"gaze": np.zeros((count, 2), np.float32), "label": np.full(count, label)}


# Every game through the structured actions, and every other view in one of the games.
CASES = [*((IDS[0], game) for game in GAMES), *zip(IDS[1:], GAMES)]


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize(("name", "game"), CASES)
def test_it_equals_single_environments_bit_for_bit(name, mode, game):
    count, kwargs = 4, GAMES[game]
    native = gym.make_vec(f"envs:{name}", count, autoreset_mode=mode, **kwargs)
    singles = SyncVectorEnv([lambda: gym.make(name, **kwargs)] * count, autoreset_mode=mode)
    assert isinstance(native, GlimpseVectorEnv)
    assert native.action_space == singles.action_space and native.observation_space == singles.observation_space
    assert native.metadata == singles.metadata
    native.action_space.seed(0)

    def same(ours, theirs):
        assert data_equivalence(ours, theirs, exact=True)
        return ours

    same(native.reset(seed=3), singles.reset(seed=3))
    endings = 0
    for step in range(12):
        actions = native.action_space.sample()
        _, _, terminated, truncated, _ = same(native.step(actions), singles.step(actions))
        done = terminated | truncated
        endings += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            same(native.reset(options={"reset_mask": done}), singles.reset(options={"reset_mask": done}))
        elif step == 8:  # in the middle: some seeds are given, and some not
            seeds = [4, None, 9, None]
            mask = np.array([True, True, False, False])
            same(*(env.reset(seed=seeds, options={"reset_mask": mask.copy(), "scene": 7}) for env in (native, singles)))
    assert endings > count
    same(native.reset(), singles.reset())


def test_many_environments_equal_single_ones():
    """As many as fill the vector registers of a processor, whose last few numbers might be rounded differently."""
    count, kwargs = 67, {"gaze_mode": "relative", "max_move": 0.3}
    native = gym.make_vec(IDS[0], count, autoreset_mode="Disabled", **kwargs)
    alone = gym.make(IDS[0], **kwargs)
    native.action_space.seed(1)
    actions = [native.action_space.sample() for _ in range(6)]
    shown = [native.reset(seed=0)[0], *(native.step(action)[0] for action in actions)]
    for i in (0, 31, 66):
        single = [alone.reset(seed=i)[0]]
        single += [alone.step({"gaze": action["gaze"][i], "label": action["label"][i]})[0] for action in actions]
        assert data_equivalence(single, [{name: x[i] for name, x in step.items()} for step in shown], exact=True)


def test_same_step_keeps_the_last_glimpse():
    env = GlimpseVectorEnv(3, {"glimpses": 2})
    env.reset(seed=0)
    last, *_ = env.step(act(3))
    observation, reward, terminated, truncated, infos = env.step(act(3))
    assert truncated.all() and not terminated.any() and not reward.any()
    assert (observation["t"] == 0.5).all() and infos["_final_obs"].all()
    for i in range(3):
        assert all(np.array_equal(infos["final_obs"][i][name], last[name][i]) for name in last)
    assert (infos["final_info"]["scene"] != infos["scene"]).all()


def test_next_step_ignores_the_action_after_the_end():
    env = GlimpseVectorEnv(2, {"glimpses": 1}, autoreset_mode="NextStep", glimpse_cost=0.5)
    _, infos = env.reset(seed=0)
    _, reward, terminated, _, _ = env.step({**act(2), "label": infos["target"]})
    assert reward.tolist() == [1, 1] and terminated.all()
    observation, reward, terminated, truncated, infos = env.step(act(2, 3))
    assert not (reward.any() or terminated.any() or truncated.any()) and (observation["t"] == 1).all()
    assert env.step({**act(2), "label": infos["target"]})[1].tolist() == [1, 1]


def test_disabled_refuses_to_go_on_until_all_that_ended_are_reset():
    env = GlimpseVectorEnv(3, early_answer=True, autoreset_mode="Disabled")
    env.reset(seed=0)
    actions = act(3)
    actions["label"][1] = 4
    before, _, terminated, _, _ = env.step(actions)
    assert terminated.tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"1 episodes, the first in environment 1, .* in Dict\(.*found \{'gaze'.*reset_mask"):
        env.step(act(3))
    observation, infos = env.reset(options={"reset_mask": terminated})
    assert infos["_target"].tolist() == [False, True, False]
    assert observation["t"].ravel().tolist() == pytest.approx([2 / 6, 1 / 6, 2 / 6])
    for name in before:
        assert np.array_equal(observation[name][[0, 2]], before[name][[0, 2]])
    env.step(act(3))


def test_streams():
    env = GlimpseVectorEnv(4)
    _, first = env.reset(seed=5)
    _, later = env.reset()
    assert len({*first["scene"], *later["scene"]}) == 8
    assert env.reset(seed=5)[1]["scene"].tolist() == first["scene"].tolist()
    assert env.reset()[1]["scene"].tolist() == later["scene"].tolist()
    assert env.reset(seed=[6, 5, 7, 8])[1]["scene"].tolist() == first["scene"][[1, 0, 2, 3]].tolist()
    assert env.np_random_seed == (6, 5, 7, 8) and len(env.np_random) == 4
    assert GlimpseVectorEnv(4).reset()[1]["scene"].tolist() != GlimpseVectorEnv(4).reset()[1]["scene"].tolist()


def test_every_scene_of_a_split_can_be_shown():
    env = GlimpseVectorEnv(50, split="validation")
    size = Digits(DigitsConfig()).size("validation")
    drawn = np.concatenate([env.reset(seed=0 if i == 0 else None)[1]["scene"] for i in range(40)])
    assert drawn.min() < 50 and size - 50 < drawn.max() < size
    _, infos = env.reset(options={"scene": np.arange(50)})
    assert infos["scene"].tolist() == list(range(50))
    with pytest.raises(ValueError, match="scene outside"):
        env.reset(options={"scene": size})


def test_its_reward_is_the_tasks_score():
    task = Digits(DigitsConfig(glimpses=1))
    env = GlimpseVectorEnv(64, task, split="test", autoreset_mode="Disabled")
    env.reset(seed=0, options={"scene": np.arange(0, 640, 10)})
    label = np.random.default_rng(0).integers(10, size=64)
    _, reward, _, _, infos = env.step({**act(64), "label": label})
    batch = task.scenes("test", torch.from_numpy(infos["scene"]))
    output = torch.nn.functional.one_hot(torch.from_numpy(label), 10).float()
    assert reward.sum() > 0 and (reward == 1 - task.score(Answer(output, Trace()), batch)["error"].numpy() / 100).all()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_torch_output_holds_the_same_numbers(mode):
    arrays, tensors = (GlimpseVectorEnv(4, autoreset_mode=mode, early_answer=True, return_torch=x) for x in (False, True))

    def same(ours, theirs):
        assert isinstance(theirs, torch.Tensor)
        assert torch.equal(torch.from_numpy(ours).to(theirs.dtype), theirs)

    def same_dict(ours, theirs):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, dict):
                same_dict(value, theirs[name])
            elif value.dtype == object:
                for one, other in zip(value, theirs[name]):
                    assert (one is None and other is None) or same_dict(one, other) is None
            else:
                same(value, theirs[name])

    (ours, _), (theirs, _) = arrays.reset(seed=0), tensors.reset(seed=0)
    same_dict(ours, theirs)
    actions = act(4)
    actions["label"][:2] = 0
    ours, theirs = arrays.step(actions), tensors.step({name: torch.from_numpy(x) for name, x in actions.items()})
    same_dict(ours[0], theirs[0])
    for one, other in zip(ours[1:4], theirs[1:4]):
        same(one, other)
    same_dict(ours[4], theirs[4])
    assert theirs[1].dtype == torch.float32
    # What comes out may enter a graph of gradients.
    weight = torch.ones(1, requires_grad=True)
    (theirs[0]["glimpse"] * weight).sum().backward()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_can_be_pickled_in_the_middle_of_an_episode(mode):
    env = gym.make_vec(IDS[3], 4, autoreset_mode=mode)
    env.reset(seed=0)
    env.step(np.array([0, 30, 3, 4]))
    copy = pickle.loads(pickle.dumps(env))
    mask = {"reset_mask": np.array([False, True, False, False])}
    assert data_equivalence(copy.reset(options=mask), env.reset(options=mask), exact=True)
    for _ in range(3):
        actions = np.array([3, 3, 3, 3])
        assert data_equivalence(copy.step(actions), env.step(actions), exact=True)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_what_was_returned_can_be_changed_without_consequences(mode):
    one, two = (GlimpseVectorEnv(3, gaze_mode="relative", early_answer=True, autoreset_mode=mode) for _ in range(2))

    def spoil(item):
        if isinstance(item, dict):
            for value in item.values():
                spoil(value)
        elif isinstance(item, np.ndarray) and item.dtype != object:
            item[...] = 0

    for item in one.reset(seed=0):
        spoil(item)
    two.reset(seed=0)
    ending = act(3)
    ending["label"][0] = 1
    for actions in (act(3), ending):
        ours, theirs = one.step(actions), two.step(actions)
        assert data_equivalence(ours, theirs, exact=True)
        for item in ours:
            spoil(item)
    mask = np.array([True, False, False])
    options = {"reset_mask": mask}
    assert data_equivalence(one.reset(options=options), two.reset(options=options), exact=True)
    assert options["reset_mask"] is mask and mask.tolist() == [True, False, False]
    assert data_equivalence(one.step(act(3)), two.step(act(3)), exact=True)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_gymnasiums_statistics_count_every_episode(mode):
    env = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(IDS[0], 3, autoreset_mode=mode, glimpse_cost=0.5))
    env.reset(seed=0)
    lengths, returns = [], []
    for _ in range(20):
        infos = env.step(act(3))[-1]
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
            returns += infos["episode"]["r"][infos["_episode"]].tolist()
    assert len(lengths) >= 6 and set(lengths) == {6} and set(returns) == {-2.5}


@pytest.mark.parametrize(
    "mask", [[True, False, True], np.ones(2, bool), np.zeros(3, bool), np.ones(3, int)], ids=["list", "shape", "none", "dtype"]
)
def test_a_wrong_mask_is_refused(mask):
    env = GlimpseVectorEnv(3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"boolean array of shape \(3,\), not all False, found"):
        env.reset(options={"reset_mask": mask})


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="found num_envs=0"):
        GlimpseVectorEnv(0)
    with pytest.raises(ValueError, match="'Sometimes' is not a valid AutoresetMode"):
        GlimpseVectorEnv(1, autoreset_mode="Sometimes")
    env = GlimpseVectorEnv(3)
    for use in (
        lambda: env.step(act(3)),
        env.render,
        lambda: env.reset(options={"reset_mask": np.array([True, False, False])}),
    ):
        with pytest.raises(gym.error.ResetNeeded):
            use()
    with pytest.raises(ValueError, match="one seed for each of 3 environments, found 2"):
        env.reset(seed=[1, 2])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected 3 actions in Dict\(.*found gaze of shape \(2, 2\) instead of \(3, 2\)"):
        env.step(act(2))


def test_the_documented_examples_run():
    text = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "stable_baselines3" not in block]
    assert len(blocks) == 5
    for block in blocks:
        exec(block, {})
