"""A step of learning must be the step that was asked for, or none."""

import math

import pytest
import torch
from torch import nn

from hardattn.contract import Batch, Loss
from hardattn.learner import Learner, LearnerConfig, means

TARGET = torch.zeros(2)


class Linear(nn.Module):
    """Its loss is the inner product of all weights with the question, so the question is the gradient."""

    separate = ("policy", "absent")

    def __init__(self):
        super().__init__()
        self.body = nn.Parameter(torch.zeros(2, 2))
        self.policy = nn.Linear(2, 1, bias=False)
        self.absent = None
        nn.init.zeros_(self.policy.weight)

    def forward(self, batch: Batch) -> Loss:
        body, policy = batch.question
        total = (self.body * body).sum() + (self.policy.weight * policy).sum()
        return Loss(total, {"twice": 2 * total.detach()})


def batch_of(body=(0.0, 0.0), policy=(0.0, 0.0)):
    return Batch((torch.tensor([body, (0.0, 0.0)]), torch.tensor([policy])), TARGET)


def learner_of(steps=10, **settings):
    return Learner(
        Linear(), LearnerConfig(**{"optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant"} | settings), steps
    )


def test_parts_that_share_no_gradient_are_clipped_apart():
    """The body's gradient is long and is shortened to 1; the policy's is short and stays as it is."""
    learner = learner_of(clip=1.0)
    terms = learner.update(batch_of((30.0, 40.0), (0.3, 0.4)), 0)
    assert terms["gradient/rest"].item() == pytest.approx(50) and terms["gradient/policy"].item() == pytest.approx(0.5)
    torch.testing.assert_close(learner.agent.body[0].detach(), torch.tensor([-0.06, -0.08]))
    torch.testing.assert_close(learner.agent.policy.weight[0].detach(), torch.tensor([-0.03, -0.04]))


def test_gradients_do_not_pile_up_and_terms_are_reported():
    learner = learner_of(clip=100.0)
    learner.update(batch_of((1.0, 0.0)), 0)
    terms = learner.update(batch_of((1.0, 0.0)), 1)
    assert terms["gradient/rest"].item() == pytest.approx(1)
    torch.testing.assert_close(terms["loss"], torch.tensor(-0.1))
    torch.testing.assert_close(terms["twice"], torch.tensor(-0.2))
    assert not any(term.requires_grad for term in terms.values())


def test_sgd_has_a_momentum_of_nine_tenths():
    learner = learner_of(clip=100.0)
    for step in range(2):
        learner.update(batch_of((1.0, 0.0)), step)
    assert learner.agent.body[0, 0].item() == pytest.approx(-0.1 - 0.19)


def test_adam_s_first_step_is_as_long_as_the_learning_rate():
    learner = learner_of(optimizer="adam", learning_rate=0.01)
    learner.update(batch_of((1e-3, -5.0)), 0)
    torch.testing.assert_close(learner.agent.body[0].detach(), torch.tensor([-0.01, 0.01]), rtol=1e-3, atol=0)


def test_decay_is_for_matrices():
    agent = nn.Linear(2, 2)
    agent.forward = lambda batch: Loss(0.0 * agent.weight.sum() + 0.0 * agent.bias.sum(), {})
    nn.init.ones_(agent.weight)
    nn.init.ones_(agent.bias)
    Learner(agent, LearnerConfig(learning_rate=0.1, weight_decay=0.5, schedule="constant"), 1).update(batch_of(), 0)
    torch.testing.assert_close(agent.weight.detach(), torch.full((2, 2), 0.95))
    torch.testing.assert_close(agent.bias.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [2, 2, 2, 2]), ("linear", [2, 1.5, 1, 0.5]), ("cosine", [2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5)])],
)
def test_the_learning_rate_follows_its_schedule(schedule, rates):
    config = LearnerConfig(optimizer="sgd", learning_rate=2.0, schedule=schedule, clip=100.0)
    assert [config.rate_at(step, 4) for step in range(4)] == pytest.approx(rates)
    for step, rate in enumerate(rates):
        learner = Learner(Linear(), config, 4)
        learner.update(batch_of((1.0, 0.0)), step)
        assert learner.agent.body[0, 0].item() == pytest.approx(-rate)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_loss_that_is_no_number_stops_and_leaves_the_weights_alone(value, optimizer):
    learner = learner_of(optimizer=optimizer)
    learner.update(batch_of((1.0, 2.0), (3.0, 4.0)), 0)
    before = {name: value.clone() for name, value in learner.agent.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"loss of step 2 is .*--learning-rate"):
        learner.update(batch_of((value, 1.0)), 1)
    assert all(torch.equal(value, before[name]) for name, value in learner.agent.state_dict().items())


def test_a_gradient_that_is_no_number_stops_and_leaves_the_weights_alone():
    """The loss is finite, its derivative is not: a root at zero. Without a check the next checkpoint holds NaN."""
    agent = Linear()
    agent.forward = lambda batch: Loss((agent.body * 0.0).sum().sqrt() + agent.policy.weight.sum(), {})
    learner = Learner(agent, LearnerConfig(), 1)
    with pytest.raises(FloatingPointError, match="gradient"):
        learner.update(batch_of(), 0)
    assert not agent.body.any() and not agent.policy.weight.any()


def test_the_gradient_of_a_part_is_given_without_a_step():
    learner = learner_of()
    batch = batch_of((1.0, 2.0), (3.0, 4.0))
    assert learner.gradient(batch, "policy").tolist() == [3, 4]
    assert learner.gradient(batch, "rest").tolist() == [1, 2, 0, 0]
    assert not learner.agent.body.any() and learner.agent.body.grad is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_learner_that_was_loaded_goes_on_as_if_nothing_had_happened(optimizer, tmp_path):
    def batch(step):
        return batch_of((math.sin(step), 1.0), (0.5, math.cos(step)))

    def learner():
        return learner_of(optimizer=optimizer, schedule="linear")

    whole, first, second = learner(), learner(), learner()
    for step in range(6):
        whole.update(batch(step), step)
    for step in range(3):
        first.update(batch(step), step)
    torch.save(first.state(), tmp_path / "state.pt")
    second.load(first.agent.state_dict(), torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 6):
        second.update(batch(step), step)
    assert all(torch.equal(whole.agent.state_dict()[name], value) for name, value in second.agent.state_dict().items())


def test_means_are_over_the_records_that_have_the_name():
    records = [{"a": torch.tensor(1.0), "b": torch.tensor(5)}, {"a": torch.tensor(3.0, dtype=torch.float64)}]
    assert means(records) == {"a": 2.0, "b": 5.0} and means([]) == {}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"optimizer": "adagrad"}, "adagrad"),
        ({"schedule": "steps"}, "steps"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, complaint):
    with pytest.raises(Exception, match=complaint):
        LearnerConfig(**settings)
