"""What must hold of every agent. A file of agents/ whose agents are not named here fails."""

import dataclasses
import importlib
import inspect
import itertools
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import agents
from agents.draw import DrawConfig
from agents.lstm import LSTMConfig
from agents.memory_network import MemoryNetworkConfig
from agents.ntm import NTMConfig
from agents.plain import ConvNetConfig, FullyConnectedConfig
from agents.player import PlayerConfig
from agents.ram import RAMConfig
from agents.rl_ntm import RLNTMConfig
from agents.soft_attention import SoftAttentionConfig
from envs.algorithms import CopyConfig
from envs.babi import BabiConfig
from envs.catch import CatchConfig
from envs.cue import CueConfig
from envs.play import PlayCatchConfig
from envs.tapes.exercises import ExercisesConfig
from envs.tapes.three_tapes import ThreeTapesConfig
from hardattn.contract import GlimpseSpec, StorySpec
from hardattn.learner import Learner, LearnerConfig
from hardattn.runs import load_into, load_weights, save_weights

CUE = CueConfig(glimpses=3, frozen=40).build()
STORIES = BabiConfig(source="generated", tasks=(1,), generated=100, memory=10).build()
COPY = CopyConfig(width=3, length=1, frozen=20).build()
CATCH = PlayCatchConfig(CatchConfig(height=5, width=5, side=3, scales=1), frozen=40).build()
EXERCISES = ExercisesConfig(tapes=ThreeTapesConfig(symbols=3, longest=2, steps=4, cells=5), frozen=20).build()
MACHINE = {"hidden": 6, "rows": 5, "columns": 4}
SMALL = {
    RAMConfig: [
        (RAMConfig(hidden=12, features=6), CUE),
        (RAMConfig(hidden=12, features=6, standardised=True), CUE),
        (RAMConfig(core="lstm", hidden=12, features=6, rollouts=2, baseline="leave-one-out", reward="log-likelihood"), CUE),
        (RAMConfig(hidden=12, features=6, policy="grid", grid=3, glimpse="conv", baseline="constant", context=2), CUE),
        (RAMConfig(hidden=12, features=6, policy="grid", grid=3, estimator="straight-through"), CUE),
        (RAMConfig(hidden=12, features=6, policy="grid", grid=3, estimator="gumbel", core="lstm"), CUE),
        (RAMConfig(hidden=12, features=6, gaze="random"), CUE),
        (RAMConfig(hidden=12, features=6, stop=True, glimpse_cost=0.1), CUE),
    ],
    SoftAttentionConfig: [
        (SoftAttentionConfig(channels=(6, 8), hidden=12, attention=6), CUE),
        (
            SoftAttentionConfig(
                channels=(8,), hidden=12, attention=6, reads=2, gate=False, doubly_stochastic=0.01, supervise="every"
            ),
            CUE,
        ),
    ],
    FullyConnectedConfig: [(FullyConnectedConfig(hidden=12), CUE)],
    ConvNetConfig: [(ConvNetConfig(channels=(4,), kernel=3, stride=1, hidden=12), CUE)],
    DrawConfig: [
        (DrawConfig(hidden=12, features=6), CUE),
        (DrawConfig(hidden=12, features=6, standardised=True, bounded=True), CUE),
        (DrawConfig(sensor="bilinear", core="relu", hidden=12, features=6, gradient="reinforce"), CUE),
    ],
    MemoryNetworkConfig: [
        (MemoryNetworkConfig(hops=2, width=8), STORIES),
        (MemoryNetworkConfig(hops=2, width=8, tying="layer-wise", access="sampled", position="paper"), STORIES),
        (MemoryNetworkConfig(hops=2, width=8, access="straight-through", position="none"), STORIES),
    ],
    NTMConfig: [
        (NTMConfig(**MACHINE), COPY),
        (NTMConfig(controller="feed-forward", heads=2, **MACHINE), COPY),
        (NTMConfig(access="sampled", baseline="learned", **MACHINE), COPY),
    ],
    LSTMConfig: [(LSTMConfig(hidden=6, layers=2), COPY)],
    RLNTMConfig: [
        (RLNTMConfig(controller="lstm", hidden=6), EXERCISES),
        (RLNTMConfig(controller="direct", hidden=6, baseline="online"), EXERCISES),
    ],
    PlayerConfig: [
        (PlayerConfig(hidden=6, features=5), CATCH),
        (PlayerConfig(hidden=6, features=5, shared=True, standardised=True), CATCH),
        (PlayerConfig(hidden=6, features=5, gaze="random", baseline="leave-one-out", rollouts=2, entropy=0.1), CATCH),
    ],
}
"""Every configuration class, with small settings and the task that its agent is built for."""
ROWS = 6


def configurations_of_the_folder():
    """By file: every dataclass that can build something."""
    for path in sorted(Path(agents.__file__).parent.glob("*.py")):
        if path.stem != "__init__":
            module = importlib.import_module(f"agents.{path.stem}")
            here = (found for _, found in inspect.getmembers(module, dataclasses.is_dataclass) if hasattr(found, "build"))
            yield path.name, {found for found in here if found.__module__ == module.__name__}


def test_every_agent_is_tested():
    for name, found in configurations_of_the_folder():
        assert found, f"agents/{name} defines no dataclass with build()"
        assert found <= set(SMALL), f"add the agents of agents/{name}, with small settings and a task, to SMALL"


CASES = [case for cases in SMALL.values() for case in cases]
HOWS = [(case, how) for case in CASES for how in case[0].build(case[1].spec).hows]


def name_of(case):
    return case if isinstance(case, str) else f"{type(case[0]).__name__}{CASES.index(case)}"


@pytest.fixture(params=CASES, ids=name_of)
def case(request):
    return request.param


def build(case, seed=0):
    torch.manual_seed(seed)
    return case[0].build(case[1].spec)


def batch_of(case, number=0, rows=ROWS):
    return next(case[1].batches("train", batch_size=rows, start=number))


def one_row(case, i):
    return next(case[1].batches("train", batch_size=1, start=i))


def same(one, other, **tolerance):
    """Whether two answers agree in all that they hold."""
    for a, b in zip((one.output, *one.trace), (other.output, *other.trace)):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **tolerance or {"rtol": 0, "atol": 0})


def test_settings_are_frozen_and_describe_the_agent(case):
    agent = build(case)
    assert isinstance(agent, nn.Module) and agent.config == case[0] and agent.spec == case[1].spec
    assert dataclasses.asdict(case[0]) == dataclasses.asdict(type(case[0])(**dataclasses.asdict(case[0])))
    assert agent.hows and all(
        isinstance(getattr(agent, name, None), nn.Module | None) for name in getattr(agent, "separate", ())
    )


def test_its_loss_is_finite_and_every_parameter_gets_a_gradient(case):
    agent, reached = build(case), set()
    for number in range(3):
        loss = agent(batch_of(case, number))
        assert loss.total.shape == () and loss.total.isfinite()
        assert loss.terms and not any(term.requires_grad or not term.isfinite() for term in loss.terms.values())
        loss.total.backward()
        reached |= {name for name, p in agent.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {name for name, _ in agent.named_parameters()}
    assert all(p.grad.isfinite().all() for p in agent.parameters())


def test_the_same_seed_and_batch_give_the_same_loss_and_gradient(case):
    found = []
    for _ in range(2):
        agent = build(case)
        torch.rand(1)  # no global generator is asked
        loss = agent.loss(batch_of(case))
        found.append((loss.total, torch.autograd.grad(loss.total, list(agent.parameters()))))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1]))


def test_its_loss_is_the_same_with_and_without_gradient(case):
    agent, batch = build(case), batch_of(case)
    with torch.no_grad():
        frozen = agent.loss(batch).total
    torch.testing.assert_close(agent.loss(batch).total, frozen)


@pytest.mark.parametrize(("case", "how"), HOWS, ids=name_of)
def test_every_way_of_answering_gives_what_the_task_scores(case, how):
    """One row for every question; of those that name something, log-probabilities."""
    agent, batch, spec = build(case), batch_of(case), case[1].spec
    answer = agent.answer(batch.question, how)
    assert len(answer.output) == ROWS and answer.output.isfinite().all() and not answer.output.requires_grad
    names = spec.classes if isinstance(spec, GlimpseSpec) else len(spec.vocabulary) if isinstance(spec, StorySpec) else None
    if names is not None:
        assert answer.output.shape == (ROWS, names)
        torch.testing.assert_close(answer.output.exp().sum(-1), torch.ones(ROWS))
    assert all(score.shape == (ROWS,) for score in case[1].score(answer, batch).values())
    for name, value in answer.trace._asdict().items():
        assert value is None or (len(value) == ROWS and value.isfinite().all()), name


@pytest.mark.parametrize(("case", "how"), HOWS, ids=name_of)
def test_a_batch_of_one_is_a_row_of_the_batch(case, how):
    agent, together = build(case), batch_of(case)
    answer = agent.answer(together.question, how, seed=3)
    for i in range(ROWS):
        alone = agent.answer(one_row(case, i).question, how, seed=3)
        row = answer._replace(
            output=answer.output[i : i + 1], trace=answer.trace._make(x if x is None else x[i : i + 1] for x in answer.trace)
        )
        same(row, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("case", "how"), HOWS, ids=name_of)
def test_nothing_is_remembered_between_batches(case, how):
    agent, (first, second) = build(case), (batch_of(case, i) for i in range(2))
    alone = agent.answer(second.question, how)
    agent.answer(first.question, how)
    agent.loss(first)
    same(agent.answer(second.question, how), alone)
    # RL-NTM has a curriculum and some players have moments of what they saw: both belong to the weights, and go on in training alone.
    assert not dict(agent.named_buffers()) or isinstance(case[0], RLNTMConfig) or getattr(case[0], "standardised", False)


def test_answers_are_blind_to_targets(case):
    """`answer` is not handed the targets; and a loss with other targets leaves nothing behind."""
    agent, batch = build(case), batch_of(case)
    before = agent.answer(batch.question)
    agent.loss(batch._replace(target=batch.target.roll(1)))
    same(agent.answer(batch.question), before)
    assert "target" not in inspect.signature(agent.answer).parameters
    assert not hasattr(batch.question, "target")


def test_answering_and_losing_change_no_weight(case):
    agent, batch = build(case), batch_of(case)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    agent.loss(batch).total.backward()
    agent.answer(batch.question)
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


def test_saved_and_loaded_it_answers_the_same(case, tmp_path):
    agent, other, batch = build(case), build(case, seed=1), batch_of(case)
    save_weights(tmp_path / "agent.safetensors", agent.state_dict(), dataclasses.asdict(case[0]))
    weights, config = load_weights(tmp_path / "agent.safetensors")
    assert type(case[0])(**config) == case[0]
    load_into(other, weights, tmp_path / "agent.safetensors")
    same(other.answer(batch.question), agent.answer(batch.question))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_it_learns_in_every_precision(case, precision):
    """Three steps on the same batch: the losses stay close to those in full precision, and the weights move."""
    agent, batch = build(case), batch_of(case)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    learner = Learner(agent, LearnerConfig(learning_rate=1e-2), 3, fabric)
    before = {name: value.detach().clone() for name, value in agent.named_parameters()}
    losses = [learner.update(batch, step)["loss"].item() for step in range(3)]
    assert all(not torch.equal(value, before[name]) for name, value in agent.named_parameters())
    agent.answer(batch.question)
    plain = Learner(build(case), LearnerConfig(learning_rate=1e-2), 3)
    assert losses[0] == pytest.approx(plain.update(batch, 0)["loss"].item(), abs=0.5 if "bf16" in precision else 1e-4)


def test_training_lowers_the_loss_of_what_it_sees(case):
    agent, batch = build(case), batch_of(case)
    learner = Learner(agent, LearnerConfig(learning_rate=1e-2), 60)
    terms = [learner.update(batch, step) for step in range(60)]
    if "return" in terms[0]:  # a player is not told what would have been right: tests/agents/test_player.py
        pytest.skip("learns from reward")
    nll = [(found["nll"] if "nll" in found else found["bits"]).item() for found in terms]
    drawn = isinstance(case[0], NTMConfig) and case[0].access == "sampled"  # rows that are drawn hide much of it at first
    assert sum(nll[-5:]) < (0.96 if drawn else 0.8) * sum(nll[:5])


def test_parts_that_share_no_gradient_really_share_none(case):
    """Every part named in `separate` can be clipped on its own: what reaches it reaches nothing else."""
    agent = build(case)
    parts = {name: list(getattr(agent, name).parameters()) for name in agent.separate if getattr(agent, name) is not None}
    for one, other in itertools.combinations(parts.values(), 2):
        assert not {id(p) for p in one} & {id(p) for p in other}


def test_ram_is_an_agent_of_the_contract():
    from hardattn.contract import Agent

    agent = RAMConfig().build(CUE.spec)
    assert isinstance(agent, Agent) and agent.hows[0] == "mean"
