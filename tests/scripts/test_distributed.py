"""Two processes train the model that one would have trained, and speak with one voice."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.scripts.processes import BLIND, ROOT, Running, run

STEPS = 40
SETTINGS = ("digits", *BLIND, "--steps", str(STEPS), "--evaluate-every", "100", "--save-every", "100")
SCRIPT = str(ROOT / "scripts" / "train_ram.py")
LAST = f"runs/ram-digits-0/checkpoints/step-{STEPS:08d}/model.safetensors"

pytestmark = pytest.mark.slow


def launcher(name: str) -> list[str]:
    """As a user types it, on a port that is free."""
    port = free_port()
    tool = str(Path(sys.executable).with_name(name))
    if name == "torchrun":
        return [tool, "--nproc_per_node", "2", "--master_port", port, SCRIPT]
    return [tool, "run", "--accelerator", "cpu", "--devices", "2", "--main-port", port, SCRIPT, "--"]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def pair(folder: Path, *arguments: str) -> list[Running]:
    """Two processes with the environment that torchrun gives them: without waiting for the launcher, and each within reach."""
    port, found = free_port(), []
    for rank in ("0", "1"):
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        environment |= {"GROUP_RANK": "0", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0"}
        found.append(Running("train_ram", arguments, folder, environment=environment))
    return found


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
    ("tool", "options"),
    [("torchrun", ()), ("fabric", ("--baseline", "batch-mean", "--standardised"))],
    ids=["torchrun", "fabric"],
)
def test_two_processes_train_what_one_does(alone, tmp_path, tool, options):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [*launcher(tool), *SETTINGS, *options]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["ram-digits-0"]
    assert len(list((tmp_path / "runs" / "ram-digits-0").glob("events*"))) == 1
    for once in ("run folder: ", f"step {STEPS}: validation error", "scoring the test set", "tensorboard --logdir"):
        assert text.count(once) == 1, text
    close(tmp_path, alone(*options))


@pytest.mark.parametrize("told", [(0, 1), (1,)], ids=["both", "one"])
def test_processes_stop_after_the_same_step_and_the_run_goes_on(alone, tmp_path, told):
    """Whoever hears Ctrl-C: a process that stopped alone would leave the other waiting for its gradient."""
    running = pair(tmp_path, *SETTINGS)
    metrics = tmp_path / "runs" / "ram-digits-0" / "metrics.jsonl"
    running[0].wait_for(metrics.exists)
    for rank in told:
        running[rank].signal(signal.SIGINT)
    first, second = (process.end() for process in running)
    assert first.code == second.code == 130, first.text + second.text
    found = re.search(r"stopped and saved after (\d+) steps\. Go on with: (.+)", first.err)
    assert found and "stopped" not in second.text, first.text + second.text
    command = shlex.split(found[2])
    assert command[:4] == ["torchrun", "--nproc_per_node", "2", SCRIPT]
    first, second = (process.end() for process in pair(tmp_path, *command[4:]))
    assert first.code == second.code == 0, first.text + second.text
    assert f"continuing runs/ram-digits-0 at step {found[1]} of {STEPS}" in first.err and "continuing" not in second.text
    close(tmp_path, alone())


def test_a_batch_that_cannot_be_shared_is_refused_once(tmp_path):
    first, second = (process.end() for process in pair(tmp_path, "digits", *BLIND, "--batch-size", "15"))
    assert first.code == second.code == 2
    assert "error: a global batch of 15 cannot be shared evenly by 2 processes: make it a multiple of 2" in first.err
    assert "error" not in second.text
    assert not (tmp_path / "runs").exists()
