"""The one evaluation harness: any agent on any task, one number per example, then intervals and paired comparisons.

Everything follows from one long table: its rows are (study, seed, part, how, example, metric, value), held as one `Scores` for every
(study, seed, part, how, metric) with the values of all examples in the task's order. What is said about an agent is computed from the table alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch

from hardattn.contract import Agent, Batch, Task, Trace

CONTROLS = {"random": "with random gaze", "uniform": "with equal weights"}
"""Ways of answering that ignore what was learned of where to look, as one would say it."""


def control_of(hows: Sequence[str]) -> str | None:
    """The control that belongs beside the usual way of answering, if there is one and it is not the usual way itself."""
    return next((how for how in hows[1:] if how in CONTROLS), None)


@dataclass(frozen=True)
class Scores:
    """One metric of one way of answering, for every example."""

    study: str
    seed: int
    how: str
    metric: str
    values: np.ndarray
    """[examples]."""
    group: int = 1
    """Consecutive examples that show the same source image: they count as one when uncertainty is asked for."""
    part: str = ""
    """Of a test set that has parts."""

    @property
    def name(self) -> str:
        """As the scripts' JSON names it: the part, or the way of answering; both, where the way is not the usual one."""
        return ", ".join(x for x in (self.part, self.how) if x)


class Estimate(NamedTuple):
    """A mean with its interval."""

    value: float
    low: float
    high: float


class Row(TypedDict):
    """A line of the JSON that the scripts write."""

    name: str
    metric: str
    value: float
    low: float
    high: float


class Answered(NamedTuple):
    """What an agent did with a whole split, in the task's order."""

    scores: dict[str, np.ndarray]
    """One value per example under each metric's name; "values-sensed" counts what the sensor delivered, "glimpses" those of an agent that may stop."""
    target: np.ndarray | None
    """None where it is a sequence; those of different batches may differ in length."""
    trace: Trace
    """Of the first batch only."""


def metric_of(task: Any) -> str:
    """What training reports and makes small in validation (see `hardattn.contract.Task`)."""
    return getattr(task, "metric", "error")


def unit_of(metric: str) -> str:
    """What to write behind a number."""
    return {"bits": " bits", "optimal-bits": " bits", "return": "", "values-sensed": "", "glimpses": ""}.get(metric, " %")


def label_of(metric: str) -> str:
    """What to write beside an axis."""
    return f"{metric} (%)" if unit_of(metric) == " %" else metric


@torch.inference_mode()
def answer_all(agent: Agent, task: Task, split: str, how: str, *, seed: int = 0, batch_size: int = 1000) -> Answered:
    """Ask everything in a finite split."""
    scores: dict[str, list[np.ndarray]] = {}
    targets, first = [], None
    for batch in task.batches(split, batch_size=batch_size):
        answer = agent.answer(batch.question, how, seed)
        first = answer.trace if first is None else first
        found = dict(task.score(answer, batch))
        if answer.trace.sensed is not None:
            found["values-sensed"] = answer.trace.sensed
        if answer.trace.glimpses is not None:
            found["glimpses"] = answer.trace.glimpses
        for metric, values in found.items():
            scores.setdefault(metric, []).append(values.double().cpu().numpy())
        if batch.target.ndim == 1:
            targets.append(batch.target.cpu().numpy())
    if first is None:
        raise ValueError(f"the split {split!r} has no examples")
    return Answered(
        {metric: np.concatenate(x) for metric, x in scores.items()}, np.concatenate(targets) if targets else None, first
    )


def evaluate(
    agent: Agent,
    task: Task,
    split: str,
    hows: Iterable[str],
    *,
    study: str = "",
    seed: int = 0,
    noise: int = 0,
    batch_size: int = 1000,
) -> Iterator[Scores]:
    """The long table of one agent, every way of answering on the same examples.

    The parts of a test set follow one another; the usual way of answering, the first in `hows`, then goes without its name. Without parts,
    classes get metrics of their own, "error/3".

    `study` and `seed` say whose table it is: `seed` is that of the training. `noise` is that of the answers; it is the same for all models
    unless asked for, so that a model answers today as it did at the end of its training.
    """
    parts = getattr(task, "parts", ()) if split == "test" else ()
    hows, group = list(hows), getattr(task, "views", 1)
    for part in parts:
        for how in hows:
            answered = answer_all(agent, task, part, how, seed=noise, batch_size=batch_size)
            for metric, values in answered.scores.items():
                yield Scores(study, seed, "" if how == hows[0] else how, metric, values, group, part)
    for how in () if parts else hows:
        answered = answer_all(agent, task, split, how, seed=noise, batch_size=batch_size)
        for metric, values in answered.scores.items():
            yield Scores(study, seed, how, metric, values, group)
        if answered.target is not None and hasattr(task.spec, "classes"):
            for label in np.unique(answered.target):
                chosen = answered.target == label
                yield Scores(study, seed, how, f"error/{label}", answered.scores["error"][chosen], group)


def interval(values: np.ndarray, *, group: int = 1, confidence: float = 0.95, resamples: int = 2000) -> Estimate:
    """Mean, with a percentile bootstrap interval over examples (Efron and Tibshirani 1993, Chapter 13).

    Args:
        values: one per example.
        group: so many consecutive examples are resampled together, because they show the same source image.
        confidence: of the interval.
        resamples: of the bootstrap; the generator is seeded, so the interval is a function of the values.
    """
    distinct, counts = np.unique(grouped(values, group), return_counts=True)
    # Drawing n examples with replacement is a multinomial draw of how often each distinct value turns up: the same bootstrap, without the n.
    n = counts.sum()
    drawn = np.random.default_rng(0).multinomial(n, counts / n, size=resamples)
    low, high = np.quantile(drawn @ distinct / n, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def interval_over_seeds(values: Iterable[float], *, confidence: float = 0.95) -> Estimate:
    """Mean over training seeds, with Student's interval (Student 1908): what another seed would bring. It needs at least two seeds."""
    from scipy.stats import t

    seeds = np.asarray(list(values), dtype=float)
    if len(seeds) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 of them, found {len(seeds)}")
    half = t.ppf(0.5 + confidence / 2, len(seeds) - 1) * seeds.std(ddof=1) / np.sqrt(len(seeds))
    return Estimate(float(seeds.mean()), float(seeds.mean() - half), float(seeds.mean() + half))


def over_models(values: Sequence[np.ndarray], *, group: int = 1) -> Estimate:
    """Of one model, `interval` over its examples; of several seeds, `interval_over_seeds` of their means.

    Args:
        values: [examples] of every model.
        group: as for `interval`.
    """
    return interval(values[0], group=group) if len(values) == 1 else interval_over_seeds(v.mean() for v in values)


def paired_p(one: np.ndarray, other: np.ndarray, *, group: int = 1, resamples: int = 9999) -> float:
    """Two-sided paired permutation test on the same examples: how often would a random swap of the two differ as much? (Fisher 1935, Section 21).

    Raises:
        ValueError: if the two do not have the same examples.
    """
    if one.shape != other.shape:
        raise ValueError(f"a paired test needs the same examples twice, found {one.shape} and {other.shape} of them")
    difference = grouped(one, group) - grouped(other, group)
    size, counts = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    # A swap flips a difference's sign; how many of equally large differences are flipped is binomial.
    flips = np.random.default_rng(0).binomial(counts, 0.5, size=(resamples, len(counts)))
    swapped = np.abs((counts - 2 * flips) @ size)
    at_least = np.count_nonzero(swapped >= abs(difference.sum()) - 1e-9)
    return (at_least + 1) / (resamples + 1)


def grouped(values: np.ndarray, group: int) -> np.ndarray:
    """Means over every `group` consecutive values."""
    return values if group == 1 or len(values) % group else values.reshape(-1, group).mean(1)


def rows(table: Iterable[Scores]) -> list[Row]:
    """The table's means with their intervals, as the scripts' JSON has them."""
    found: list[Row] = []
    for scores in table:
        estimate = interval(scores.values, group=scores.group)
        found.append({"name": scores.name, "metric": scores.metric, **estimate._asdict()})  # type: ignore[typeddict-item]
    return found


def first_scenes(task: Any, split: str, count: int) -> Batch:
    """The first `count` examples of a split, always the same for a finite one: a fixed handful for pictures."""
    return next(iter(task.batches(split, batch_size=count)))
