"""Soft access to slots against numbers worked by hand, and against its own derivative."""

import math

import pytest
import torch

from hardattn.attention import additive_score, choose, soft_read

D = torch.float64


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def test_the_score_is_that_of_the_paper():
    keys = torch.tensor([[[0.5, -1.0], [2.0, 0.0]]], dtype=D)
    query, v = torch.tensor([[0.5, 1.0]], dtype=D), torch.tensor([3.0, -2.0], dtype=D)
    expected = [3 * math.tanh(1.0) - 2 * math.tanh(0.0), 3 * math.tanh(2.5) - 2 * math.tanh(1.0)]
    assert additive_score(keys, query, v).tolist() == [pytest.approx(expected)]


def test_a_read_worked_by_hand():
    scores = torch.tensor([[0.0, math.log(3.0)]], dtype=D)
    read, weights = soft_read(scores, torch.tensor([[[4.0, 0.0], [8.0, 1.0]]], dtype=D))
    assert weights.tolist() == [pytest.approx([0.25, 0.75])] and read.tolist() == [pytest.approx([7.0, 0.75])]


def test_equal_scores_read_the_mean():
    values = numbers(3, 5, 4)
    read, weights = soft_read(torch.full((3, 5), 7.0, dtype=D), values)
    torch.testing.assert_close(read, values.mean(1))
    torch.testing.assert_close(weights, torch.full((3, 5), 0.2, dtype=D))


def test_a_high_score_reads_its_slot():
    values, scores = numbers(2, 4, 3), torch.zeros(2, 4, dtype=D)
    scores[0, 1] = scores[1, 3] = 1e3
    assert torch.equal(soft_read(scores, values)[0], torch.stack([values[0, 1], values[1, 3]]))


def test_what_is_masked_has_no_weight_whatever_its_score():
    scores, values, mask = numbers(2, 4), numbers(2, 4, 3, seed=1), torch.tensor([[True, True, False, False], [True] * 4])
    scores[0, 2] = 1e6
    read, weights = soft_read(scores, values, mask)
    alone, of_the_rest = soft_read(scores[:1, :2], values[:1, :2])
    assert torch.equal(weights[0, 2:], torch.zeros(2, dtype=D))
    torch.testing.assert_close((read[:1], weights[:1, :2]), (alone, of_the_rest))
    torch.testing.assert_close(read[1:], soft_read(scores[1:], values[1:])[0])


def test_an_example_without_slots_reads_zeros_and_has_a_gradient():
    scores, values = numbers(2, 3).requires_grad_(), numbers(2, 3, 2)
    read, weights = soft_read(scores, values, torch.tensor([[False] * 3, [True] * 3]))
    assert not read[0].any() and not weights[0].any() and weights[1].sum().item() == pytest.approx(1)
    (gradient,) = torch.autograd.grad(read.sum(), scores)
    assert gradient.isfinite().all() and not gradient[0].any()


def test_slots_have_no_order():
    keys, query, v, values = numbers(2, 5, 3), numbers(2, 3, seed=1), numbers(3, seed=2), numbers(2, 5, 4, seed=3)
    order = torch.tensor([3, 0, 4, 1, 2])
    read, weights = soft_read(additive_score(keys, query, v), values)
    again, permuted = soft_read(additive_score(keys[:, order], query, v), values[:, order])
    torch.testing.assert_close((again, permuted), (read, weights[:, order]))


def test_leading_axes_read_the_same_slots_again():
    keys, query, v, values = numbers(2, 5, 3), numbers(6, 4, 2, 3, seed=1), numbers(3, seed=2), numbers(2, 5, 4, seed=3)
    mask = torch.tensor([[True, False, True, True, True], [True] * 5])
    scores = additive_score(keys.expand(6, 4, 2, 5, 3), query, v)
    read, weights = soft_read(scores, values, mask)
    assert read.shape == (6, 4, 2, 4) and weights.shape == (6, 4, 2, 5)
    one = soft_read(additive_score(keys, query[5, 2], v), values, mask)
    torch.testing.assert_close((read[5, 2], weights[5, 2]), one)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_is_that_of_the_value(masked):
    inputs = (numbers(2, 3, 4), numbers(2, 4, seed=1), numbers(4, seed=2), numbers(2, 3, 2, seed=3))
    mask = torch.tensor([[True, False, True], [True] * 3]) if masked else None

    def read(keys, query, v, values):
        return soft_read(additive_score(keys, query, v), values, mask)

    assert torch.autograd.gradcheck(read, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_sum_to_one_in_every_precision(dtype):
    read, weights = soft_read(numbers(2, 300).to(dtype), numbers(2, 300, 3, seed=1).to(dtype))
    assert read.dtype == dtype and weights.dtype == (torch.float64 if dtype == D else torch.float32)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[:, 0]))


def test_hard_ways_choose_one_slot_with_the_gradient_they_promise():
    """Over many draws: slots come up as often as their probability says, and each way has its own gradient."""
    scores = torch.tensor([0.3, -1.0, 1.2], dtype=D, requires_grad=True)
    many = scores.expand(40_000, 3)
    noise = torch.rand(40_000, 3, dtype=D, generator=torch.Generator().manual_seed(1))
    p, value = scores.detach().softmax(-1), torch.tensor([2.0, -1.0, 0.5], dtype=D)
    exact = p * (value - p @ value)  # of the expected value
    for access in ("sampled", "straight-through", "gumbel"):
        weights, log_prob = choose(many, access, noise)
        assert torch.equal(weights.detach().round().sum(-1), torch.ones(40_000, dtype=D))
        torch.testing.assert_close(weights.detach().mean(0), p, atol=0.01, rtol=0)
        torch.testing.assert_close(log_prob, (weights.detach().round() * scores.log_softmax(-1)).sum(-1))
    weights, log_prob = choose(many, "sampled", noise)
    assert not weights.requires_grad
    (estimate,) = torch.autograd.grad((log_prob * (weights @ value)).mean(), scores)
    torch.testing.assert_close(estimate, exact, atol=0.02, rtol=0)
    (through,) = torch.autograd.grad((choose(many, "straight-through", noise)[0] @ value).mean(), scores)
    torch.testing.assert_close(through, exact)  # exact here, where the value is linear in the weights


def test_soft_and_argmax_need_no_noise():
    scores = numbers(4, 5)
    weights, log_prob = choose(scores, "soft")
    assert torch.equal(weights, scores.softmax(-1)) and not log_prob.any()
    weights, log_prob = choose(scores, "argmax")
    assert torch.equal(weights.argmax(-1), scores.argmax(-1)) and torch.equal(weights.sum(-1), torch.ones(4, dtype=D))
    torch.testing.assert_close(log_prob, scores.log_softmax(-1).amax(-1))
    with pytest.raises(ValueError, match="draws a slot"):
        choose(scores, "sampled")
