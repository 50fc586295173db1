"""Soft attention must read what its weights say, and its weights must learn where to read."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from agents.soft_attention import SoftAttentionConfig, coordinates, unevenness
from hardattn.contract import Batch, GlimpseSpec
from hardattn.learner import Learner, LearnerConfig

D = torch.float64
SPEC = GlimpseSpec(channels=2, height=7, width=11, classes=3, scales=1, side=3, glimpses=4)


class Question(NamedTuple):
    """All that a soft agent may use."""

    image: torch.Tensor


def batch_of(seed=0, count=5, spec=SPEC):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, spec.channels, spec.height, spec.width, generator=generator, dtype=D)
    return Batch(Question(image), torch.arange(count) % spec.classes)


def agent_of(seed=0, spec=SPEC, **settings):
    torch.manual_seed(seed)
    agent = SoftAttentionConfig(**{"channels": (5, 6), "hidden": 8, "attention": 7} | settings).build(spec).double()
    with torch.no_grad():
        agent.score.weight *= 20  # so that the weights are uneven
    return agent


def plain_reads(agent, image):
    """The model as the paper has it, one example and one place at a time: logits and weights of every read."""
    h, w = image.shape[1:]
    x, y = [(2 * i + 1) / w - 1 for i in range(w)], [(2 * i + 1) / h - 1 for i in range(h)]
    where = torch.tensor([[[x[j] for j in range(w)] for _ in range(h)], [[y[i]] * w for i in range(h)]], dtype=D)
    a = torch.cat([image, where])[None]
    for layer in agent.encoder:
        a = F.conv2d(a, layer.weight, layer.bias, stride=2, padding=1).relu()
    places = [a[0, :, i, j] for i in range(a.shape[2]) for j in range(a.shape[3])]
    mean = sum(places) / len(places)
    state, c = agent.initial_h(mean).tanh(), agent.initial_c(mean).tanh()
    logits, weights = [], []
    for _ in range(agent.reads):
        e = torch.stack([agent.score((agent.key(place) + agent.query(state)).tanh())[0] for place in places])
        alpha = e.exp() / e.exp().sum()
        z = sum(weight * place for weight, place in zip(alpha, places))
        if agent.gate is not None:
            z = agent.gate(state).sigmoid() * z
        state, c = agent.core(z, (state, c))
        logits.append(agent.classifier(state))
        weights.append(alpha)
    return torch.stack(logits), torch.stack(weights)


@pytest.mark.parametrize("gate", [True, False])
def test_it_is_the_model_of_the_paper(gate):
    agent, batch = agent_of(gate=gate), batch_of()
    reads = agent.read(batch.question)
    for i, image in enumerate(batch.question.image):
        torch.testing.assert_close((reads.logits[:, i], reads.weights[:, i]), plain_reads(agent, image))
    assert reads.weights.std(0).mean() > 1e-3 and reads.weights.std(-1).mean() > 1e-3  # they differ by read and by place


@pytest.mark.parametrize("how", ["mean", "uniform"])
def test_weights_sum_to_one_over_all_places(how):
    agent, batch = agent_of(), batch_of()
    trace = agent.answer(batch.question, how).trace
    assert agent.map_size == (2, 3) and trace.weights.shape == (5, 4, 6)
    torch.testing.assert_close(trace.weights.sum(-1), torch.ones(5, 4, dtype=D))
    assert (trace.weights == trace.weights[0, 0, 0]).all() == (how == "uniform")
    assert trace.belief.shape == (5, 4, 3) and trace.sensed.tolist() == [2 * 7 * 11] * 5


def test_the_last_belief_is_the_answer():
    answer = agent_of().answer(batch_of().question)
    torch.testing.assert_close(answer.output.exp(), answer.trace.belief[:, -1])


@pytest.mark.parametrize(("h", "w"), [(40, 40), (4, 12), (13, 6), (1, 1), (3, 30)])
@pytest.mark.parametrize("channels", [(4,), (4, 5), (4, 5, 6)])
def test_images_of_all_sizes(h, w, channels):
    spec = GlimpseSpec(channels=3, height=h, width=w, classes=3, scales=1, side=1, glimpses=2)
    agent, batch = agent_of(spec=spec, channels=channels), batch_of(spec=spec)
    trace = agent.answer(batch.question).trace
    assert trace.weights.shape == (5, 2, math.prod(agent.map_size))
    assert agent.loss(batch).total.isfinite()


def test_every_layer_halves_the_map():
    spec = GlimpseSpec(channels=1, height=40, width=60, classes=10, scales=1, side=8, glimpses=6)
    assert SoftAttentionConfig().build(spec).map_size == (5, 8)


@pytest.mark.parametrize(("reads", "expected"), [(0, 4), (1, 1), (7, 7)])
def test_it_reads_as_often_as_it_is_told(reads, expected):
    agent, batch = agent_of(reads=reads), batch_of()
    assert agent.reads == expected and agent.answer(batch.question).trace.weights.shape[1] == expected
    assert agent.read(batch.question).logits.shape == (expected, 5, 3)


def test_an_image_is_encoded_once_however_often_it_is_read():
    agent, batch, calls = agent_of(reads=5), batch_of(), []
    for name in ("key", "query", "encoder.0", "encoder.1"):
        agent.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    agent.loss(batch)
    assert sorted(calls) == ["encoder.0", "encoder.1", "key", *["query"] * 5]


def test_places_are_told_apart_by_where_they_are():
    """On a blank image: without coordinates every place but those at the border would be the same."""
    spec = GlimpseSpec(channels=1, height=24, width=24, classes=3, scales=1, side=8, glimpses=2)
    agent = agent_of(spec=spec)
    trace = agent.answer(Question(torch.zeros(1, 1, 24, 24, dtype=D))).trace
    inner = trace.weights[0, 0].view(6, 6)[2:-2, 2:-2]
    assert len(inner.flatten().unique()) == 4


def test_coordinates_are_the_middles_of_pixels():
    x, y = coordinates(torch.zeros(1, 1, 2, 4, dtype=D))
    assert x.tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2 and y.tolist() == [[-0.5] * 4, [0.5] * 4]


def test_the_loss_is_what_its_settings_say():
    batch = batch_of()
    logits, weights = agent_of().read(batch.question)
    each = torch.stack([F.cross_entropy(read, batch.target) for read in logits])
    torch.testing.assert_close(agent_of().loss(batch).total, each[-1])
    torch.testing.assert_close(agent_of(supervise="every").loss(batch).total, each.mean())
    penalised = agent_of(doubly_stochastic=0.3).loss(batch)
    penalty = sum((1 - weights[:, i, j].sum()) ** 2 for i in range(5) for j in range(6)) / 5
    torch.testing.assert_close(penalised.total, each[-1] + 0.3 * penalty)
    torch.testing.assert_close(penalised.terms["unevenness"], penalty.detach())
    entropy = -(weights * weights.log()).sum(-1).mean().detach()
    torch.testing.assert_close(penalised.terms["entropy"], entropy)
    assert penalised.terms["error"].item() == pytest.approx(20 * (logits[-1].argmax(-1) != batch.target).sum().item())


def test_unevenness_is_least_where_all_places_share_alike():
    even = torch.full((4, 1, 6), 1 / 6, dtype=D, requires_grad=True)
    (gradient,) = torch.autograd.grad(unevenness(even), even)
    assert unevenness(even).item() == pytest.approx(6 * (1 - 4 / 6) ** 2)
    assert (gradient == gradient[0, 0, 0]).all()  # no weight can be moved from one place to another with profit
    peaked = torch.zeros(4, 1, 6, dtype=D)
    peaked[..., 0] = 1
    assert unevenness(peaked).item() == 5 + 9


def test_only_the_image_is_read():
    """The question here has nothing else, and the seed changes nothing."""
    agent, batch = agent_of(), batch_of()
    one, other = (agent.answer(batch.question, seed=seed) for seed in (0, 1))
    assert torch.equal(one.output, other.output)


def test_the_map_peaks_where_the_answer_is_to_be_seen():
    """The colour of a bright block names the class; every other pixel has a dim colour. Equal weights drown the block."""
    classes, rows, columns, steps = 5, 6, 10, 150
    spec = GlimpseSpec(classes, 2 * rows, 2 * columns, classes, scales=1, side=4, glimpses=2)
    g = torch.Generator().manual_seed(0)

    def scenes(count):
        colours = torch.randint(classes, (count, 2 * rows, 2 * columns), generator=g)
        image = 0.3 * F.one_hot(colours, classes).permute(0, 3, 1, 2).float()
        target = torch.randint(classes, (count,), generator=g)
        row, column = torch.randint(rows, (count,), generator=g), torch.randint(columns, (count,), generator=g)
        for i in range(count):
            block = image[i, :, 2 * row[i] : 2 * row[i] + 2, 2 * column[i] : 2 * column[i] + 2]
            block.zero_()
            block[target[i]] = 2
        return Batch(Question(image), target), row, column

    torch.manual_seed(0)
    agent = SoftAttentionConfig(channels=(16,), hidden=32, attention=16, supervise="every").build(spec)
    learner = Learner(agent, LearnerConfig(learning_rate=2e-2), steps)
    for step in range(steps):
        learner.update(scenes(32)[0], step)
    batch, row, column = scenes(200)
    answers = {how: agent.answer(batch.question, how) for how in agent.hows}
    error = {how: (answer.output.argmax(-1) != batch.target).float().mean().item() for how, answer in answers.items()}
    assert error["mean"] < 0.05 and error["uniform"] > 0.5
    best, place = answers["mean"].trace.weights[:, -1].max(-1)
    # A filter sees a part of the next cell too. And one class in five may be known by the others' absence, without a look at it.
    near = ((place // columns - row).abs() <= 1) & ((place % columns - column).abs() <= 1)
    assert near.float().mean() > 0.7 and best.mean() > 10 / (rows * columns)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": ()}, "channels must name at least 1 layer"),
        ({"channels": (4, 0)}, "channels must name at least 1 layer"),
        ({"hidden": 0}, "hidden must be at least 1, found 0"),
        ({"attention": 0}, "attention must be at least 1, found 0"),
        ({"reads": -1}, "reads must be at least 1, or 0"),
        ({"doubly_stochastic": -0.1}, "doubly_stochastic must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        SoftAttentionConfig(**settings)


def test_an_unknown_way_of_answering_is_refused():
    with pytest.raises(ValueError, match="how must be one of mean, uniform; found 'random'"):
        agent_of().answer(batch_of().question, "random")
