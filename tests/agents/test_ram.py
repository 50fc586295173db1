"""RAM must compute the published loss and no more. Most tests here are faults found in public implementations."""

import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from agents.ram import RAMConfig
from envs.cue import CueConfig
from envs.glimpse import Eye, ask, reset, step
from hardattn.contract import Answer, Batch, GlimpseSpec, Trace
from hardattn.learner import Learner, LearnerConfig, Replaying
from hardattn.noise import keys
from hardattn.policies import raster
from hardattn.training import fit

D = torch.float64
B, GLIMPSES = 3, 4
EYE = Eye(side=3, scales=2, zoom=2, reach=(2.0, 4.0))
SPEC = GlimpseSpec(channels=2, height=7, width=11, classes=3, scales=2, side=3, glimpses=GLIMPSES)
TARGET = torch.tensor([0, 1, 2])


class Doubled(NamedTuple):
    """A question in double precision; it counts the looks."""

    question: object
    gaze: torch.Tensor
    key: torch.Tensor
    looks: list

    def look(self, gaze):
        self.looks.append(gaze)
        return self.question.look(gaze).double()


def batch_of(seed=0, count=B, double=True):
    generator = torch.Generator().manual_seed(seed)
    image = 4 * torch.randn(count, SPEC.channels, SPEC.height, SPEC.width, generator=generator)
    gaze = 2 * torch.rand(count, 2, generator=generator) - 1
    question = ask(image, gaze, keys(seed, "test", torch.arange(count)), EYE)
    return Batch(Doubled(question, gaze.double(), question.key, []) if double else question, TARGET[torch.arange(count) % 3])


def agent_of(seed=0, spec=SPEC, double=True, **settings):
    torch.manual_seed(seed)
    agent = RAMConfig(**{"hidden": 12, "features": 8, "std": 0.5} | settings).build(spec)
    with torch.no_grad():
        for layer in (agent.what, agent.locator, agent.classifier):  # so that much depends on what is seen
            if layer is not None:
                layer.weight *= 5
        if agent.seen is not None:
            agent.seen.learn(torch.randn(50, spec.glimpse_size) * 3 + 1)
    return agent.double() if double else agent


def spy(agent):
    """All rollouts that the agent makes from now on."""
    seen, see = [], agent.look_around

    def look_around(*args, **kwargs):
        seen.append(see(*args, **kwargs))
        return seen[-1]

    agent.look_around = look_around
    return seen


def plain_hidden(agent, question, gaze):
    """The network as the paper has it, glimpse by glimpse, along the given gaze [t, m, b, 2]: states [t, m, b, d]."""
    rows, state = [], None
    for place in gaze:
        seen = question.look(place).flatten(-3)
        if agent.config.standardised:
            seen = (seen - agent.seen.mean) / agent.seen.variance.sqrt()
        g = agent.join(torch.cat([agent.what(seen).relu(), agent.where(place).relu()], -1)).relu()
        if agent.config.core == "relu":
            state = torch.zeros_like(g[..., :1]).expand(*g.shape[:-1], agent.config.hidden) if state is None else state
            state = (agent.core.input(g) + agent.core.recurrent(state)).relu()
            rows.append(state)
        else:
            h, state = agent.core.lstm(g.flatten(0, 1)[None], state)
            rows.append(h[0].view(*g.shape[:-1], -1))
    return torch.stack(rows)


def plain_loss(agent, batch, drawn):
    """The hybrid loss, term by term, for given moves `drawn` [t - 1, m, b, 2]."""
    config, (question, target, _) = agent.config, batch
    start = question.gaze.expand(1, drawn.shape[1], -1, -1)
    hidden = plain_hidden(agent, question, torch.cat([start, drawn]).clamp(-1, 1))
    log_likelihood = agent.classifier(hidden).log_softmax(-1).gather(-1, target.expand(hidden.shape[:-1])[..., None])[..., 0]
    correct = (agent.classifier(hidden).argmax(-1) == target).double()
    total = -log_likelihood.mean() if config.supervise == "every" else -log_likelihood[-1].mean()
    reward = (correct if config.reward == "correct" else log_likelihood).detach()
    moves = len(drawn)
    for i in range(moves):
        returns = reward[-1] if config.reward_at == "end" else reward[i + 1 :].mean(0)
        baseline = torch.zeros_like(returns)
        if config.baseline == "learned":
            baseline = agent.baseline(hidden[i].detach())[..., 0]
            total = total + (baseline - returns).square().mean() / moves
        elif config.baseline == "batch-mean":
            baseline = (returns.sum() - returns) / (returns.numel() - 1)
        elif config.baseline == "leave-one-out":
            baseline = (returns.sum(0) - returns) / (len(returns) - 1)
        elif config.baseline == "self-critical":
            baseline = greedy_returns(agent, batch)[i]
        told = config.shaping * hidden[i] + (1 - config.shaping) * hidden[i].detach()
        mean = agent.locator(told)
        log_prob = Normal(mean.tanh() if config.bounded else mean, config.std).log_prob(drawn[i]).sum(-1)
        total = total - (log_prob * (returns - baseline.detach())).mean()
    return total


@torch.no_grad()
def greedy_returns(agent, batch):
    """The return after every move of the policy that always takes its mean."""
    path = [batch.question.gaze[None]]
    for _ in range(GLIMPSES - 1):
        hidden = plain_hidden(agent, batch.question, torch.stack(path))
        path.append(agent.locator(hidden[-1]).clamp(-1, 1))
    logits = agent.classifier(plain_hidden(agent, batch.question, torch.stack(path)))[:, 0]
    correct = (logits.argmax(-1) == batch.target).double()
    reward = correct if agent.config.reward == "correct" else logits.log_softmax(-1)[:, torch.arange(B), batch.target]
    at_the_end = agent.config.reward_at == "end"
    return [reward[-1] if at_the_end else reward[i + 1 :].mean(0) for i in range(GLIMPSES - 1)]


SETTINGS = [
    {},
    {"core": "lstm"},
    {"standardised": True, "bounded": True},
    {"standardised": True, "core": "lstm", "rollouts": 2},
    {"shaping": 0.3},
    {"shaping": 2.0, "core": "lstm", "baseline": "leave-one-out", "rollouts": 32},
    {"rollouts": 3},
    {"std": 3.0, "rollouts": 2},  # most moves are stopped by the border: the density is that of the move as drawn
    *({"baseline": kind, "rollouts": 32} for kind in ("batch-mean", "leave-one-out", "self-critical", "none")),
    {"reward": "log-likelihood", "reward_at": "every", "supervise": "every"},
    {"reward": "log-likelihood", "reward_at": "every", "supervise": "every", "baseline": "self-critical", "core": "lstm"},
    {"reward_at": "every", "rollouts": 32, "baseline": "leave-one-out"},
    {"supervise": "every", "baseline": "batch-mean"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(map(str, s.values())) or "published")
def test_loss_and_gradient_are_those_of_a_plain_ram(settings):
    """Everything at once: what gets which gradient, T - 1 moves, undisturbed log-probabilities, sums over time, means over the batch."""
    agent, batch = agent_of(**settings), batch_of()
    rollouts = spy(agent)
    total = agent.loss(batch).total
    expected = plain_loss(agent, batch, rollouts[0].drawn)
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-10)
    parameters = dict(agent.named_parameters())
    found, wanted = (torch.autograd.grad(loss, list(parameters.values())) for loss in (total, expected))
    for name, one, other in zip(parameters, found, wanted):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
        assert one.any(), f"{name} got no gradient"


@pytest.mark.parametrize("settings", [{}, {"glimpse": "conv"}, {"policy": "grid", "grid": 2, "estimator": "gumbel"}])
def test_moments_are_those_of_the_glimpses_of_training(settings):
    torch.manual_seed(0)
    agent = RAMConfig(hidden=12, features=8, standardised=True, **settings).build(SPEC).double()
    seen, look = [], Doubled.look

    class Watched(Doubled):
        def look(self, gaze):
            glimpses = look(self, gaze)
            if gaze.shape[0] == 1:  # and not every place of a grid, which the relaxations look at besides
                seen.append(glimpses.flatten(-3))
            return glimpses

    for i in range(3):
        question, target, _ = batch_of(i)
        before = agent.seen.mean.clone()
        agent.loss(Batch(Doubled(*question), target))
        agent.eval()(Batch(Doubled(*question), target))
        assert torch.equal(agent.seen.mean, before)  # only an update in training counts
        agent.train()(Batch(Watched(*question), target))
    if "estimator" not in settings:
        every = torch.cat(seen).flatten(0, -2)
        assert len(every) == agent.seen.count == 3 * B * GLIMPSES
        torch.testing.assert_close(agent.seen.mean, every.mean(0))
        torch.testing.assert_close(agent.seen.variance, every.var(0, unbiased=False))
    assert agent.seen.count == 3 * B * GLIMPSES


def gradients(agent, batch):
    agent.zero_grad()
    agent.loss(batch).total.backward()
    return {name: p.grad.clone() for name, p in agent.named_parameters() if p.grad is not None}


def test_cross_entropy_does_not_move_the_locator_and_reinforce_does():
    """Class 0 is never named. Where it is right, all rewards are 0 and only cross-entropy is left."""
    agent, batch = agent_of(baseline="none", rollouts=4), batch_of()
    with torch.no_grad():
        agent.classifier.bias[0] = -1000.0
    never = gradients(agent, batch._replace(target=torch.zeros_like(batch.target)))
    assert not never["locator.weight"].any() and not never["locator.bias"].any()
    assert never["what.weight"].any() and never["core.recurrent.weight"].any()
    likely = agent.answer(batch.question).output.argmax(-1)
    sometimes = gradients(agent, batch._replace(target=likely))
    assert sometimes["locator.weight"].any() and sometimes["locator.bias"].any()


def test_the_policy_gradient_moves_nothing_but_the_locator():
    """Whatever the rewards and what is subtracted from them, the other gradients are the same."""
    published, others = agent_of(), [agent_of(baseline="none"), agent_of(baseline="none", reward="log-likelihood")]
    for other in others:
        other.load_state_dict({k: v for k, v in published.state_dict().items() if not k.startswith("baseline")})
    batch = batch_of()
    expected = gradients(published, batch)
    for other in others:
        found = gradients(other, batch)
        assert not torch.allclose(found["locator.weight"], expected["locator.weight"])
        for name in found.keys() - {"locator.weight", "locator.bias"}:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-12)


def test_the_policy_gradient_does_not_move_the_baseline():
    """The baseline's gradient is that of its regression: multiplying the policy's by ten (a tenth of the variance) leaves it alone."""
    agent, batch = agent_of(), batch_of()
    rollouts = spy(agent)
    found = gradients(agent, batch)
    drawn, hidden = rollouts[0].drawn, rollouts[0].hidden.detach()
    reward = (agent.classifier(hidden[-1]).argmax(-1) == batch.target).double()
    loss = (agent.baseline(hidden[:-1])[..., 0] - reward).square().mean()
    torch.testing.assert_close(found["baseline.weight"], torch.autograd.grad(loss, agent.baseline.weight)[0])
    assert drawn.shape == (GLIMPSES - 1, 1, B, 2)


def test_the_gaze_after_the_last_glimpse_does_not_exist():
    """T glimpses are T looks; with one glimpse there is no move and the policy gets no gradient."""
    agent, batch = agent_of(rollouts=2), batch_of()
    agent.loss(batch)
    assert len(batch.question.looks) == GLIMPSES
    once, batch = agent_of(spec=SPEC.__class__(**vars(SPEC) | {"glimpses": 1})), batch_of()
    found = gradients(once, batch)
    assert len(batch.question.looks) == 1 and torch.equal(batch.question.looks[0][0], batch.question.gaze)
    assert not any(name.startswith(("locator", "baseline")) and g.any() for name, g in found.items())
    answer = once.answer(batch.question)
    assert answer.trace.gaze.shape == (B, 1, 2) and answer.output.shape == (B, 3)


def test_moves_are_drawn_from_the_policy():
    """(drawn - mean) / std is standard normal over moves, rollouts and directions, and differs between all of them."""
    agent, batch = agent_of(rollouts=400), batch_of()
    rollouts = spy(agent)
    agent.loss(batch)
    noise = ((rollouts[0].drawn - rollouts[0].parameters) / 0.5).detach()
    n = noise.numel()
    assert noise.mean().abs() < 5 / math.sqrt(n) and (noise.var() - 1).abs() < 5 * math.sqrt(2 / n)
    assert len(noise.flatten().unique()) > 0.99 * n
    columns = noise.permute(1, 0, 2, 3).flatten(1)
    off_diagonal = columns.T.corrcoef() - torch.eye(columns.shape[1], dtype=D)
    assert off_diagonal.abs().max() < 5 / math.sqrt(400)


def test_reward_is_that_of_the_environment_and_of_the_score():
    task = CueConfig(classes=3, glimpses=3).build()
    batch = next(task.batches("train", batch_size=40))
    agent = agent_of(spec=task.spec, double=False)
    rollouts = spy(agent)
    terms = agent.loss(batch).terms
    logits = agent.classifier(rollouts[0].hidden[-1, 0])
    state, _ = reset(batch.question, batch.target, task.config.rules)
    for move in rollouts[0].drawn[:, 0]:
        state, seen, outcome = step(state, move, torch.full_like(batch.target, 3), task.config.rules)
        assert not outcome.reward.any()
    assert torch.equal(seen.gaze, rollouts[0].gaze[-1, 0])
    *_, outcome = step(state, torch.zeros(40, 2), logits.argmax(-1), task.config.rules)
    error = task.score(Answer(logits, Trace()), batch)["error"]
    assert 0 < terms["reward"] < 1
    torch.testing.assert_close(terms["reward"], outcome.reward.mean())
    torch.testing.assert_close(terms["reward"], 1 - error.mean() / 100)
    torch.testing.assert_close(terms["error"], error.mean())


@pytest.mark.parametrize("baseline", ["learned", "leave-one-out", "self-critical"])
def test_mean_of_the_policy_gradient_is_that_of_the_expected_reward(baseline):
    """One move: the expected reward is an integral over the plane, here a sum over a fine grid of places."""
    spec = GlimpseSpec(2, 7, 11, 3, 2, 3, glimpses=2)
    agent = agent_of(spec=spec, baseline=baseline, reward="log-likelihood", rollouts=100)
    parameters = [agent.locator.weight, agent.locator.bias]
    batch = batch_of()
    ticks = torch.linspace(-6, 6, 121, dtype=D)  # in standard deviations around where the policy stands
    grid = torch.cartesian_prod(ticks, ticks)[:, None]
    weight = Normal(torch.tensor(0.0, dtype=D), 1.0).log_prob(grid).sum(-1).exp() * (ticks[1] - ticks[0]) ** 2
    with torch.no_grad():
        first = plain_hidden(agent, batch.question, batch.question.gaze[None, None])[0, 0]
        places = agent.locator(first) + agent.config.std * grid
        path = torch.stack([batch.question.gaze.expand_as(places), places.clamp(-1, 1)])
        log_likelihood = agent.classifier(plain_hidden(agent, batch.question, path)[-1]).log_softmax(-1)
        reward = log_likelihood[:, torch.arange(B), batch.target]
        if agent.baseline is not None:  # as if it had learned something
            agent.baseline.bias += (weight * reward).sum(0).mean()
    log_prob = Normal(agent.locator(first), agent.config.std).log_prob(places).sum(-1)
    expected = torch.autograd.grad(-(weight * reward * log_prob).sum(0).mean(), parameters)
    expected = torch.cat([g.flatten() for g in expected])

    draws = []
    for seed in range(120):
        asked = batch.question._replace(key=keys(seed, "other noise", torch.arange(B)))
        found = torch.autograd.grad(agent.loss(Batch(asked, batch.target)).total, parameters)
        draws.append(torch.cat([g.flatten() for g in found]))
    draws = torch.stack(draws)
    error = draws.std(0) / math.sqrt(len(draws))
    alive = error > 1e-12
    assert ((draws.mean(0) - expected).abs()[alive] / error[alive]).max() < 4
    assert (expected.abs()[alive] / error[alive]).max() > 6, "too noisy to tell this gradient from none"


@pytest.mark.parametrize("settings", SETTINGS[:4], ids=str)
def test_a_batch_of_one_on_an_oblong_image_of_two_channels(settings):
    """(A careless squeeze, a height taken for a width, a fixed number of channels.)"""
    agent, batch = agent_of(double=False, **settings), batch_of(count=1, double=False)
    agent.loss(batch).total.backward()
    for how in agent.hows:
        answer = agent.answer(batch.question, how)
        assert answer.output.shape == (1, 3) and answer.trace.gaze.shape == (1, GLIMPSES, 2)


def test_the_mean_answer_follows_the_policy_s_mean():
    agent, batch = agent_of(), batch_of()
    output, trace = agent.answer(batch.question)
    path = trace.gaze.transpose(0, 1)[:, None]
    hidden = plain_hidden(agent, batch.question, path)
    torch.testing.assert_close(path[1:], agent.locator(hidden[:-1]).clamp(-1, 1))
    belief = agent.classifier(hidden[:, 0]).softmax(-1)
    torch.testing.assert_close(trace.belief, belief.transpose(0, 1))
    torch.testing.assert_close(output, belief[-1].log())
    torch.testing.assert_close(trace.log_prob, torch.full((B, GLIMPSES - 1), -math.log(2 * math.pi * 0.25), dtype=D))
    torch.testing.assert_close(trace.entropy, torch.full((B, GLIMPSES - 1), 2 * Normal(0.0, 0.5).entropy().item(), dtype=D))
    assert (trace.sensed == GLIMPSES * SPEC.glimpse_size).all()


def test_the_sampled_answer_depends_on_its_seed_and_the_others_as_they_say():
    agent, batch = agent_of(), batch_of()
    for how in agent.hows:
        one, again, other = (agent.answer(batch.question, how, seed) for seed in (0, 0, 1))
        assert torch.equal(one.trace.gaze, again.trace.gaze) and torch.equal(one.output, again.output)
        assert torch.equal(one.trace.gaze, other.trace.gaze) == (how in ("mean", "centre", "raster")), how
        assert torch.equal(one.trace.gaze[:, 0], batch.question.gaze), "the first gaze is the environment's"


def test_the_averaged_answer_is_the_mean_of_eight_sampled_ones():
    agent, batch = agent_of(), batch_of()
    rollouts = spy(agent)
    output, trace = agent.answer(batch.question, "averaged")
    assert rollouts[0].gaze.shape == (GLIMPSES, 8, B, 2)
    assert len(rollouts[0].gaze[1, :, 0].unique(dim=0)) > 4
    each = agent.classifier(plain_hidden(agent, batch.question, rollouts[0].gaze)[-1]).softmax(-1)
    torch.testing.assert_close(output.exp(), each.mean(0))
    assert (trace.sensed == 8 * GLIMPSES * SPEC.glimpse_size).all()
    torch.testing.assert_close(trace.gaze, rollouts[0].gaze[:, 0].transpose(0, 1))


def test_controls_ignore_the_policy():
    batch = batch_of(count=300, double=False)
    one, other = agent_of(1, double=False), agent_of(2, double=False)
    for how in ("random", "centre", "raster"):
        assert torch.equal(one.answer(batch.question, how).trace.gaze, other.answer(batch.question, how).trace.gaze)
    moves = one.answer(batch.question, "random").trace.gaze[:, 1:]
    assert moves.abs().max() <= 1 and len(moves.flatten().unique()) > 1700
    n = moves[..., 0].numel()
    assert (moves.mean((0, 1)).abs() < 5 * math.sqrt(1 / 3 / n)).all()
    assert ((moves.square().mean((0, 1)) - 1 / 3).abs() < 5 * math.sqrt(4 / 45 / n)).all()
    assert not one.answer(batch.question, "centre").trace.gaze[:, 1:].any()
    grid = one.answer(batch.question, "raster").trace.gaze[:, 1:]
    assert torch.equal(grid, raster(GLIMPSES - 1).expand(300, -1, -1))


def test_raster_is_a_grid_line_by_line():
    torch.testing.assert_close(raster(4), torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]))
    torch.testing.assert_close(raster(1), torch.zeros(1, 2))
    assert raster(0).shape == (0, 2)
    for count in range(1, 30):
        places = raster(count)
        assert len(places.unique(dim=0)) == count and places.abs().max() < 1
        assert places.tolist() == sorted(places.tolist(), key=lambda place: (place[1], place[0]))


def test_an_unknown_way_of_answering_is_refused():
    with pytest.raises(ValueError, match=r"how must be one of mean, sampled, .*; found 'greedy'"):
        agent_of().answer(batch_of().question, "greedy")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        *(({name: 0}, f"{name} must be at least 1, found 0") for name in ("hidden", "features", "rollouts")),
        ({"std": 0.0}, "std must be above 0"),
        ({"baseline": "leave-one-out"}, "needs rollouts >= 2, found 1"),
        *(
            ({name: "other"}, "other")
            for name in ("core", "baseline", "reward", "reward_at", "supervise", "glimpse", "gaze", "policy", "estimator")
        ),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"context": -1}, "context must be at least 0"),
        ({"estimator": "gumbel"}, "needs policy grid"),
        ({"context": 3, "gaze": "random"}, "a context starts a learned gaze"),
    ],
)
def test_settings_that_make_no_agent_are_refused_by_name(settings, complaint):
    with pytest.raises(Exception, match=complaint):
        RAMConfig(**settings)


@pytest.mark.slow
def test_the_gaze_is_learned_and_is_what_makes_it_work():
    """The probe of envs/cue.py: solved with the learned gaze, lost with a random one, whether in the end or all along."""
    task = CueConfig().build()
    test = next(task.batches("test", batch_size=1000))
    settings = RAMConfig(hidden=64, features=32, std=0.5, rollouts=8, baseline="leave-one-out", reward="log-likelihood")
    steps = 200

    def trained(seed, **changes):
        torch.manual_seed(seed)
        agent = replace(settings, **changes).build(task.spec)
        learner = Learner(agent, LearnerConfig(learning_rate=3e-3), steps)
        fit(learner, task.batches("train", batch_size=32, seed=seed), steps=steps)
        return agent

    def accuracy(agent, how):
        return 100 - task.score(agent.answer(test.question, how), test)["error"].mean().item()

    for seed in range(3):
        agent = trained(seed)
        assert accuracy(agent, "mean") >= 95
        assert accuracy(agent, "random") < 65
        assert accuracy(agent, "centre") < 35
    blind = trained(0, gaze="random")
    assert blind.hows[0] == "random" and accuracy(blind, "random") < 65


VARIANTS = {
    "grid": (600, {"policy": "grid", "grid": 3}),
    "straight-through": (250, {"policy": "grid", "grid": 3, "estimator": "straight-through"}),
    # Told nothing by the policy, the filters learn what is asked and not where it is: 1 of 4 seeds. With shaping, 4 of 4.
    "conv": (400, {"glimpse": "conv", "std": 1.0, "shaping": 0.1}),
    "lstm": (250, {"core": "lstm", "shaping": 0.1}),
    "constant": (250, {"baseline": "constant"}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_every_variant_learns_where_to_look(steps, changes):
    accuracy = probe(CueConfig(), steps, **changes)
    assert accuracy("mean") >= 90 and accuracy("random") < 70


@pytest.mark.slow
def test_a_context_learns_where_to_start():
    """With one glimpse there is nothing else to go by."""
    accuracy = probe(CueConfig(glimpses=1), 250, context=3)
    assert accuracy("mean") >= 90 and accuracy("random") < 70


def probe(config, steps, **changes):
    """Learn a probe world; returns the accuracy in percent of a way of looking."""
    task = config.build()
    test = next(task.batches("test", batch_size=1000))
    settings = RAMConfig(hidden=64, features=32, std=0.5, rollouts=8, baseline="leave-one-out", reward="log-likelihood")
    torch.manual_seed(0)
    agent = replace(settings, **changes).build(task.spec)
    fit(Learner(agent, LearnerConfig(learning_rate=3e-3), steps), task.batches("train", batch_size=32), steps=steps)
    return lambda how: 100 - task.score(agent.answer(test.question, how), test)["error"].mean().item()


@pytest.mark.parametrize("core", ["relu", "lstm"])
@pytest.mark.parametrize("baseline", ["none", "constant", "learned"])
def test_on_a_grid_the_mean_gradient_is_the_enumerated_one(baseline, core):
    """Every sequence of places, each with its probability: the estimate's mean, without sampling error."""
    agent = agent_of(policy="grid", grid=2, baseline=baseline, core=core, reward="log-likelihood")
    batch = batch_of(count=1)
    parameters = list(agent.locator.parameters())
    mean, expected = [torch.zeros_like(p) for p in parameters], torch.zeros((), dtype=D)
    for cells in itertools.product(range(4), repeat=GLIMPSES - 1):
        actions = torch.tensor(cells, dtype=D).view(-1, 1, 1, 1)
        agent._mover = lambda *_, actions=actions: lambda i, parameters: agent._go(actions[i])
        (rollout,) = [agent.look_around(batch.question, agent._mover(), 1)]
        log_prob = agent.policy.log_prob(rollout.drawn, rollout.parameters).sum()
        reward = agent.classifier(rollout.hidden[-1]).log_softmax(-1)[..., batch.target].mean().detach()
        expected = expected - log_prob.exp() * reward
        estimate = torch.autograd.grad(agent.loss(batch).total, parameters)
        mean = [m + log_prob.exp().detach() * g for m, g in zip(mean, estimate)]
    for found, wanted in zip(mean, torch.autograd.grad(expected, parameters)):
        assert wanted.abs().max() > 1e-4
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)


def test_a_relaxed_choice_trains_the_policy_by_the_cross_entropy():
    for estimator in ("straight-through", "gumbel"):
        agent, batch = agent_of(policy="grid", grid=2, estimator=estimator), batch_of()
        assert agent.baseline is None and agent.separate == ()
        loss = agent.loss(batch)
        assert loss.total == loss.terms["nll"] and "reinforce" not in loss.terms
        assert torch.autograd.grad(loss.total, agent.locator.weight)[0].abs().sum() > 0


def test_a_trained_control_has_no_policy():
    batch = batch_of()
    for gaze in ("random", "centre", "raster"):
        agent = agent_of(gaze=gaze)
        assert agent.locator is None and agent.baseline is None and agent.hows[0] == gaze
        assert set(agent.loss(batch).terms) == {"nll", "error"}
        trace = agent.answer(batch.question).trace
        assert trace.log_prob is None and trace.entropy is None
        with pytest.raises(ValueError, match="how must be one of"):
            agent.answer(batch.question, "mean")


def test_a_context_reaches_the_locator_only():
    agent, batch = agent_of(context=2, double=False), batch_of(double=False)
    loss = agent.loss(batch)
    weight = agent.locator.context.weight
    assert torch.autograd.grad(loss.total, weight, retain_graph=True)[0].any()
    answer = agent.answer(batch.question)
    assert answer.trace.log_prob.shape == (B, GLIMPSES)
    assert (answer.trace.sensed == GLIMPSES * SPEC.glimpse_size + SPEC.channels * 4).all()
    loss = agent.loss(batch)
    nll = loss.terms["nll"].item()
    with torch.no_grad():
        agent.locator.weight.zero_()
        agent.locator.bias.zero_()
        one = agent.loss(batch).terms["nll"]
        weight *= -3
        assert agent.loss(batch).terms["nll"] == one != nll


@pytest.mark.parametrize("cost", [0.0, 0.3])
def test_with_stopping_the_mean_gradient_is_the_enumerated_one(cost):
    """Every way to stop and every sequence of places, each with its probability; the gradient in the locator and in the stopper."""
    agent = agent_of(policy="grid", grid=2, baseline="learned", reward="log-likelihood", stop=True, glimpse_cost=cost)
    with torch.no_grad():
        agent.stopper.bias += 2.0
    batch = batch_of(count=1)
    parameters = [*agent.locator.parameters(), *agent.stopper.parameters()]
    mean, expected, total = [torch.zeros_like(p) for p in parameters], torch.zeros((), dtype=D), 0.0
    stop = agent._stop
    for cells in itertools.product(range(4), repeat=GLIMPSES - 1):
        for end in range(GLIMPSES):
            actions = torch.tensor(cells, dtype=D).view(-1, 1, 1, 1)
            agent._mover = lambda *_, actions=actions: lambda i, parameters, actions=actions: agent._go(actions[i])
            noise = 1.0 - F.one_hot(torch.tensor(end), GLIMPSES)[:-1].to(D).view(-1, 1, 1)
            agent._stop = lambda rollout, _, noise=noise: stop(rollout, noise)
            rollout = agent.look_around(batch.question, agent._mover(), 1)
            stops = agent.stopper(rollout.before.detach()).flatten().sigmoid()
            gaze = agent.policy.log_prob(rollout.drawn, rollout.parameters).flatten()
            log_prob = (1 - stops[:end]).log().sum() + gaze[:end].sum() + (stops[end].log() if end < GLIMPSES - 1 else 0.0)
            share = 4.0 ** -(GLIMPSES - 1 - end)  # places after the end are counted so often
            reward = agent.classifier(rollout.hidden[end]).log_softmax(-1)[..., batch.target].mean().detach() - cost * end
            expected = expected - share * log_prob.exp() * reward
            total += share * log_prob.exp().item()
            loss = agent.loss(batch)
            assert loss.terms["glimpses"] == end + 1
            estimate = torch.autograd.grad(loss.total, parameters)
            mean = [m + share * log_prob.exp().detach() * g for m, g in zip(mean, estimate)]
    assert total == pytest.approx(1.0)
    for found, wanted in zip(mean, torch.autograd.grad(expected, parameters)):
        assert wanted.abs().max() > 1e-4
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"core": "lstm"}, {"policy": "grid", "grid": 3}, {"stop": True}], ids=str)
@pytest.mark.parametrize("how", ["mean", "sampled"])
def test_a_gaze_depends_on_what_was_seen_before_it_alone(how, settings):
    """Every pixel is changed by itself: the path may change after the first glimpse in which it is seen, and not with it."""
    agent, pixels = agent_of(double=False, **settings), SPEC.height * SPEC.width
    image, key = (
        4 * torch.randn(1, SPEC.channels, SPEC.height, SPEC.width),
        keys(0, "test", torch.zeros(1 + pixels, dtype=torch.long)),
    )
    changed = 9 * torch.eye(pixels).view(pixels, 1, SPEC.height, SPEC.width)
    question = ask(torch.cat([image, image + changed]), torch.zeros(1 + pixels, 2), key, EYE)
    answer = agent.answer(question, how)
    path, answers = answer.trace.gaze, answer.output
    seen = torch.stack([question.look(path[:1, t].expand(1 + pixels, -1)).flatten(1) for t in range(GLIMPSES)], 1)
    differs = ((seen[1:] - seen[:1]).abs() > 1e-3).any(-1)
    first = torch.where(differs.any(1), differs.float().argmax(1), GLIMPSES)
    assert {0, GLIMPSES} < set(first.tolist())  # some are seen at once, some never, and some in between
    for pixel, glimpse in enumerate(first.tolist(), 1):
        torch.testing.assert_close(path[pixel, : glimpse + 1], path[0, : glimpse + 1], rtol=1e-4, atol=1e-4)
        if glimpse == GLIMPSES:
            torch.testing.assert_close(answers[pixel], answers[0], rtol=1e-3, atol=1e-3)
    assert any(
        (path[p, f + 1 :] - path[0, f + 1 :]).abs().max() > 1e-2 for p, f in enumerate(first.tolist(), 1) if f < GLIMPSES - 1
    )


def test_an_early_answer_is_that_of_its_glimpse_and_costs_no_more():
    agent, batch = agent_of(stop=True, double=False), batch_of(double=False)
    with torch.no_grad():
        agent.stopper.weight.zero_()
        for bias, glimpses in ((9.0, 1), (-9.0, GLIMPSES)):
            agent.stopper.bias.fill_(bias)
            answer = agent.answer(batch.question)
            assert (answer.trace.glimpses == glimpses).all()
            assert (answer.trace.sensed == glimpses * SPEC.glimpse_size).all()
            torch.testing.assert_close(answer.output.exp(), answer.trace.belief[:, glimpses - 1])


@pytest.mark.slow
def test_it_learns_when_it_has_seen_enough():
    """Of four glimpses the probe needs two."""
    task = CueConfig(glimpses=4).build()
    test = next(task.batches("test", batch_size=1000))
    torch.manual_seed(0)
    agent = RAMConfig(
        hidden=64, features=32, std=0.5, rollouts=8, baseline="leave-one-out", reward="correct", stop=True, glimpse_cost=0.1
    ).build(task.spec)
    fit(Learner(agent, LearnerConfig(learning_rate=3e-3), 400), task.batches("train", batch_size=32), steps=400)
    answer = agent.answer(test.question)
    glimpses = answer.trace.sensed.mean() / task.spec.glimpse_size
    assert task.score(answer, test)["error"].mean() < 10 and 1.5 < glimpses < 2.6


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"standardised": True, "shaping": 0.5},
        {"core": "lstm", "rollouts": 3, "baseline": "leave-one-out", "policy": "grid", "grid": 2},
    ],
)
def test_a_replayed_rollout_has_the_gradient_of_the_rollout_until_the_policy_moves(settings):
    agent, batch = agent_of(**settings), batch_of()
    parameters = list(agent.parameters())
    direct = torch.autograd.grad(agent.loss(batch).total, parameters)
    acted = agent.act(batch)
    for found, expected in zip(torch.autograd.grad(agent.loss(acted).total, parameters), direct):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    with torch.no_grad():  # a policy that has moved far away gets no gradient from moves that it would hardly take
        agent.locator.bias -= 50 * torch.sign(agent.locator.bias)
    assert agent.loss(acted).total.isfinite()


def test_what_cannot_be_replayed_is_refused():
    for settings in ({"stop": True}, {"gaze": "random"}, {"baseline": "self-critical"}):
        with pytest.raises(ValueError, match="can be replayed"):
            agent_of(**settings).act(batch_of())


@pytest.mark.slow
def test_ppo_learns_where_to_look():
    task = CueConfig().build()
    test = next(task.batches("test", batch_size=1000))
    torch.manual_seed(0)
    settings = RAMConfig(hidden=64, features=32, std=0.5, rollouts=8, baseline="leave-one-out", reward="log-likelihood")
    agent = settings.build(task.spec)
    learner = Replaying(Learner(agent, LearnerConfig(learning_rate=3e-3), 250), epochs=2)
    fit(learner, task.batches("train", batch_size=32), steps=250)
    error = {how: task.score(agent.answer(test.question, how), test)["error"].mean() for how in ("mean", "random")}
    assert error["mean"] < 10 and error["random"] > 30
