"""Estimators must have the mean of the exact gradient, and the test that says so must be able to say the opposite.

The small case: two moves of three actions each; the second policy depends on the first action. Every example pays its own
reward for every sequence, so that the exact gradient is a sum over nine sequences.
"""

import math

import pytest
import torch
from torch.distributions import Normal

from hardattn.estimators import (
    baseline_loss,
    baseline_of,
    batch_mean,
    clipped_surrogate,
    expected_reward,
    gaussian_entropy,
    gaussian_log_prob,
    generalised_advantage,
    leave_one_out,
    relative_variance,
    returns_to_go,
    score_function,
)

ROLLOUTS, EXAMPLES, DRAWS = 4, 3, 600
GENERATOR = torch.Generator().manual_seed(0)
FIRST, SECOND = (0.5 * torch.randn(*shape, generator=GENERATOR) for shape in ((3,), (3, 3)))
REWARD_1, REWARD_2 = (1.0 + torch.rand(*shape, generator=GENERATOR) for shape in ((EXAMPLES, 3), (EXAMPLES, 3, 3)))
EXAMPLE = torch.arange(EXAMPLES)


def exact_gradient() -> torch.Tensor:
    """Of minus the expected return, mean over examples, in all 12 logits."""
    first, second = FIRST.clone().requires_grad_(), SECOND.clone().requires_grad_()
    log_prob = (first.log_softmax(-1)[:, None] + second.log_softmax(-1)).view(9, 1).expand(9, EXAMPLES)
    reward = (REWARD_1[:, :, None] + REWARD_2).view(EXAMPLES, 9).T
    gradients = torch.autograd.grad(-expected_reward(log_prob, reward).mean(), (first, second))
    return torch.cat([g.flatten() for g in gradients])


def draws(surrogate, count=DRAWS):
    """Independent draws of the gradient of `surrogate(log_prob, returns, actions)`; all shapes are [2, m, b]."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        first, second = FIRST.clone().requires_grad_(), SECOND.clone().requires_grad_()
        log_1, log_2 = first.log_softmax(-1), second.log_softmax(-1)
        a = log_1.detach().exp().multinomial(ROLLOUTS * EXAMPLES, True, generator=generator).view(ROLLOUTS, EXAMPLES)
        b = log_2.detach().exp()[a.flatten()].multinomial(1, generator=generator).view(ROLLOUTS, EXAMPLES)
        log_prob = torch.stack([log_1[a], log_2[a, b]])
        returns = returns_to_go(torch.stack([REWARD_1[EXAMPLE, a], REWARD_2[EXAMPLE, a, b]]))
        gradients = torch.autograd.grad(surrogate(log_prob, returns, torch.stack([a, b])), (first, second))
        yield torch.cat([g.flatten() for g in gradients])


def worst_error(surrogate) -> float:
    """The largest deviation of a coordinate's mean from the exact gradient, in standard errors."""
    stacked = torch.stack(list(draws(surrogate)))
    error = stacked.std(0) / math.sqrt(len(stacked))
    return ((stacked.mean(0) - exact_gradient()).abs() / error).max().item()


def with_baseline(kind):
    def surrogate(log_prob, returns, actions):
        """The learned baseline is an arbitrary function of the state before the move: the example, and then the first action."""
        learned = torch.stack([2.0 + 0.0 * actions[0], 0.5 * actions[0]]) + 0.3 * EXAMPLE
        greedy_1 = FIRST.argmax()
        greedy_2 = SECOND[greedy_1].argmax()
        rewards = torch.stack([REWARD_1[:, greedy_1], REWARD_2[:, greedy_1, greedy_2]])
        return score_function(log_prob, returns, baseline_of(kind, returns, learned=learned, greedy=returns_to_go(rewards)))

    return surrogate


KINDS = ("none", "learned", "batch-mean", "leave-one-out", "self-critical")


@pytest.mark.parametrize("kind", KINDS)
def test_mean_of_the_estimator_is_the_exact_gradient(kind):
    assert worst_error(with_baseline(kind)) < 4


def mean_with_itself(log_prob, returns, actions):
    return score_function(log_prob, returns, returns.mean(1, keepdim=True).expand_as(returns))


def knows_its_own_action(log_prob, returns, actions):
    return score_function(log_prob, returns, 0.5 * actions.float())


def one_advantage_for_all_rollouts(log_prob, returns, actions):
    """Log-probabilities averaged over rollouts before they meet one shared advantage: a fault of a public implementation."""
    return score_function(log_prob.mean(1, keepdim=True), returns.mean(1, keepdim=True), 2.7)


def past_rewards_only(log_prob, returns, actions):
    return score_function(log_prob, returns[:1] - returns)


def advantage_with_gradient(log_prob, returns, actions):
    return -(log_prob * (returns - log_prob)).sum(0).mean()


@pytest.mark.parametrize(
    "wrong",
    [mean_with_itself, knows_its_own_action, one_advantage_for_all_rollouts, past_rewards_only, advantage_with_gradient],
)
def test_a_wrong_estimator_is_found_out(wrong):
    assert worst_error(wrong) > 8


def test_baselines_lower_the_variance():
    variance = {kind: relative_variance(draws(with_baseline(kind), 150))[0] for kind in KINDS}
    assert variance["leave-one-out"] < variance["none"] / 4
    assert variance["batch-mean"] < variance["none"] / 4


def test_returns_and_baseline_are_constants_to_the_policy():
    log_prob, returns, baseline = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(3))
    score_function(log_prob, returns, baseline).backward()
    torch.testing.assert_close(log_prob.grad, -(returns - baseline).detach() / 12)
    assert returns.grad is None and baseline.grad is None


def test_score_function_sums_over_time_and_averages_over_rollouts_and_examples():
    log_prob = torch.tensor([[[-1.0, -2.0]], [[-3.0, -4.0]]])  # [t=2, m=1, b=2]
    returns = torch.tensor([[[1.0, 0.0]], [[1.0, 2.0]]])
    assert score_function(log_prob, returns).item() == pytest.approx((1 + 3 + 8) / 2)
    assert score_function(log_prob, returns, torch.ones(2, 1, 2)).item() == pytest.approx((-2 + 4) / 2)


def test_learned_baseline_regresses_on_the_return_without_moving_it():
    baseline, returns = torch.tensor([[0.5, 0.0]], requires_grad=True), torch.tensor([[1.0, 2.0]], requires_grad=True)
    loss = baseline_loss(baseline, returns)
    loss.backward()
    assert loss.item() == pytest.approx((0.25 + 4) / 2)
    assert baseline.grad.tolist() == [[-0.5, -2.0]] and returns.grad is None


def test_returns_to_go_by_hand():
    reward = torch.tensor([[1.0, 0.0], [2.0, -1.0], [4.0, 5.0]])
    assert returns_to_go(reward).tolist() == [[7.0, 4.0], [6.0, 4.0], [4.0, 5.0]]


def test_leave_one_out_by_hand():
    returns = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [8.0, 6.0]]])  # [t=1, m=3, b=2]
    assert leave_one_out(returns).tolist() == [[[5.5, 3.0], [4.5, 3.0], [2.0, 0.0]]]


def test_leave_one_out_of_one_rollout_is_refused():
    with pytest.raises(ValueError, match="at least 2 of them, found 1"):
        leave_one_out(torch.ones(3, 1, 4))


def test_batch_mean_by_hand():
    returns = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 3.0]]])  # [t=2, m=2, b=2]
    expected = torch.tensor([[[7, 8], [5, 4]], [[3, 3], [3, 0]]]) / 3
    torch.testing.assert_close(batch_mean(returns), expected)
    assert batch_mean(torch.ones(2, 1, 1)).tolist() == [[[0.0]], [[0.0]]]


def test_unknown_baseline_is_refused_or_never_gets_there():
    with pytest.raises(Exception, match="wishful"):
        baseline_of("wishful", torch.ones(1, 2, 2))


def test_gaussian_log_prob_is_that_of_torch():
    sample, mean = torch.randn(2, 3, 4, 5)
    for std in (0.15, 0.1 + torch.rand(3, 4, 5).view(3, 4, 5)):
        expected = Normal(mean, torch.as_tensor(std)).log_prob(sample).sum(-1)
        torch.testing.assert_close(gaussian_log_prob(sample.view(3, 4, 5), mean, std), expected.view(3, 4))
    double = gaussian_log_prob(sample.double(), mean.double(), 0.15)
    torch.testing.assert_close(double, Normal(mean.double(), 0.15).log_prob(sample.double()).sum(-1))


def test_gaussian_log_prob_moves_the_mean_and_not_the_sample():
    mean, noise = torch.zeros(4, 2, requires_grad=True), torch.randn(4, 2)
    gaussian_log_prob(mean + 0.5 * noise, mean, 0.5).sum().backward()
    torch.testing.assert_close(mean.grad, noise / 0.5)


def test_gaussian_entropy_is_that_of_torch():
    assert gaussian_entropy(0.15, 2) == pytest.approx(2 * Normal(0.0, 0.15).entropy().item())


def test_expected_reward_by_hand():
    log_prob = torch.tensor([[0.25, 0.5], [0.75, 0.5]]).log()
    torch.testing.assert_close(expected_reward(log_prob, torch.tensor([[4.0, 1.0], [0.0, 3.0]])), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("count", [8, 400])
def test_relative_variance_is_found_whatever_the_number_of_draws(count):
    """Normal draws around a mean of squared norm 4 with a trace of 50 x 0.04 = 2. Mean of many measurements, for few draws are noisy."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.zeros(50)
    centre[0] = 2.0
    found = [relative_variance(centre + 0.2 * torch.randn(count, 50, generator=generator))[0] for _ in range(4000 // count)]
    assert torch.stack(found).mean().item() == pytest.approx(0.5, rel=0.05)


def test_relative_variance_without_a_signal_is_infinite():
    draw = torch.randn(10)
    variance, mean = relative_variance([draw, -draw])
    assert variance.item() == math.inf and not mean.any()


def test_clipped_surrogate_by_hand():
    """Schulman et al. 2017, Figure 1: ratios 1, 2 and 1/2, with advantages of both signs, at clip 0.2."""
    ratio = torch.tensor([1.0, 2.0, 0.5, 1.0, 2.0, 0.5])
    advantage = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    log_prob = ratio.log()[None].clone().requires_grad_()
    loss = clipped_surrogate(log_prob, torch.zeros(1, 6), advantage[None])
    assert loss.item() == pytest.approx(-(1 + 1.2 + 0.5 - 1 - 2 - 0.8) / 6)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    torch.testing.assert_close(gradient[0] * 6, torch.tensor([-1.0, 0.0, -0.5, 1.0, 2.0, 0.0]))


# Advantages


def test_an_advantage_worked_by_hand():
    """Two episodes of three moves: one terminates, one is cut off, and one ends early."""
    reward = torch.tensor([[1.0, 1.0, 4.0], [0.0, 0.0, 0.0], [2.0, 2.0, 0.0]])
    value = torch.tensor([[0.5, 0.5, 1.0], [0.25, 0.25, 7.0], [1.0, 1.0, 7.0], [8.0, 8.0, 7.0]])
    terminated = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 0]]).bool()
    over = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 1]]).bool()
    found = generalised_advantage(reward, value, terminated, over, discount=0.5, decay=0.5)
    last = 2 - 1.0
    middle = 0.5 * 1.0 - 0.25 + 0.25 * last
    assert found[:, 0].tolist() == pytest.approx([1 + 0.5 * 0.25 - 0.5 + 0.25 * middle, middle, last])
    last = 2 + 0.5 * 8 - 1.0  # nobody knows what would have come: the value says
    middle = 0.5 * 1.0 - 0.25 + 0.25 * last
    assert found[:, 1].tolist() == pytest.approx([1 + 0.5 * 0.25 - 0.5 + 0.25 * middle, middle, last])
    assert found[0, 2].item() == 4 - 1


def test_without_values_and_discount_an_advantage_is_the_return_to_go():
    reward = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    over = torch.zeros(4, 6).bool()
    over[-1] = True
    found = generalised_advantage(reward, torch.zeros(5, 6), over, over)
    torch.testing.assert_close(found, returns_to_go(reward))
    one_step = generalised_advantage(reward, value := torch.randn(5, 6), over, over, decay=0.0)
    torch.testing.assert_close(one_step[0], reward[0] + value[1] - value[0])
