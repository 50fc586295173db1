"""Stopping and going on must leave no trace in the result."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.scripts.processes import BLIND, ROOT, Running, refused, run

# Logs, evaluations and checkpoints come at steps that seldom meet, so that each is caught between two others.
SETTINGS = (*BLIND, "--steps", 90, "--log-every", 20, "--evaluate-every", 30, "--save-every", 25)
NAME = "ram-digits-0"
KILL = signal.SIGKILL


def rows(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.jsonl"
    found = (
        [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if path.exists()
        else []
    )
    return [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in found]


def same(one: Path, other: Path) -> None:
    """Bit for bit: weights, optimizer, what was logged and what was scored."""
    last = "checkpoints/step-00000090"
    for file in ("best.safetensors", f"{last}/model.safetensors"):
        a, b = load_file(one / file), load_file(other / file)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), file
    a, b = (torch.load(x / last / "optimizer.pt", weights_only=True) for x in (one, other))
    assert a["param_groups"] == b["param_groups"] and a["state"].keys() == b["state"].keys()
    assert all(torch.equal(value, b["state"][i][name]) for i, state in a["state"].items() for name, value in state.items())
    assert rows(one) == rows(other)
    for name in ("error", "gradient/locator", "validation/mean"):
        assert points(one, name) == points(other, name)
    for file in ("test.json", "config.json", f"{last}/progress.json"):
        assert (one / file).read_text() == (other / file).read_text()
    assert not [path for path in other.rglob("*") if "unfinished" in path.name]


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    """A curve as TensorBoard shows it."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    ended = run("train_ram", "digits", *SETTINGS, folder=folder)
    assert ended.code == 0, ended.text
    return folder / "runs" / NAME


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, str]:
    """A run after Ctrl-C, with what it said."""
    folder = tmp_path_factory.mktemp("stopped")
    running = Running("train_ram", ("digits", *SETTINGS), folder)
    running.wait_for(lambda: len(rows(folder / "runs" / NAME)) >= 2)  # at step 30, between the logs of 20 and 40
    running.signal(signal.SIGINT)
    ended = running.end()
    assert ended.code == 130 and "Traceback" not in ended.text, ended.text
    return folder / "runs" / NAME, ended.err


@pytest.fixture
def half(stopped, tmp_path) -> Path:
    """A copy of it, to be continued in `tmp_path`."""
    shutil.copytree(stopped[0], tmp_path / "runs" / NAME)
    return tmp_path / "runs" / NAME


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_twice_ends_like_one_that_is_not(whole, tmp_path, seed):
    """At random moments, in whatever it is doing there."""
    folder, dice = tmp_path / "runs" / NAME, random.Random(seed)
    arguments: tuple = ("digits", *SETTINGS)
    # Not after the last two rows: a fast machine would be done before it is killed.
    for moment in sorted(dice.sample(range(len(rows(whole)) - 2), 2)):
        running = Running("train_ram", arguments, tmp_path)
        running.wait_for(lambda: (folder / "config.json").exists() and len(rows(folder)) >= moment)  # noqa: B023 (called here)
        time.sleep(dice.uniform(0, 0.03))
        running.signal(KILL)
        assert running.end().code == -KILL
        arguments = ("--resume", folder)
    ended = run("train_ram", *arguments, folder=tmp_path)
    assert ended.code == 0, ended.text
    same(whole, folder)


@pytest.mark.slow
def test_a_run_that_is_killed_before_its_first_checkpoint_starts_over(whole, tmp_path):
    folder = tmp_path / "runs" / NAME
    running = Running("train_ram", ("digits", *SETTINGS), tmp_path)
    running.wait_for(lambda: rows(folder))
    running.signal(KILL)
    running.end()
    assert (folder / "config.json").exists() and not list(folder.glob("checkpoints/step-*"))
    ended = run("train_ram", "--resume", folder, folder=tmp_path)
    assert ended.code == 0 and "at step 0 of 90" in ended.err, ended.text
    same(whole, folder)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_going_on_ends_the_same(whole, stopped, half, tmp_path):
    """The command is run as it was printed, by a shell."""
    found = re.search(r"stopped and saved after (\d+) steps\. Go on with: (.+)", stopped[1])
    assert found, stopped[1]
    saved = json.loads((sorted(half.glob("checkpoints/step-*"))[-1] / "progress.json").read_text())
    assert saved["step"] == int(found[1]) and 0 < saved["step"] < 90
    assert shlex.split(found[2])[1:] == [str(ROOT / "scripts" / "train_ram.py"), "--resume", f"runs/{NAME}"]
    done = subprocess.run(found[2], shell=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    same(whole, half)


def test_a_finished_run_says_so_and_stays_as_it_is(whole, tmp_path):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    ended = run("train_ram", "--resume", whole, folder=tmp_path)
    assert ended.code == 0 and "is finished: 90 steps" in ended.err, ended.text
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_a_finished_run_says_so_without_its_data(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["study"]["task"] |= {"source": "mnist", "height": 28, "width": 28}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    ended = run("train_ram", "--resume", tmp_path / "run", folder=tmp_path)
    assert ended.code == 0 and "is finished: 90 steps" in ended.err, ended.text


def test_a_run_that_was_killed_while_it_scored_the_test_set_scores_it_again(whole, tmp_path):
    copy = tmp_path / NAME
    shutil.copytree(whole, copy)
    (copy / "test.json").unlink()
    assert run("train_ram", "--resume", copy, folder=tmp_path).code == 0
    same(whole, copy)


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("train_ram", ["--std", "0.3"], r"std: the run has 0.15, the command line says 0.3"),
        ("train_ram", ["--seed", "5", "--steps", "91"], r"seed: the run has 0, .* 5; steps: the run has 90, .* 91"),
        ("train", ["--no-pictures", "--core", "lstm"], r"core: the run has relu, the command line says lstm"),
    ],
)
def test_options_that_differ_are_an_error(whole, tmp_path, script, arguments, expected):
    refused(run(script, "--resume", whole, *arguments, folder=tmp_path), expected, "Leave these options out")


def test_another_study_is_an_error(whole, tmp_path):
    expected = r"study: the run has ram-digits, the command line says ram-mnist"
    refused(run("train_ram", "mnist", "--resume", whole, folder=tmp_path), expected)
    refused(run("train", "ram-mnist", f"--resume={whole}", folder=tmp_path), expected)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    refused(run("train_ram", "--resume", tmp_path, folder=tmp_path), f"expected a run at {tmp_path}, found no config.json")
    refused(run("train_ram", "--resume", "nowhere", folder=tmp_path), "expected a run at nowhere")
    for text in ("{", "[]", "{}", '{"name": "ram-digits", "seed": 0, "study": {"task": {"kind": "chess"}}}'):
        (tmp_path / "config.json").write_text(text)
        refused(run("train_ram", "--resume", tmp_path, folder=tmp_path), "config")


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "progress.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_still_works(whole, half, tmp_path, file):
    last, _ = sorted(half.glob("checkpoints/step-*"), reverse=True)
    content = (last / file).read_bytes()
    (last / file).write_bytes(content[: len(content) // 2])
    refused(run("train_ram", "--resume", half, folder=tmp_path), f"{last.name} is damaged .* Remove that folder")
    if file == "optimizer.pt":
        shutil.rmtree(last)
        assert run("train_ram", "--resume", half, folder=tmp_path).code == 0
        same(whole, half)


def test_a_checkpoint_of_another_model_is_refused(half, tmp_path):
    config = json.loads((half / "config.json").read_text())
    for key, value, expected in (("hidden", 17, r"should be \(1, 17\)"), ("baseline", "none", "should be absent")):
        study = config["study"] | {"agent": config["study"]["agent"] | {key: value}}
        (half / "config.json").write_text(json.dumps(config | {"study": study}))
        refused(run("train_ram", "--resume", half, folder=tmp_path), "does not fit this model", expected)


def test_an_optimizer_of_another_version_is_refused(half, tmp_path):
    last = sorted(half.glob("checkpoints/step-*"))[-1]
    torch.save({"state": {}, "param_groups": []}, last / "optimizer.pt")
    refused(run("train_ram", "--resume", half, folder=tmp_path), "does not fit", "Remove it")


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_can_go_on(whole, half, tmp_path):
    before = {path: path.read_bytes() for path in half.glob("checkpoints/*/*")}
    # The weights still fit, the optimizer does not.
    size = max((path / "model.safetensors").stat().st_size for path in half.glob("checkpoints/*"))
    ended = run("train_ram", "--resume", half, folder=tmp_path, limit=size + 1000)
    assert ended.code == 1 and "Traceback" not in ended.text, ended.text
    assert re.search(r"could not save a checkpoint at .*step-\d+: .*too large.*Go on with: .*--resume", ended.err)
    assert {path: path.read_bytes() for path in half.glob("checkpoints/*/*")} == before
    assert run("train_ram", "--resume", half, folder=tmp_path).code == 0
    same(whole, half)
