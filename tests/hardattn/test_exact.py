"""Enumeration is itself checked on expectations that are known; then it checks the estimators, and the agents that draw."""

import math

import pytest
import torch

from agents.memory_network import MemoryNetworkConfig
from agents.ram import RAMConfig
from envs.cue import CueConfig
from hardattn.contract import Batch, StorySpec
from hardattn.estimators import leave_one_out, score_function
from hardattn.exact import expectation, flat_gradient, gradients, numerical_gradient, paths, relative_difference
from hardattn.noise import keys
from hardattn.policies import GridGaze

LOGITS = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
REWARD = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0], [2.0, 2.0, 0.1]], dtype=torch.float64)


def two_moves(logits):
    """The second policy depends on the first move."""

    def run(choose):
        first = choose(logits)
        second = choose(logits * (1 + first))
        log_prob = logits.log_softmax(-1)[first] + (logits * (1 + first)).log_softmax(-1)[second]
        return REWARD[first, second], log_prob, int(first), int(second)

    return run


def test_all_paths_are_found_once_with_their_probabilities():
    found = list(paths(two_moves(LOGITS)))
    assert [path.choices for path in found] == [(i, j) for i in range(3) for j in range(3)]
    assert all(path.result[2:] == path.choices for path in found)
    for path in found:
        i, j = path.choices
        wanted = LOGITS.softmax(-1)[i] * (LOGITS * (1 + i)).softmax(-1)[j]
        assert path.log_prob.exp().item() == pytest.approx(wanted.item())


def test_paths_may_end_early_and_choices_may_be_forbidden():
    def run(choose):
        return 1 + int(choose(torch.zeros(3))) if int(choose(torch.tensor([0.0, -math.inf, 0.0]))) else 0

    found = list(paths(run))
    assert [(path.choices, path.result) for path in found] == [((0,), 0), ((2, 0), 1), ((2, 1), 2), ((2, 2), 3)]
    assert sum(path.log_prob.exp().item() for path in found) == pytest.approx(1)


def test_choices_of_several_rows_are_independent():
    chosen = [path.result.tolist() for path in paths(lambda choose: choose(torch.zeros(2, 2, 2)))]
    assert len(chosen) == 16 and chosen[0] == [[0, 0], [0, 0]] and chosen[6] == [[0, 1], [1, 0]]


def test_a_computation_without_choices_has_one_path():
    (path,) = paths(lambda choose: 7)
    assert path.result == 7 and path.log_prob == 0 and path.choices == ()


def test_too_many_paths_and_changing_computations_are_refused():
    with pytest.raises(ValueError, match="more than 8 paths"):
        list(paths(two_moves(LOGITS), limit=8))
    assert len(list(paths(two_moves(LOGITS), limit=9))) == 9
    seen = []

    def forgetful(choose):
        seen.append(1)
        first = choose(torch.tensor([0.0 if len(seen) == 1 else -math.inf, 0.0]))
        return first, choose(torch.zeros(2))

    with pytest.raises(ValueError, match="choice 0 was possible before"):
        list(paths(forgetful))


def test_the_three_gradients_agree_and_a_wrong_one_does_not():
    logits = LOGITS.clone().requires_grad_()

    def run(choose):
        reward, log_prob, *_ = two_moves(logits)(choose)
        return reward, reward * log_prob

    found = gradients(run, [logits])
    torch.testing.assert_close(found.estimated, found.exact)
    torch.testing.assert_close(flat_gradient(expectation(lambda choose: run(choose)[0]), [logits]), found.exact)
    numerical = numerical_gradient(lambda: expectation(lambda choose: run(choose)[0]), [logits])
    torch.testing.assert_close(numerical, found.exact, rtol=1e-6, atol=1e-8)
    assert torch.equal(logits.detach(), LOGITS) and found.paths == 9

    def biased(choose):
        reward, _, first, _ = two_moves(logits)(choose)
        return reward, reward * logits.log_softmax(-1)[first]  # the second move is forgotten

    assert (gradients(biased, [logits]).estimated - found.exact).abs().max() > 0.1


def test_a_direction_is_a_product_with_the_gradient():
    a, b = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    direction = torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    rise = numerical_gradient(lambda: a.square().sum() * b.sum(), [a, b], direction)
    assert rise.item() == pytest.approx(1 * 6.0 + 2 * 5.0)


def test_leave_one_out_is_unbiased_over_all_pairs_of_rollouts():
    logits = LOGITS.clone().requires_grad_()

    def run(choose):
        moves = choose(logits.expand(2, 3))  # two rollouts [m] of one example
        log_prob, reward = logits.log_softmax(-1)[moves], REWARD[0, moves]
        log_prob, reward = log_prob[None, :, None], reward[None, :, None]
        return reward.mean(), -score_function(log_prob, reward, leave_one_out(reward))

    found = gradients(run, [logits])
    torch.testing.assert_close(found.estimated, found.exact)


class Story:
    """Two sentences of two words, most recent first, and a question of one."""

    sentences = torch.tensor([[[1, 2], [3, 4]]])
    query = torch.tensor([[3, 0]])
    key = keys(0, "story", torch.arange(1))


@pytest.mark.parametrize("baseline", ["learned", "none"])
def test_hard_hops_of_a_memory_network(monkeypatch, baseline):
    """Which sentence a hop reads is asked of the enumeration instead of the noise. The loss then reads what was read before."""
    torch.manual_seed(0)
    spec = StorySpec(("", "a", "b", "c", "d"), sentences=2, words=2)
    agent = MemoryNetworkConfig(hops=2, width=3, random_noise=0.0, access="sampled", baseline=baseline).build(spec).double()
    with torch.no_grad():
        agent.tables.mul_(5)  # far from uniform
    batch = Batch(Story(), torch.tensor([2]))

    def run(choose):
        def reading(of):
            def replayed(scores, access, noise):
                place = of(scores)
                weights = torch.nn.functional.one_hot(place, scores.shape[-1]).to(scores)
                return weights, scores.log_softmax(-1).gather(-1, place[..., None]).squeeze(-1)

            monkeypatch.setattr("agents.memory_network.choose", replayed)

        read = []
        reading(lambda scores: read.append(choose(scores)) or read[-1])
        hops = agent.read(batch.question, "sampled", key=batch.question.key)
        nll = torch.nn.functional.cross_entropy(hops.logits[:, 0], batch.target)
        again = iter(read)
        reading(lambda scores: next(again))
        return nll, agent.loss(batch).total

    parameters = [p for name, p in agent.named_parameters() if not name.startswith("baseline")]
    found = gradients(run, parameters)
    assert found.paths == 4 and found.exact.norm() > 0.01
    assert relative_difference(found.estimated, found.exact) < 1e-10
    numerical = numerical_gradient(lambda: expectation(lambda choose: run(choose)[0]), parameters)
    assert relative_difference(found.exact, numerical) < 1e-6


def test_the_relative_difference_is_that_of_the_largest_numbers():
    wanted = torch.tensor([4.0, 0.0, -2.0])
    assert relative_difference(torch.tensor([4.0, 1.0, -2.0]), wanted) == 0.25 and relative_difference(wanted, wanted) == 0
    with pytest.raises(ValueError, match="not zero throughout"):
        relative_difference(wanted, torch.zeros(3))


def test_the_grid_gaze_of_ram():
    """It acts without gradient, so that only finite differences know the truth. The state is a constant to the policy: its gradient is checked alone."""
    torch.manual_seed(0)
    task = CueConfig(glimpses=3, frozen=4).build()
    config = RAMConfig(hidden=5, features=3, policy="grid", grid=2, reward="log-likelihood", baseline="learned")
    agent = config.build(task.spec).double()
    assert agent.locator is not None
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.mul_(2)
    batch = next(task.batches("train", batch_size=1))
    batch = batch._replace(question=batch.question._replace(image=batch.question.image.double()))

    def run(choose):
        class Replayed(GridGaze):
            def draw(self, parameters, noise):
                return choose(parameters)[..., None].to(parameters)

        agent.policy = Replayed(2)
        loss = agent.loss(batch)
        return loss.terms["nll"], loss.total

    parameters = list(agent.locator.parameters())
    estimated = gradients(run, parameters).estimated
    directions = torch.randn(3, len(estimated), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rises = numerical_gradient(lambda: expectation(lambda choose: run(choose)[0]), parameters, directions)
    assert rises.abs().max() > 1e-4 and relative_difference(directions @ estimated, rises) < 1e-6
