"""Moments must be those of everything that was taken in, however it was portioned."""

import torch
from torch import nn

from hardattn.moments import LEAST, Moments

D = torch.float64


def observations(*lead, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(*lead, 4, generator=g, dtype=D) * torch.tensor([1.0, 0.1, 5.0, 1.0]) + torch.arange(4)


def test_portions_make_no_difference():
    moments, seen = Moments(4).double(), observations(60)
    for portion in (seen[:7].view(7, 1, 4), seen[7:8], seen[8:].view(2, 26, 4)):
        moments.learn(portion)
    torch.testing.assert_close(moments.mean, seen.mean(0))
    torch.testing.assert_close(moments.variance, seen.var(0, unbiased=False))
    assert moments.count == 60
    standard = moments(seen)
    torch.testing.assert_close(standard.mean(0), torch.zeros(4, dtype=D))
    torch.testing.assert_close(standard.var(0, unbiased=False), torch.ones(4, dtype=D))


def test_what_was_not_alive_does_not_count():
    moments, seen = Moments(4).double(), observations(9, 5)
    alive = torch.rand(9, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    moments.learn(seen.masked_fill(~alive[..., None], 1e6), alive)
    torch.testing.assert_close(moments.mean, seen[alive].mean(0))
    torch.testing.assert_close(moments.variance, seen[alive].var(0, unbiased=False))


def test_before_anything_was_seen_it_changes_nothing_and_what_never_changes_stays_small():
    moments = Moments(4).double()
    assert torch.equal(moments(observations(3)), observations(3))
    for _ in range(3):
        moments.learn(torch.full((8, 4), 0.25, dtype=D))
    assert torch.equal(moments(torch.full((1, 4), 0.25, dtype=D)), torch.zeros(1, 4, dtype=D))
    assert moments(torch.full((1, 4), 0.26, dtype=D)).max() <= 0.011 / LEAST**0.5


def test_a_layer_can_be_made_to_do_it_with_the_same_gradient():
    moments, seen = Moments(4).double(), observations(30)
    moments.learn(seen)
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    weight, bias = moments.before(layer)
    direct, folded = layer(moments(seen)), seen @ weight.T + bias
    torch.testing.assert_close(folded, direct)
    up = torch.randn(30, 3, dtype=D)
    moments.learn(2 * seen)  # what comes later does not change the gradient of what was
    for one, other in zip(*(torch.autograd.grad((y * up).sum(), list(layer.parameters())) for y in (folded, direct))):
        torch.testing.assert_close(one, other)
