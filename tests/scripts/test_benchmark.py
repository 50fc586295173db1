"""The stopwatch. Nothing here says how fast anything is: that is measured on a quiet machine."""

import json
import sys

import pytest

from scripts.cli import main


@pytest.fixture
def benchmark(monkeypatch):
    from scripts import benchmark

    monkeypatch.setattr(benchmark, "ROUNDS", 3)
    monkeypatch.setattr(benchmark, "SECONDS", 0.01)
    monkeypatch.setattr(benchmark, "tune_for_cpu", lambda: None)  # it would tune the process of all the tests

    def work(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", *map(str, arguments)])
        return benchmark.run_command()

    work.module = benchmark
    return work


def test_the_retina_is_measured_and_written(benchmark, tmp_path, capsys):
    assert benchmark("retina", "--json", tmp_path / "rows.json") == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert list(row) == ["name", "metric", "value", "low", "high"] and row["name"] == "retina" and row["metric"] == "ratio"
    assert 0 < row["low"] <= row["value"] <= row["high"]
    capsys.readouterr()
    assert benchmark("retina", "--json", "-") == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["retina"], "more than JSON on standard output"


def test_a_ratio_is_what_its_sides_took(benchmark, monkeypatch):
    """On a clock of our own: ours takes 2 seconds a call, theirs 6."""
    module, time = benchmark.module, [0.0]

    def side(seconds):
        return lambda: time.__setitem__(0, time[0] + seconds)

    monkeypatch.setattr(module.time, "perf_counter", lambda: time[0])
    for more, expected in ((False, 1 / 3), (True, 3.0)):
        stopwatch = module.Benchmark("", lambda options: (side(2.0), side(6.0)), faster_is_more=more)
        assert list(module.measure(stopwatch, module.Options())) == pytest.approx([expected] * 3)


@pytest.mark.parametrize("name", ["tapes-steps", "catch-steps"])
def test_games_are_stepped_on_both_sides(benchmark, tmp_path, name):
    assert benchmark(name, "--json", tmp_path / "rows.json") == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["name"] == name and row["value"] > 1, "the native vector is no faster than single environments"


def test_unknown_names_are_refused(benchmark, capsys):
    for name, expected in (("warp", "found warp"), ("peer-28", "--peers DIR")):
        with pytest.raises(SystemExit) as end:
            main(lambda name=name: benchmark(name))
        assert end.value.code == 2 and expected in " ".join(capsys.readouterr().err.split())
