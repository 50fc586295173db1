"""Which examples are drawn."""

import numpy as np
import pytest
import torch

from agents.ntm import NTMConfig
from envs.algorithms import CopyConfig, RepeatCopyConfig
from hardattn import figures
from hardattn.evaluation import Scores, interval, interval_over_seeds
from scripts.pictures import by_size, pictures, size_of


@pytest.mark.parametrize(
    ("config", "asked"),
    [(CopyConfig(width=2, length=6), 6), (RepeatCopyConfig(width=2, length=3, repeats=4), 3 * 4 + 1)],
)
def test_of_sequences_the_longest_of_training_is_drawn(monkeypatch, config, asked):
    task, drawn = config.build(), []
    monkeypatch.setattr(figures, "memory_use", lambda *_, counts, **__: drawn.append(int(counts.sum())))
    torch.manual_seed(0)
    agent = NTMConfig(hidden=4, rows=8, columns=3).build(task.spec)
    assert set(pictures(agent, task).still) == {"memory"} and drawn == [asked]
    tested = pictures(agent, task, split="test").still
    assert set(tested) == {"memory", *(f"memory-{part}" for part in task.parts)}


def test_sizes_are_read_from_the_names_of_parts():
    assert size_of("length-20") == ("length", 20) and size_of("repeats-30") == ("repeats", 30)
    assert size_of("task-3") is None and size_of("mean") is None


def test_several_seeds_are_one_curve_by_size(monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "learning_curves", lambda curves, ylabel, **_: drawn.update({ylabel: curves}))

    def scores(study, seed, part, *values):
        return Scores(study, seed, "", "bits", np.array(values), part=part)

    once = scores("hard", 0, "length-4", 5.0, 7.0)
    table = [
        *(
            scores("soft", 0, "length-2", 1.0, 3.0),
            scores("soft", 0, "length-4", 2.0, 2.0),
            scores("soft", 0, "mean", 9.0, 9.0),
        ),
        *(scores("soft", 1, "length-2", 4.0, 4.0), scores("soft", 1, "length-4", 6.0, 8.0)),
        *(scores("hard", 0, "length-2", 0.0, 0.0), once),
    ]
    assert set(by_size(table, of=lambda one: one.study)) == {"bits-by-length"}
    (curves,) = drawn.values()
    assert list(curves) == ["soft", "hard"] and curves["soft"].steps == curves["hard"].steps == [2, 4]
    assert curves["soft"].values == [3.0, 4.5] and curves["hard"].values == [0.0, 6.0]
    _, low, high = interval_over_seeds([2.0, 7.0])
    assert (curves["soft"].low[1], curves["soft"].high[1]) == (low, high)
    assert (curves["hard"].low[1], curves["hard"].high[1]) == interval(once.values)[1:]
    assert by_size([scores("soft", 0, "mean", 1.0), scores("soft", 0, "", 1.0)]) == {}
