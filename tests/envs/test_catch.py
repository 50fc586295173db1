import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.catch import LEFT, RIGHT, STAY, Catch, CatchConfig, CatchEnv, CatchVectorEnv, State
from hardattn.noise import integers, keys, uniform
from tests.envs.side_by_side import equals_singles

IDS = [f"hardattn/Catch{name}-v0" for name in ("", "MultiDiscrete", "Discrete", "Full")]


def state(ball=(3, 0), drift=0, paddle=4, gaze=(0.0, 0.0)) -> State:
    return State(torch.tensor([ball]), torch.tensor([drift]), torch.tensor([paddle]), torch.tensor([gaze]))


def step(core: Catch, at: State, move: int = STAY, gaze=(0.0, 0.0)):
    return core.step(at, torch.tensor([gaze]), torch.tensor([move]))


def play(core: Catch, at: State, policy) -> torch.Tensor:
    """Returns of whole episodes; the policy maps a state to moves of the paddle."""
    total = torch.zeros(len(at.paddle))
    for frame in range(core.config.height - 1):
        at, reward, terminated, truncated = core.step(at, at.gaze, policy(at))
        total += reward
        assert (terminated == (frame == core.config.height - 2)).all() and not truncated.any()
    return total


def landing(core: Catch, at: State) -> torch.Tensor:
    """Where the ball will come down: unfolded at the walls, its path is a straight line."""
    wall = core.config.width - 1
    x = (at.ball[:, 0] + at.drift * (core.config.height - 1 - at.ball[:, 1])) % (2 * wall)
    return torch.where(x > wall, 2 * wall - x, x)


def test_the_defaults_are_the_published_game():
    config = CatchConfig()
    assert (config.height, config.width, config.paddle) == (24, 24, 2)
    assert config.eye == (6, 3, 2, (9.0, 9.0), "max")


def test_a_ball_worked_by_hand():
    """It bounces off the right wall, and comes down on the paddle that went there."""
    core = Catch(CatchConfig(height=5, width=4, side=2, scales=1))
    at, places, rewards = state(ball=(2, 0), drift=1, paddle=0), [], []
    for _ in range(4):
        at, reward, terminated, _ = step(core, at, RIGHT)
        places.append((*at.ball[0].tolist(), int(at.paddle)))
        rewards.append(float(reward))
    assert places == [(3, 1, 1), (2, 2, 2), (1, 3, 2), (0, 4, 2)] and rewards == [0, 0, 0, 0] and terminated.all()
    at = state(ball=(1, 3), drift=-1, paddle=2)
    assert float(step(core, at, LEFT)[1]) == 0 and float(step(core, at._replace(paddle=torch.tensor([1])), LEFT)[1]) == 1


def test_after_the_end_nothing_moves_and_nothing_is_paid():
    core = Catch(CatchConfig())
    at, reward, terminated, _ = step(core, state(ball=(4, 22), paddle=4))
    assert float(reward) == 1 and terminated.all()
    again, reward, terminated, _ = step(core, at, LEFT, (1.0, 1.0))
    assert float(reward) == 0 and terminated.all() and all(torch.equal(x, y) for x, y in zip(again, at))


def test_the_screen():
    core = Catch(CatchConfig(height=3, width=4, side=2, scales=1))
    assert core.screen(state(ball=(2, 1), paddle=0)).tolist() == [[[[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0]]]]


@given(st.integers(0, 2**40), st.integers(0, 3), st.integers(4, 26), st.integers(4, 26))
@settings(deadline=None, max_examples=30)
def test_whoever_knows_all_catches_all(seed, drift, height, width):
    """Whenever the ball falls long enough for the paddle to cross the screen."""
    core = Catch(CatchConfig(height=max(height, width), width=width, drift=min(drift, width - 1)))
    at = core.reset(keys(seed, "test", torch.arange(64)))
    assert (at.ball[:, 0] >= 0).all() and (at.ball[:, 0] < width).all() and (at.drift.abs() <= drift).all()
    assert (at.gaze.abs() < 1).all() and (at.paddle >= 0).all() and (at.paddle <= width - 2).all()
    caught = play(core, at, lambda s: 1 + (landing(core, s) - s.paddle).clamp(-1, 1))
    assert caught.tolist() == [1.0] * 64


def test_a_random_or_idle_paddle_rarely_does():
    core = Catch(CatchConfig())
    key = keys(0, "test", torch.arange(4000))
    at = core.reset(key)
    for policy in (lambda s: torch.ones_like(s.paddle), lambda s: integers(key + s.ball[:, 1], 1, 3)[:, 0]):
        assert 0.05 < float(play(core, at, policy).mean()) < 0.13  # 2 of 24 columns


def test_everything_is_drawn():
    at = Catch(CatchConfig()).reset(keys(0, "test", torch.arange(3000)))
    assert at.ball[:, 0].unique().tolist() == list(range(24)) and not at.ball[:, 1].any()
    assert at.drift.unique().tolist() == [-1, 0, 1] and at.paddle.unique().tolist() == list(range(23))


def test_the_retina_keeps_a_single_pixel_bright_unless_told_to_average():
    at = state(ball=(11, 11))
    for pool, widest in (("max", 1.0), ("mean", 1 / 16)):
        glimpse = Catch(CatchConfig(pool=pool)).observe(at).glimpse
        assert glimpse.shape == (1, 3, 6, 6)
        assert glimpse[0, :, :2].amax((1, 2)).tolist() == pytest.approx([0, 0, 0])
        assert glimpse[0, 2, 2, 2] == widest and glimpse[0, 0, 2, 2] == 1
        assert glimpse[0, 2, 5].amax() == (1 if pool == "max" else 1 / 8)  # the paddle, at the widest scale only
        assert not glimpse[0, :2, 5].any()


@given(st.integers(0, 2**40))
@settings(deadline=None, max_examples=20)
def test_a_glimpse_of_one_scale_is_a_part_of_the_screen(seed):
    core = Catch(CatchConfig(scales=1))
    at = core.reset(keys(seed, "test", torch.arange(1)))
    at, *_ = step(core, at, gaze=tuple(uniform(keys(seed, "gaze", torch.tensor(0)), 2).tolist()))
    left, top = (torch.floor(at.gaze[0] * 9 + 9 + 0.5)).int().tolist()
    assert torch.equal(core.observe(at).glimpse[0], core.screen(at)[0, :, top : top + 6, left : left + 6])


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_finds_no_fault(name):
    check_env(gym.make(f"envs:{name}").unwrapped)


def test_spaces():
    env = gym.make(IDS[0])
    assert env.observation_space["glimpse"] == gym.spaces.Box(0, 1, (3, 6, 6), np.float32)
    assert env.action_space["paddle"] == gym.spaces.Discrete(3)
    assert gym.make(IDS[1]).action_space == gym.spaces.MultiDiscrete([16, 3])
    assert gym.make(IDS[2], grid=3).action_space == gym.spaces.Discrete(27)
    assert gym.make(IDS[3]).action_space == gym.spaces.Discrete(3)
    assert gym.make(IDS[3]).observation_space["glimpse"].shape == (1, 24, 24)


def test_every_view_means_the_same():
    """Cell 2 of a grid of 3 x 3 is the right upper corner."""
    structured = CatchEnv(view="dict")
    structured.reset(seed=0)
    expected = structured.step({"gaze": np.array([1, -1], np.float32), "paddle": RIGHT})
    for view, action in (("multidiscrete", np.array([2, RIGHT])), ("discrete", 3 * 2 + RIGHT)):
        env = CatchEnv(view=view, grid=3)
        env.reset(seed=0)
        assert data_equivalence(env.step(action), expected, exact=True)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("name", IDS)
def test_it_equals_single_environments_bit_for_bit(name, mode):
    equals_singles(name, mode, CatchVectorEnv, seed=[3, 4, 3], rounds=14, again=6, config={"height": 5})


@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_can_be_pickled_and_what_it_returns_can_be_spoilt(mode):
    env = gym.make_vec(f"envs:{IDS[1]}", 3, autoreset_mode=mode)
    observation, infos = env.reset(seed=0)
    copy = pickle.loads(pickle.dumps(env))
    for array in (*observation.values(), *infos.values()):
        array[...] = 0
    for _ in range(4):
        actions = np.array([[3, 0], [2, 1], [1, 2]])
        ours, theirs = copy.step(actions), env.step(actions)
        assert data_equivalence(ours, theirs, exact=True)
        for array in (*theirs[0].values(), theirs[4]["ball"]):
            array[...] = 0


def test_seeds_and_instances():
    env = CatchEnv()
    first, later = env.reset(seed=5), env.reset()
    assert first[1]["instance"] != later[1]["instance"]
    assert data_equivalence(env.reset(seed=5), first, exact=True) and data_equivalence(env.reset(), later, exact=True)
    assert data_equivalence(env.reset(options={"instance": first[1]["instance"]}), first, exact=True)
    vector = CatchVectorEnv(3, return_torch=True)
    _, infos = vector.reset(seed=[4, 5, 6])
    assert infos["instance"][1] == first[1]["instance"] and vector.np_random_seed == (4, 5, 6) and len(vector.np_random) == 3
    assert infos["instance"].unique().numel() == 3


def test_return_torch_holds_the_same_numbers():
    arrays, tensors = (CatchVectorEnv(2, view="discrete", return_torch=x) for x in (False, True))
    ours, theirs = arrays.reset(seed=0)[0], tensors.reset(seed=0)[0]
    assert all(torch.equal(torch.from_numpy(ours[name]), theirs[name]) for name in ours)
    _, reward, terminated, _, _ = tensors.step(torch.tensor([1, 2]))
    assert reward.dtype == torch.float32 and terminated.dtype == torch.bool


def test_its_specification_survives_json():
    env = gym.make(IDS[1], config={"height": 12}, paddle=3)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.game.core.config == CatchConfig(height=12, paddle=3)


def test_pictures_have_one_size_and_show_the_eye():
    env = gym.make(IDS[0], render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.step({"gaze": np.array([0.9, 0.9], np.float32), "paddle": STAY})
    second = env.render()
    assert first.dtype == np.uint8 and first.shape == second.shape and first.shape[2] == 3
    assert first.shape[0] % 2 == 0 and first.shape[1] % 2 == 0
    assert (second == (255, 204, 64)).all(-1).sum() > 200  # the finest window's frame
    assert not np.array_equal(first, second)
    vector = CatchVectorEnv(2, render_mode="rgb_array")
    vector.reset(seed=0)
    assert np.array_equal(vector.render()[0], first)
    blind = CatchEnv()
    blind.reset()
    with pytest.warns(UserWarning, match="draws nothing"):
        assert blind.render() is None


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"view": "box"}, "view must be one of dict, multidiscrete, discrete, paddle, found 'box'"),
        ({"grid": 0}, "grid=0"),
        ({"config": {"hight": 3}}, "fields of CatchConfig: .*hight"),
        ({"paddle": 25}, "paddle=25 and width=24"),
        ({"drift": 24}, "drift=24"),
        ({"height": 1}, "height must be at least 2"),
        ({"reach": 0.0}, "reach must be above 0"),
        ({"render_mode": "ansi"}, "render_mode must be None or one of \"rgb_array\", found 'ansi'"),
    ],
)
def test_a_wrong_argument_is_named(kwargs, found):
    with pytest.raises(ValueError, match=found):
        CatchEnv(**kwargs)


def test_what_comes_at_the_wrong_time_or_does_not_fit_is_refused():
    act = {"gaze": np.zeros(2, np.float32), "paddle": STAY}
    env = CatchEnv(config={"height": 2})
    with pytest.raises(gym.error.ResetNeeded):
        env.step(act)
    env.reset(seed=0)
    for wrong, found in (
        (3, "found a int"),
        ({"gaze": act["gaze"]}, "the keys"),
        ({**act, "paddle": 3}, "paddle outside 0 to 2: 3"),
    ):
        with pytest.raises(ValueError, match=found):
            env.step(wrong)
    env.step(act)
    with pytest.raises(ValueError, match="has ended"):
        env.step(act)
    with pytest.raises(ValueError, match="instance outside"):
        env.reset(options={"instance": -1})
    vector = CatchVectorEnv(2, {"height": 2}, view="paddle", autoreset_mode="Disabled")
    for use in (lambda: vector.step(np.array([1, 1])), vector.render):
        with pytest.raises(gym.error.ResetNeeded):
            use()
    with pytest.raises(gym.error.ResetNeeded):
        vector.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="one seed for each of 2 environments, found 1"):
        vector.reset(seed=[1])
    vector.reset(seed=0)
    for mask in ([True, False], np.zeros(2, bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match=r"boolean array of shape \(2,\)"):
            vector.reset(options={"reset_mask": mask})
    vector.step(np.array([1, 1]))
    with pytest.raises(ValueError, match="2 episodes, the first in environment 0"):
        vector.step(np.array([1, 1]))
    with pytest.raises(ValueError, match="num_envs=0"):
        CatchVectorEnv(0)


@pytest.mark.filterwarnings("ignore:.*image:UserWarning")
@pytest.mark.parametrize("name", IDS[1:])
def test_stable_baselines3_trains(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports may use deprecated names
        sb3 = pytest.importorskip("stable_baselines3")
        from stable_baselines3.common.env_checker import check_env as check
        from stable_baselines3.common.env_util import make_vec_env
    check(gym.make(f"envs:{name}").unwrapped)
    env = make_vec_env(f"envs:{name}", n_envs=2, seed=0)
    agent = sb3.PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(64)
    assert {episode["l"] for episode in agent.ep_info_buffer} == {23}
