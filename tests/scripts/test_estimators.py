"""The comparison of estimators: its arithmetic by hand, and that it runs to its end."""

import json

import numpy as np
import pytest

from tests.scripts.processes import refused, run


@pytest.fixture(scope="module")
def script():
    from scripts import estimators

    return estimators


def test_bias_and_variance_by_hand(script):
    """Estimates of a gradient of length 5 that miss it by 1 and scatter by 2; their mean's own noise is not taken for bias."""
    rng = np.random.default_rng(0)
    truth = np.array([3.0, 4.0, 0.0])
    reference = truth + 0.5 * rng.standard_normal((4000, 3))
    off = truth + [0.0, 0.0, 1.0] + 2.0 * rng.standard_normal((2000, 3))
    found = script.noise_of(off, reference, 7.0)
    assert found.bias == pytest.approx(1 / 5, abs=0.05) and found.variance == pytest.approx(3 * 4 / 25, rel=0.1)
    assert found.milliseconds == 7.0
    unbiased = script.noise_of(truth + 2.0 * rng.standard_normal((2000, 3)), reference, 1.0)
    assert unbiased.bias < 0.03


def test_a_reference_of_noise_says_nothing(script):
    noise = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert script.noise_of(noise, noise, 1.0)[:2] == (np.inf, np.inf)


def test_every_estimator_of_the_same_gradient_is_measured_at_one_point(script):
    """A hardly trained network and few draws: only what is far apart is asserted."""
    point = script.at_one_point(script.Options(draws=30, warm=3))
    assert set(point) == set(script.ESTIMATORS)
    assert point[script.PPO].variance == point["leave-one-out, M = 4"].variance
    assert all(noise.milliseconds > 0 and not np.isnan(noise.variance) for noise in point.values())
    assert point["grid, straight-through"].variance <= point["grid, leave-one-out, M = 4"].variance
    assert point["window, pathwise"].variance < 0.1 * point["window, learned baseline"].variance


def test_who_takes_longer_for_a_step_gets_fewer(script, monkeypatch):
    seconds = {id(config): 1.0 for config in script.ESTIMATORS.values()} | {id(script.ESTIMATORS["no baseline"]): 0.5}
    monkeypatch.setattr(script, "trained", lambda config, steps, seed, epochs: (None, seconds[id(config)] * epochs))
    steps = script.steps_of(script.Options(steps=100, equal="seconds"))
    assert steps.pop("no baseline") == 200 and steps.pop(script.PPO) == 25 and set(steps.values()) == {100}
    assert set(script.steps_of(script.Options(steps=100)).values()) == {100}


@pytest.mark.slow
def test_it_runs_to_its_end(script, tmp_path):
    ended = run(
        "estimators", "--steps", 2, "--seeds", 2, "--draws", 2, "--warm", 1, "--json", "-", "--out", "here", folder=tmp_path
    )
    assert ended.code == 0, ended.text
    rows = json.loads(ended.out)
    assert [row["name"] for row in rows if row["metric"] == "error"] == list(script.ESTIMATORS)
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert (tmp_path / "here" / "estimators.png").exists() and "estimators.png" in ended.err


@pytest.mark.parametrize(("option", "value"), [("--steps", 0), ("--draws", 1)])
def test_bad_options_are_refused(tmp_path, option, value):
    refused(run("estimators", option, value, folder=tmp_path), f"{option.removeprefix('--')} .*at least")
