"""Distributions over places: what is drawn must follow the probabilities that are reported."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal

from hardattn.noise import keys
from hardattn.policies import GaussianGaze, GridGaze, grid

KEYS = keys(0, "test", torch.arange(5000))


@pytest.mark.parametrize("bounded", [False, True])
def test_gaussian_draws_are_those_of_its_log_probability(bounded):
    policy, mean = GaussianGaze(0.3, bounded), torch.tensor([0.5, -0.2]).expand(5000, 2)
    named = mean.atanh() if bounded else mean
    action = policy.draw(named, policy.noise(KEYS, 1)[:, 0])
    assert torch.equal(policy.place(action), action)
    torch.testing.assert_close(policy.likeliest(named), mean)
    assert (action.mean(0) - mean[0]).abs().max() < 5 * 0.3 / math.sqrt(5000)
    assert (action.std(0) / 0.3 - 1).abs().max() < 5 / math.sqrt(2 * 5000)
    expected = Normal(mean, 0.3)
    torch.testing.assert_close(policy.log_prob(action, named), expected.log_prob(action).sum(-1))
    torch.testing.assert_close(policy.entropy(named), expected.entropy().sum(-1))


def test_a_bounded_mean_stays_where_draws_still_differ():
    far = torch.tensor([7.0, -7.0]).expand(5000, 2)
    places = [GaussianGaze(0.3, bounded).draw(far, GaussianGaze(0.3).noise(KEYS, 1)[:, 0]) for bounded in (False, True)]
    beyond = [((x > 1) | (x < -1)).float().mean() for x in places]
    assert beyond[0] == 1 and 0.45 < beyond[1] < 0.55


def test_grid_draws_are_those_of_its_log_probability():
    policy, logits = GridGaze(2), torch.tensor([0.0, 1.0, -1.0, 0.5]).expand(5000, 4)
    action = policy.draw(logits, policy.noise(KEYS, 1)[:, 0])
    expected = Categorical(logits=logits)
    found = torch.bincount(action[:, 0].long(), minlength=4) / 5000
    assert (found - expected.probs[0]).abs().max() < 5 * 0.5 / math.sqrt(5000)
    torch.testing.assert_close(policy.log_prob(action, logits), expected.log_prob(action[:, 0]))
    torch.testing.assert_close(policy.entropy(logits), expected.entropy())
    assert (policy.likeliest(logits) == 1).all()


@pytest.mark.parametrize("noise", [1e-7, 1 - 6e-8])
def test_the_ends_of_the_noise_still_name_a_cell(noise):
    logits = torch.tensor([[-30.0, 0.0, 0.0, -30.0], [0.0, -30.0, -30.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
    action = GridGaze(2).draw(logits, torch.full((3, 1), noise))
    assert ((action >= 0) & (action <= 3)).all()


def test_places_of_the_grid_are_the_middles_of_its_cells_line_by_line():
    policy = GridGaze(2)
    places = policy.place(torch.arange(4.0)[:, None])
    torch.testing.assert_close(places, torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]))
    torch.testing.assert_close(grid(1, 2), torch.tensor([[-0.5, 0.0], [0.5, 0.0]]))


def test_places_that_were_first_asked_for_in_an_answer_can_be_used_in_training():
    grid.cache_clear()
    with torch.inference_mode():
        grid(3, 2)
    weights = torch.full((6,), 1 / 6, requires_grad=True)
    (weights @ grid(3, 2)).sum().backward()
    torch.testing.assert_close(weights.grad, grid(3, 2).sum(1))


def test_more_moves_do_not_change_the_noise_of_an_example():
    for policy in (GaussianGaze(0.3), GridGaze(3)):
        assert torch.equal(policy.noise(KEYS[:5], 4)[3:4], policy.noise(KEYS[3:4], 4))
