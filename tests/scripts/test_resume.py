"""Stopping and going on must leave no trace in the result."""

import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.scripts.processes import BLIND, KILL, ROOT, Running, refused, run

# Logs, evaluations and checkpoints come at steps that do not meet, so that each is caught between two others.
SETTINGS = (*BLIND, "--steps", 90, "--log-every", 20, "--evaluate-every", 30, "--save-every", 25)


def rows(folder: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in found]


def same(one: Path, other: Path) -> None:
    """Bit for bit: weights, optimizer, what was logged and what was scored."""
    last = "checkpoints/step-00000090"
    for file in ("best.safetensors", f"{last}/model.safetensors"):
        a, b = load_file(one / file), load_file(other / file)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), file
    a, b = (torch.load(x / last / "optimizer.pt", weights_only=True) for x in (one, other))
    assert str(a) == str(b)
    assert all(torch.equal(x, b["state"][i][k]) for i, s in a["state"].items() for k, x in s.items())
    assert rows(one) == rows(other)
    for file in ("test.json", "config.json", f"{last}/progress.json"):
        assert (one / file).read_text() == (other / file).read_text()
    assert sorted(x.name for x in (other / "checkpoints").iterdir()) == ["step-00000075", "step-00000090"]


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    ended = run("train_ram", "digits", *SETTINGS, folder=folder)
    assert ended.code == 0, ended.text
    return folder / "runs" / "ram-digits-0"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_ends_like_one_that_is_not(whole, tmp_path, seed):
    """At a random step, in whatever it is doing there; then the resumed run is killed, too."""
    folder, dice = tmp_path / "runs" / "ram-digits-0", random.Random(seed)
    arguments, moments = ("digits", *SETTINGS), sorted(dice.sample(range(1, 9), 2))
    for moment in moments:
        running = Running("train_ram", arguments, tmp_path)
        lines = rows(whole)[moment // 2]["step"]
        running.wait_for(lambda: (folder / "metrics.jsonl").exists() and rows_done(folder) >= lines)  # noqa: B023
        running.wait_for(lambda: False, 0) if False else None
        running.signal(KILL)
        assert running.end().code in (-KILL, 0)
        arguments = ("--resume", folder)
    ended = run("train_ram", *arguments, folder=tmp_path)
    assert ended.code == 0, ended.text
    same(whole, folder)


def rows_done(folder: Path) -> int:
    return (folder / "metrics.jsonl").read_text().count("\n")
