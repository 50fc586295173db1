"""Estimators of the gaze's gradient side by side: `python scripts/estimators.py [options]`. Bias and variance at one point, then learning.

First all estimators look at the same half-trained network: how far is the mean of many estimates from the true gradient, and how widely do
they scatter? Then each trains a network of its own from the start on the embedded digits, with as many glimpses per step as the others.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from agents.draw import Draw, DrawConfig
from agents.ram import RAM, RAMConfig
from hardattn import figures
from hardattn.checks import at_least_one, literals
from hardattn.estimators import Expected
from hardattn.evaluation import Estimate, answer_all, interval_over_seeds
from hardattn.learner import Learner, LearnerConfig, Replaying
from hardattn.noise import fork
from hardattn.training import fit
from scripts.cli import main, read_arguments, tune_for_cpu, writable, write_rows
from scripts.progress import say
from scripts.studies import STUDIES

_LEAVE_ONE_OUT = RAMConfig(baseline="leave-one-out", rollouts=4)
_GRID = RAMConfig(baseline="leave-one-out", rollouts=4, policy="grid", reward="log-likelihood")
_WINDOW = DrawConfig(sensor="bilinear", core="relu", gradient="reinforce", reward="log-likelihood")
_PATHWISE = dataclasses.replace(_WINDOW, gradient="reparameterised")
DEFAULT = "learned baseline"
ESTIMATORS: dict[str, RAMConfig | DrawConfig] = {
    "no baseline": RAMConfig(baseline="none"),
    "constant": RAMConfig(baseline="constant"),
    "batch mean": RAMConfig(baseline="batch-mean"),
    DEFAULT: RAMConfig(),
    "self-critical": RAMConfig(baseline="self-critical"),
    "leave-one-out, M = 2": dataclasses.replace(_LEAVE_ONE_OUT, rollouts=2),
    "leave-one-out, M = 4": _LEAVE_ONE_OUT,
    "leave-one-out, M = 8": dataclasses.replace(_LEAVE_ONE_OUT, rollouts=8),
    "M = 4, reward log-likelihood": dataclasses.replace(_LEAVE_ONE_OUT, reward="log-likelihood"),
    "M = 4, reward at every glimpse": dataclasses.replace(_LEAVE_ONE_OUT, reward_at="every"),
    "grid, leave-one-out, M = 4": _GRID,
    "grid, straight-through": RAMConfig(policy="grid", estimator="straight-through"),
    "grid, Gumbel": RAMConfig(policy="grid", estimator="gumbel"),
    "window, learned baseline": _WINDOW,
    "window, pathwise": _PATHWISE,
}
PPO = "PPO-clip, M = 4, 4 epochs"
"""Learns four times from the same glimpses; at one point it is measured in its first epoch, in which its gradient is that of leave-one-out."""
ESTIMATORS[PPO] = _LEAVE_ONE_OUT
"""By name. Those from "M = 4, reward ..." on follow another reward, so another gradient; those on a grid have another policy, and those of a window
(bilinear, that zooms) another sensor, the same for both."""
_REWARDS: dict[str, dict[str, Any]] = {
    "correct": {"reward": "correct"},
    "log-likelihood": {"reward": "log-likelihood"},
    "every": {"reward": "correct", "reward_at": "every"},
}
"""What `follows` says, and how the reference is told."""
_USUAL: dict[str, RAMConfig | DrawConfig] = {"gaussian": RAMConfig(), "grid": _GRID, "window": _WINDOW}
"""Who is trained up to the point at which all of a family are measured."""
ERROR = "validation error (%)"
ROLLOUTS = 128
"""Of a step: M rollouts each of 128 / M images, so that every estimator spends as many glimpses."""


@dataclass(frozen=True)
class Options:
    """Compare the estimators. The whole takes about half an hour on one thread; --steps and --seeds make it shorter."""

    steps: int = 1500
    """Of every training; with --equal seconds of the default's."""
    equal: Literal["glimpses", "seconds"] = "glimpses"
    """What all trainings have as much of: glimpses, or seconds, by the time that a step takes each."""
    seeds: int = 3
    """Trainings of every estimator."""
    draws: int = 100
    """Estimates of one gradient, for bias and variance; the reference takes four times as many."""
    warm: int = 500
    """Steps of the network at which bias and variance are measured."""
    out: Path = Path("estimators")
    """Where the table and the figures go."""
    json: str | None = None
    """Write the rows as JSON to this file; "-" for standard output."""

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "seeds", "warm")
        literals(self)
        if self.draws < 2:
            raise ValueError(f"draws must be at least 2, or nothing scatters; found {self.draws}")


class Noise(NamedTuple):
    """Of an estimator at one point."""

    bias: float
    """Distance of the mean estimate from the reference, as a part of the reference's length, noise subtracted."""
    variance: float
    """Trace of the covariance, as a part of the reference's squared length."""
    milliseconds: float
    """Of one estimate."""


class Learned(NamedTuple):
    """What came of training with an estimator."""

    errors: list[float]
    """Of the validation set in percent, for every seed."""
    steps: int
    """Of a training."""
    seconds: float
    """Of a training, without evaluation."""


def family(config: RAMConfig | DrawConfig) -> str:
    """Those whose gradients can be compared at one point, if they follow the same reward."""
    return "window" if isinstance(config, DrawConfig) else config.policy


def follows(config: RAMConfig | DrawConfig) -> str:
    """The reward whose gradient is estimated. What goes through a relaxed choice or a sensor follows the log-likelihood's."""
    if isinstance(config, RAMConfig) and config.reward_at == "every":
        return "every"
    return "log-likelihood" if isinstance(config, RAMConfig) and config.estimator != "score-function" else config.reward


def rollouts(config: RAMConfig | DrawConfig) -> int:
    return config.rollouts if isinstance(config, RAMConfig) else 1


def trained(config: RAMConfig | DrawConfig, steps: int, seed: int, epochs: int = 1) -> tuple[RAM | Draw, float]:
    """A network after `steps` steps, and how many seconds they took. With more epochs than 1 by PPO."""
    task = STUDIES["ram-digits"].task.build()
    torch.manual_seed(seed)
    agent = config.build(task.spec)
    learner = Learner(agent, LearnerConfig(), steps)
    batches = task.batches("train", batch_size=max(1, ROLLOUTS // rollouts(config)), seed=seed)
    began = time.perf_counter()
    fit(learner if epochs == 1 else Replaying(learner, epochs), batches, steps=steps)
    return agent, time.perf_counter() - began


def gradients(agent: RAM | Draw, config: RAMConfig | DrawConfig, count: int, stream: str) -> tuple[np.ndarray, float]:
    """`count` estimates [count, parameters] of the locator's gradient on one batch at the agent's weights, and milliseconds for one."""
    assert agent.locator is not None
    task = STUDIES["ram-digits"].task.build()
    other = config.build(task.spec)
    other.load_state_dict(agent.state_dict(), strict=False)
    if isinstance(agent.baseline, torch.nn.Linear) and isinstance(other.baseline, torch.nn.Linear):
        other.baseline.load_state_dict(agent.baseline.state_dict())
    elif isinstance(other.baseline, Expected):  # what it would have learned: the mean return
        with torch.no_grad():
            other.baseline.value.fill_(1 - agent.loss(_batch(task)).terms["error"] / 100)
    assert other.locator is not None
    batch = _batch(task)
    found, began = [], time.perf_counter()
    for i in range(count):
        question = batch.question._replace(key=fork(batch.question.key, f"{stream} {i}"))
        total = other.loss(batch._replace(question=question)).total
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, list(other.locator.parameters()))]).numpy())
    return np.stack(found), 1000 * (time.perf_counter() - began) / count


def _batch(task: Any) -> Any:
    """One that no training has seen."""
    return next(iter(task.batches("validation", batch_size=32)))


def noise_of(estimates: np.ndarray, reference: np.ndarray, milliseconds: float) -> Noise:
    """Bias and variance against `reference`, many unbiased estimates of the same gradient. What is left of their noise is subtracted.

    Both are infinite where the reference cannot be told from nothing.
    """
    trace, its = estimates.var(0, ddof=1).sum(), reference.var(0, ddof=1).sum()
    length = (reference.mean(0) ** 2).sum() - its / len(reference)
    if length <= 0:  # the reference itself is nothing but noise
        return Noise(math.inf, math.inf, milliseconds)
    apart = ((estimates.mean(0) - reference.mean(0)) ** 2).sum() - trace / len(estimates) - its / len(reference)
    return Noise(float(np.sqrt(max(apart, 0.0) / length)), float(trace / length), milliseconds)


def at_one_point(options: Options) -> dict[str, Noise]:
    """Bias and variance of every estimator, against the gradient of its own reward, policy and sensor."""
    found = {}
    for policy, usual in _USUAL.items():
        agent, _ = trained(usual, options.warm, seed=0)
        for reward, told in _REWARDS.items():
            group = {n: c for n, c in ESTIMATORS.items() if (family(c), follows(c)) == (policy, reward)}
            if group:
                best: RAMConfig | DrawConfig = _PATHWISE  # hardly scatters; that it is unbiased, too, is for a test to prove
                if isinstance(usual, RAMConfig):
                    best = RAMConfig(baseline="leave-one-out", rollouts=8, policy=usual.policy, **told)
                reference, _ = gradients(agent, best, 4 * options.draws, "reference")
                for name, config in group.items():
                    estimates, milliseconds = gradients(agent, config, options.draws, "draw")
                    found[name] = noise_of(estimates, reference, milliseconds)
    return found


def steps_of(options: Options) -> dict[str, int]:
    """How many steps every estimator may train."""
    if options.equal == "glimpses":
        return dict.fromkeys(ESTIMATORS, options.steps)
    # In turns, so that none has the quiet minute; the fastest of three, for whatever disturbs makes slower.
    times: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for _ in range(3):
        for name, config in ESTIMATORS.items():
            times[name].append(trained(config, 20, 0, _epochs(name))[1])
    return {name: max(1, round(options.steps * min(times[DEFAULT]) / min(took))) for name, took in times.items()}


def _epochs(name: str) -> int:
    return 4 if name == PPO else 1


def by_learning(options: Options) -> dict[str, Learned]:
    """Train with every estimator, every seed."""
    steps = steps_of(options)
    task = STUDIES["ram-digits"].task.build()
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    seconds: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    todo = [
        (seed, name) for seed in range(options.seeds) for name in ESTIMATORS
    ]  # all names in turn, so that none has the quiet hours
    console, began = Console(stderr=True), time.monotonic()
    for i, (seed, name) in enumerate(track(todo, description="training", console=console), 1):
        agent, took = trained(ESTIMATORS[name], steps[name], seed, _epochs(name))
        errors[name].append(float(answer_all(agent, task, "validation", "mean").scores["error"].mean()))
        seconds[name].append(took)
        if not console.is_terminal:  # where no bar moves
            left = timedelta(seconds=round((time.monotonic() - began) / i * (len(todo) - i)))
            say(console, f"{i} of {len(todo)} trainings: {name}, seed {seed}: {errors[name][-1]:.1f} %  {left} left")
    return {name: Learned(errors[name], steps[name], float(np.median(seconds[name]))) for name in ESTIMATORS}


def estimate_of(errors: Sequence[float]) -> Estimate:
    return interval_over_seeds(errors) if len(errors) > 1 else Estimate(errors[0], errors[0], errors[0])


def run_command() -> int:
    options = read_arguments(Options, "python scripts/estimators.py")
    tune_for_cpu()
    torch.set_num_threads(1)
    folder = writable(options.out)
    point, learned = at_one_point(options), by_learning(options)
    console = Console(stderr=options.json == "-", width=None if sys.stdout.isatty() else 140)
    after = f"{options.steps:,} steps"
    if options.equal == "seconds":
        after = f"the time of {after} with a {DEFAULT}"
    shown = Table(
        *("estimator", "bias", "variance", "× ms", "steps", "error %", "95 % interval", "seconds"),
        title=f"validation error after {after}, {options.seeds} seeds",
        caption="bias and variance: as parts of the true gradient's length and its square. × ms: variance for a second of work",
    )
    rows, dots = [], []
    for name, result in learned.items():
        error, noise = estimate_of(result.errors), point[name]
        at = f"{noise.bias:.2f}", f"{noise.variance:,.0f}", f"{noise.variance * noise.milliseconds:,.0f}"
        interval = f"{error.low:.2f} to {error.high:.2f}"
        shown.add_row(name, *at, f"{result.steps:,}", f"{error.value:.2f}", interval, f"{result.seconds:.0f}")
        dots.append(figures.Dot(name, result.seconds, *error))
        numbers = {"steps": result.steps, "seconds": result.seconds, **noise._asdict()}
        rows.append({"name": name, "metric": "error", **error._asdict()})
        finite = {metric: v for metric, v in numbers.items() if math.isfinite(v)}
        rows += [{"name": name, "metric": metric, "value": v, "low": v, "high": v} for metric, v in finite.items()]
    console.print(shown)
    title = f"Equal {options.equal}: every estimate of the gaze's gradient"
    if options.equal == "seconds":  # nothing to draw it against
        picture = figures.error_bars(
            [figures.Bar(dot.name, dot.value, dot.low, dot.high) for dot in dots], title=title, xlabel=ERROR
        )
    else:
        picture = figures.scatter(dots, title=title, xlabel="seconds of training", ylabel=ERROR)
    figures.save_png(folder / "estimators.png", picture)
    console.print(str(folder / "estimators.png"), highlight=False)
    if options.json is not None:
        write_rows(rows, options.json)
    return 0


if __name__ == "__main__":
    main(run_command)
