import numpy as np
import pytest
import torch

from hardattn.contract import Answer, Batch, GlimpseSpec, Trace
from hardattn.evaluation import (
    Scores,
    answer_all,
    evaluate,
    first_scenes,
    grouped,
    interval,
    interval_over_seeds,
    paired_p,
    rows,
)


class Echo:
    """Answers with the question; wrong on purpose where how says so."""

    hows = ("right", "wrong")

    def loss(self, batch):
        raise NotImplementedError

    def answer(self, question, how="right", seed=0):
        said = question if how == "right" else (question + 1) % 3
        return Answer(
            torch.nn.functional.one_hot(said, 3).float(), Trace(sensed=torch.full((len(question),), 7.0), glimpses=question % 2)
        )


class Counting:
    """Ten questions whose answer is the question."""

    spec = GlimpseSpec(1, 1, 1, classes=3, scales=1, side=1, glimpses=1)
    views = 2

    def batches(self, split, *, batch_size, seed=0, start=0):
        everything = torch.arange(10) % 3 if split == "test" else torch.arange(0)
        for part in everything.split(batch_size):
            if len(part):
                yield Batch(part, part)

    def score(self, answer, batch):
        return {"error": (answer.output.argmax(-1) != batch.target).float() * 100}


def test_every_example_gets_one_number_in_the_tasks_order():
    answered = answer_all(Echo(), Counting(), "test", "right", batch_size=4)
    assert answered.target.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert answered.scores["error"].tolist() == [0.0] * 10
    assert answered.scores["values-sensed"].tolist() == [7.0] * 10
    assert answered.scores["glimpses"].tolist() == [0.0, 1.0, 0.0] * 3 + [0.0]


def test_an_empty_split_is_an_error():
    with pytest.raises(ValueError, match="no examples"):
        answer_all(Echo(), Counting(), "nothing", "right")


def test_the_table_has_every_way_of_answering_and_every_class():
    table = list(evaluate(Echo(), Counting(), "test", ("right", "wrong"), study="echo", seed=3))
    found = {(s.how, s.metric): s for s in table}
    assert found["right", "error"].values.mean() == 0
    assert found["wrong", "error"].values.mean() == 100
    assert len(found["right", "error/0"].values) == 4
    assert len(found["right", "error/2"].values) == 3
    assert {(s.study, s.seed) for s in table} == {("echo", 3)}


class Parted(Counting):
    """The even and the odd numbers, judged by another metric."""

    metric = "bits"
    parts = ("even", "odd")

    def batches(self, split, *, batch_size, seed=0, start=0):
        everything = torch.arange(10) % 3
        yield Batch(chosen := everything[("even", "odd").index(split) :: 2], chosen)

    def score(self, answer, batch):
        return {"bits": (answer.output.argmax(-1) != batch.target).float()}


def test_the_parts_of_a_test_set_have_rows_of_their_own():
    """The usual way goes without its name, and there are no classes."""
    found = rows(evaluate(Echo(), Parted(), "test", ("wrong", "right")))
    bits = {row["name"]: row["value"] for row in found if row["metric"] == "bits"}
    assert bits == {"even": 1.0, "even, right": 0.0, "odd": 1.0, "odd, right": 0.0}
    assert {row["metric"] for row in found} == {"bits", "values-sensed", "glimpses"}


def test_the_training_seed_is_a_label_and_not_the_noise_of_the_answers():
    """Or a model would answer otherwise at the end of its training than when it is evaluated again."""

    class Heard(Echo):
        seeds: set[int] = set()  # noqa: RUF012

        def answer(self, question, how="right", seed=0):
            self.seeds.add(seed)
            return super().answer(question, how)

    assert {s.seed for s in evaluate(Heard(), Counting(), "test", ("right",), seed=3)} == {3} and Heard.seeds == {0}
    Heard.seeds.clear()
    list(evaluate(Heard(), Counting(), "test", ("right",), seed=3, noise=5))
    assert Heard.seeds == {5}


def test_rows_have_the_agreed_keys():
    table = [Scores("s", 0, "mean", "error", np.array([0.0, 100.0, 0.0, 0.0]))]
    (row,) = rows(table)
    assert row.keys() == {"name", "metric", "value", "low", "high"}
    assert (row["name"], row["metric"], row["value"]) == ("mean", "error", 25.0)
    assert 0 <= row["low"] <= 25 <= row["high"] <= 100


def test_the_interval_agrees_with_the_normal_one_for_many_examples():
    values = np.random.default_rng(1).normal(3.0, 2.0, 4000)
    estimate = interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_examples_that_show_one_image_count_once():
    """Ten copies of every value are no more evidence than one."""
    values = np.random.default_rng(2).binomial(1, 0.2, 300).astype(float)
    copies = values.repeat(10)
    one, honest, naive = interval(values), interval(copies, group=10), interval(copies)
    assert honest == one
    assert naive.high - naive.low < 0.5 * (one.high - one.low)


def test_equal_values_have_no_spread():
    assert interval(np.zeros(5)) == (0.0, 0.0, 0.0)


def test_an_interval_over_three_seeds_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt(3), Student's 97.5 % quantile for 2 degrees of freedom 4.3027."""
    estimate = interval_over_seeds([1.0, 2.0, 3.0])
    assert estimate.value == 2.0
    assert estimate.high == pytest.approx(2.0 + 4.30265 / 3**0.5, abs=1e-4)
    assert estimate.low == pytest.approx(2.0 - 4.30265 / 3**0.5, abs=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        interval_over_seeds([1.0])


def test_the_paired_test_is_exact_where_one_can_count():
    """Five pairs, all better by one: only 2 of the 32 swaps differ as much."""
    one, other = np.zeros(5), np.ones(5)
    assert paired_p(one, other, resamples=50_000) == pytest.approx(2 / 32, abs=0.005)


def test_the_paired_test_knows_no_difference_and_a_clear_one():
    rng = np.random.default_rng(0)
    a = rng.binomial(1, 0.1, 2000).astype(float)
    assert paired_p(a, a) == 1.0
    same = np.array([paired_p(rng.normal(size=50), rng.normal(size=50), resamples=499) for _ in range(200)])
    assert abs((same < 0.1).mean() - 0.1) < 4 * (0.1 * 0.9 / 200) ** 0.5
    assert paired_p(a, np.roll(a, 1) + (rng.random(2000) < 0.1)) < 0.01
    with pytest.raises(ValueError, match="same examples"):
        paired_p(np.zeros(3), np.zeros(4))


def test_grouped_means():
    assert grouped(np.array([0.0, 2.0, 4.0, 8.0]), 2).tolist() == [1.0, 6.0]


def test_the_first_scenes_are_always_the_same():
    assert first_scenes(Counting(), "test", 3).target.tolist() == [0, 1, 2]
