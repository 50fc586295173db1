"""An LSTM over given sums is PyTorch's, and so is its way back."""

import torch

from hardattn.lstm_chain import outputs


def test_outputs_and_gradients_are_those_of_an_lstm():
    torch.manual_seed(0)
    layer, x = torch.nn.LSTM(3, 4).double(), torch.randn(6, 5, 3, dtype=torch.float64)
    sums = torch.nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    ours, theirs = outputs(sums, layer.weight_hh_l0), layer(x)[0]
    torch.testing.assert_close(ours, theirs)
    pull = torch.randn(6, 5, 4, dtype=torch.float64)
    weights = list(layer.parameters())
    for mine, reference in zip(*(torch.autograd.grad((pull * y).sum(), weights) for y in (ours, theirs))):
        torch.testing.assert_close(mine, reference)


def test_who_asks_twice_is_told_the_same():
    sums, recurrent = torch.randn(3, 2, 8, requires_grad=True), torch.randn(8, 2, requires_grad=True)
    made = outputs(sums, recurrent).sum()
    first = torch.autograd.grad(made, (sums, recurrent), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(made, (sums, recurrent))))
