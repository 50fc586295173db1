"""Foreign environments as questions: whoever resets them and how, a player meets the same episodes; and the copy of CircleSquare is one."""

import importlib.util
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.player import PlayerConfig
from envs.catch import CatchConfig, CatchVectorEnv
from envs.digits import DigitsConfig
from envs.foreign import (
    CIRCLE_SQUARE,
    SIDE,
    CircleSquareConfig,
    CircleSquareEpisodes,
    ForeignEpisodes,
    ForeignGame,
    Spot,
    actions_in,
    circle_square,
    flat,
    for_ap_gym,
    play_spec,
)
from envs.tapes.environments import TapeVectorEnv
from envs.vector import GlimpseVectorEnv
from hardattn.contract import Answer, Batch, Played, PlaySpec, Trace
from hardattn.learner import Learner, LearnerConfig, Replaying
from hardattn.noise import keys
from hardattn.rollout import play

SPACES = gym.spaces
needs_ap_gym = pytest.mark.skipif(importlib.util.find_spec("ap_gym") is None, reason="ap_gym is not installed")
KEY = keys(0, "foreign", torch.arange(6))


class Count(gym.Env):
    """Counts its steps from a number that the seed decides. Right answers pay; it ends after 2 to 4 steps, or is cut off after 4."""

    observation_space = SPACES.Dict({"count": SPACES.Discrete(20, start=1), "flags": SPACES.Box(0, 1, (2, 2), np.float32)})
    action_space = SPACES.Dict({"gaze": SPACES.Box(0, 10, (2,), np.float32), "pick": SPACES.MultiDiscrete([3, 2])})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.first = 0, int(self.np_random.integers(1, 10))
        self.length = 2 + self.first % 4
        return self._seen(), {}

    def _seen(self):
        return {"count": self.first + self.time, "flags": np.full((2, 2), self.time / 10, np.float32)}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        reward = float(action["pick"][0] == self.first % 3) + float(action["gaze"].sum())
        return self._seen(), reward, self.time >= self.length, self.time >= 4, {}


def game(mode=AutoresetMode.NEXT_STEP):
    return ForeignGame(lambda n: SyncVectorEnv([Count] * n, autoreset_mode=mode), limit=4)


def player(i, seen):
    pick = (seen[:, :20].argmax(1) + 1 - i) % 3
    return torch.stack([torch.full_like(pick, -1), torch.full_like(pick, -1), pick, pick % 2], 1).float()


def test_the_spaces_become_sizes_and_back():
    spec = play_spec(Count.observation_space, Count.action_space)
    assert spec == PlaySpec(24, (3, 2), gaze=True)
    assert play_spec(SPACES.Box(0, 1, (3, 4)), SPACES.Discrete(5)) == PlaySpec(12, (5,))
    space = SPACES.Tuple([SPACES.Discrete(3, start=2), SPACES.Box(np.array([0, -4]), np.array([10, 4]), dtype=np.float32)])
    number, gaze = actions_in(space, np.array([[-1.0, 0.5, 2.0], [7.0, 0.0, 0.0]]))
    assert number.tolist() == [4, 2] and gaze.tolist() == [[0, 2], [10, 0]]
    seen = flat(SPACES.MultiDiscrete([2, 3]), np.array([[1, 0], [0, 2]]))
    assert seen.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (SPACES.Text(3), SPACES.Discrete(2), "observations of boxes"),
        (SPACES.Box(0, 1), SPACES.Box(0, 1, (3,)), "one bounded box of two"),
        (SPACES.Box(0, 1), SPACES.Box(-np.inf, np.inf, (2,)), "one bounded box of two"),
        (SPACES.Box(0, 1), SPACES.Tuple([SPACES.Box(0, 1, (2,))] * 2), "one bounded box of two"),
        (SPACES.Box(0, 1), SPACES.MultiBinary(3), "Discrete, MultiDiscrete"),
    ],
    ids=str,
)
def test_other_spaces_are_refused(observation, action, words):
    with pytest.raises(ValueError, match=words):
        play_spec(observation, action)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=str)
def test_every_way_of_resetting_plays_the_same_episodes(mode):
    question = ForeignEpisodes(game(mode), KEY)
    assert isinstance(question, Played)
    episodes = play(question, player)
    first = episodes.seen[0, :, :20].argmax(1) + 1
    length = (2 + first % 4).clamp(max=4)
    assert torch.equal(episodes.alive.sum(0), length)
    assert torch.equal(episodes.terminated.any(0), first % 4 < 3)
    assert torch.equal(episodes.reward.sum(0), length.float())
    # The view after the last move is the episode's own, whoever has been reset by then.
    last = episodes.seen[length, torch.arange(6)]
    assert torch.equal(last[:, :20].argmax(1) + 1, first + length)
    torch.testing.assert_close(last[:, 20], length / 10)


def test_the_same_key_is_the_same_episode_in_any_company():
    one, other = game(), game()
    seen = ForeignEpisodes(one, KEY).reset().seen
    assert len(set(seen[:, :20].argmax(1).tolist())) > 1
    assert torch.equal(ForeignEpisodes(other, KEY[2:4]).reset().seen, seen[2:4])
    assert torch.equal(ForeignEpisodes(one, KEY).reset().seen, seen)
    one.close()


def test_a_foreign_environment_does_not_go_back():
    question = ForeignEpisodes(game(), KEY)
    state = question.reset()
    question.step(state, player(0, state.seen))
    with pytest.raises(ValueError, match="does not go back"):
        question.step(state, player(0, state.seen))


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("baseline", ["learned", "constant", "batch-mean", "leave-one-out", "self-critical", "none"])
def test_a_player_learns_from_a_foreign_vector_with_every_baseline(mode, baseline):
    """REINFORCE and two epochs of PPO over the same rollout, of environments that are numpy's."""
    torch.manual_seed(0)
    rollouts = 2 if baseline == "leave-one-out" else 1
    theirs = game(mode)
    agent = PlayerConfig(hidden=8, features=8, baseline=baseline, rollouts=rollouts).build(theirs.spec)
    before = [p.clone() for p in agent.parameters()]
    learner = Replaying(Learner(agent, LearnerConfig(learning_rate=1e-2), 4), 2)
    for step in range(2):
        batch = Batch(ForeignEpisodes(theirs, keys(step, "foreign", torch.arange(4))), torch.zeros(4))
        terms = learner.update(batch, step)
    assert all(math.isfinite(float(value)) for value in terms.values())
    assert any(not torch.equal(p, q) for p, q in zip(agent.parameters(), before))


def test_one_environment_that_gives_tensors_is_seen_as_many_are():
    theirs = ForeignGame(lambda n: TapeVectorEnv(n, "Copy", return_torch=True), limit=8)
    episodes = play(ForeignEpisodes(theirs, KEY[:1]), lambda i, seen: torch.zeros(len(seen), 3))
    assert episodes.seen.shape[1:] == (1, 6) and (episodes.seen.sum(-1) == 1).all()


def test_one_seed_for_all_repeats_no_episode():
    theirs = ForeignGame(lambda n: SyncVectorEnv([Count] * n), limit=4, seeds="batch")
    with pytest.raises(ValueError, match="expected rollouts 1"):
        ForeignEpisodes(theirs, KEY[:2].repeat(2)).reset()


def test_our_own_environments_can_be_played_through_gymnasium():
    config = CatchConfig(height=6, width=6, side=4, scales=1)
    question = ForeignEpisodes(ForeignGame(lambda n: CatchVectorEnv(n, config), limit=5), KEY)
    assert question.game.spec == PlaySpec(16 + 3, (3,), gaze=True)
    episodes = play(question, lambda i, seen: torch.cat([torch.zeros(6, 2), torch.ones(6, 1)], 1))
    assert episodes.alive.all() and episodes.terminated[-1].all() and set(episodes.reward.unique().tolist()) <= {0.0, 1.0}


def picture(label, column, row):
    """As ap_gym describes it, pixel by pixel."""
    return [
        [
            1.0
            if (math.hypot(x - column, y - row) if label else max(abs(x - column), abs(y - row))) <= 4
            else 1 - math.hypot(x - column, y - row) / math.hypot(28, 28)
            for x in range(SIDE)
        ]
        for y in range(SIDE)
    ]


@pytest.mark.parametrize("label", [0, 1])
def test_the_copy_shows_the_image(label):
    column, row = 9, 20
    image = torch.tensor(picture(label, column, row))
    corner = torch.cartesian_prod(torch.arange(24), torch.arange(24))  # (x, y) of the glimpse's first pixel
    state = Spot(corner / 11.5 - 1, torch.tensor([[9.0, 20.0]]).expand(576, -1), torch.full((576,), label), 0)
    seen = CircleSquareEpisodes(keys(0, "x", torch.arange(576)), 0.75).raw(state)[:, :25].view(-1, 5, 5)
    expected = torch.stack([image[y : y + 5, x : x + 5] for x, y in corner.tolist()])
    torch.testing.assert_close(seen, expected, atol=2e-5, rtol=0)


def random_moves(count, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gaze = 1.5 * torch.randn(steps, count, 2, generator=generator)
    return torch.cat([gaze, torch.randint(0, 2, (steps, count, 1), generator=generator)], -1)


@needs_ap_gym
@pytest.mark.filterwarnings("ignore")
def test_the_copy_is_ap_gym():
    """The same starts, the same moves: the same views and rewards."""
    foreign = circle_square(0.75)
    theirs, count = ForeignEpisodes(foreign, KEY), len(KEY)
    space = foreign.seat(count).env.single_observation_space
    assert list(space) == ["glimpse", "glimpse_pos", "time_step"] and gym.spaces.flatdim(space) == CIRCLE_SQUARE.seen - 1
    stage = theirs.reset()
    module = foreign.seat(count).env.unwrapped.image_perception_module
    labels = torch.from_numpy(np.asarray(module.current_labels)).long()
    found = []
    for i, image in enumerate(module.current_images[..., 0]):
        match = [(x, y) for x in range(28) for y in range(28) if np.allclose(picture(int(labels[i]), x, y), image, atol=1e-5)]
        assert len(match) == 1
        found.append(match[0])
    ours = CircleSquareEpisodes(KEY, 0.75)
    state = Spot(stage.seen[:, 25:27], torch.tensor(found).float(), labels, 0)
    for move in random_moves(count, 16):
        torch.testing.assert_close(ours.raw(state), stage.seen, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours.observe(state), theirs.observe(stage), atol=2e-3, rtol=0)
        stage, *theirs_out = theirs.step(stage, move)
        state, *ours_out = ours.step(state, move)
        torch.testing.assert_close(ours_out[0], theirs_out[0], atol=1e-4, rtol=0)
        assert torch.equal(ours_out[1], theirs_out[1]) and torch.equal(ours_out[2], theirs_out[2])
    assert ours_out[1].all()


@needs_ap_gym
@pytest.mark.filterwarnings("ignore")
def test_the_error_is_that_of_ap_gym():
    task = CircleSquareConfig(frozen=8).build()
    (batch,) = task.batches("test", batch_size=8)
    moves = random_moves(8, 16)
    episodes = play(batch.question, lambda i, seen: moves[i])
    assert episodes.alive.all()
    answer = Answer(episodes.reward.sum(0), Trace(rewards=episodes.reward.T))
    score = task.score(answer, batch)
    labels = torch.from_numpy(np.asarray(batch.question.game.seat(8).env.unwrapped.image_perception_module.current_labels))
    assert torch.equal(score["error"], 100.0 * (moves[-1, :, 2] != labels))
    torch.testing.assert_close(score["return"], episodes.reward.sum(0) - 16)


def test_the_copy_draws_every_start():
    state = CircleSquareEpisodes(keys(0, "x", torch.arange(20000)), 0.75).reset()
    assert state.object.min() == 0 and state.object.max() == SIDE - 1 and 0.48 < state.target.float().mean() < 0.52
    assert state.place.abs().max() <= 1 and state.place.mean().abs() < 0.02


def test_a_task_of_the_copy_needs_no_ap_gym(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    task = CircleSquareConfig(test="own", frozen=50).build()
    batches = list(task.batches("test", batch_size=20))
    assert [len(batch.target) for batch in batches] == [20, 20, 10]
    train = next(task.batches("train", batch_size=20, seed=1))
    assert not torch.equal(train.question.key, next(task.batches("train", batch_size=20, seed=2)).question.key)
    assert train.question.observe(train.question.reset()).shape == (20, task.spec.seen)
    with pytest.raises(ValueError, match="pip install 'ap-gym"):
        CircleSquareConfig().build()


def test_settings_that_make_no_sense_are_refused():
    for options in ({"confidence": 0.5}, {"confidence": 1.0}, {"frozen": 0}):
        with pytest.raises(ValueError, match="must be"):
            CircleSquareConfig(**options)
    with pytest.raises(ValueError, match="split must be"):
        CircleSquareConfig(test="own").build().size("trial")


@needs_ap_gym
@pytest.mark.filterwarnings("ignore")
def test_our_glimpses_are_an_environment_of_ap_gym():
    import ap_gym

    task = DigitsConfig(positions=1, glimpses=3)
    env = for_ap_gym(4, task=task, glimpse_cost=0.25)
    assert isinstance(env, ap_gym.ActivePerceptionVectorEnv)
    plain = GlimpseVectorEnv(4, task, autoreset_mode="NextStep")
    (seen, info), (expected, _) = env.reset(seed=5), plain.reset(seed=5)
    generator = np.random.default_rng(0)
    for i in range(6):
        assert all(np.array_equal(seen[name], expected[name]) for name in expected)
        gaze = generator.uniform(-1, 1, (4, 2)).astype(np.float32)
        logits = generator.normal(size=(4, 10)).astype(np.float32)
        seen, reward, terminated, truncated, info = env.step({"action": gaze, "prediction": logits})
        expected, *_ = plain.step({"gaze": gaze, "label": logits.argmax(-1)})
        right = np.take_along_axis(logits, info["prediction"]["target"][:, None], 1)[:, 0]
        loss = (np.log(np.exp(logits).sum(1)) - right) / np.log(10)
        np.testing.assert_allclose(info["prediction"]["loss"], loss, rtol=1e-4)
        np.testing.assert_allclose(info["base_reward"], -0.25 * (i in (0, 1, 4, 5)))
        np.testing.assert_allclose(reward, info["base_reward"] - info["prediction"]["loss"])
        assert (terminated == (i == 2)).all() and not truncated.any()
    for game, words in (({"view": "box"}, 'must be "dict"'), ({"early_answer": True}, "early_answer must be False")):
        with pytest.raises(ValueError, match=words):
            for_ap_gym(2, task=task, **game)
