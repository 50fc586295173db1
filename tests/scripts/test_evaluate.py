"""What is said about a trained model."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hardattn.runs import load_weights, save_weights
from tests.scripts.processes import BLIND, Ended, run

WEIGHTS = Path(__file__).parents[2] / "weights"
HOWS = ["mean", "sampled", "averaged", "random", "centre", "raster"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of enough steps to know more than chance."""
    folder = tmp_path_factory.mktemp("trained")
    ended = run("train_ram", *BLIND, "--steps", 300, "--evaluate-every", 100, folder=folder)
    assert ended.code == 0, ended.text
    return folder / "runs" / "ram-digits-0"


def only_json(ended: Ended) -> list[dict]:
    assert ended.code == 0 and ended.err == "", ended.text
    return json.loads(ended.out)


def test_rows_have_their_names_and_their_order(trained, tmp_path):
    rows = only_json(run("evaluate", trained, "--json", "-", folder=tmp_path))
    assert all(list(row) == ["name", "metric", "value", "low", "high"] for row in rows)
    assert list(dict.fromkeys(row["name"] for row in rows)) == HOWS
    metrics = ["error", "values-sensed", *(f"error/{label}" for label in range(10))]
    for how in HOWS:
        assert [row["metric"] for row in rows if row["name"] == how] == metrics
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert all(0 <= row["value"] <= 100 for row in rows if row["metric"].startswith("error"))
    sensed = {row["name"]: row["value"] for row in rows if row["metric"] == "values-sensed"}
    assert sensed == {how: 3 * 8 * 8 * (8 if how == "averaged" else 1) for how in HOWS}
    errors = {row["name"]: row["value"] for row in rows if row["metric"] == "error"}
    assert errors["mean"] < 75 and len(set(errors.values())) > 3, "it has learned nothing, or looks the same way every time"


def test_a_run_and_its_weights_say_the_same(trained, tmp_path):
    weights = tmp_path / "moved.safetensors"
    shutil.copy(trained / "best.safetensors", weights)
    assert run("evaluate", weights, "--json", "rows/here.json", folder=tmp_path).code == 0
    rows = json.loads((tmp_path / "rows" / "here.json").read_text())
    assert rows == only_json(run("evaluate", trained, "--json", "-", folder=tmp_path))
    assert rows == json.loads((trained / "test.json").read_text())


def test_the_split_and_the_seed_matter_and_the_batch_size_does_not(trained, tmp_path):
    usual, *others = (
        only_json(run("evaluate", trained, "--json", "-", *options, folder=tmp_path))
        for options in ([], ["--batch-size", 77], ["--seed", 1], ["--split", "validation"])
    )
    assert others[0] == usual
    for how in HOWS:
        one, other = ([row["value"] for row in rows if row["name"] == how] for rows in (usual, others[1]))
        assert (one != other) == (how in ("sampled", "averaged", "random"))
    assert others[2][0] != usual[0]


def test_a_model_can_be_stopped_early(trained, tmp_path):
    by_count = {}
    for count in (3, 1):
        rows = only_json(run("evaluate", trained, "--glimpses", count, "--json", "-", folder=tmp_path))
        by_count[count] = {row["metric"]: row["value"] for row in rows if row["name"] == "mean"}
    usual = json.loads((trained / "test.json").read_text())
    assert by_count[3] == {row["metric"]: row["value"] for row in usual if row["name"] == "mean"}
    assert by_count[1]["values-sensed"] == 8 * 8 and by_count[1]["error"] > by_count[3]["error"]


def test_only_glimpses_can_be_counted(tmp_path):
    weights = WEIGHTS / "ntm-copy.safetensors"
    for model, count, expected in (
        (weights, 2, "takes glimpses, found ntm-copy"),
        (weights.with_name("ram-digits.safetensors"), 0, "at least 1"),
    ):
        ended = run("evaluate", model, "--glimpses", count, folder=tmp_path)
        assert ended.code == 2 and expected in ended.err


def test_the_tables_fit_a_page(trained, tmp_path):
    ended = run("evaluate", trained, folder=tmp_path)
    assert ended.code == 0 and "ram-digits: test set" in ended.out and "error of every class" in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    for how in HOWS:
        assert re.search(rf"│ {how} +│ [\d.]+ % +│ [\d.]+ to [\d.]+ +│", ended.out), ended.out
    assert "…" not in ended.out, "a column was cut"


@pytest.mark.slow
def test_pictures_are_written(trained, tmp_path):
    ended = run("visualize", trained, "--out", "pictures", "--how", "raster", folder=tmp_path)
    assert ended.code == 0, ended.text
    names = {"glimpses.png", "seen.png", "fixations.png", "policies.png", "learning.png", "animation.gif"}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == names
    assert {line for line in ended.out.split()} == {f"pictures/{name}" for name in names}
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            picture.load()
            assert picture.format == name[-3:].upper() and min(picture.size) > 100
            assert len(picture.convert("L").getcolors()) > 5, f"{name} is empty"
            assert name[-3:] == "png" or picture.n_frames > 3


def test_several_models_of_one_study_have_a_mean(trained, tmp_path):
    weights = WEIGHTS / "ram-digits.safetensors"
    ended = run("evaluate", weights, trained, "--json", "rows.json", folder=tmp_path)
    assert ended.code == 0 and "2 models" in ended.out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["model"] for row in rows] == [str(m) for m in (weights, trained) for _ in range(len(rows) // 2)]
    by = {row["model"]: row["value"] for row in rows if (row["name"], row["metric"]) == ("mean", "error")}
    assert by[str(weights)] < 5 < by[str(trained)]
    assert re.search(rf"│ mean +│ {sum(by.values()) / 2:.2f} % ", ended.out), ended.out


def test_restarts_are_told_how_they_ended_in_training(trained, tmp_path):
    """By the mean over the last 1,000 updates of each; nothing, where that is not known of one."""
    for name, errors in (("a", [90.0, 4.0, 6.0]), ("b", [0.0, 7.0, 2.0]), ("damaged", [5.0, 5.0, 5.0])):
        shutil.copytree(trained, tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["study"]["fit"]["steps"] = 2000
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        weights, told = load_weights(trained / "best.safetensors")
        save_weights(tmp_path / name / "best.safetensors", weights, told | {"study": config["study"]})
        lines = [json.dumps({"step": step, "error": error}) for step, error in zip((500, 1500, 2000), errors)]
        (tmp_path / name / "metrics.jsonl").write_text(
            "\n".join([*lines, '{"step": 2000, "validation/mean": 9}', "5\n"][: 5 - (name != "damaged")])
        )
    ended = run("evaluate", "a", "b", folder=tmp_path)
    assert "error in training, over the last 1,000 updates: 5.00 %, 4.50 %; the least: b\n" in ended.out, ended.text
    for others in (["a", "damaged"], ["a", "b/best.safetensors"], ["a", trained]):  # of the last, another length of training
        ended = run("evaluate", *others, folder=tmp_path)
        assert ended.code == 0 and "in training" not in ended.out, ended.text


def test_the_mean_of_parts_is_part_by_part(tmp_path):
    one = WEIGHTS / "ntm-tape-copy.safetensors"
    shutil.copy(one, tmp_path / "other.safetensors")
    ended = run("evaluate", one, "other.safetensors", folder=tmp_path)
    table = ended.out.split("2 models")[1]
    assert re.search(r"│ length-10 +│ 0\.02 bits +│ 0\.02 to 0\.02", table), ended.out


def test_models_that_have_no_mean_and_models_that_are_refused(tmp_path):
    weights = WEIGHTS / "conv-digits.safetensors"
    ended = run("evaluate", weights, weights.with_name("fc-64-digits.safetensors"), folder=tmp_path)
    assert ended.code == 0 and "fc-64-digits: test set" in ended.out and "2 models" not in ended.out
    for models, expected in (
        ([], "at least one run's folder"),
        ([weights, weights], "found one of them twice"),
        ([weights, tmp_path / "missing.safetensors"], "missing.safetensors, found no such file"),
    ):
        ended = run("evaluate", *models, folder=tmp_path)
        assert ended.code == 2 and expected in ended.err and ended.out == ""
