"""What is on disk must be whole, and what is not whole must be named."""

import errno
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file
from tensorboard.summary.writer import event_file_writer
from torch import nn

from hardattn import runs
from hardattn.runs import Run, load_into, load_weights, save_weights, write_whole

CONFIG = {"study": "probe", "agent": {"std": 0.15}}
WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.tensor([1, 2])}
OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "runs", "probe", CONFIG)
    yield run
    run.close()


def save(run, step, **settings):
    run.save(step, {name: value + step for name, value in WEIGHTS.items()}, OPTIMIZER, {"best": step / 2}, **settings)


def everything_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_has_its_configuration_from_the_start(run):
    assert Run.open(run.folder).config == run.config == CONFIG
    assert os.listdir(run.folder) == ["config.json"]


def test_a_taken_name_gets_a_number(run):
    parent = run.folder.parent
    assert [Run.create(parent, "probe", {}).folder.name for _ in range(2)] == ["probe-2", "probe-3"]
    assert run.config == CONFIG


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot make a folder for the run at .*file.*--runs-dir"):
        Run.create(tmp_path / "file", "probe", {})
    with pytest.raises(ValueError, match=r"file is in the way.*--runs-dir"):
        Run.create(tmp_path, "file", {})


def test_opening_nothing_and_damaged_configurations_are_named(tmp_path, run):
    with pytest.raises(ValueError, match=r"expected a run at .*nowhere, found no config.json"):
        Run.open(tmp_path / "nowhere")
    (run.folder / "config.json").write_text('{"study": ')
    with pytest.raises(ValueError, match=r"cannot read .*config.json"):
        _ = run.config


def test_a_checkpoint_comes_back_as_it_was(run):
    assert run.load() is None
    save(run, 5)
    weights, optimizer, progress = run.load()
    assert weights.keys() == WEIGHTS.keys() and all(torch.equal(weights[k], WEIGHTS[k] + 5) for k in WEIGHTS)
    assert weights["b.c"].dtype == torch.int64
    assert optimizer == OPTIMIZER and progress == {"step": 5, "best": 2.5}


def test_the_last_checkpoints_are_kept_and_the_last_one_is_loaded(run):
    for step in (900, 1000, 20, 10_000):
        save(run, step)
    assert [path.name for path in run.checkpoints()] == ["step-00001000", "step-00010000"]
    assert run.load()[2]["step"] == 10_000
    save(run, 20_000, keep=1)
    assert [path.name for path in run.checkpoints()] == ["step-00020000"]


def test_saving_a_step_again_changes_nothing(run):
    save(run, 5)
    before = everything_in(run.folder)
    run.save(5, {}, {}, {})
    assert everything_in(run.folder) == before


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_at(monkeypatch, function, call):
    """The `call`-th call of `function` (a name in os or torch) from now on fails as on a full disk."""
    module, name = function
    original, calls = getattr(module, name), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("unexpected pos 64 vs 0") if module is torch else FULL  # what torch makes of it
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, wrapped)


PLACES = [
    ((os, "fsync"), 1),
    ((os, "fsync"), 2),
    ((os, "fsync"), 3),
    ((os, "replace"), 1),
    ((os, "replace"), 2),
    ((os, "rename"), 1),
    ((torch, "save"), 1),
]


@pytest.mark.parametrize(("function", "call"), PLACES, ids=lambda x: str(x) if isinstance(x, int) else x[1])
def test_a_full_disk_leaves_the_older_checkpoints_and_no_pieces(run, monkeypatch, function, call):
    for step in (1, 2):
        save(run, step)
    before = everything_in(run.folder)
    with monkeypatch.context() as patch:
        fail_at(patch, function, call)
        with pytest.raises(OSError, match=r"could not save a checkpoint at .*step-00000003"):
            save(run, 3)
    assert everything_in(run.folder) == before
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"step-00000001", "step-00000002"}
    save(run, 3)
    assert run.load()[2]["step"] == 3


def test_a_checkpoint_left_unfinished_by_a_kill_is_ignored(run, monkeypatch):
    save(run, 1)
    monkeypatch.setattr(os, "rename", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(run, 2)
    monkeypatch.undo()
    assert [path.name for path in run.checkpoints()] == ["step-00000001"] and run.load()[2]["step"] == 1
    save(run, 2)
    assert run.load()[2]["step"] == 2
    assert not list((run.folder / "checkpoints").glob("unfinished*"))


FILES = ("model.safetensors", "optimizer.pt", "progress.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "noise"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(run, file, damage):
    for step in (1, 2):
        save(run, step)
    path = run.checkpoints()[-1] / file
    content = path.read_bytes()
    path.write_bytes(
        {"missing": b"", "empty": b"", "half": content[: len(content) // 2], "noise": bytes(range(256)) * 4}[damage]
    )
    if damage == "missing":
        path.unlink()
    with pytest.raises(
        ValueError, match=r"step-00000002 is damaged \(.+\)\. Remove that folder to continue from step-00000001"
    ) as found:
        run.load()
    assert len(str(found.value).splitlines()) <= 12
    shutil.rmtree(run.checkpoints()[0])
    with pytest.raises(ValueError, match="Remove that folder to start the run over"):
        run.load()


def test_nothing_in_a_checkpoint_is_executed(run):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(run.folder / "boom"),))

    save(run, 1)
    torch.save({"state": Bomb()}, run.checkpoints()[-1] / "optimizer.pt")
    with pytest.raises(ValueError, match="is damaged"):
        run.load()
    assert not (run.folder / "boom").exists()


def test_metrics_come_back_without_a_torn_last_line(run):
    assert run.metrics() == []
    run.log(1, {"loss": 0.5})
    run.log(2, {"loss": 0.25, "error": 3.0})
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "error": 3.0}]
    path = run.folder / "metrics.jsonl"
    whole = path.read_text()
    for torn in ("", '{"st', '{"step": 3, "loss": 0.1', "\0\0\0"):
        path.write_text(whole + torn)
        assert run.metrics() == rows


def test_a_log_after_a_torn_line_is_not_lost(run):
    """A crash in the middle of a line, and then a resume."""
    run.log(1, {"loss": 0.5})
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    again = Run.open(run.folder)
    again.rewind(1)
    again.log(2, {"loss": 0.25})
    again.close()
    assert [row["step"] for row in run.metrics()] == [1, 2]


def test_metrics_damaged_elsewhere_are_named(run):
    (run.folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged at line 2"):
        run.metrics()


def test_rewinding_forgets_what_came_later(run, monkeypatch):
    # Files of one second are read in the order of a counter of the process, as text: 10 before 9. A process that trains counts to 2.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for step in (10, 20, 30):
        run.log(step, {"loss": float(step)})
    run.close()
    again = Run.open(run.folder)
    again.rewind(20)
    assert [row["step"] for row in again.metrics()] == [10, 20]
    again.log(30, {"loss": -1.0})
    again.close()
    assert again.metrics()[-1] == {"step": 30, "loss": -1.0}
    again.board.add_scalar("test", 0.0, 30)  # the test set is scored after the run was closed
    again.close()
    events = curve(run.folder, "loss")
    assert [step for step, _ in events] == [10, 20, 30] and events[-1][1] == -1


def test_rewinding_an_empty_run_is_fine(run):
    run.rewind(0)
    assert run.metrics() == [] and not (run.folder / "metrics.jsonl").exists()


def curve(folder, name):
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def test_weights_stand_on_their_own(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, WEIGHTS, CONFIG)
    weights, config = load_weights(path)
    assert config == CONFIG and all(
        torch.equal(weights[k], WEIGHTS[k]) and weights[k].dtype == WEIGHTS[k].dtype for k in WEIGHTS
    )
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_weights_that_require_grad_or_are_views_can_be_saved(tmp_path):
    layer = nn.Linear(3, 2)
    save_weights(tmp_path / "w", {"p": layer.weight, "t": layer.weight.T}, {})
    found, _ = load_weights(tmp_path / "w")
    assert torch.equal(found["p"], layer.weight.detach()) and torch.equal(found["t"], layer.weight.detach().T)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 100, None])
def test_files_that_hold_no_weights_are_named(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content is None:
        save_weights(path, WEIGHTS, CONFIG)
        content = path.read_bytes()[:-3]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors holds no readable weights"):
        load_weights(path)


def test_missing_weights_and_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected weights at .*nothing, found no such file"):
        load_weights(tmp_path / "nothing")
    with pytest.raises(ValueError, match=tmp_path.name):
        load_weights(tmp_path)


def test_weights_with_a_damaged_configuration_are_named(tmp_path):
    save_file(WEIGHTS, tmp_path / "w", metadata={"config": "{"})
    with pytest.raises(ValueError, match="holds no readable weights"):
        load_weights(tmp_path / "w")
    save_file(WEIGHTS, tmp_path / "w")
    assert load_weights(tmp_path / "w")[1] == {}


def test_weights_of_another_architecture_are_refused_by_the_name_of_a_tensor(tmp_path):
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    whole = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    wrong = [
        (whole | {"weight": torch.ones(2, 4)}, r"weight should be \(2, 3\) and is \(2, 4\)"),
        ({"weight": whole["weight"]}, r"bias should be \(2,\) and is absent"),
        (whole | {"more": torch.ones(1)}, r"more should be absent and is \(1,\)"),
    ]
    for weights, complaint in wrong:
        with pytest.raises(ValueError, match=f"somewhere does not fit this model: {complaint}"):
            load_into(layer, weights, tmp_path / "somewhere")
        assert torch.equal(layer.weight, before)
    load_into(layer, whole, tmp_path)
    assert layer.weight.eq(1).all()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with monkeypatch.context() as patch:
        fail_at(patch, (runs.os, function), 1)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_numbers_that_are_none_are_kept(run):
    """A metric may be NaN; the file stays readable by us and the curve is not cut."""
    run.log(1, {"loss": float("nan")})
    assert json.dumps(run.metrics()) == '[{"step": 1, "loss": NaN}]'
