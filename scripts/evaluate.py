"""Evaluate a trained model on its test set: `python scripts/evaluate.py RUN_OR_WEIGHTS [options]`."""

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from hardattn.evaluation import Scores, evaluate, interval, paired_p, rows
from scripts.cli import main, write_rows
from scripts.studies import load_trained


@dataclass(frozen=True)
class Options:
    """Ask a trained model every question of a split, in every way it can answer.

    For a glimpse agent: mean (the policy's mean gaze), sampled (one draw), averaged (the mean belief of 8 draws), and the controls random,
    centre and raster, in which the same model is made to look elsewhere.
    """

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a .safetensors file."""
    split: Literal["test", "validation"] = "test"
    """What is asked. Choose on validation; test once."""
    seed: int = 0
    """Of the noise in sampled, averaged and random."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw."""
    json: str | None = None
    """Write the rows as JSON to this file; "-" for standard output."""
    batch_size: int = 1000
    """Questions asked at once."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {self.batch_size}")


def run_command() -> int:
    options = tyro.cli(Options, prog="python scripts/evaluate.py")
    began = time.perf_counter()
    trained = load_trained(options.model, options.data_dir)
    table = list(
        evaluate(
            trained.agent,
            trained.task,
            options.split,
            trained.agent.hows,
            study=trained.name,
            seed=trained.seed,
            noise=options.seed,
            batch_size=options.batch_size,
        )
    )
    if options.json is not None:
        write_rows(rows(table), options.json)
    if options.json != "-":
        console = Console()
        console.print(_summary(table, trained.name, options.split, trained.task.spec.image_size))
        console.print(_classes(table))
        console.print(f"{time.perf_counter() - began:.1f} seconds", highlight=False)
    return 0


def _summary(table: list[Scores], name: str, split: str, image_size: int) -> Table:
    by = _by_how(table)
    usual = next(iter(by))
    columns = ("gaze", "error", "95 % interval", f"p ({usual})", "sensed", "of the image")
    shown = Table(
        *columns,
        title=f"{name}: {split} set",
        caption=f"p: of a permutation test against {usual}. sensed: values, per question",
    )
    for how, metrics in by.items():
        scores = metrics["error"]
        estimate = interval(scores.values, group=scores.group)
        sensed = metrics["values-sensed"].values.mean()
        p = "" if how == usual else f"{paired_p(by[usual]['error'].values, scores.values, group=scores.group):.4f}"
        shown.add_row(
            how,
            f"{estimate.value:.2f} %",
            f"{estimate.low:.2f} to {estimate.high:.2f}",
            p,
            f"{sensed:,.0f}",
            f"{100 * sensed / image_size:.0f} %",
        )
    return shown


def _classes(table: list[Scores]) -> Table:
    by = _by_how(table)
    labels = [metric for metric in next(iter(by.values())) if metric.startswith("error/")]
    shown = Table("class", *by, title="error of every class in percent")
    for label in labels:
        shown.add_row(label.removeprefix("error/"), *(f"{metrics[label].values.mean():.1f}" for metrics in by.values()))
    return shown


def _by_how(table: list[Scores]) -> dict[str, dict[str, Scores]]:
    by: dict[str, dict[str, Scores]] = defaultdict(dict)
    for scores in table:
        by[scores.how][scores.metric] = scores
    return by


if __name__ == "__main__":
    main(run_command)
