"""A player: its gradient is that of the expected return, and it learns games that need looking and remembering."""

import copy
import itertools
from typing import Any, NamedTuple

import pytest
import torch

from agents.player import PlayerConfig
from envs.catch import CatchConfig
from envs.play import PlayCatchConfig
from hardattn.contract import Batch, PlaySpec
from hardattn.learner import Learner, LearnerConfig, Replaying
from hardattn.noise import fork, integers, keys
from hardattn.policies import Choice


class Lock(NamedTuple):
    """Two moves out of three; the first is to be the number seen, the second the one after it. A wrong first move ends the episode."""

    key: torch.Tensor
    limit: int = 2

    def reset(self) -> Any:
        number = integers(self.key, 1, 3)[:, 0]
        return number, torch.zeros_like(number)

    def observe(self, state):
        number, time = state
        return torch.nn.functional.one_hot(torch.where(time == 0, number, 3), 4).float()  # seen once: to be remembered

    def step(self, state, action):
        number, time = state
        right = action[:, 0].long() == (number + time) % 3
        return (number, time + 1), right.float() * (1.0 + time), ~right | (time >= 1), torch.zeros_like(right)


SPEC = PlaySpec(4, (3,))


def batch_of(count, start=0, seed=0):
    key = keys(seed, "lock", torch.arange(start, start + count))
    return Batch(Lock(key), torch.zeros(count))


def player(seed=0, **options):
    torch.manual_seed(seed)
    return PlayerConfig(hidden=8, features=6, **options).build(SPEC).double()


class CutOff(Lock):
    """Every episode is cut off after its second move, and would have gone on."""

    def step(self, state, action):
        state, reward, _, nobody = Lock.step(self, state, action)
        return state, reward, nobody, torch.full_like(nobody, bool((state[1] >= 2).all()))


def test_who_was_cut_off_is_worth_what_the_baseline_expects_and_who_has_ended_is_not():
    agent = player(discount=0.5, shared=True)
    key = keys(0, "lock", torch.arange(64))
    cut = agent.act(Batch(CutOff(key), torch.zeros(64))).question
    assert len(cut.episodes.reward) == 2 and not cut.episodes.terminated.any() and cut.episodes.over[-1].all()
    last = agent.baseline(agent._read(cut.shown)).squeeze(-1)[-1]
    torch.testing.assert_close(cut.returns[1], cut.episodes.reward[1] + 0.5 * last.detach())
    ended = agent.act(Batch(Lock(key), torch.zeros(64))).question
    at_the_end = ended.episodes.terminated.nonzero().unbind(1)
    torch.testing.assert_close(ended.returns[at_the_end], ended.episodes.reward[at_the_end].to(ended.returns))


class DoubleLock(Lock):
    def observe(self, state):
        return Lock.observe(self, state).double()


def expected_return(agent, key):
    """Over all paths, with gradient."""
    game = DoubleLock(key)
    total = torch.zeros((), dtype=torch.float64)
    for path in itertools.product(range(3), repeat=2):
        state, core, log_prob, alive = game.reset(), None, torch.zeros(len(key), dtype=torch.float64), torch.ones(len(key))
        value = torch.zeros(len(key), dtype=torch.float64)
        for move in path:
            h, core = agent.core(agent.encoder(game.observe(state))[None].relu(), core)
            log_prob = log_prob + Choice(3).log_prob(torch.full((len(key), 1), float(move)), agent.actor(h[0]))
            state, reward, over, _ = game.step(state, torch.full((len(key), 1), float(move)))
            value = value + reward * alive
            alive = alive * ~over
        # The moves after an early end are summed over, and their probabilities sum to one.
        total = total + (log_prob.exp() * value).mean()
    return total


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"baseline": "constant"},
        {"decay": 1.0, "baseline": "none"},
        {"decay": 0.5, "baseline": "batch-mean"},  # without a value there is nothing to decay to
        {"baseline": "leave-one-out", "rollouts": 2},
        {"baseline": "self-critical"},
    ],
    ids=lambda o: o.get("baseline", "learned"),
)
def test_the_mean_gradient_is_that_of_the_expected_return(options):
    """For every baseline, over many draws of the same three episodes."""
    agent = player(**options)
    with torch.no_grad():
        agent.actor.weight *= 10
        for p in agent.baseline.parameters() if agent.baseline is not None else ():
            p += 0.3
    key = keys(0, "lock", torch.arange(3))
    named = [(name, p) for name, p in agent.named_parameters() if not name.startswith("baseline")]
    parameters = [p for _, p in named]
    exact = torch.autograd.grad(-expected_return(agent, key), parameters)
    draws = []
    for i in range(60):
        # Noise comes from an episode's key; the number that is seen does, too. So the same numbers are looked for under other keys.
        many = keys(i, "many", torch.arange(3000))
        numbers = integers(many, 1, 3)[:, 0]
        wanted = integers(key, 1, 3)[:, 0]
        chosen = torch.cat([many[numbers == w][:300] for w in wanted])
        loss = agent.loss(Batch(DoubleLock(chosen), torch.zeros(len(chosen)))).total
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, allow_unused=True)]))
    found, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0) / len(draws) ** 0.5
    wanted = torch.cat([g.flatten() for g in exact])
    assert ((found - wanted).abs() < 5 * spread + 1e-6).all()
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 0.97


def reward_of(agent, how="mean"):
    return agent.answer(batch_of(500, seed=7).question, how).output.mean().item()


@pytest.mark.parametrize("epochs", [1, 3])
def test_it_learns_to_remember(epochs):
    """The best return is 3. Who only reads what is there gets 1 and a third of 2."""
    torch.manual_seed(1)
    agent = PlayerConfig(hidden=24, features=12).build(SPEC)
    before = reward_of(agent)
    learner: Any = Learner(agent, LearnerConfig(learning_rate=1e-2), 150 * epochs)
    learner = Replaying(learner, epochs) if epochs > 1 else learner
    for i in range(150):
        learner.update(batch_of(64, 64 * i), i)
    assert before < 2 < 2.8 < reward_of(agent)


def test_the_gaze_of_a_game_is_drawn_with_the_move_and_receives_gradient():
    task = PlayCatchConfig(CatchConfig(height=8, width=8, side=4, scales=1), frozen=30).build()
    torch.manual_seed(0)
    agent = PlayerConfig(hidden=8, features=8).build(task.spec)
    batch = next(task.batches("train", batch_size=50))
    agent.loss(batch).total.backward()
    assert agent.actor.weight.grad is not None and agent.actor.weight.grad[:2].abs().max() > 0
    trace = agent.answer(batch.question, "sampled").trace
    assert trace.gaze.shape == (50, 7, 2) and trace.moves.shape == (50, 7, 3) and trace.gaze.abs().max() <= 1
    for how, same in (("centre", True), ("random", False)):
        gaze = agent.answer(batch.question, how).trace.gaze
        assert (gaze == 0).all() == same
    control = PlayerConfig(hidden=8, features=8, gaze="random").build(task.spec)
    assert control.hows == ("mean", "sampled") and control.actor.out_features == 3
    control.loss(batch).total.backward()


def test_a_replay_has_the_same_gradient_as_the_first_time():
    agent = player(seed=3)
    batch = Batch(DoubleLock(batch_of(20).question.key), torch.zeros(20))
    played = agent.act(batch)
    first, again = (torch.autograd.grad(agent.loss(b).total, list(agent.parameters())) for b in (batch, played))
    for one, other in zip(first, again):
        torch.testing.assert_close(one, other)


def test_standardised_observations_have_the_moments_of_what_was_seen_in_real_moves():
    agent = player(standardised=True)
    torch.testing.assert_close(agent.seen(torch.eye(4).double()), torch.eye(4).double())  # nothing was seen yet
    seen = []
    for i in range(3):
        game = DoubleLock(batch_of(40, 40 * i).question.key)
        before = copy.deepcopy(agent)
        acted = agent.act(Batch(game, torch.zeros(40)))
        agent(acted)
        raw = before.play(game, "sampled", fork(game.key, "rollout 0"))
        torch.testing.assert_close(acted.question.shown, before.seen(raw.seen))  # it learns from what it acted on
        seen.append(raw.seen[:-1][raw.alive])
    every = torch.cat(seen)
    torch.testing.assert_close(agent.seen.mean, every.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(agent.seen.variance, every.var(0, unbiased=False), atol=1e-6, rtol=0)
    standard = agent.seen(every)
    torch.testing.assert_close(standard.mean(0), torch.zeros(4).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.var(0, unbiased=False), torch.ones(4).double(), atol=1e-4, rtol=0)


def test_standardising_brings_out_a_faint_pixel():
    """The number that matters differs by a hundredth. Without help the network hardly sees it."""

    class Faint(Lock):
        def observe(self, state):
            return 0.01 * Lock.observe(self, state) + torch.tensor([1.0, 1.0, 1.0, 1.0])

    def trained(standardised):
        torch.manual_seed(1)
        agent = PlayerConfig(hidden=24, features=12, standardised=standardised).build(SPEC)
        learner = Learner(agent, LearnerConfig(learning_rate=1e-2), 150)
        for i in range(150):
            learner.update(Batch(Faint(batch_of(64, 64 * i).question.key), torch.zeros(64)), i)
        return agent.answer(Faint(batch_of(500, seed=7).question.key)).output.mean().item()

    assert trained(False) < 2 < 2.8 < trained(True)


def test_settings_that_make_no_sense_are_refused():
    for options in ({"discount": 1.5}, {"decay": -0.1}, {"baseline": "leave-one-out"}, {"std": 0.0}):
        with pytest.raises(ValueError, match=r"must|needs"):
            PlayerConfig(**options)
