"""RL-NTM: over all paths its gradient is that of the expected reward, and it learns where to go."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from agents.rl_ntm import FORBIDDEN, RLNTMConfig
from envs.tapes.exercises import ExercisesConfig
from envs.tapes.three_tapes import ThreeTapesConfig
from hardattn.exact import expectation, gradients, numerical_gradient, relative_difference
from hardattn.learner import Learner, LearnerConfig

TINY = ExercisesConfig(ThreeTapesConfig(symbols=3, longest=2, steps=5, cells=5, around=1), times=(1, 3), frozen=20).build()


def agent_of(task=TINY, seed=0, **options):
    torch.manual_seed(seed)
    return RLNTMConfig(**{"hidden": 6, **options}).build(task.spec)


def batch_of(task=TINY, rows=8, start=0, split="train"):
    return next(task.batches(split, batch_size=rows, start=start))


def plainly(agent, question, complexity, choose):
    """The paper's equations step by step, with autograd: the rewards [t, b], the moves [t, b, heads] and their logits [t, b, n]."""
    spec, count, direct = agent.spec, len(complexity), agent.config.controller == "direct"
    state = question.reset(complexity)
    last = torch.zeros(count, sum(spec.choices), dtype=agent.says.weight.dtype)
    h = c = torch.zeros(count, agent.config.hidden, dtype=last.dtype)
    steps = []
    for t in range(question.limit):
        tape, memory = question.observe(state)
        symbols, memory = agent.vectors(tape), memory.to(last)
        h, c = agent.core(torch.cat([symbols.flatten(1), memory.flatten(1), last], 1), (h, c))
        logits, predicted, keep, add, *gates = agent.says(h).split(list(agent.sizes.values()), 1)
        keep, add = keep.sigmoid().view_as(memory), add.tanh().view_as(memory)
        if direct:
            tape_memory, memory_symbols, tape_symbols = (gate.sigmoid() for gate in gates)
            add = add + tape_memory.view(count, spec.window, spec.window) @ symbols
            read = torch.cat([keep * memory + add, symbols], 1)
            predicted = predicted + (torch.cat([memory_symbols, tape_symbols], 1)[:, None] @ read)[:, 0]
        logits = agent.config.inverse_temperature * logits
        logits = logits.masked_fill(~torch.cat(question.allowed(state), 1), FORBIDDEN)
        moves = torch.stack([choose(3 * t + i, part) for i, part in enumerate(logits.split(spec.choices, 1))], 1)
        state, reward = question.step(state, moves, predicted.log_softmax(1), keep, add)
        last = torch.cat([torch.nn.functional.one_hot(m, n) for m, n in zip(moves.unbind(1), spec.choices)], 1).to(last)
        steps.append((reward, moves, logits))
    return tuple(torch.stack(x) for x in zip(*steps))


def enumerated(batch, agent):
    """What `hardattn.exact` wants: the objective is what is paid, step by step; the surrogate is the loss of an agent that makes the same moves.
    And the objective alone."""
    one = torch.ones(1, dtype=torch.long)

    def played(choose):
        return plainly(agent, batch.question, one, lambda i, logits: choose(logits))

    def run(choose):
        rewards, moves, _ = played(choose)
        chosen = moves.transpose(1, 2).flatten(0, 1)
        return -rewards.sum(), agent.judge(agent.unroll(batch.question, one, lambda i, logits: chosen[i])).total

    return run, lambda choose: -played(choose)[0].sum()


@pytest.mark.parametrize("task", ["copy", "duplicated-input", "reverse", "repeat-copy", "forward-reverse"])
@pytest.mark.parametrize("controller", ["lstm", "direct"])
def test_the_way_back_by_hand_is_autograds(task, controller):
    tapes = ThreeTapesConfig(task, symbols=4, longest=3, steps=11, cells=4, around=1, marked=True)
    batch = batch_of(exercises := ExercisesConfig(tapes).build(), 7)
    agent = agent_of(exercises, controller=controller, hidden=5, scale=0.7, inverse_temperature=1.0).double()
    complexity = 1 + torch.arange(7) % 3
    drawn = torch.rand(33, 7, 1, generator=torch.Generator().manual_seed(0))

    def choose(i, logits):
        return (drawn[i] > logits.detach().softmax(1).cumsum(1)).sum(1).clamp(max=logits.shape[1] - 1)

    episode = agent.unroll(batch.question, complexity, choose)
    rewards, moves, logits = plainly(agent, batch.question, complexity, choose)
    assert torch.equal(episode.moves, moves) and (moves[..., 0] != 1).any() and (moves[..., 1] != 1).any()
    log_prob = agent.policy.log_prob(moves.double(), logits)
    torch.testing.assert_close(episode.reward, rewards, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(episode.log_prob, log_prob, atol=1e-12, rtol=1e-12)
    weight = torch.rand(11, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    named = {name: p for name, p in agent.named_parameters() if not name.startswith("baseline")}
    by_hand, by_autograd = (
        torch.autograd.grad((weight * (paid + paid.cos() * likely)).sum(), list(named.values()))
        for paid, likely in ((episode.reward, episode.log_prob), (rewards, log_prob))
    )
    for name, ours, theirs in zip(named, by_hand, by_autograd):
        assert theirs.any(), name
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("tapes", "options"),
    [
        # The head of the input cannot go back, and the output has one step to spare: 324 paths.
        (
            ThreeTapesConfig("forward-reverse", symbols=2, longest=1, steps=3, cells=3, around=1, marked=True),
            {"controller": "direct"},
        ),
        (ThreeTapesConfig("copy", symbols=2, longest=1, steps=2, cells=3, around=1, depth=2), {"controller": "lstm"}),
        (ThreeTapesConfig("copy", symbols=2, longest=1, steps=2, cells=3, around=1), {"baseline": "online"}),
        (ThreeTapesConfig("reverse", symbols=2, longest=1, steps=2, cells=3, around=1), {"baseline": "none"}),
    ],
    ids=["forward-reverse", "lstm", "online", "none"],
)
def test_its_mean_gradient_is_that_of_the_expected_reward(tapes, options):
    """Over all paths, and by finite differences (Zaremba and Sutskever 2015, on checking gradients)."""
    task = ExercisesConfig(tapes).build()
    agent = agent_of(task, hidden=2, inverse_temperature=1.0, scale=0.7, **options).double()
    batch = batch_of(task, 1)
    run, objective = enumerated(batch, agent)
    parameters = [p for name, p in agent.named_parameters() if not name.startswith("baseline")]
    found = gradients(run, parameters)
    assert found.paths == (324 if tapes.steps == 3 else 81) and found.exact.norm() > 0.1
    assert relative_difference(found.estimated, found.exact) < 1e-10
    if tapes.steps == 2:
        directions = torch.randn(2, len(found.exact), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        rises = numerical_gradient(lambda: expectation(objective), parameters, directions)
        assert relative_difference(directions @ found.exact, rises) < 1e-6


def test_the_loss_is_that_of_the_contract():
    agent, batch = agent_of(), batch_of()
    loss = agent.loss(batch)
    assert loss.total.shape == () and not any(term.requires_grad for term in loss.terms.values())
    assert {"error", "wrong-symbols", "nll", "level", "entropy", "reinforce", "baseline"} <= set(loss.terms)
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in agent.parameters())
    assert torch.equal(agent.loss(batch).total, loss.total)
    with torch.no_grad():
        torch.testing.assert_close(agent.loss(batch).total, loss.total)


def test_the_baseline_shares_no_gradient():
    agent, batch = agent_of(), batch_of()
    episode, _ = agent._practise(batch)
    regression = (agent.baseline(episode.seen, episode.whole)).sum()
    regression.backward()
    assert all(p.grad is None for name, p in agent.named_parameters() if not name.startswith("baseline"))


def test_only_the_offline_baseline_has_read_the_input():
    for kind, differs in (("offline", True), ("online", False)):
        agent = agent_of(baseline=kind)
        episode, _ = agent._practise(batch_of())
        other = agent.baseline(episode.seen, (episode.whole + 1) % TINY.spec.symbols)
        assert torch.equal(other, agent.baseline(episode.seen, episode.whole)) != differs


@pytest.mark.parametrize("how", ["argmax", "sampled"])
def test_a_batch_of_one_is_a_row_of_the_batch(how):
    agent = agent_of(inverse_temperature=1.0)
    together = agent.answer(batch_of(rows=6, split="validation").question, how, seed=3)
    for i in range(6):
        alone = agent.answer(batch_of(rows=1, start=i, split="validation").question, how, seed=3)
        assert torch.equal(alone.output, together.output[i : i + 1])
        assert torch.equal(alone.trace.moves, together.trace.moves[i : i + 1])
        torch.testing.assert_close(alone.trace.rewards, together.trace.rewards[i : i + 1])


def test_answers_are_of_the_ways_that_are_offered():
    agent, question = agent_of(), batch_of(split="test").question
    assert torch.equal(agent.answer(question).trace.moves, agent.answer(question, "argmax").trace.moves)
    one, other, again = (agent.answer(question, "sampled", seed).trace.moves for seed in (0, 1, 0))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == (8, TINY.core.config.steps, 3)
    assert agent.answer(question).output.shape == (8,)
    with pytest.raises(ValueError, match="how must be one of argmax, sampled"):
        agent.answer(question, "mean")


def test_it_plays_longer_tapes_than_it_was_built_with():
    agent = agent_of()
    batch = batch_of(split="length-6")
    answer = agent.answer(batch.question)
    assert answer.trace.moves.shape == (8, 15, 3)
    assert set(TINY.score(answer, batch)) == {"error", "solved", "wrong-symbols"}


class Answering:
    """An agent whose episodes are all right."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.unroll = agent, agent.unroll
        agent.unroll = self.perfect

    def perfect(self, *arguments):
        episode = self.unroll(*arguments)
        return episode._replace(right=torch.ones_like(episode.right))


def test_the_curriculum_goes_on_in_training_only_and_is_in_the_checkpoint():
    agent, batch = agent_of(), batch_of()
    before = agent.stage
    agent.loss(batch)
    agent.answer(batch.question)
    agent.eval()
    agent(batch)
    assert agent.stage == before == (1, 1.0, 0)
    agent.train()
    agent(batch)
    assert agent.stage[0] == 1 and agent.stage[2] == 1
    Answering(agent)
    for i in range(120):
        agent(batch_of(start=i, rows=2))
    assert agent.stage[0] == 2 == TINY.core.config.top
    assert {"level", "mistakes", "updates"} <= set(agent.state_dict())


def test_a_resumed_run_is_exact():
    """The stage of the curriculum decides what the next exercises are, and it comes from the checkpoint."""

    def updates(learner, first, last):
        return [learner.update(batch_of(start=i), i)["loss"].item() for i in range(first, last)]

    learner = Learner(agent_of(), LearnerConfig(), 20)
    learner.agent.updates.fill_(97)
    learner.agent.mistakes.fill_(0.0)
    updates(learner, 0, 2)
    weights, state = {k: v.clone() for k, v in learner.agent.state_dict().items()}, learner.state()
    resumed = Learner(agent_of(seed=1), LearnerConfig(), 20)
    resumed.load(weights, {**state, "state": {k: {n: v.clone() for n, v in s.items()} for k, s in state["state"].items()}})
    assert updates(learner, 2, 6) == updates(resumed, 2, 6)
    assert learner.agent.stage == resumed.agent.stage


def test_longer_exercises_come_with_a_higher_level():
    task = ExercisesConfig(ThreeTapesConfig(longest=9)).build()
    agent = agent_of(task)
    question = batch_of(task, rows=200).question
    low, counts = agent._complexity(question)
    agent.level.fill_(7)
    high, _ = agent._complexity(question)
    assert low.float().mean() < high.float().mean() and 0.4 < counts.float().mean() < 0.9
    fixed = question._replace(complexity=torch.ones(200, dtype=torch.long))
    assert torch.equal(agent._complexity(fixed)[0], fixed.complexity)


def test_weights_of_an_easier_curriculum_begin_at_this_ones_first_level():
    easy, hard = (agent_of(ExercisesConfig(ThreeTapesConfig(longest=9), start=start).build()) for start in (2, 6))
    easy.mistakes.fill_(0.01)
    easy.updates.fill_(500)
    hard.load_state_dict(easy.state_dict())
    assert easy.stage == pytest.approx((2, 0.01, 500)) and hard.stage == (6, 1.0, 0)
    batch = batch_of(ExercisesConfig(ThreeTapesConfig(longest=9), start=6).build(), rows=20)
    assert hard.eval()(batch).terms["level"] == 6
    hard.train()(batch)
    assert hard.stage[0] == 6 and hard.stage[2] == 1
    easy.level.fill_(8)
    hard.load_state_dict(easy.state_dict())
    assert hard.stage == easy.stage


def test_it_learns_to_copy():
    """Two symbols of two, in five steps: whoever does not move the input's head along cannot know the second."""
    task = ExercisesConfig(
        ThreeTapesConfig(symbols=2, longest=2, steps=4, cells=3, around=0), start=2, times=(1,), frozen=100
    ).build()
    agent = agent_of(task, hidden=12, inverse_temperature=1.0)
    learner = Learner(agent, LearnerConfig(learning_rate=2e-2), 150)
    errors = [learner.update(batch, i)["error"].item() for i, batch in zip(range(150), task.batches("train", batch_size=32))]
    batch = batch_of(task, 100, split="test")
    assert sum(errors[:10]) > 500 and task.score(agent.answer(batch.question), batch)["error"].mean() < 5


def test_settings_that_make_no_sense_are_refused():
    for options in ({"hidden": 0}, {"inverse_temperature": 0.0}, {"entropy": -1.0}):
        with pytest.raises(ValueError, match="must"):
            RLNTMConfig(**options)
    with pytest.raises(ValueError, match="number for each of the 4 symbols, found depth=7"):
        RLNTMConfig().build(dataclasses.replace(TINY.config, tapes=ThreeTapesConfig(symbols=3, depth=7)).build().spec)
    assert len(parameters_to_vector(agent_of(controller="lstm").parameters())) < len(
        parameters_to_vector(agent_of().parameters())
    )
