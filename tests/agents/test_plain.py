"""The networks that see everything: they must be the published ones, and learn."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from agents.plain import ConvNetConfig, FullyConnectedConfig
from envs.digits import DigitsConfig
from hardattn.contract import Batch, GlimpseSpec
from hardattn.learner import Learner, LearnerConfig


class Question(NamedTuple):
    """All that a network of the whole image may use."""

    image: torch.Tensor


def spec_of(height, width, channels=1, classes=10):
    return GlimpseSpec(channels, height, width, classes, scales=1, side=4, glimpses=4)


def parameters_of(config, spec):
    return sum(p.numel() for p in config.build(spec).parameters())


def test_the_published_fully_connected_networks():
    """Mnih et al. 2014, Table 1: two layers of 256 or 64 units on 28 x 28 pixels."""
    assert parameters_of(FullyConnectedConfig(), spec_of(28, 28)) == (784 * 256 + 256) + (256 * 256 + 256) + (256 * 10 + 10)
    assert parameters_of(FullyConnectedConfig(hidden=64), spec_of(28, 28)) == 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10


def test_the_published_convolutional_network():
    """Section 4.1: 8 filters of 10 x 10 with stride 5 see 60 x 60 pixels at 11 x 11 places; then 256 units."""
    assert parameters_of(ConvNetConfig(), spec_of(60, 60)) == (8 * 100 + 8) + (8 * 121 * 256 + 256) + (256 * 10 + 10)


def test_a_deeper_network():
    """60, 29, 14 and 6 pixels."""
    config = ConvNetConfig(channels=(16, 32, 64), kernel=3, stride=2)
    convolutions = (16 * 9 + 16) + (32 * 16 * 9 + 32) + (64 * 32 * 9 + 64)
    assert parameters_of(config, spec_of(60, 60)) == convolutions + (64 * 36 * 256 + 256) + (256 * 10 + 10)


def test_units_are_rectified_after_every_layer_but_the_last():
    spec, image = spec_of(13, 17, channels=2, classes=3), torch.randn(4, 2, 13, 17)
    agent = FullyConnectedConfig(hidden=6).build(spec)
    one, two, last = (layer for layer in agent.modules() if isinstance(layer, torch.nn.Linear))
    torch.testing.assert_close(agent.logits(Question(image)), last(two(one(image.flatten(1)).relu()).relu()))
    agent = ConvNetConfig(channels=(4, 5), kernel=3, stride=2, hidden=6).build(spec)
    first, second, joint, last = (x for x in agent.modules() if isinstance(x, torch.nn.Linear | torch.nn.Conv2d))
    expected = last(joint(second(first(image).relu()).relu().flatten(1)).relu())
    torch.testing.assert_close(agent.logits(Question(image)), expected)


@pytest.mark.parametrize("config", [FullyConnectedConfig(hidden=6), ConvNetConfig(kernel=4, stride=3, hidden=6)])
@pytest.mark.parametrize(("h", "w", "c"), [(4, 4, 1), (5, 19, 3), (12, 4, 2)])
def test_images_of_all_sizes(config, h, w, c):
    spec = spec_of(h, w, c, classes=3)
    image, target = torch.randn(5, c, h, w), torch.tensor([0, 1, 2, 0, 1])
    agent = config.build(spec)
    loss, answer = agent.loss(Batch(Question(image), target)), agent.answer(Question(image))
    torch.testing.assert_close(loss.total, F.nll_loss(answer.output, target))
    assert loss.terms["error"].item() == pytest.approx(20 * (answer.output.argmax(-1) != target).sum().item())
    assert answer.trace.sensed.tolist() == [c * h * w] * 5


def test_it_learns_digits():
    """Nine of ten would be wrong by chance."""
    task = DigitsConfig(height=24, width=24, positions=1).build()
    batch = next(task.batches("validation", batch_size=200))
    for config in (FullyConnectedConfig(hidden=64), ConvNetConfig(kernel=6, stride=3, hidden=64)):
        torch.manual_seed(0)
        agent = config.build(task.spec)
        learner = Learner(agent, LearnerConfig(learning_rate=3e-3), 60)
        for step, training in zip(range(60), task.batches("train", batch_size=64)):
            learner.update(training, step)
        assert task.score(agent.answer(batch.question), batch)["error"].mean() < 30


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ConvNetConfig(), "a kernel of 10 x 10 pixels does not fit: the image has 9 x 30"),
        (ConvNetConfig(channels=(4, 4, 4), kernel=3, stride=2), "does not fit: after 2 convolutions it has 1 x 6"),
    ],
)
def test_a_kernel_larger_than_the_image_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        config.build(spec_of(9, 30))


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (FullyConnectedConfig, {"hidden": 0}, "hidden must be at least 1, found 0"),
        (FullyConnectedConfig, {"layers": 0}, "layers must be at least 1, found 0"),
        (ConvNetConfig, {"channels": ()}, "channels must name at least 1 layer"),
        (ConvNetConfig, {"channels": (8, 0)}, "channels must name at least 1 layer"),
        (ConvNetConfig, {"kernel": 0}, "kernel must be at least 1, found 0"),
        (ConvNetConfig, {"stride": 0}, "stride must be at least 1, found 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, settings, words):
    with pytest.raises(ValueError, match=words):
        config(**settings)


@pytest.mark.parametrize("config", [FullyConnectedConfig(), ConvNetConfig()])
def test_there_is_one_way_of_answering(config):
    agent = config.build(spec_of(12, 12))
    assert agent.hows == ("mean",)
    with pytest.raises(ValueError, match="how must be one of mean; found 'uniform'"):
        agent.answer(Question(torch.zeros(1, 1, 12, 12)), "uniform")
