"""The control must have the paper's size, to the last parameter, and be a plain deep LSTM."""

import math

import pytest
import torch
import torch.nn.functional as F

from agents.lstm import LSTMConfig
from hardattn.contract import SequenceSpec
from tests.agents.test_ntm import SPEC, D, batch_of


@pytest.mark.parametrize(
    ("inputs", "outputs", "hidden", "published"),
    [
        (10, 9, 256, 1_352_969),  # copy: two inputs and an output more than bits, as if it were repeat-copy with one repeat
        (8, 7, 512, 5_312_007),  # repeat-copy: 6 bits, delimiter, number of repeats; 6 bits, end marker
        (8, 6, 256, 1_344_518),  # recall: 6 bits, two delimiters
        (1, 1, 128, 331_905),  # 6-grams
    ],
)
def test_parameter_counts_are_the_published_ones(inputs, outputs, hidden, published):
    """Table 3, with the values at the start. (No numbers of channels give the 384,424 of sorting.)"""
    agent = LSTMConfig(hidden=hidden).build(SequenceSpec(inputs, outputs))
    assert sum(p.numel() for p in agent.parameters()) == published


def agent_of(**settings):
    torch.manual_seed(0)
    return LSTMConfig(**{"hidden": 5, "layers": 2} | settings).build(SPEC).double()


def test_it_is_the_equations():
    agent, batch = agent_of(), batch_of()
    states = [(agent.first_h[i].tanh().expand(5, -1), agent.first_c[i].tanh().expand(5, -1)) for i in range(2)]
    logits = agent.answer(batch.question).output
    for t in range(6):
        below = []
        for i, layer in enumerate(agent.core):
            h, c = states[i]
            x = torch.cat([batch.question.input[:, t], torch.ones(5, 1, dtype=D), *below[-1:]], 1)
            gates = x @ layer.weight_ih_l0.T + h @ layer.weight_hh_l0.T
            input, forget, cell, output = gates.chunk(4, 1)
            c = forget.sigmoid() * c + input.sigmoid() * cell.tanh()
            h = output.sigmoid() * c.tanh()
            states[i] = h, c
            below.append(h)
        torch.testing.assert_close(logits[:, t], agent.output(torch.cat(below, 1)))


def test_loss_is_the_cost_of_what_counts_and_reaches_every_parameter():
    agent, batch = agent_of(), batch_of()
    logits = agent.answer(batch.question).output
    each = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")[batch.notes].sum() / 5
    loss = agent(batch)
    torch.testing.assert_close(loss.total.detach(), each)
    assert loss.terms["bits"].item() == pytest.approx(each.item() / math.log(2)) and 0 <= loss.terms["error"] <= 100
    loss.total.backward()
    assert all(p.grad is not None and p.grad.any() for p in agent.parameters())


def test_bad_settings_and_ways_are_refused():
    with pytest.raises(ValueError, match="layers must be at least 1, found 0"):
        LSTMConfig(layers=0)
    with pytest.raises(ValueError, match="how must be one of usual; found 'soft'"):
        agent_of().answer(batch_of().question, "soft")
