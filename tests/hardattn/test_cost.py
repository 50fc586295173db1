"""What an answer costs is what one counts by hand: a product of [n, k] and [k, m] is 2 n k m operations."""

from types import SimpleNamespace

import pytest
import torch

from agents.draw import DrawConfig
from agents.plain import ConvNetConfig, FullyConnectedConfig
from agents.ram import RAMConfig
from agents.soft_attention import SoftAttentionConfig
from envs.glimpse import Eye, ask
from hardattn.contract import GlimpseSpec
from hardattn.cost import cost
from hardattn.noise import keys

H, W, N, G, K, T = 12, 16, 5, 4, 2, 3
SPEC = GlimpseSpec(1, H, W, N, scales=K, side=G, glimpses=T)
D, F = 7, 6
"""Units of the core, and of what encodes what and where."""
P = K * G * G
"""Values in a glimpse."""


def question(b=4):
    image, gaze = torch.rand(b, 1, H, W), torch.rand(b, 2) * 2 - 1
    return ask(image, gaze, keys(0, "noise", torch.arange(b)), Eye(G, K, 2, (4.0, 6.0)))


def cost_of(config, how=None, b=4):
    torch.manual_seed(0)
    return cost(config.build(SPEC), question(b), how, repeats=1)


def linear(inputs, outputs):
    """(parameters, operations) of a layer with a bias."""
    return inputs * outputs + outputs, 2 * inputs * outputs


def test_a_fully_connected_network():
    found = cost_of(FullyConnectedConfig(hidden=D, layers=2))
    layers = [linear(H * W, D), linear(D, D), linear(D, N)]
    assert found.parameters == sum(p for p, _ in layers)
    assert found.flops == sum(f for _, f in layers)
    assert (found.sensed, found.scores, found.reads) == (H * W, 0, H * W) and found.milliseconds > 0


def test_a_convolutional_network():
    """3 x 3 with stride 2 fits 12 x 16 at 5 x 7 places, and those at 2 x 3."""
    found = cost_of(ConvNetConfig(channels=(3, 4), kernel=3, stride=2, hidden=D))
    assert found.parameters == (3 * 9 + 3) + (4 * 27 + 4) + linear(4 * 6, D)[0] + linear(D, N)[0]
    assert found.flops == 2 * (9 * 3 * 35 + 27 * 4 * 6) + linear(4 * 6, D)[1] + linear(D, N)[1]


def ram(policy=2, rollouts=1):
    """Operations of RAM but for its core. The policy is asked when it moves, and once more for the density of all moves."""
    glimpse = linear(P, F)[1] + linear(2, F)[1] + linear(2 * F, D)[1]
    return rollouts * (T * (glimpse + linear(D, N)[1]) + 2 * (T - 1) * linear(D, policy)[1])


RELU = T * 2 * D * D + (T - 1) * 2 * D * D  # before the first glimpse there is no state to multiply
LSTM = 4 * RELU
OUTSIDE = linear(P, F)[0] + linear(2, F)[0] + linear(2 * F, D)[0] + linear(D, N)[0] + linear(D, 2)[0] + linear(D, 1)[0]


@pytest.mark.parametrize(
    ("core", "parameters", "operations"), [("relu", 2 * D * D + D, RELU), ("lstm", 8 * D * D + 8 * D, LSTM)]
)
def test_ram(core, parameters, operations):
    found = cost_of(RAMConfig(core=core, hidden=D, features=F))
    assert found.parameters == OUTSIDE + parameters
    assert found.flops == ram() + operations
    assert (found.sensed, found.scores, found.reads) == (T * P, 0, T * P)


def test_eight_paths_cost_eight_times_as_much():
    found = cost_of(RAMConfig(hidden=D, features=F), "averaged")
    assert found.flops == 8 * (ram() + RELU)
    assert found.sensed == 8 * T * P


def test_a_grid_weighs_all_its_places_at_every_move():
    config = RAMConfig(hidden=D, features=F, policy="grid", grid=3)
    found = cost_of(config)
    assert found.flops == ram(policy=9) + RELU
    assert (found.sensed, found.scores, found.reads) == (T * P, (T - 1) * 9, T * P)
    assert cost_of(config, "averaged").scores == 8 * (T - 1) * 9


def test_soft_attention():
    """The encoder makes 6 x 8 places of 12 x 16 pixels, and 3 x 4 of those; it sees where a pixel is in two more channels."""
    units, features, places = 5, 4, 12
    config = SoftAttentionConfig(channels=(3, features), hidden=D, attention=units)
    found = cost_of(config)
    encoder = 2 * 9 * (3 * 3 * 48 + 3 * features * places)
    once = places * linear(features, units)[1] + 2 * linear(features, D)[1]
    scored, summed = 2 * places * units, 2 * places * features
    lstm = 2 * 4 * D * (features + D)
    read = linear(D, units)[1] + scored + summed + linear(D, 1)[1] + lstm + linear(D, N)[1]
    assert found.flops == encoder + once + T * read
    assert (found.sensed, found.scores, found.reads) == (H * W, T * places, T * places * features)
    convolutions = (9 * 3 * 3 + 3) + (9 * 3 * features + features)
    lstm_parameters = 4 * D * (features + D) + 8 * D
    assert found.parameters == (
        convolutions + linear(features, units)[0] + D * units + units + 2 * linear(features, D)[0]
        + linear(D, 1)[0] + lstm_parameters + linear(D, N)[0]
    )  # fmt: skip


@pytest.mark.parametrize(("sensor", "shape"), [("filterbank", 3), ("bilinear", 2)])
def test_draw_reads_every_pixel_at_every_glimpse(sensor, shape):
    found = cost_of(DrawConfig(sensor=sensor, hidden=D, features=F))
    banks = 2 * G * H * W + 2 * G * W * G
    glimpse = linear(G * G, F)[1] + linear(2 + shape, F)[1] + linear(2 * F, D)[1] + 2 * (2 * 4 * D * D)
    assert found.flops == T * (banks + glimpse + linear(D, 2)[1] + linear(D, shape)[1] + linear(D, N)[1])
    assert (found.sensed, found.scores, found.reads) == (T * G * G, T * G * (H + W), T * H * W)


@pytest.mark.parametrize(
    "config",
    [
        FullyConnectedConfig(hidden=D),
        ConvNetConfig(kernel=3, stride=2, hidden=D),
        RAMConfig(core="lstm", hidden=D, features=F, policy="grid", grid=3),
        SoftAttentionConfig(channels=(4,), hidden=D, attention=5),
        DrawConfig(hidden=D, features=F),
    ],
    ids=lambda config: type(config).__name__,
)
def test_all_but_the_time_is_per_example(config):
    one, many = (cost_of(config, b=b)._replace(milliseconds=0) for b in (1, 9))
    assert one == many and one.flops > 0


def test_the_fastest_answer_counts(monkeypatch):
    """Whatever else runs can only make an answer slower. Here three of them take 6, 2 and 5 seconds."""
    clock = iter([0.0, 6.0, 10.0, 12.0, 20.0, 25.0])
    monkeypatch.setattr("hardattn.cost.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert cost(FullyConnectedConfig(hidden=D).build(SPEC), question(4), repeats=3).milliseconds == 2000 / 4
