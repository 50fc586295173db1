"""A run as people see it: on the terminal, in its folder and in TensorBoard."""

import io
import json
import os
import pty
import re
import runpy
import select
import shutil
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.scripts.processes import BLIND, ROOT, TINY, Running, refused, run

SCALARS = {
    *("loss", "nll", "error", "reward", "reinforce", "advantage", "baseline", "entropy", "border", "speed/examples"),
    *("gradient/locator", "gradient/baseline", "gradient/rest", "validation/mean", "validation/random"),
    *(f"interval/{how}/{end}" for how in ("mean", "random") for end in ("low", "high")),
}


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs a script in this process, so that parts of it can be replaced. Returns the exit code."""

    def work(script: str, *arguments) -> int:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / f"{script}.py"), *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name="__main__")
        return end.value.code

    return work


@pytest.mark.slow
def test_tensorboard_gets_every_number_and_picture(command, tmp_path):
    assert command("train", "ram-digits", *TINY, "--steps", 20) == 0
    events = EventAccumulator(str(tmp_path / "runs" / "ram-digits-0"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= SCALARS and scalars - SCALARS <= {"estimator/relative-variance"}
    logged = [json.loads(line) for line in (tmp_path / "runs" / "ram-digits-0" / "metrics.jsonl").read_text().splitlines()]
    for name in scalars:
        rows = [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in logged if name in row]
        assert rows and rows == [(event.step, event.value) for event in events.Scalars(name)]
    assert [event.step for event in events.Scalars("error")] == [10, 20]
    pictures = {name: Image.open(io.BytesIO(events.Images(name)[-1].encoded_image_string)) for name in events.Tags()["images"]}
    assert set(pictures) == {"glimpses", "seen", "fixations", "animation"}
    for name, picture in pictures.items():
        assert picture.format == ("GIF" if name == "animation" else "PNG")
        assert picture.getextrema() != ((0, 0),) * 3 and events.Images(name)[-1].step == 20
        assert picture.size == (events.Images(name)[-1].width, events.Images(name)[-1].height)
    assert pictures["animation"].n_frames > 3


def test_the_configuration_is_written_before_the_first_step(command, tmp_path, monkeypatch, capsys):
    """And a second Ctrl-C, which waits for nothing, still says how to go on."""

    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("hardattn.training.fit", stop)
    assert command("train_ram", *BLIND, "--seed", 3, "--std", 0.2) == 130
    folder = tmp_path / "runs" / "ram-digits-3"
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    config = json.loads((folder / "config.json").read_text())
    assert config["name"] == "ram-digits" and config["seed"] == 3 and config["study"]["agent"]["std"] == 0.2
    assert re.search(r"stopped without saving\. Go on with: .*--resume runs/ram-digits-3$", capsys.readouterr().err.strip())


def test_the_way_back_names_what_the_configuration_does_not_hold(command, monkeypatch, capsys):
    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("hardattn.training.fit", stop)
    command("train_ram", *BLIND, "--runs-dir", "my runs", "--data-dir", "else where", "--precision", "32-true")
    assert capsys.readouterr().err.endswith("--resume 'my runs/ram-digits-0' --data-dir 'else where' --precision 32-true\n")


def test_a_log_file_gets_plain_lines(tmp_path):
    ended = run("train_ram", *BLIND, "--steps", 40, folder=tmp_path)
    assert ended.code == 0 and ended.out == ""
    assert "\x1b" not in ended.err and "\r" not in ended.err
    lines = ended.err.splitlines()
    assert lines[1] == "run folder: runs/ram-digits-0"
    assert any(re.fullmatch(r"step 10 of 40: [\d,]+ examples/s  error [\d.]+ %  \d:\d\d:\d\d left", line) for line in lines)
    for step in (20, 40):
        assert len([line for line in lines if line.startswith(f"step {step}: validation error ")]) == 1
    hows = [line.split()[1] for line in lines if line.startswith("│")]
    assert hows == ["mean", "sampled", "averaged", "random", "centre", "raster"]
    for script in ("tensorboard --logdir", "python scripts/evaluate.py", "python scripts/visualize.py"):
        assert any(line.endswith(f"{script} runs/ram-digits-0") for line in lines)


def test_a_terminal_gets_one_line_that_moves(tmp_path):
    main, side = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "90"}
    arguments = (*BLIND, "--steps", 40)
    running = Running("train_ram", arguments, tmp_path, environment=environment, terminal=os.ttyname(side))
    seen = b""
    while running.process.is_alive() or select.select([main], [], [], 0)[0]:
        if select.select([main], [], [], 0.05)[0]:
            seen += os.read(main, 65536)
    os.close(side)
    os.close(main)
    assert running.end().code == 0
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen.decode())
    assert re.search(r"40/40 [\d,]+ examples/s  error [\d.]+ %  0:00:00 left", text), text
    assert "step 10 of 40" not in text
    assert all(len(line.split("\r")[-1]) <= 90 for line in text.split("\n")), text


def test_a_study_of_ones_own_is_named_after_its_preset(tmp_path):
    """A second run of the same name gets a folder of its own."""
    for folder in ("ram-digits-0", "ram-digits-0-2"):
        assert run("train", "ram-digits", *BLIND, "--steps", 1, folder=tmp_path).code == 0
        assert (tmp_path / "runs" / folder / "test.json").exists()


def test_ctrl_c_before_the_first_step_is_not_a_traceback(tmp_path):
    running = Running("train_ram", tuple(BLIND), tmp_path)
    running.wait_for(lambda: (tmp_path / "runs").exists())
    running.signal(2)
    ended = running.end()
    assert ended.code == 130 and "Traceback" not in ended.text, ended.text


# Beginning with weights


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run that has moved away from where it started, and knows more than chance."""
    folder = tmp_path_factory.mktemp("taught")
    assert run("train_ram", *BLIND, "--steps", 60, folder=folder).code == 0
    return folder / "runs" / "ram-digits-0"


def rows_of(folder):
    return json.loads((folder / "test.json").read_text())


@pytest.mark.parametrize("file", ["", "best.safetensors"])
def test_a_run_may_begin_with_the_weights_of_another(taught, tmp_path, file):
    """A step that is too small to move a weight leaves them as they were."""
    arguments = ("--seed", 1, "--steps", 1, "--learning-rate", 1e-30)
    ended = run("train_ram", *BLIND, *arguments, "--start-from", taught / file, folder=tmp_path)
    assert ended.code == 0, ended.text
    folder = tmp_path / "runs" / "ram-digits-1"
    before, after = (load_file(path / "best.safetensors") for path in (taught, folder))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert rows_of(folder) == rows_of(taught)


def test_weights_to_begin_with_are_learned_further(taught, tmp_path):
    """And without them a run of the same options knows nothing yet."""
    errors = []
    for start in (["--start-from", taught], []):
        assert run("train_ram", *BLIND, "--steps", 5, *start, folder=tmp_path).code == 0
        folder = max((tmp_path / "runs").iterdir(), key=lambda path: path.name)
        weights, old = (load_file(path / "best.safetensors") for path in (folder, taught))
        assert not all(torch.equal(weights[name], old[name]) for name in old)
        errors.append(rows_of(folder)[0]["value"])
    assert errors[0] < 80 < errors[1]


@pytest.mark.parametrize(
    ("study", "options", "expected"),
    [
        ("ram-digits", ["--hidden", 17], r"best\.safetensors does not fit this model: .* should be .*17.* and is .*16"),
        ("soft-digits", [], r"best\.safetensors does not fit this model: .* should be .*absent"),
    ],
)
def test_weights_of_another_architecture_are_refused(taught, tmp_path, study, options, expected):
    ended = run("train", study, "--no-pictures", *(BLIND if options else ()), *options, "--start-from", taught, folder=tmp_path)
    refused(ended, expected)
    assert len(ended.err.splitlines()) == 1 and not (tmp_path / "runs").exists()


def test_weights_to_begin_with_must_be_there(taught, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("no weights")
    cases = {
        "nowhere.safetensors": r"expected weights at nowhere\.safetensors, found no such file",
        "empty": r"expected weights at empty/best\.safetensors, found no such file",
        "text.safetensors": r"text\.safetensors holds no readable weights",
    }
    for start, expected in cases.items():
        ended = run("train_ram", *BLIND, "--start-from", start, folder=tmp_path)
        refused(ended, expected)
        assert len(ended.err.splitlines()) == 1 and not (tmp_path / "runs").exists()


def test_who_resumes_before_the_first_checkpoint_still_begins_with_the_weights_given(taught, tmp_path):
    """As if it had been killed in its first step."""
    assert run("train_ram", *BLIND, "--steps", 2, "--learning-rate", 1e-30, "--start-from", taught, folder=tmp_path).code == 0
    folder = tmp_path / "runs" / "ram-digits-0"
    checkpoints = sorted((folder / "checkpoints").iterdir())
    assert checkpoints[0].name == "step-00000000"
    for done in (*checkpoints[1:], folder / "best.safetensors", folder / "test.json"):
        shutil.rmtree(done) if done.is_dir() else done.unlink()
    ended = run("train_ram", "--resume", folder, folder=tmp_path)
    assert ended.code == 0 and "at step 0 of 2" in ended.text
    assert rows_of(folder) == rows_of(taught)


def test_a_resumed_run_begins_with_its_own_weights(taught, tmp_path):
    ended = run("train_ram", "--resume", taught, "--start-from", taught, folder=tmp_path)
    refused(ended, "resumed starts from its own checkpoint: leave --start-from out")
    assert len(ended.err.splitlines()) == 1
