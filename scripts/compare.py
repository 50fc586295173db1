"""Compare attentions on one task: `python scripts/compare.py [STUDY_OR_RUN_OR_WEIGHTS ...]`. Without a name: the shipped models of the digits."""

import contextlib
import csv
import dataclasses
import io
import multiprocessing.connection
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from hardattn import figures
from hardattn.contract import Answer, PlaySpec, TapeSpec, Trace
from hardattn.cost import Cost, cost
from hardattn.evaluation import (
    Estimate,
    Row,
    Scores,
    answer_all,
    control_of,
    evaluate,
    first_scenes,
    label_of,
    metric_of,
    over_models,
    paired_p,
)
from hardattn.runs import Run, write_whole
from scripts import train
from scripts.cli import main, read_arguments, tune_for_cpu, writable, write_rows
from scripts.pictures import by_size, has_sizes, pictures
from scripts.studies import CONTENDERS, STUDIES, WHO, Study, Trained, load_trained

LOOKING = ("glimpses", "side", "scales", "pool", "reach")
"""Settings of a task that say how one looks, not what is asked."""
TIMED = 100
"""Questions in the batch that is timed."""


@dataclass(frozen=True)
class Options:
    """Put hard attention, soft attention and networks without attention on one task into one table, with their errors and what they cost.

    A chance row is always in it, and one for random gaze if anything has a gaze. Several seeds of a study become one row with Student's
    interval over the seeds; the interval of a single model is a bootstrap over the test images. p: of a permutation test against the first
    row on the same images. Where the parts of the test set have lengths (or levels, items), each metric is drawn against
    them, in the folder `by-size`, everyone in its usual way.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of studies (their weights in --weights-dir, else their runs in --runs-dir), folders of runs, or .safetensors files."""
    split: Literal["test", "validation"] = "test"
    """What is asked. Choose on validation; test once."""
    train: bool = False
    """Train the studies first, from nothing, into --runs-dir (seed 0): as many at a time as there are cores."""
    out: Path = Path("comparison")
    """Where the tables and the figures go, and a TensorBoard with the models side by side."""
    weights_dir: Path = Path("weights")
    """Where the shipped models are."""
    runs_dir: Path = Path("runs")
    """Where the runs are."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw and babi/tasks_1-20_v1-2, for the tasks that need them."""
    json: str | None = None
    """Write the rows as JSON to this file; "-" for standard output."""


class Entry(NamedTuple):
    """A row of the table."""

    name: str
    seeds: int
    error: Estimate
    p: float | None
    """Against the first row."""
    cost: Cost | None


class Answers(NamedTuple):
    """One way of answering of one study: every seed's error (or what else the task measures) for every example."""

    name: str
    errors: list[np.ndarray]
    group: int
    cost: Cost | None


def find(name: str, options: Options) -> list[Path]:
    """The models that a word of the command line means.

    Raises:
        ValueError: if there are none.
    """
    if Path(name).exists():
        return [Path(name)]
    if name not in STUDIES:
        raise ValueError(
            f"expected a study, a run's folder or a .safetensors file, found {name!r}. train.py --help lists the studies"
        )
    weights = options.weights_dir / f"{name}.safetensors"
    if weights.exists():
        return [weights]
    runs = sorted(
        path.parent
        for path in options.runs_dir.glob(f"{name}-*/best.safetensors")
        if path.parent.name[len(name) + 1 :].isdigit()
    )
    if not runs:
        raise ValueError(
            f"{name} has no weights in {options.weights_dir} and no run in {options.runs_dir}: "
            f"python scripts/train.py {name} makes one, or give --train"
        )
    return runs


def on_digits() -> list[str]:
    """The studies of the embedded task, the hard one first."""
    return ["ram-digits", *(f"{who}-digits" for who in CONTENDERS)]


def train_all(names: Sequence[str], options: Options) -> list[Path]:
    """Train studies from nothing, as many at a time as there are cores, with one thread each; returns the runs' folders."""
    folders = [options.runs_dir / f"{name}-0" for name in names]
    if len(set(names)) < len(names):
        raise ValueError(f"--train takes every study once, found {', '.join(names)}")
    for name, folder in zip(names, folders, strict=True):
        if name not in STUDIES:
            raise ValueError(f"--train takes names of studies, found {name!r}")
        if folder.exists():
            raise ValueError(f"{folder} exists: choose another --runs-dir for a training from nothing")
    spawn = multiprocessing.get_context("spawn")
    waiting, since = list(names), time.monotonic()
    running: dict[Any, multiprocessing.context.SpawnProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                name = waiting.pop(0)
                asked = train.Options(STUDIES[name], data_dir=options.data_dir, runs_dir=options.runs_dir)
                process = spawn.Process(target=_train_alone, args=(name, asked))
                process.start()
                running[process.sentinel] = process
            for ended in multiprocessing.connection.wait(list(running)):
                (process := running.pop(ended)).join()
                if process.exitcode:
                    raise SystemExit(process.exitcode)
            done, took = len(names) - len(waiting) - len(running), timedelta(seconds=round(time.monotonic() - since))
            print(f"{done} of {len(names)} studies trained after {took}", file=sys.stderr)
    finally:  # one has failed, or Ctrl-C: the others save what they have and stop
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
    return folders


def _train_alone(name: str, asked: train.Options) -> None:
    """What a process of `train_all` does."""
    torch.set_num_threads(1)
    with contextlib.redirect_stderr(Named(sys.stderr, name)):
        main(lambda: train.train(name, asked))


class Named(io.TextIOBase):
    """A stream whose lines say whose they are, so that those of several processes may stand between each other."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._begun = stream, name, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        self._stream.write("".join(f"{self._name}: {line}\n" for line in lines))
        self._stream.flush()
        return len(text)


def check_distinct(models: Sequence[Trained]) -> None:
    """The same model twice would pass for two seeds, and other settings under one name for another seed.

    Raises:
        ValueError: if that happens.
    """
    seen: dict[str, Trained] = {}
    for model in models:
        first = seen.setdefault(model.name, model)
        if _learned_as(first.study) != _learned_as(model.study):
            raise ValueError(f"{model.name} is there twice with different settings: compare them under different names")
    if len({(model.name, model.seed) for model in models}) < len(models):
        raise ValueError("the same model is there twice (one study, one seed): name it once")


def _learned_as(study: Study) -> tuple[Any, ...]:
    """What all seeds of a study have in common."""
    return study.task, study.agent, study.learner, study.fit.steps, study.fit.batch_size


def check_one_task(models: Sequence[Trained]) -> None:
    """All must be asked about the same scenes; how they look at them is their own affair.

    Raises:
        ValueError: if two differ.
    """
    first = models[0]
    for other in models[1:]:
        if type(other.study.task) is not type(first.study.task):
            raise ValueError(f"a comparison needs one task: found those of {first.name} and of {other.name}")
        for field in (f.name for f in dataclasses.fields(first.study.task) if f.name not in LOOKING):
            one, two = (getattr(x.study.task, field) for x in (first, other))
            if one != two:
                raise ValueError(f"a comparison needs one task: {field} is {one} for {first.name} and {two} for {other.name}")


def gather(models: Sequence[Trained], options: Options) -> list[Answers]:
    """Ask every model everything, in its usual way, the first hard one also at random; and measure what an answer costs."""
    found: dict[str, Answers] = {}
    hard = next((model.name for model in models if control_of(model.agent.hows) == "random"), None)
    for model in models:
        usual, control = model.agent.hows[0], control_of(model.agent.hows)
        hows = (usual, "averaged") if "averaged" in model.agent.hows else (usual,)
        hows = (*hows, control) if control == "uniform" or (control and model.name == hard) else hows
        names = {usual: model.name, "averaged": f"{model.name}, 8 averaged", control: f"{model.name}, {control}"}
        question = first_scenes(model.task, options.split, TIMED).question
        for how in hows:
            name = names[how]
            errors = answer_all(model.agent, model.task, options.split, how).scores[metric_of(model.task)]
            if name in found:
                found[name].errors.append(errors)
            else:
                group = getattr(model.task, "views", 1)
                found[name] = Answers(name, [errors], group, cost(model.agent, question, how))
    return list(found.values())


def by_chance(task: Any, split: str) -> np.ndarray | None:
    """What knowing nothing gives for every example: the commonest class, whatever the question; of a sequence, even odds for every bit. None for what is
    played: there is no right answer to guess."""
    if isinstance(task.spec, PlaySpec | TapeSpec):
        return None
    batches = list(task.batches(split, batch_size=1000))
    if batches[0].target.ndim == 1:
        targets = np.concatenate([batch.target.numpy() for batch in batches])
        return 100.0 * (targets != np.bincount(targets).argmax())
    even = (task.score(Answer(torch.zeros_like(batch.target), Trace()), batch)[metric_of(task)] for batch in batches)
    return torch.cat(list(even)).numpy()


def entries(answers: Sequence[Answers], by_chance: np.ndarray | None) -> list[Entry]:
    """The rows, and that of chance, where there is one."""
    chance = [] if by_chance is None else [Answers("chance", [by_chance], answers[0].group, None)]
    rows = []
    first = np.mean(answers[0].errors, axis=0)
    for answer in (*answers, *chance):
        per_example = np.mean(answer.errors, axis=0)
        error = over_models(answer.errors, group=answer.group)
        p = None if answer is answers[0] else paired_p(first, per_example, group=answer.group)
        rows.append(Entry(answer.name, len(answer.errors), error, p, answer.cost))
    return rows


COLUMNS = (
    "model",
    "seeds",
    "error %",
    "95 % interval",
    "p",
    "sensed",
    "of image",
    "scores",
    "reads",
    "MFLOP",
    "parameters",
    "ms",
)


def columns(metric: str) -> tuple[str, ...]:
    """COLUMNS of a task that measures something else than an error."""
    return tuple(metric if name == "error %" and metric != "error" else name for name in COLUMNS)


def cells(entry: Entry, image_size: int | None) -> tuple[str, ...]:
    """A row as text, in the order of COLUMNS."""
    p = "" if entry.p is None else f"{entry.p:.4f}"
    known = (entry.name, str(entry.seeds), f"{entry.error.value:.2f}", f"{entry.error.low:.2f} to {entry.error.high:.2f}", p)
    if entry.cost is None:
        return (*known, *[""] * (len(COLUMNS) - len(known)))
    c = entry.cost
    return (
        *known,
        f"{c.sensed:,.0f}" if image_size else "",
        f"{c.sensed / image_size:.2f}" if image_size else "",
        f"{c.scores:,.0f}",
        f"{c.reads:,.0f}",
        f"{c.flops / 1e6:.2f}",
        f"{c.parameters:,}",
        f"{c.milliseconds:.3f}",
    )


def markdown(rows: Sequence[Entry], image_size: int | None, metric: str = "error") -> str:
    lines = [columns(metric), tuple("---" for _ in COLUMNS), *(cells(row, image_size) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_csv(rows: Sequence[Entry], metric: str = "error") -> str:
    """Numbers as they are, without signs for thousands."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "seeds", metric, "low", "high", "p", *Cost._fields])
    for row in rows:
        writer.writerow([row.name, row.seeds, *row.error, row.p, *(row.cost or [None] * len(Cost._fields))])
    return text.getvalue()


def as_rows(rows: Sequence[Entry], metric: str = "error") -> list[Row]:
    """The JSON of all scripts."""
    found: list[Row] = []
    for row in rows:
        found.append({"name": row.name, "metric": metric, **row.error._asdict()})  # type: ignore[typeddict-item]
        numbers = {} if row.cost is None else row.cost._asdict()
        numbers |= {} if row.p is None else {"p": row.p}
        found += [
            {"name": row.name, "metric": k, "value": float(v), "low": float(v), "high": float(v)} for k, v in numbers.items()
        ]
    return found


def on_all_parts(models: Sequence[Trained]) -> Iterator[Scores]:
    """Every model's answers, in its usual way, on all parts of a test set whose parts have sizes; none of other test sets."""
    for model in models:
        if has_sizes(model.task):
            yield from evaluate(model.agent, model.task, "test", model.agent.hows[:1], study=model.name, seed=model.seed)


def draw(rows: Sequence[Entry], models: Sequence[Trained], task: str) -> dict[str, Any]:
    """Error against what was sensed (of an image) and against arithmetic, and the learning curves where the runs are there."""
    measured = [(row, row.cost) for row in rows if row.cost is not None]
    metric, image_size = metric_of(models[0].task), getattr(models[0].task.spec, "image_size", None)
    label = label_of(metric)
    still = {
        "error-by-flops": figures.scatter(
            [figures.Dot(row.name, cost.flops / 1e6, *row.error) for row, cost in measured],
            title=f"What is lost by computing less: {task}",
            xlabel=f"million floating-point operations per {'image' if image_size else 'question'}",
            ylabel=label,
        ),
    }
    if image_size:
        still["error-by-values-sensed"] = figures.scatter(
            [figures.Dot(row.name, 100 * cost.sensed / image_size, *row.error) for row, cost in measured],
            title=f"What is lost by looking at less: {task}",
            xlabel="values sensed (% of the image)",
            ylabel=label,
        )
    curves = {}
    for model in models:
        if model.folder is not None:
            key = f"validation/{model.agent.hows[0]}"
            points = [row for row in Run.open(model.folder).metrics() if key in row]
            if points:
                name = model.name if model.seed == 0 else f"{model.name}, seed {model.seed}"
                curves[name] = figures.Curve([row["step"] for row in points], [row[key] for row in points])
    if curves:
        still["learning-curves"] = figures.learning_curves(
            curves, title=f"Validation in training: {task}", ylabel=f"validation {label}", log=True
        )
    return still


def board(folder: Path, models: Sequence[Trained], still: dict[str, Any], text: str) -> None:
    """TensorBoard: the models' curves in one chart, what each of them looked at one above the other, the figures and the table."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        tags = []
        for model in models:
            tag = f"validation {metric_of(model.task)}/{model.name}-{model.seed}"
            points = Run.open(model.folder).metrics() if model.folder is not None else []
            for row in points:
                if (key := f"validation/{model.agent.hows[0]}") in row:
                    writer.add_scalar(tag, row[key], row["step"])
            tags += [tag] if points else []
            if model is next(one for one in models if one.name == model.name):
                for name, picture in pictures(model.agent, model.task, title=model.name, moving=False).still.items():
                    figures.add_figure(writer, f"attention/{model.name}/{name}", picture, 0)
        if tags:
            exact = [f"^{re.escape(tag)}$" for tag in tags]  # the tags of a chart are regular expressions
            writer.add_custom_scalars({"comparison": {"validation": ["Multiline", exact]}})
        for name, picture in still.items():
            figures.add_figure(writer, f"comparison/{name}", picture, 0)
        writer.add_text("comparison/table", text)


def run_command() -> int:
    options = read_arguments(Options, "python scripts/compare.py")
    tune_for_cpu()
    if options.models:
        names: list[str] = list(options.models)
    elif options.train:
        names = on_digits()
    else:
        names = [name for name in on_digits() if (options.weights_dir / f"{name}.safetensors").exists()]
        if not names:
            raise ValueError(f"expected the shipped models in {options.weights_dir}, found none: name some, or give --train")
    paths = train_all(names, options) if options.train else [path for name in names for path in find(name, options)]
    models = [load_trained(path, options.data_dir) for path in paths]
    check_distinct(models)
    check_one_task(models)
    folder = writable(options.out)
    first = models[0].task
    metric, image_size = metric_of(first), getattr(first.spec, "image_size", None)
    rows = entries(gather(models, options), by_chance(first, options.split))
    task = _task_name(models[0].name)
    table, still = markdown(rows, image_size, metric), draw(rows, models, task)
    sizes = (
        by_size(on_all_parts(models), f"{task}, test set", of=lambda scores: scores.study) if options.split == "test" else {}
    )
    write_whole(folder / "comparison.md", table.encode())
    write_whole(folder / "comparison.csv", as_csv(rows, metric).encode())
    for name in {"learning-curves", "error-by-values-sensed"} - still.keys():  # those of an earlier comparison
        (folder / f"{name}.png").unlink(missing_ok=True)
    for old in (folder / "by-size").glob("*.png"):
        old.unlink()
    for name, picture in still.items():
        figures.save_png(folder / f"{name}.png", picture)
    for name, picture in sizes.items():
        figures.save_png(writable(folder / "by-size") / f"{name}.png", picture)
    for old in (folder / "board").glob("events.out.tfevents.*"):
        old.unlink()
    board(folder / "board", models, still | sizes, table)
    if options.json is not None:
        write_rows(as_rows(rows, metric), options.json)
    console = Console(
        stderr=options.json == "-", width=None if sys.stdout.isatty() else max(140, int(os.environ.get("COLUMNS", 140)))
    )
    shown = Table(
        *columns(metric),
        title=f"{task}, {options.split} set",
        caption="sensed: values that reach the network. scores: places weighed. reads: values that went into what was read. All per question",
    )
    for row in rows:
        shown.add_row(*cells(row, image_size))
    console.print(shown)
    for path in sorted((*folder.glob("*.*"), *folder.glob("by-size/*.png"))):
        console.print(str(path), highlight=False)
    console.print(f"side by side: tensorboard --logdir {folder / 'board'}", highlight=False)
    return 0


def _task_name(name: str) -> str:
    """What a study's name says of its task."""
    who = max((who for who in WHO if name.startswith(f"{who}-")), key=len, default="")
    return name.removeprefix(f"{who}-")


if __name__ == "__main__":
    main(run_command)
