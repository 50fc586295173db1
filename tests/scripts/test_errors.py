"""A request that cannot be met, and a run that fails on the way: a message that helps, an exit code, and nothing half-written."""

import gzip
import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.scripts.processes import BLIND, refused, run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digits", "--steps", "-3"], r"steps must be at least 1, found -3"),
        (["digits", "--batch-size", "0"], r"batch_size must be at least 1, found 0"),
        (["digits", "--std", "0"], r"std must be above 0 and finite, found 0"),
        (["digits", "--learning-rate", "-1"], r"learning_rate must be above 0 and finite, found -1"),
        (["digits", "--std", "nan"], r"std must be above 0 and finite, found nan"),
        (["digits", "--baseline", "leave-one-out"], r"needs rollouts >= 2, found 1"),
        (["digits", "--height", "20"], r"does not fit a canvas of 20 x 40"),
        (["digits", "--seed", "-1"], r"seed must be at least 0 .*found -1"),
        (["digits", "--seed", "9" * 30], r"seed must be .* found 9999"),
        (["digits", "--steps", "many"], r"--steps.*'many'"),
        (["digits", "--steps"], r"[Mm]issing.*--steps"),
        (["digits", "--core", "gru"], r"'gru' for argument '--core'.*'relu', 'lstm'"),
        (["digits", "--stps", "3"], r"Unrecognized.*--stps.*Perhaps you meant.*--steps"),
        (["digits", "3"], r"Unrecognized.*3"),
        (["digts"], r"expected one of digits, mnist, .*found 'digts'.*--help"),
        (["digits", "--device", "quantum"], r"cannot use --device quantum: .*cpu"),
        (["digits", "--precision", "12"], r"cannot use --device cpu --precision 12: .*32-true"),
        (["digits", "--precision", "16-mixed"], "cannot use --precision 16-mixed: use bf16-mixed instead"),
        (["mnist", "--data-dir", "nowhere"], r"expected MNIST at nowhere/MNIST/raw/.*Put the four files .*--data-dir"),
    ],
    ids=lambda x: " ".join(x)[:30] if isinstance(x, list) else "",
)
def test_a_bad_request(tmp_path, arguments, expected):
    refused(run("train_ram", *arguments, folder=tmp_path), expected)
    assert not (tmp_path / "runs").exists()


def test_a_study_that_does_not_exist(tmp_path):
    refused(run("train", "ram-digts", folder=tmp_path), r"expected one of ram-digits, .*found 'ram-digts'")


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(run("train_ram", *BLIND, "--runs-dir", "file", folder=tmp_path), "cannot make a folder .*file.* --runs-dir")
    refused(run("train_ram", *BLIND, "--runs-dir", "/proc/none", folder=tmp_path), "cannot make a folder .*/proc/none")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "ram-digits-0").write_text("in the way")
    refused(run("train_ram", *BLIND, folder=tmp_path), "ram-digits-0 is in the way")
    assert {path.name for path in tmp_path.rglob("*") if path.suffix not in (".err", ".out")} == {
        "file",
        "runs",
        "ram-digits-0",
    }


def test_a_disk_that_is_full_from_the_start(tmp_path):
    refused(run("train_ram", *BLIND, folder=tmp_path, limit=500), r"cannot write into runs/ram-digits-0: .*--runs-dir")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("limit", [2000, 5000, 8000])
def test_a_disk_that_fills_up(tmp_path, limit):
    """In the events, the weights, the checkpoint."""
    ended = run("train_ram", *BLIND, "--steps", 60, folder=tmp_path, limit=limit)
    assert ended.code == 1 and "Traceback" not in ended.text, ended.text
    assert "failed: " in ended.err and "Make room" in ended.err and "Go on with: " in ended.err
    assert len(ended.err[ended.err.index("failed: ") :].splitlines()) <= 12
    folder = tmp_path / "runs" / "ram-digits-0"
    assert not [path for path in folder.rglob("*") if "unfinished" in path.name]
    assert run("train_ram", "--resume", folder, folder=tmp_path).code == 0


def test_a_loss_that_is_no_number(tmp_path):
    """The checkpoints before it are good."""
    arguments = ("--learning-rate", 1e30, "--steps", 5, "--save-every", 1, "--evaluate-every", 1, "--log-every", 1)
    ended = run("train_ram", "digits", *BLIND, *arguments, folder=tmp_path)
    assert ended.code == 1 and "Traceback" not in ended.text, ended.text
    assert "of step 2 is nan: try a smaller --learning-rate" in ended.err and "runs/ram-digits-0" in ended.err
    folder = tmp_path / "runs" / "ram-digits-0"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000001"]
    weights = load_file(folder / "checkpoints" / "step-00000001" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    again = run("train_ram", "--resume", folder, folder=tmp_path)
    assert again.code == 1 and "at step 1 of 5" in again.err and "of step 2 is nan" in again.err


# MNIST


def idx(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape) + bytes(torch.Size(shape).numel())


def put_mnist(folder: Path) -> Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx((count,)))
        (raw / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx((count, 28, 28)), 1))
    return raw


def test_missing_and_damaged_files_of_mnist_are_named(tmp_path):
    raw = put_mnist(tmp_path / "data")
    labels, images = raw / "t10k-labels-idx1-ubyte", raw / "train-images-idx3-ubyte.gz"
    damage = [
        (labels, labels.read_bytes()[:-1], r"t10k-labels-idx1-ubyte should have 10,008 bytes and has 10,007: .*Copy it again"),
        (labels, idx((10_000,))[::-1], r"t10k-labels-idx1-ubyte does not begin as MNIST's"),
        (images, images.read_bytes()[:-100], r"cannot read .*train-images-idx3-ubyte\.gz"),
        (images, b"no archive", r"cannot read .*train-images-idx3-ubyte\.gz"),
        (images, None, r"expected MNIST at .*train-images-idx3-ubyte .*Put the four files .*--data-dir"),
    ]
    for path, content, expected in damage:
        whole = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        refused(run("train_ram", "mnist", folder=tmp_path), expected)
        path.write_bytes(whole)
    assert not (tmp_path / "runs").exists()


# Weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert run("train_ram", *BLIND, "--steps", 5, folder=folder).code == 0
    return folder / "runs" / "ram-digits-0"


@pytest.mark.parametrize("script", ["evaluate", "visualize"])
def test_models_that_cannot_be_loaded(tmp_path, trained, script):
    weights = tmp_path / "weights.safetensors"

    def refuse(*expected: str) -> None:
        refused(run(script, weights, folder=tmp_path), *expected)

    refuse(r"expected weights at .*weights\.safetensors, found no such file")
    whole = (trained / "best.safetensors").read_bytes()
    for content in (b"", b"not weights", whole[: len(whole) // 2], whole[:-1]):
        weights.write_bytes(content)
        refuse(r"weights\.safetensors holds no readable weights")
    tensors = load_file(trained / "best.safetensors")
    save_file(tensors, weights)
    refuse("says nothing about its configuration")
    config = json.loads((trained / "config.json").read_text())
    for key in ("name", "seed", "study"):
        save_file(tensors, weights, {"config": json.dumps({k: v for k, v in config.items() if k != key})})
        refuse(r"weights\.safetensors: the configuration has no '" + key)
    study = config["study"]
    for part, change in (("agent", {"kind": "perceiver"}), ("agent", {"fovea": 3}), ("task", {"kind": "chess"})):
        other = config | {"study": study | {part: study[part] | change}}
        save_file(tensors, weights, {"config": json.dumps(other)})
        refuse(
            r"weights\.safetensors: the configuration is not one of this version's: .*"
            + str(next(iter(change.values())) if "kind" in change else "fovea")
        )
    other = config | {"study": study | {"agent": study["agent"] | {"hidden": 17}}}
    save_file(tensors, weights, {"config": json.dumps(other)})
    refuse("does not fit this model", "should be .*17.* and is .*16")
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("script", ["evaluate", "visualize"])
def test_folders_that_hold_no_model(tmp_path, trained, script):
    refused(
        run(script, tmp_path, folder=tmp_path), "expected a run or a .safetensors file at .*found a folder without config.json"
    )
    shutil.copy(trained / "config.json", tmp_path)
    refused(run(script, tmp_path, folder=tmp_path), "has no best.safetensors yet")
    refused(run(script, folder=tmp_path), "[Mm]issing|[Rr]equired")


def test_bad_options_of_the_other_scripts(tmp_path, trained):
    (tmp_path / "file").write_text("in the way")
    cases = [
        ("evaluate", ["--split", "train"], "'train' for argument '--split'"),
        ("evaluate", ["--batch-size", "0"], "batch_size must be at least 1"),
        ("evaluate", ["--json", "file/rows.json"], "cannot write file/rows.json"),
        ("evaluate", ["--json", tmp_path], "cannot write"),
        ("visualize", ["--how", "sideways"], "how must be one of mean, .*found 'sideways'"),
        ("visualize", ["--out", "file"], "cannot make the folder file"),
        ("visualize", ["--out", "file/in"], "cannot make the folder file/in"),
    ]
    for script, arguments, expected in cases:
        refused(run(script, trained, *arguments, folder=tmp_path), expected)
    refused(run("benchmark", "warp", folder=tmp_path), "expected names among ram-step-28, .*found warp")
    refused(run("benchmark", "peer-28", folder=tmp_path), "--peers DIR")
    refused(run("benchmark", "--peers", "nowhere", folder=tmp_path), "expected a folder of checkouts at nowhere")
