"""What must get which gradient, what is read where, and that the gaze is learned."""

import math
from typing import NamedTuple

import pytest
import torch
from torch.distributions import Normal

from agents.draw import DrawConfig
from hardattn.contract import Batch, GlimpseSpec
from hardattn.noise import keys

D = torch.float64
B, GLIMPSES = 3, 4
SPEC = GlimpseSpec(channels=2, height=7, width=11, classes=3, scales=1, side=3, glimpses=GLIMPSES)
TARGET = torch.tensor([0, 1, 2])
SENSORS = ["filterbank", "bilinear"]


class Image(NamedTuple):
    """The question of a test: no retina, no look."""

    image: torch.Tensor
    gaze: torch.Tensor
    key: torch.Tensor


def batch_of(seed=0, count=B, dtype=D):
    generator = torch.Generator().manual_seed(seed)
    image = 4 * torch.randn(count, SPEC.channels, SPEC.height, SPEC.width, generator=generator, dtype=dtype)
    question = Image(image, torch.zeros(count, 2, dtype=dtype), keys(seed, "test", torch.arange(count)))
    return Batch(question, TARGET[torch.arange(count) % 3])


def agent_of(seed=0, glimpses=GLIMPSES, dtype=D, **settings):
    torch.manual_seed(seed)
    spec = GlimpseSpec(**vars(SPEC) | {"glimpses": glimpses})
    agent = DrawConfig(**{"hidden": 12, "features": 8} | settings).build(spec).to(dtype)
    with torch.no_grad():
        for layer in (agent.what, agent.locator, agent.lens, agent.classifier):  # so that much depends on what is seen
            layer.weight *= 5
    return agent


def gradients(agent, batch):
    agent.zero_grad()
    agent.loss(batch).total.backward()
    return {name: p.grad.clone() for name, p in agent.named_parameters() if p.grad is not None}


def spy(agent):
    """All readings that the agent makes from now on."""
    seen, see = [], agent.look_around

    def look_around(*args, **kwargs):
        seen.append(see(*args, **kwargs))
        return seen[-1]

    agent.look_around = look_around
    return seen


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_pathwise_gradient_is_that_of_the_loss(sensor):
    """Through what was read to where it was read: finite differences of every entry of the bias that chooses the window."""
    agent, batch = agent_of(sensor=sensor), batch_of()
    with torch.no_grad():  # away from the edges of pixels
        agent.locator.bias.copy_(torch.tensor([0.11, -0.07]))
        agent.lens.bias[0] = -0.3
    found = gradients(agent, batch)
    for layer in ("locator", "lens"):
        assert found[f"{layer}.weight"].any(dim=1).all()
        bias = getattr(agent, layer).bias
        for i in range(len(bias)):
            losses = []
            for step in (1e-6, -2e-6):
                with torch.no_grad():
                    bias[i] += step
                    losses.append(agent.loss(batch).total.item())
            with torch.no_grad():
                bias[i] += 1e-6
            assert found[f"{layer}.bias"][i].item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_first_window_is_the_whole_image(sensor):
    """Of the longer side; the state is zero, so nothing of the image can have chosen it."""
    trace = agent_of(sensor=sensor).answer(batch_of().question).trace
    assert torch.equal(trace.window[:, 0], torch.tensor([[0.0, -2.0, 11.0, 11.0]], dtype=D).expand(B, -1))
    assert not trace.gaze[:, 0].any() and trace.gaze[:, 1:].any()
    assert (trace.sensed == GLIMPSES * 2 * 9).all()


def test_gaze_and_window_name_the_same_place():
    trace = agent_of().answer(batch_of().question).trace
    middle = trace.window[..., :2] + trace.window[..., 2:] / 2
    torch.testing.assert_close(middle, (trace.gaze + 1) / 2 * torch.tensor([11.0, 7.0], dtype=D))


def test_a_bounded_centre_reads_something_where_a_free_one_is_lost():
    """Far beside the image there is nothing, and nothing that says where to go."""
    for bounded in (False, True):
        agent, batch = agent_of(bounded=bounded), batch_of()
        with torch.no_grad():
            agent.locator.bias.copy_(torch.tensor([4.0, -4.0]))
            agent.lens.bias[0] = -2.0  # a small window
        reading = agent.look_around(batch.question.image)
        assert (reading.mean.abs() <= 1).all() == bounded
        assert reading.seen.abs().max() > 1 if bounded else reading.seen.abs().max() < 1e-20


@pytest.mark.parametrize("way", [-1, 1])
def test_a_bounded_window_stays_a_window(way):
    """However much the network asks for."""
    agent, batch = agent_of(bounded=True), batch_of()
    with torch.no_grad():
        agent.lens.bias.fill_(1e6 * way)
    reading = agent.look_around(batch.question.image)
    torch.testing.assert_close(reading.stride, torch.full_like(reading.stride, math.exp(2 * way) * 11 / 3))
    assert reading.seen.isfinite().all() and reading.hidden.isfinite().all()


@pytest.mark.parametrize("sensor", SENSORS)
def test_no_example_pulls_at_a_window_more_than_it_may(sensor):
    """Each of B examples pulls at each window with limit / B at most, so all at all of them with GLIMPSES * limit; who pulls less is not changed."""
    batch, free = batch_of(), gradients(agent_of(sensor=sensor), batch_of())
    loose = gradients(agent_of(sensor=sensor, limit=1e9), batch)
    for name, expected in free.items():
        torch.testing.assert_close(loose[name], expected)
    limit = 1e-3
    tight = gradients(agent_of(sensor=sensor, limit=limit), batch)
    most = GLIMPSES * limit * (1 + 1 / 7)  # the centre is a little more than what the locator says
    for name in ("locator.bias", "lens.bias"):
        assert 0 < tight[name].norm() <= most < free[name].norm()
    torch.testing.assert_close(tight["classifier.weight"], free["classifier.weight"])


def test_what_is_read_is_standardised_by_the_readings_of_training():
    agent = agent_of(standardised=True)
    readings = spy(agent)
    for i in range(3):
        agent.loss(batch_of(i))  # does not count
        agent(batch_of(i))
    every = torch.cat([reading.seen.flatten(0, 1) for reading in readings[1::2]])
    assert agent.seen.count == len(every) == 3 * B * GLIMPSES
    torch.testing.assert_close(agent.seen.mean, every.mean(0))
    torch.testing.assert_close(agent.seen.variance, every.var(0, unbiased=False))
    plain = agent_of(seed=1)
    plain.load_state_dict({name: value for name, value in agent.state_dict().items() if not name.startswith("seen.")})
    with torch.no_grad():  # a layer that takes the moments out does the same
        plain.what.weight.copy_(agent.what.weight / agent.seen.variance.sqrt())
        plain.what.bias.sub_(plain.what.weight @ agent.seen.mean)
    image = batch_of(5).question.image
    torch.testing.assert_close(agent.look_around(image).hidden, plain.look_around(image).hidden)


def test_reinforce_alone_moves_the_centre():
    """Class 0 is never named. Where it is right, all rewards are 0 and only cross-entropy is left: it moves the zoom, not the centre."""
    agent, batch = agent_of(gradient="reinforce", baseline="batch-mean"), batch_of(count=8)
    with torch.no_grad():
        agent.classifier.bias[0] = -1000.0
    never = gradients(agent, batch._replace(target=torch.zeros_like(batch.target)))
    assert not never["locator.weight"].any() and not never["locator.bias"].any()
    assert never["lens.weight"].any() and never["what.weight"].any()
    sometimes = gradients(agent, batch)
    assert sometimes["locator.weight"].any() and sometimes["locator.bias"].any()


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("baseline", ["learned", "batch-mean"])
def test_the_hybrid_loss_is_that_of_its_definition(sensor, baseline):
    """Term by term along the centres that were drawn; the policy and its baseline see the state as a constant."""
    agent, batch = agent_of(sensor=sensor, gradient="reinforce", baseline=baseline, reward="log-likelihood"), batch_of()
    readings = spy(agent)
    found = gradients(agent, batch)
    total = agent.loss(batch).total
    drawn = readings[0].gaze
    hidden = agent.look_around(batch.question.image, places=list(drawn)).hidden
    log_likelihood = agent.classifier(hidden[-1]).log_softmax(-1)[torch.arange(B), batch.target]
    expected, reward = -log_likelihood.mean(), log_likelihood.detach()
    for t in range(GLIMPSES):
        state = hidden[t - 1].detach() if t else torch.zeros_like(hidden[0])
        mean = agent.locator(state) * torch.tensor([12 / 11, 8 / 7], dtype=D)
        subtracted = (reward.sum() - reward) / (B - 1)
        if baseline == "learned":
            subtracted = agent.baseline(state)[:, 0]
            expected = expected + (subtracted - reward).square().mean() / GLIMPSES
        log_prob = Normal(mean, agent.config.std).log_prob(drawn[t]).sum(-1)
        expected = expected - (log_prob * (reward - subtracted.detach())).mean()
    torch.testing.assert_close(total, expected)
    agent.zero_grad()
    expected.backward()
    for name, p in agent.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-9, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("gradient", ["reinforce", "reparameterised"])
def test_mean_of_the_estimates_is_the_gradient_of_the_expected_log_likelihood(gradient):
    """One glimpse: the expectation is an integral over the plane, here a sum over a fine grid of centres."""
    settings = {"glimpses": 1, "gradient": gradient, "baseline": "batch-mean", "reward": "log-likelihood", "std": 0.3}
    agent, one, copies = agent_of(**settings), batch_of(count=1), 1000
    ticks = torch.linspace(-5, 5, 61, dtype=D)  # in standard deviations
    grid = torch.cartesian_prod(ticks, ticks)
    weight = Normal(torch.tensor(0.0, dtype=D), 1.0).log_prob(grid).sum(-1).exp() * (ticks[1] - ticks[0]) ** 2
    places = 0.3 * grid
    with torch.no_grad():
        hidden = agent.look_around(one.question.image.expand(len(grid), -1, -1, -1), places=[places]).hidden[0]
        reward = agent.classifier(hidden).log_softmax(-1)[:, one.target.item()]
    # d log density / d mean is (place - mean) / std^2, and the mean is the bias times (size + 1) / size.
    expected = -(weight * reward) @ places / 0.3**2 * torch.tensor([12 / 11, 8 / 7], dtype=D)
    draws = []
    for seed in range(20):
        key = keys(seed, "other noise", torch.arange(copies))
        asked = Image(one.question.image.expand(copies, -1, -1, -1), one.question.gaze.expand(copies, -1), key)
        loss = agent.loss(Batch(asked, one.target.expand(copies))).total
        draws.append(torch.autograd.grad(loss, agent.locator.bias)[0])
    draws = torch.stack(draws)
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() / error).max() < 4
    assert (expected.abs() / error).max() > 6, "too noisy to tell this gradient from none"


def test_what_lies_outside_the_window_has_no_influence():
    """Boxes end; (a Gaussian does not)."""
    agent, batch = agent_of(sensor="bilinear", glimpses=2), batch_of()
    with torch.no_grad():
        agent.lens.weight.zero_()
        agent.locator.weight.zero_()
        agent.lens.bias[0] = math.log(3 / 11)  # a window of 3 x 3 pixels in the middle
    trace = agent.answer(batch.question).trace
    torch.testing.assert_close(trace.window[0, 0], torch.tensor([4.0, 2.0, 3.0, 3.0], dtype=D))
    image = batch.question.image.requires_grad_()
    touched = torch.autograd.grad(agent.loss(batch).total, image)[0] != 0
    inside = torch.zeros_like(touched)
    inside[..., 1:6, 3:8] = True  # the window and, by rounding, the pixels that touch it
    assert touched[..., 2:5, 4:7].any() and not (touched & ~inside).any()


def test_reparameterised_centres_teach_those_before_them():
    """With two glimpses the second centre depends on the first, and so does the gradient: it is that of finite differences with the noise held."""
    agent, batch = agent_of(gradient="reparameterised", glimpses=2, std=0.3), batch_of()
    found = gradients(agent, batch)["locator.bias"]
    for i, way in enumerate(torch.eye(2, dtype=D)):
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                agent.locator.bias += 1e-6 * sign * way
                losses.append(agent.loss(batch).total)
                agent.locator.bias -= 1e-6 * sign * way
        assert found[i].item() == pytest.approx((losses[0] - losses[1]).item() / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("gradient", ["pathwise", "reparameterised", "reinforce"])
def test_the_ways_of_answering(gradient):
    agent, batch = agent_of(gradient=gradient), batch_of()
    mean = agent.answer(batch.question).trace
    for how in agent.hows:
        one, again, other = (agent.answer(batch.question, how, seed).trace for seed in (0, 0, 1))
        assert torch.equal(one.gaze, again.gaze) and torch.equal(one.gaze, other.gaze) == (how != "random"), how
        assert one.gaze[:, 1:].abs().max() <= 1 or how == "mean"
        assert (one.log_prob is None) == (one.entropy is None) == (gradient != "reinforce")
    assert torch.equal(agent.answer(batch.question, "random").trace.gaze[:, 0], mean.gaze[:, 0])
    assert not agent.answer(batch.question, "centre").trace.gaze.any()
    with pytest.raises(ValueError, match="how must be one of mean, random, centre; found 'raster'"):
        agent.answer(batch.question, "raster")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        *(({name: 0}, f"{name} must be at least 1, found 0") for name in ("hidden", "features")),
        ({"std": 0.0}, "std must be above 0"),
        ({"limit": 0.0}, "limit must be above 0"),
        *(({name: "other"}, "other") for name in ("sensor", "core", "gradient", "baseline", "reward", "supervise")),
    ],
)
def test_settings_that_make_no_agent_are_refused_by_name(settings, complaint):
    with pytest.raises(Exception, match=complaint):
        DrawConfig(**settings)
