"""What `attention_cost.py` measures: hard attention is the same whatever the image's size."""

import json

import pytest
from PIL import Image

from tests.scripts.processes import refused, run

METRICS = ["parameters", "flops", "sensed", "scores", "reads", "milliseconds", "megabytes"]
READERS = ["hard", "filterbank", "feature map"]


@pytest.mark.slow
def test_hard_attention_stays_flat_and_the_others_grow(tmp_path):
    ended = run("attention_cost", "--sides", 32, 64, "--batch-size", 2, "--json", "-", "--out", "drawn", folder=tmp_path)
    assert ended.code == 0, ended.text
    rows = json.loads(ended.out)
    assert all(list(row) == ["name", "metric", "value", "low", "high"] for row in rows)
    named = [(row["name"], row["metric"]) for row in rows]
    assert named == [(f"{reader}-{side}", metric) for reader in READERS for side in (32, 64) for metric in METRICS]
    value = {(row["name"], row["metric"]): row["value"] for row in rows}
    for metric in ("flops", "sensed", "scores", "reads"):
        assert value["hard-32", metric] == value["hard-64", metric]
    for reader, growth in (("filterbank", 2), ("feature map", 4)):
        assert value[f"{reader}-64", "scores"] == growth * value[f"{reader}-32", "scores"] > 0
        assert value[f"{reader}-64", "reads"] == 4 * value[f"{reader}-32", "reads"] > 0
        assert value[f"{reader}-64", "flops"] > value[f"{reader}-32", "flops"]
    assert all(value[name, metric] > 0 for name, metric in named if metric in ("milliseconds", "megabytes"))
    assert "drawn/attention-cost.png" in ended.err and "per decision" in ended.err
    with Image.open(tmp_path / "drawn" / "attention-cost.png") as picture:
        assert len(picture.convert("L").getcolors()) > 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sides", 28, 27], r"sides must be at least 28 pixels, found \(28, 27\)"),
        (["--sides"], "sides"),
        (["--sides", "large"], "'large'"),
        (["--batch-size", 0], "batch_size must be at least 1, found 0"),
        (["--sides", 28, "--out", "file"], "cannot make the folder file"),
    ],
    ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else "",
)
def test_bad_requests_are_refused(tmp_path, arguments, expected):
    (tmp_path / "file").write_text("in the way")
    refused(run("attention_cost", *arguments, folder=tmp_path), expected)
    assert not (tmp_path / "cost").exists()
