"""Evaluate trained models, each on its test set: `python scripts/evaluate.py RUN_OR_WEIGHTS... [options]`."""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from hardattn.evaluation import Scores, evaluate, interval, interval_over_seeds, metric_of, paired_p, rows, unit_of
from hardattn.runs import Run
from scripts.cli import main, read_arguments, write_rows
from scripts.studies import Trained, load_trained

LAST = 1000
"""Updates at the end of a training by which restarts are compared."""


@dataclass(frozen=True)
class Options:
    """Ask a trained model every question of a split, in every way it can answer.

    For a glimpse agent: mean (the policy's mean gaze), sampled (one draw), averaged (the mean belief of 8 draws), and the controls random,
    centre and raster, in which the same model is made to look elsewhere. A test set that has parts (lengths, kinds of question) is reported
    part by part. After several models of one study (seeds, or tasks that were learned one at a time) comes their mean, and their rows in JSON have
    the key "model"; of runs, also how each ended in training, by which one may choose among restarts.
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH [PATH ...]", help_behavior_hint="")]
    """Folders of runs, or .safetensors files."""
    split: Literal["test", "validation"] = "test"
    """What is asked. Choose on validation; test once."""
    glimpses: int | None = None
    """Answer after so many glimpses, if not after as many as in training."""
    seed: int = 0
    """Of the noise in sampled, averaged and random."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw and babi/tasks_1-20_v1-2, for the tasks that need them."""
    json: str | None = None
    """Write the rows as JSON to this file; "-" for standard output."""
    batch_size: int = 1000
    """Questions asked at once."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("a model is required: expected at least one run's folder or .safetensors file, found none")
        places = [path.resolve() for path in self.models]
        for i, path in enumerate(self.models):
            if places[i] in places[:i]:
                raise ValueError(f"expected different models, found one of them twice: {path}. Name each once")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {self.batch_size}")


def run_command() -> int:
    options = read_arguments(Options, "python scripts/evaluate.py")
    began = time.perf_counter()
    models = [load_trained(path, options.data_dir, options.glimpses) for path in options.models]
    tables = [_evaluated(trained, options) for trained in models]
    several = len(models) > 1
    if options.json is not None:
        named = [{"model": str(path)} if several else {} for path in options.models]
        write_rows([{**name, **row} for name, table in zip(named, tables) for row in rows(table)], options.json)
    if options.json != "-":
        console = Console()
        for path, trained, table in zip(options.models, models, tables):
            if several:
                console.print(f"\n{path}", highlight=False)
            console.print(_parts(table, trained) if table[0].part else _summary(table, trained, options.split))
            if hasattr(trained.task.spec, "classes"):
                console.print(_classes(table))
        kinds = {(trained.name, *(scores.name for scores in table)) for trained, table in zip(models, tables)}
        if several and len(kinds) == 1:
            console.print(_together(options.models, models, tables))
            _tell_restarts(console, options.models, models)
        console.print(f"{time.perf_counter() - began:.1f} seconds", highlight=False)
    return 0


def _evaluated(trained: Trained, options: Options) -> list[Scores]:
    return list(
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


def _summary(table: list[Scores], trained: Trained, split: str) -> Table:
    by, metric = _by(table, "how"), metric_of(trained.task)
    usual = next(iter(by))
    image_size = getattr(trained.task.spec, "image_size", None)
    seen = ("sensed", "of the image") if image_size and "values-sensed" in by[usual] else ()
    stops = ("glimpses",) if "glimpses" in by[usual] else ()
    shown = Table(
        *("how", metric, "95 % interval", f"p ({usual})", *stops, *seen),
        title=f"{trained.name}: {split} set",
        caption=f"p: of a permutation test against {usual}{'. sensed: values, per question' if seen else ''}",
    )
    for how, metrics in by.items():
        scores = metrics[metric]
        estimate = interval(scores.values, group=scores.group)
        p = "" if how == usual else f"{paired_p(by[usual][metric].values, scores.values, group=scores.group):.4f}"
        cells = [f"{estimate.value:.2f}{unit_of(metric)}", f"{estimate.low:.2f} to {estimate.high:.2f}", p]
        if stops:
            cells.append(f"{metrics['glimpses'].values.mean():.2f}")
        if seen:
            sensed = metrics["values-sensed"].values.mean()
            cells += [f"{sensed:,.0f}", f"{100 * sensed / image_size:.0f} %"]
        shown.add_row(how, *cells)
    return shown


def _parts(table: list[Scores], trained: Trained) -> Table:
    """Every metric of every part; an interval for the one that the task is about."""
    by, main_metric = _by(table, "name"), metric_of(trained.task)
    others = [m for m in dict.fromkeys(scores.metric for scores in table) if m != main_metric]
    shown = Table("", main_metric, "95 % interval", *others, title=f"{trained.name}: test set")
    for name, found in by.items():
        estimate = interval(found[main_metric].values, group=found[main_metric].group)
        cells = [f"{estimate.value:.2f}{unit_of(main_metric)}", f"{estimate.low:.2f} to {estimate.high:.2f}"]
        shown.add_row(name, *cells, *(f"{found[m].values.mean():.2f}" if m in found else "" for m in others))
    return shown


def _together(paths: Sequence[Path], models: Sequence[Trained], tables: Sequence[list[Scores]]) -> Table:
    """Models of one study: each in its usual way, and their mean; of tasks with parts, the mean of every part. An interval, if only the seeds differ."""
    metric = metric_of(models[0].task)
    values = [{scores.name: scores.values.mean() for scores in table if scores.metric == metric} for table in tables]
    seeds = all(one.study.task == models[0].study.task for one in models)
    title, caption = f"{len(models)} models", "over seeds: Student's 95 % interval" if seeds else None
    if tables[0][0].part:
        shown = Table("", metric, "over seeds", title=title, caption=caption)
        lines = [(name, [of_one[name] for of_one in values]) for name in values[0]]
    else:
        usual = next(iter(values[0]))
        lines = [("mean", [of_one[usual] for of_one in values])]
        shown = Table("model", metric, "over seeds", title=f"{title}, {usual}", caption=caption)
        for path, of_one in zip(paths, values):
            shown.add_row(str(path), f"{of_one[usual]:.2f}{unit_of(metric)}")
        shown.add_section()
    for name, of_all in lines:
        estimate = interval_over_seeds(of_all)
        between = f"{estimate.low:.2f} to {estimate.high:.2f}" if seeds else ""
        shown.add_row(name, f"{estimate.value:.2f}{unit_of(metric)}", between)
    return shown


def _tell_restarts(console: Console, paths: Sequence[Path], models: Sequence[Trained]) -> None:
    """Of runs: how each ended in training, and which of them that would choose among restarts (as Sukhbaatar et al. 2015, Section 4.2)."""
    metric = metric_of(models[0].task)
    found = [_in_training(trained, metric) for trained in models if trained.study == models[0].study]
    ends = [end for end in found if end is not None]
    if len(ends) == len(models):
        each = ", ".join(f"{end:.2f}{unit_of(metric)}" for end in ends)
        least = paths[ends.index(min(ends))]
        console.print(
            f"{metric} in training, over the last {LAST:,} updates: {each}; the least: {least}", highlight=False, soft_wrap=True
        )


def _in_training(trained: Trained, metric: str) -> float | None:
    """The mean of what was logged over the last updates of a run that is complete; None if that is not known."""
    steps = trained.study.fit.steps
    try:
        rows = [] if trained.folder is None else Run.open(trained.folder).metrics()
        logged = {int(row["step"]): float(row[metric]) for row in rows if metric in row}
    except (OSError, ValueError, TypeError, KeyError):  # damaged; the scores above do not need it
        return None
    last = [value for step, value in logged.items() if step > steps - LAST]
    mean = sum(last) / len(last) if last and steps in logged else math.nan
    return mean if math.isfinite(mean) else None


def _classes(table: list[Scores]) -> Table:
    by = _by(table, "how")
    labels = [metric for metric in next(iter(by.values())) if metric.startswith("error/")]
    shown = Table("class", *by, title="error of every class in percent")
    for label in labels:
        shown.add_row(label.removeprefix("error/"), *(f"{metrics[label].values.mean():.1f}" for metrics in by.values()))
    return shown


def _by(table: list[Scores], field: str) -> dict[str, dict[str, Scores]]:
    by: dict[str, dict[str, Scores]] = defaultdict(dict)
    for scores in table:
        by[getattr(scores, field)][scores.metric] = scores
    return by


if __name__ == "__main__":
    main(run_command)
