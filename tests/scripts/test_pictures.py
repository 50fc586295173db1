"""Which examples are drawn."""

import pytest
import torch

from agents.ntm import NTMConfig
from envs.algorithms import CopyConfig, RepeatCopyConfig
from hardattn import figures
from scripts.pictures import pictures, size_of


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
