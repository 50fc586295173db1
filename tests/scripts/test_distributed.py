"""Two processes train the model that one would have trained, and speak with one voice."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.scripts.processes import BLIND, ROOT, run

STEPS = 40
SETTINGS = ("digits", *BLIND, "--steps", str(STEPS), "--evaluate-every", "100", "--save-every", "100")
SCRIPT = str(ROOT / "scripts" / "train_ram.py")
LAST = f"runs/ram-digits-0/checkpoints/step-{STEPS:08d}/model.safetensors"

pytestmark = pytest.mark.slow


def launcher(name: str) -> list[str]:
    """As a user types it, on a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tool = str(Path(sys.executable).with_name(name))
    if name == "torchrun":
        return [tool, "--nproc_per_node", "2", "--master_port", port, SCRIPT]
    return [tool, "run", "--accelerator", "cpu", "--devices", "2", "--main-port", port, SCRIPT, "--"]


def start(folder: Path, *words: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=500)
    return process.returncode, out + err


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Final weights of one process, for every baseline asked for."""
    found = {}

    def train(*options: str) -> tuple[dict[str, torch.Tensor], list[dict]]:
        if options not in found:
            folder = tmp_path_factory.mktemp("alone")
            ended = run("train_ram", *SETTINGS, *options, folder=folder)
            assert ended.code == 0, ended.text
            found[options] = load_file(folder / LAST), logged(folder)
        return found[options]

    return train


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "runs" / "ram-digits-0" / "metrics.jsonl").read_text().splitlines()]


def close(folder: Path, expected: tuple[dict[str, torch.Tensor], list[dict]]) -> None:
    weights, rows = expected
    found = load_file(folder / LAST)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
    steps = [row["step"] for row in rows]
    assert [row["step"] for row in logged(folder)] == steps
    for one, other in zip(rows, logged(folder)):
        for name in ("error", "reward", "nll", "gradient/rest"):
            if name in one:
                assert other[name] == pytest.approx(one[name], rel=1e-3), f"{name} of step {one['step']}"


@pytest.mark.parametrize(
    ("tool", "options"), [("torchrun", ()), ("fabric", ("--baseline", "batch-mean"))], ids=["torchrun", "fabric"]
)
def test_two_processes_train_what_one_does(alone, tmp_path, tool, options):
    code, text = finish(start(tmp_path, *launcher(tool), *SETTINGS, *options))
    assert code == 0, text
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["ram-digits-0"]
    assert len(list((tmp_path / "runs" / "ram-digits-0").glob("events*"))) == 1
    for once in ("run folder: ", f"step {STEPS}: validation error", "scoring the test set", "tensorboard --logdir"):
        assert text.count(once) == 1, text
    close(tmp_path, alone(*options))


def test_ctrl_c_stops_both_and_the_run_goes_on(alone, tmp_path):
    """With the command that is printed."""
    process = start(tmp_path, *launcher("torchrun"), *SETTINGS)
    metrics = tmp_path / "runs" / "ram-digits-0" / "metrics.jsonl"
    while not metrics.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    code, text = finish(process)
    found = re.search(r"stopped and saved after (\d+) steps\. Go on with: torchrun --nproc_per_node 2 (.+)", text)
    assert code != 0 and found, text
    code, text = finish(start(tmp_path, *launcher("torchrun")[:-1], *found[2].split()))
    assert code == 0 and f"continuing runs/ram-digits-0 at step {found[1]} of {STEPS}" in text, text
    close(tmp_path, alone())


def test_a_batch_that_cannot_be_shared_is_refused_once(tmp_path):
    code, text = finish(start(tmp_path, *launcher("torchrun"), "digits", *BLIND, "--batch-size", "15"))
    assert code != 0
    assert text.count("error: a global batch of 15 cannot be shared evenly by 2 processes: make it a multiple of 2") == 1, text
    assert not (tmp_path / "runs").exists()
