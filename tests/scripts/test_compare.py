"""One table of many attentions: it must say what each model said, and compare like with like."""

import csv
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from hardattn.cost import Cost
from hardattn.evaluation import Estimate, interval, interval_over_seeds, paired_p
from scripts import compare
from scripts.compare import Answers, Entry
from scripts.studies import STUDIES, load_trained
from tests.scripts.processes import ROOT, refused, run

TINY = (
    *("--positions", 1, "--height", 24, "--width", 24, "--glimpses", 3, "--scales", 1, "--hidden", 16, "--no-pictures"),
    *("--batch-size", 16, "--learning-rate", 0.01, "--log-every", 1, "--save-every", 1000),
)
MODELS = ["ram-digits", "ram-digits, 8 averaged", "ram-digits, random", "soft-digits", "soft-digits, uniform", "fc-64-digits"]
COSTS = ["parameters", "flops", "sensed", "scores", "reads", "milliseconds"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with four runs: one network has two seeds."""
    folder = tmp_path_factory.mktemp("home")
    for name, seed, steps in (("ram-digits", 0, 3), ("soft-digits", 0, 3), ("fc-64-digits", 0, 60), ("fc-64-digits", 1, 60)):
        arguments = ("--seed", seed, "--steps", steps, "--evaluate-every", steps // 3)
        ended = run("train", name, *TINY, *arguments, folder=folder)
        assert ended.code == 0, ended.text
    return folder


@pytest.fixture(scope="module")
def compared(home):
    """What it wrote, and what it printed."""
    names = ("ram-digits", "soft-digits", "fc-64-digits")
    ended = run("compare", *names, "--out", "side by side", "--json", "rows.json", folder=home)
    assert ended.code == 0 and ended.err == "", ended.text
    return SimpleNamespace(folder=home / "side by side", json=json.loads((home / "rows.json").read_text()), screen=ended.out)


def said(home, run_name, how):
    """The test error that a run found at its end."""
    rows = json.loads((home / "runs" / run_name / "test.json").read_text())
    return next(row["value"] for row in rows if row["name"] == how and row["metric"] == "error")


@pytest.fixture
def command(monkeypatch, home):
    """Runs it in this process, so that studies can be replaced. Returns the exit code."""

    def work(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "compare.py"), *map(str, arguments)])
        monkeypatch.chdir(home)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name="__main__")
        return end.value.code

    return work


# The rows


def test_every_model_has_its_row_and_so_have_random_gaze_and_chance(home, compared):
    value = {row["name"]: row["value"] for row in compared.json if row["metric"] == "error"}
    assert list(value) == [*MODELS, "chance"]
    assert value["ram-digits"] == pytest.approx(said(home, "ram-digits-0", "mean"))
    assert value["ram-digits, 8 averaged"] == pytest.approx(said(home, "ram-digits-0", "averaged"))
    assert value["ram-digits, random"] == pytest.approx(said(home, "ram-digits-0", "random"))
    assert value["soft-digits"] == pytest.approx(said(home, "soft-digits-0", "mean"))
    assert value["soft-digits, uniform"] == pytest.approx(said(home, "soft-digits-0", "uniform"))
    assert 85 < value["chance"] < 91 and value["fc-64-digits"] < 80


def test_the_json_has_the_keys_of_all_scripts(compared):
    assert all(list(row) == ["name", "metric", "value", "low", "high"] for row in compared.json)
    metrics = {name: [row["metric"] for row in compared.json if row["name"] == name] for name in (*MODELS, "chance")}
    assert metrics.pop("ram-digits") == ["error", *COSTS] and metrics.pop("chance") == ["error", "p"]
    assert all(found == ["error", *COSTS, "p"] for found in metrics.values())
    assert all(row["low"] <= row["value"] <= row["high"] for row in compared.json)


def test_several_seeds_are_one_row_with_students_interval(home, compared):
    seeds = [said(home, f"fc-64-digits-{seed}", "mean") for seed in (0, 1)]
    assert seeds[0] != seeds[1]
    (row,) = (row for row in compared.json if (row["name"], row["metric"]) == ("fc-64-digits", "error"))
    expected = interval_over_seeds(seeds)
    assert (row["value"], row["low"], row["high"]) == pytest.approx(tuple(expected))
    (line,) = (
        line
        for line in csv.DictReader(io.StringIO((compared.folder / "comparison.csv").read_text()))
        if line["name"] == row["name"]
    )
    assert line["seeds"] == "2"


def test_the_csv_says_what_the_json_says(compared):
    lines = list(csv.DictReader(io.StringIO((compared.folder / "comparison.csv").read_text())))
    assert list(lines[0]) == ["name", "seeds", "error", "low", "high", "p", *COSTS]
    assert [line["name"] for line in lines] == [*MODELS, "chance"]
    found = {}
    for line in lines:
        found |= {(line["name"], metric): float(line[metric]) for metric in ("error", "p", *COSTS) if line[metric]}
    assert found == {(row["name"], row["metric"]): row["value"] for row in compared.json}
    assert [line["seeds"] for line in lines] == ["1"] * 5 + ["2", "1"]


def test_the_markdown_and_the_screen_show_the_same_table(compared):
    header, rule, *lines = (compared.folder / "comparison.md").read_text().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == list(compare.COLUMNS)
    assert set(rule) <= set("|- ") and len(lines) == len(MODELS) + 1
    shown = [[cell.strip() for cell in line.strip("│").split("│")] for line in compared.screen.splitlines() if "│" in line]
    assert shown == [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert "digits, test set" in compared.screen and "…" not in compared.screen
    for name in ("comparison.md", "comparison.csv", "error-by-flops.png", "error-by-values-sensed.png", "learning-curves.png"):
        assert f"side by side/{name}" in compared.screen
    assert "tensorboard --logdir" in compared.screen


def test_the_figures_are_drawn(compared):
    assert {path.name for path in compared.folder.glob("*.png")} == {
        "error-by-flops.png",
        "error-by-values-sensed.png",
        "learning-curves.png",
    }
    for path in compared.folder.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300 and len(picture.convert("L").getcolors()) > 5


def test_sequences_are_compared_by_length_and_the_next_comparison_leaves_none_of_it(home, tmp_path):
    tiny = ("--width", 2, "--length", 3, "--lengths", 2, 5, "--frozen", 20, "--hidden", 4, "--steps", 1, "--no-pictures")
    names, out = ("ntm-copy", "lstm-copy"), tmp_path / "pictures"
    for name in names:
        assert run("train", name, *tiny, folder=tmp_path).code == 0
    ended = run("compare", *names, "--out", out, "--json", "-", folder=tmp_path)
    assert ended.code == 0, ended.text
    by_length = {f"{metric}-by-length.png" for metric in ("bits", "wrong-bits", "error")}
    assert {path.name for path in (out / "by-size").iterdir()} == by_length and "wrong-bits-by-length.png" in ended.err
    assert "copy, test set" in ended.err and "ntm-copy, test set" not in ended.err
    (out / "mine-by-length.png").touch()
    ended = run("compare", *names, "--split", "validation", "--out", out, folder=tmp_path)
    assert ended.code == 0 and not list((out / "by-size").iterdir()), ended.text
    ended = run("compare", "ram-digits", "--runs-dir", home / "runs", "--out", out, folder=tmp_path)
    assert ended.code == 0 and {path.name for path in out.glob("*by*")} >= {
        "mine-by-length.png",
        "error-by-values-sensed.png",
    }, ended.text


def test_parts_without_sizes_are_not_asked():
    asked = SimpleNamespace(task=SimpleNamespace(parts=("task-1", "mean")))  # it has no agent that could answer
    assert list(compare.on_all_parts([asked])) == []


def test_the_same_model_twice_is_refused(home):
    """It would pass for two seeds."""
    ended = run("compare", "runs/fc-64-digits-0", "runs/fc-64-digits-0", "--out", "twice", folder=home)
    assert ended.code == 2 and "the same model is there twice" in ended.err and not (home / "twice").exists()


def test_other_settings_do_not_pass_for_another_seed(home, tmp_path):
    for name, options in (("steps", ("--steps", 1)), ("agent", ("--steps", 60, "--hidden", 17))):
        arguments = (*TINY, *options, "--seed", 2, "--evaluate-every", 20, "--runs-dir", tmp_path / name)
        assert run("train", "fc-64-digits", *arguments, folder=tmp_path).code == 0
        ended = run("compare", "fc-64-digits", tmp_path / name / "fc-64-digits-2", "--out", tmp_path / "out", folder=home)
        refused_in_one_line(ended, "fc-64-digits is there twice with different settings")


def test_what_is_played_has_no_chance():
    """There is no answer to guess: a row of zeros would be a perfect player's."""
    for name in ("ram-catch", "player-Copy", "rlntm-copy"):
        assert compare.by_chance(STUDIES[name].task.build(Path("nowhere")), "validation") is None
    (only,) = compare.entries(ANSWERS[:1], None)
    assert only.name == "hard"


def test_the_board_has_the_models_side_by_side(home, compared):
    events = EventAccumulator(str(compared.folder / "board"), size_guidance={"images": 0, "tensors": 0}).Reload()
    runs = ["ram-digits-0", "soft-digits-0", "fc-64-digits-0", "fc-64-digits-1"]
    tags = [f"validation error/{name}" for name in runs]
    assert set(events.Tags()["scalars"]) == set(tags)
    for name, tag in zip(runs, tags):
        logged = [json.loads(line) for line in (home / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        expected = [(row["step"], row["validation/mean"]) for row in logged if "validation/mean" in row]
        assert [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)] == expected and len(expected) == 3
    assert set(events.Tags()["images"]) == {
        *(f"attention/ram-digits/{name}" for name in ("glimpses", "seen", "fixations")),
        "attention/soft-digits/attention",
        *(f"comparison/{path.stem}" for path in compared.folder.glob("*.png")),
    }
    (still,) = events.Images("comparison/error-by-flops")
    assert still.encoded_image_string == (compared.folder / "error-by-flops.png").read_bytes()
    (layout,) = events.Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(layout.tensor_proto.string_val[0]).category
    (chart,) = category.chart
    # The tags of a chart are regular expressions: each must mean its own curve and no other.
    assert [[tag for tag in tags if re.search(pattern, tag)] for pattern in chart.multiline.tag] == [[tag] for tag in tags]
    (text,) = events.Tensors("comparison/table/text_summary")
    assert text.tensor_proto.string_val[0].decode() == (compared.folder / "comparison.md").read_text()


def test_random_gaze_is_that_of_the_first_model_that_has_a_gaze(home):
    """Wherever it stands, and of all its seeds."""
    models = [
        load_trained(home / "runs" / f"{name}-0", Path("nowhere")) for name in ("fc-64-digits", "soft-digits", "ram-digits")
    ]
    models += [SimpleNamespace(**vars(models[-1]) | {"seed": 1}), SimpleNamespace(**vars(models[-1]) | {"name": "later"})]
    answers = compare.gather(models, compare.Options())
    expected = [
        "fc-64-digits",
        "soft-digits",
        "soft-digits, uniform",
        "ram-digits",
        "ram-digits, 8 averaged",
        "ram-digits, random",
    ]
    assert [answer.name for answer in answers] == [*expected, "later", "later, 8 averaged"]
    assert [len(answer.errors) for answer in answers] == [1, 1, 1, 2, 2, 2, 1, 1]
    chance = compare.by_chance(models[0].task, "test")
    assert all(error.shape == chance.shape for answer in answers for error in answer.errors)


def test_one_model_is_enough_and_may_be_a_file(home, tmp_path):
    shutil.copy(home / "runs" / "ram-digits-0" / "best.safetensors", tmp_path / "mine.safetensors")
    ended = run("compare", "mine.safetensors", "--json", "-", "--split", "validation", folder=tmp_path)
    assert ended.code == 0, ended.text
    rows = [row for row in json.loads(ended.out) if row["metric"] == "error"]
    assert [row["name"] for row in rows] == [*MODELS[:3], "chance"] and "digits, validation set" in ended.err
    lines = (home / "runs" / "ram-digits-0" / "metrics.jsonl").read_text().splitlines()
    validation = [row["validation/mean"] for row in map(json.loads, lines) if "validation/mean" in row]
    assert rows[0]["value"] == pytest.approx(min(validation))
    assert not (tmp_path / "comparison" / "learning-curves.png").exists(), "weights alone have no curve"


def test_shipped_weights_go_before_runs(home):
    options = compare.Options(weights_dir=home / "weights", runs_dir=home / "runs")
    assert compare.find("fc-64-digits", options) == [home / "runs" / f"fc-64-digits-{seed}" for seed in (0, 1)]
    assert compare.find("ram-digits", compare.Options(weights_dir=ROOT / "weights")) == [
        ROOT / "weights" / "ram-digits.safetensors"
    ]
    assert compare.find(str(home / "runs" / "ram-digits-0"), options) == [home / "runs" / "ram-digits-0"]


# Training first


def test_train_begins_from_nothing(command, home, tmp_path, monkeypatch, capsys):
    from dataclasses import replace

    study = STUDIES["fc-64-digits"]
    task = replace(study.task, height=24, width=24, positions=1)
    fit = replace(study.fit, steps=2, batch_size=16, evaluate_every=1, pictures=False)
    monkeypatch.setitem(STUDIES, "fc-64-digits", replace(study, task=task, fit=fit))
    arguments = ("fc-64-digits", "--train", "--runs-dir", tmp_path / "runs", "--out", tmp_path / "out")
    assert command(*arguments) == 0
    folder = tmp_path / "runs" / "fc-64-digits-0"
    found = json.loads((folder / "test.json").read_text())[0]["value"]
    row = next(csv.DictReader(io.StringIO((tmp_path / "out" / "comparison.csv").read_text())))
    assert row["name"] == "fc-64-digits" and float(row["error"]) == pytest.approx(found)
    assert capsys.readouterr().err.count("1 of 1 studies trained") == 1
    assert command(*arguments) == 2
    assert "fc-64-digits-0 exists: choose another --runs-dir" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["fc-64-digits-0"]
    assert command(folder, "--train", "--out", tmp_path / "out") == 2
    assert "--train takes names of studies" in capsys.readouterr().err


def test_trainings_side_by_side_say_whose_lines_they_write():
    stream = io.StringIO()
    one, other = compare.Named(stream, "one"), compare.Named(stream, "other")
    one.write("step ")
    other.write("step 2\nstep 3\n")
    one.write("1\nst")
    assert stream.getvalue() == "other: step 2\nother: step 3\none: step 1\n"


def test_a_training_that_fails_stops_the_others(tmp_path):
    """A task whose data are not there fails at once, while the first study would take minutes."""
    words = (sys.executable, str(ROOT / "scripts" / "compare.py"), "ram-mnist", "ram-digits", "--train")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 2 and ended.stdout == ""
    assert "ram-mnist: error: " in ended.stderr
    assert not (tmp_path / "runs" / "ram-digits-0" / "test.json").exists()


# What it refuses


def refused_in_one_line(ended, expected):
    refused(ended, expected)
    assert len(ended.err.splitlines()) == 1


def test_another_task_is_refused(home):
    shipped = ROOT / "weights" / "ram-digits.safetensors"
    ended = run("compare", "soft-digits", shipped, folder=home)
    refused_in_one_line(ended, "needs one task: height is 24 for soft-digits and 40 for ram-digits")


def test_a_name_that_means_nothing_is_refused(home, tmp_path):
    expected = r"expected a study, a run's folder or a \.safetensors file, found 'ram-digts'.*--help"
    refused_in_one_line(run("compare", "ram-digts", folder=tmp_path), expected)
    expected = r"conv-digits has no weights in weights and no run in runs: python scripts/train\.py conv-digits .*--train"
    refused_in_one_line(run("compare", "ram-digits", "conv-digits", folder=home), expected)
    refused_in_one_line(
        run("compare", "ram-digts", "--train", folder=tmp_path), "--train takes names of studies, found 'ram-digts'"
    )
    ended = run("compare", "ram-digits", "ram-digits", "--train", folder=tmp_path)
    refused_in_one_line(ended, "--train takes every study once, found ram-digits, ram-digits")


def test_without_names_the_shipped_models_must_be_there(tmp_path):
    refused_in_one_line(run("compare", folder=tmp_path), "expected the shipped models in weights, found none")
    assert not (tmp_path / "comparison").exists()


# By hand


def wrong(*which):
    """The errors of eight examples."""
    return np.array([100.0 * (i in which) for i in range(8)])


COST = Cost(parameters=12345, flops=2.5e6, sensed=400.0, scores=0.0, reads=1600.0, milliseconds=0.1234)
TARGETS = np.array([0, 1, 1, 2, 1, 2, 1, 3])
ANSWERS = [Answers("hard", [wrong(0, 1)], 2, COST), Answers("soft", [wrong(0), wrong(0, 1, 2)], 2, None)]


def test_entries_by_hand():
    hard, soft, chance = compare.entries(ANSWERS, 100.0 * (TARGETS != 1))
    assert (hard.name, hard.seeds, hard.p, hard.cost) == ("hard", 1, None, COST)
    assert hard.error == interval(wrong(0, 1), group=2) and hard.error.value == 25
    assert (soft.name, soft.seeds) == ("soft", 2) and soft.error == interval_over_seeds([12.5, 37.5])
    assert soft.p == paired_p(wrong(0, 1), (wrong(0) + wrong(0, 1, 2)) / 2, group=2)
    assert (chance.name, chance.seeds, chance.cost, chance.error.value) == ("chance", 1, None, 50)
    assert chance.p == paired_p(wrong(0, 1), wrong(0, 3, 5, 7), group=2)


ENTRIES = [
    Entry("hard", 1, Estimate(1.234, 1.0, 1.5), None, COST),
    Entry("seen, whole", 3, Estimate(12.0, -0.5, 24.5), 0.00012, COST._replace(scores=1234.0)),
    Entry("chance", 1, Estimate(90.0, 88.0, 92.0), 1.0, None),
]


def test_cells_by_hand():
    hard, whole, chance = (compare.cells(entry, 1600) for entry in ENTRIES)
    assert hard == ("hard", "1", "1.23", "1.00 to 1.50", "", "400", "0.25", "0", "1,600", "2.50", "12,345", "0.123")
    assert whole[:5] == ("seen, whole", "3", "12.00", "-0.50 to 24.50", "0.0001") and whole[7] == "1,234"
    assert chance == ("chance", "1", "90.00", "88.00 to 92.00", "1.0000", *[""] * 7)
    assert len(hard) == len(chance) == len(compare.COLUMNS)


def test_markdown_by_hand():
    lines = compare.markdown(ENTRIES, 1600).splitlines()
    assert (
        lines[0]
        == "| model | seeds | error % | 95 % interval | p | sensed | of image | scores | reads | MFLOP | parameters | ms |"
    )
    assert lines[1] == "|" + " --- |" * 12
    assert lines[2] == "| hard | 1 | 1.23 | 1.00 to 1.50 |  | 400 | 0.25 | 0 | 1,600 | 2.50 | 12,345 | 0.123 |"
    assert len(lines) == 5


def test_csv_by_hand():
    rows = list(csv.reader(io.StringIO(compare.as_csv(ENTRIES))))
    assert rows[1] == ["hard", "1", "1.234", "1.0", "1.5", "", "12345", "2500000.0", "400.0", "0.0", "1600.0", "0.1234"]
    assert rows[2][:6] == ["seen, whole", "3", "12.0", "-0.5", "24.5", "0.00012"]
    assert rows[3] == ["chance", "1", "90.0", "88.0", "92.0", "1.0", *[""] * 6]
    assert {len(row) for row in rows} == {12}


def test_rows_by_hand():
    rows = compare.as_rows(ENTRIES)
    assert rows[0] == {"name": "hard", "metric": "error", "value": 1.234, "low": 1.0, "high": 1.5}
    assert rows[-1] == {"name": "chance", "metric": "p", "value": 1.0, "low": 1.0, "high": 1.0}
    assert ("hard", "p") not in {(row["name"], row["metric"]) for row in rows}
    assert all(isinstance(row["value"], float) for row in rows)


def test_the_default_models_begin_with_the_hard_one():
    names = compare.on_digits()
    assert names[0] == "ram-digits" and set(names) == {name for name in STUDIES if name.endswith("-digits")}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *(("ntm-copy", "copy"), ("ntm-hard-copy", "copy"), ("ntm-ff-sort", "sort"), ("lstm-repeat-copy", "repeat-copy")),
        *(("ram-digits", "digits"), ("random-gaze-digits", "digits"), ("matched-conv-cluttered-60", "cluttered-60")),
        *(("memn2n-babi-1k", "memn2n-babi-1k"), ("rlntm-copy", "rlntm-copy"), ("mine", "mine")),
    ],
)
def test_the_task_is_named_without_who_does_it(name, task):
    assert compare._task_name(name) == task
