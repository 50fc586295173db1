"""Train a study: `python scripts/train.py STUDY [options]`. Without a study it lists them."""

import atexit
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from scripts.cli import again, first_here, main, read_arguments, tune_for_cpu, write_rows
from scripts.progress import Ticker, say
from scripts.studies import STUDIES, Study, describe, flat, load_trained, same_words

ESTIMATOR_DRAWS = 16
"""Gradients drawn on one batch to measure how noisy the estimator is: enough for two digits, and a fraction of an evaluation's time."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Options:
    """What a training run needs besides the study."""

    study: Annotated[Study, flat] = field(default_factory=Study)
    seed: int = 0
    """Of the weights at the start, of the training scenes and of the policy's noise."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw and babi/tasks_1-20_v1-2, for the tasks that need them."""
    runs_dir: Path = Path("runs")
    """Where the folder of this run is made."""
    resume: Path | None = None
    """Continue this run's folder. Its configuration holds; options that differ from it are an error."""
    start_from: Path | None = None
    """Begin with these weights (a run's folder or a .safetensors file of the same architecture) instead of fresh ones."""
    device: str = "cpu"
    """cpu, cuda, mps or auto."""
    precision: str | None = None
    """As lightning-fabric names it: 32-true, bf16-mixed, ... Default: 32-true."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be at least 0 and less than 2^63, found {self.seed}")


def parse(
    arguments: Sequence[str], names: Sequence[str], program: str, prefix: str = "", default: str | None = None
) -> tuple[str, Options]:
    """The study's name and the options. The name comes first and chooses the defaults of everything else.

    Args:
        arguments: of the command line.
        names: studies that may be asked for, less `prefix`.
        program: what the user typed, for the help text.
        prefix: what every name begins with.
        default: the study when none is named; without one, the studies are listed.
    """
    rest = list(arguments)
    named = rest.pop(0) if rest and not rest[0].startswith("-") else None
    folder = _resume_folder(rest)
    if named is not None and named not in names:
        raise ValueError(f"expected one of {', '.join(names)}; found {named!r}. {program} --help says what they are")
    if named is None and folder is None and (default is None or rest[:1] in (["--help"], ["-h"])):
        _list_studies(names, program, prefix, default)
        raise SystemExit(0 if rest[:1] in (["--help"], ["-h"]) else 2)
    if folder is None:
        name = prefix + (named or default or "")
        own = f"{program} {name.removeprefix(prefix)}"
        return name, read_arguments(tyro.conf.AvoidSubcommands[Options], own, default=Options(STUDIES[name]), args=rest)
    from hardattn.runs import Run

    config = Run.open(folder).config
    if not config.keys() >= {"study", "name", "seed"}:
        raise ValueError(f"{folder}/config.json is not the configuration of a training run")
    stored = Options(Study.from_json(config["study"]), seed=config["seed"], resume=folder)
    options = read_arguments(tyro.conf.AvoidSubcommands[Options], program, default=stored, args=rest)
    if options.start_from is not None:
        raise ValueError("a run that is resumed starts from its own checkpoint: leave --start-from out")
    differ = [f"{k}: the run has {a}, the command line says {b}" for k, a, b in _differences(stored, options)]
    if named is not None and prefix + named != config["name"]:
        differ.insert(0, f"study: the run has {config['name']}, the command line says {prefix + named}")
    if differ:
        raise ValueError(f"cannot resume {folder} with another configuration. {'; '.join(differ)}. Leave these options out")
    return config["name"], options


def _resume_folder(arguments: Sequence[str]) -> Path | None:
    for i, argument in enumerate(arguments):
        if argument == "--resume" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--resume="):
            return Path(argument.removeprefix("--resume="))
    return None


def _differences(stored: Options, asked: Options) -> list[tuple[str, Any, Any]]:
    found = [("seed", stored.seed, asked.seed)] if stored.seed != asked.seed else []
    for part in ("task", "agent", "learner", "fit"):
        one, other = (dataclasses.asdict(getattr(x.study, part)) for x in (stored, asked))
        found += [(key, one[key], other[key]) for key in one if one[key] != other[key]]
    return found


def _list_studies(names: Sequence[str], program: str, prefix: str, default: str | None) -> None:
    out = Console()
    choice = "[PRESET]" if default else "STUDY"
    out.print(f"usage: {program} {choice} \\[options]", markup=True, highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_row(f"  {name}", STUDIES[prefix + name].sentence + (" (the default)" if name == default else ""))
    out.print(table)
    out.print(f"{program} {names[0]} --help explains the options. Watch a run: tensorboard --logdir runs", highlight=False)


def train(name: str, options: Options) -> int:
    """Train, or go on training. Returns the exit code."""
    if options.device == "cpu":
        tune_for_cpu()
    # These take seconds to import: not before the command line has been read.
    import torch
    from lightning_fabric import Fabric

    from hardattn.evaluation import metric_of, unit_of
    from hardattn.learner import Learner, Replaying
    from hardattn.parallel import global_mean, world
    from hardattn.runs import Run, load_into, save_weights
    from hardattn.training import Interrupted, fit
    from scripts.pictures import draw

    study = options.study
    if options.resume is not None and (done := _finished(Run.open(options.resume), study)):
        _tell(first_here(), done)
        return 0
    task = study.task.build(options.data_dir)
    fabric = _fabric(Fabric, options)
    # Before anything is written, so that a missing file is found in time.
    first_batch = next(iter(task.batches("train", batch_size=study.fit.batch_size, seed=options.seed)))
    torch.manual_seed(options.seed)
    agent = study.agent.build(task.spec)
    metric = metric_of(task)
    unit = unit_of(metric)
    learner = Learner(agent, study.learner, study.fit.steps, fabric)
    epochs = study.learner.epochs
    if epochs > 1 and hasattr(agent, "act"):
        agent.eval().act(fabric.to_device(first_batch))  # whether it can, before anything is written
        agent.train()
    elif epochs > 1:
        raise ValueError(
            f"--epochs {epochs} wants an agent that can learn twice from what it did, such as ram's or player's; {name} has another"
        )
    leader = world()[0] == 0

    run: Run | None = None  # the leader's: one process writes
    start, best = 0, float("inf")
    records: list[dict[str, torch.Tensor]] = []
    config = describe(name, options.seed, study, task.spec)
    if options.start_from is not None:
        _start_from(agent, options.start_from)
    if options.resume is not None:
        stored = Run.open(options.resume)
        same_words(stored.config, task.spec, options.resume)
        saved = stored.load()
        if saved is not None:
            weights, state, progress = saved
            load_into(agent, weights, stored.folder)
            start, best = _restore(learner, weights, state, progress, records, stored.folder)
        if start >= study.fit.steps:  # it was stopped in its last moment
            if leader:
                _conclude(stored, options)
            return 0
        if leader:
            run = stored
            run.rewind(start)
        _tell(leader, f"continuing {stored.folder} at step {start:,} of {study.fit.steps:,}")
    elif leader:
        run = Run.create(options.runs_dir, f"{name}-{options.seed}", config)
        if options.start_from is not None:  # whoever resumes before the first checkpoint starts from these weights, too
            run.save(0, agent.state_dict(), learner.state(), {"best": best, "records": []})
        _tell(leader, f"{name}, seed {options.seed}: {study.sentence or 'a study of your own'}\nrun folder: {run.folder}")

    ticker = Ticker(console, study.fit.steps, start, silent=not leader)

    def log(step: int, numbers: dict[str, float]) -> None:
        if run is not None:
            run.log(step, numbers)
        # A player is told what it earned, not what it should have done.
        shown, of_it = (metric, unit) if metric in numbers else ("return", "")
        ticker.update(step, numbers["speed/examples"], f"{shown} {numbers[shown]:.1f}{of_it}")

    def look(step: int) -> None:
        nonlocal best
        variance = _estimator_variance(learner, first_batch)
        if run is not None:
            from hardattn.evaluation import CONTROLS, answer_all, control_of, interval

            agent.cpu()  # where the task's batches and the figures are
            control = control_of(agent.hows)
            group = getattr(task, "views", 1)
            scored = {
                how: answer_all(agent, task, "validation", how).scores
                for how in (agent.hows[0], *([control] if control else []))
            }
            estimates = {
                of: {how: interval(scores[name], group=group) for how, scores in scored.items() if name in scores}
                for of, name in (("", metric), (" return", "return"))
            }
            found = estimates[""]
            usual = found[agent.hows[0]].value
            better = usual <= best  # of equals the one that was trained longer
            news = ", the best so far" if better else ""
            if better:
                best = usual
                save_weights(run.folder / "best.safetensors", agent.state_dict(), config)
            means = {f"validation{of}/{how}": e.value for of, each in estimates.items() for how, e in each.items()}
            ends = {
                f"interval{of}/{how}/{end}": getattr(e, end)
                for of, each in estimates.items()
                for how, e in each.items()
                for end in ("low", "high")
            }
            run.log(step, means | ends | variance)
            if study.fit.pictures:
                draw(run, agent, task, step, final=step == study.fit.steps)
            beside = f" ({CONTROLS[control]}: {found[control].value:.2f}{unit})" if control else ""
            ticker.say(f"step {step:,}: validation {metric} {usual:.2f}{unit}{news}{beside}")
            agent.to(fabric.device)
        fabric.barrier()

    def save(step: int) -> None:
        # What was not logged yet goes along, so that the next log is of the same steps whether or not the run is resumed from here.
        pending = [{name: global_mean(value).item() for name, value in record.items()} for record in records]
        if run is not None:
            run.save(step, agent.state_dict(), learner.state(), {"best": best, "records": pending})
        fabric.barrier()

    batches = task.batches("train", batch_size=study.fit.batch_size, seed=options.seed, start=start)
    resume = f"Go on with: {_resume_command(run, options)}" if run is not None else ""
    try:
        with ticker:
            fit(
                Replaying(learner, epochs) if epochs > 1 else learner,
                batches,
                steps=study.fit.steps,
                start=start,
                log=log,
                log_every=study.fit.log_every,
                # The evaluation comes first, so that the checkpoint of the same step knows its result.
                hooks=[(study.fit.evaluate_every, look), (study.fit.save_every, save)],
                records=records,
            )
        if run is not None:
            run.close()
    except Interrupted as stopped:
        save(stopped.done)
        _tell(leader, f"stopped and saved after {stopped.done:,} steps. {resume}")
        return 130
    except KeyboardInterrupt:  # a second Ctrl-C
        _tell(leader, f"stopped without saving. {resume}")
        return 130
    except FloatingPointError as problem:
        raise FloatingPointError(f"{problem}, in {run.folder if run else 'the run'}") from None
    except OSError as problem:
        raise OSError(f"{problem}. The checkpoints before are whole. Make room or mend it. {resume}") from None
    finally:
        if run is not None:
            with suppress(OSError):  # what has failed once, or is written by now
                run.close()
    if run is not None:
        _conclude(run, options)
    return 0


def _finished(run: Any, study: Study) -> str:
    """What to say of a run that has nothing left to do, which needs no data; else nothing."""
    if not (run.folder / "test.json").exists():  # the last thing that a run writes
        return ""
    saved = run.load()
    if saved is None or saved[2]["step"] < study.fit.steps:
        return ""
    return (
        f"{run.folder} is finished: {saved[2]['step']:,} steps, {saved[2]['best']:.2f} in validation. For more, start a new run"
    )


def _restore(
    learner: Any, weights: dict[str, Any], state: dict[str, Any], progress: dict[str, Any], records: list[Any], folder: Path
) -> tuple[int, float]:
    """Put a checkpoint into the learner and what it had not logged yet into `records`. Returns the steps done and the best error."""
    import torch

    try:
        learner.load(weights, state)
        at = learner.fabric.device
        records += [
            {name: torch.tensor(value, device=at) for name, value in record.items()} for record in progress.get("records", [])
        ]
        return progress["step"], progress["best"]
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as problem:
        raise ValueError(
            f"the last checkpoint of {folder} does not fit this version ({problem}). Remove it to continue from the one before"
        ) from None


def _start_from(agent: Any, path: Path) -> None:
    """Raises ValueError if the weights are not there, or are another architecture's."""
    from hardattn.runs import load_into, load_weights

    path = path / "best.safetensors" if path.is_dir() else path
    load_into(agent, load_weights(path)[0], path)


def _resume_command(run: Any, options: Options) -> str:
    """What continues a run: its configuration knows everything but where the data are and what it runs on."""
    extra = [x for name in ("data_dir", "device", "precision") for x in _unusual(options, name)]
    return again("--resume", str(run.folder), *extra)


def _unusual(options: Options, name: str) -> tuple[str, ...]:
    value = getattr(options, name)
    return () if value == getattr(Options, name) else (f"--{name.replace('_', '-')}", str(value))


def _conclude(run: Any, options: Options) -> None:
    """The test set, once, with the weights that were best in validation."""
    from hardattn.contract import PlaySpec, SequenceSpec, TapeSpec
    from hardattn.evaluation import evaluate, metric_of, rows, unit_of
    from hardattn.figures import add_figure
    from scripts.pictures import by_size, learning, pictures

    _tell(True, "scoring the test set ...")
    trained = load_trained(run.folder, options.data_dir)
    table = list(evaluate(trained.agent, trained.task, "test", trained.agent.hows, study=trained.name, seed=trained.seed))
    found = rows(table)
    drawn = by_size(table, trained.name) if options.study.fit.pictures else {}
    spec = trained.task.spec
    if options.study.fit.pictures and isinstance(spec, (SequenceSpec, PlaySpec, TapeSpec)):
        # Of the curve of its metric TensorBoard has the points.
        drawn |= {name: picture for name, picture in learning(trained).items() if name != "learning"}
    if options.study.fit.pictures and isinstance(spec, SequenceSpec):  # also of lengths that were never trained on
        drawn |= pictures(trained.agent, trained.task, split="test").still
    for name, picture in drawn.items():
        add_figure(run.board, name, picture, options.study.fit.steps)
    run.close()
    try:
        write_rows(found, str(run.folder / "test.json"))
    except ValueError as problem:  # no fault of the request: --resume scores again
        raise OSError(str(problem)) from None
    metric = metric_of(trained.task)
    shown = Table("", metric, "95 % interval", title=f"{trained.name}: test set")
    for row in found:
        if row["metric"] == metric:
            unit = unit_of(metric)
            shown.add_row(row["name"], f"{row['value']:.2f}{unit}", f"{row['low']:.2f} to {row['high']:.2f}")
    console.print(shown)
    model = shlex.join([str(run.folder), *_unusual(options, "data_dir")])
    _tell(
        True,
        f"The weights are those with the least {metric} in validation.\n"
        f"Look:   tensorboard --logdir {shlex.quote(str(run.folder))}\n"
        f"Again:  python scripts/evaluate.py {model}\n"
        f"Draw:   python scripts/visualize.py {model}",
    )


def _estimator_variance(learner: Any, batch: Any) -> dict[str, float]:
    """How noisy the policy's gradient is on one batch, if the agent has a policy that was drawn with the example's own noise."""
    separate = getattr(learner.agent, "separate", ())
    if "locator" not in separate or learner.agent.locator is None or learner.agent.spec.glimpses < 2:
        return {}
    from hardattn.estimators import relative_variance
    from hardattn.noise import fork

    keys = [fork(batch.question.key, f"variance {i}") for i in range(ESTIMATOR_DRAWS)]
    draws = [learner.gradient(batch._replace(question=batch.question._replace(key=key)), "locator") for key in keys]
    variance = relative_variance(draws)[0].item()
    return {"estimator/relative-variance": variance} if variance < float("inf") else {}


def _fabric(make: Any, options: Options) -> Any:
    """One process, or those that torchrun or `fabric run` have started."""
    from hardattn.parallel import leave

    if options.precision in ("16", "16-mixed"):  # it scales gradients, which are clipped here
        raise ValueError(f"cannot use --precision {options.precision}: use bf16-mixed instead")
    settings: dict[str, Any] = {"accelerator": options.device, "devices": int(os.environ.get("LOCAL_WORLD_SIZE", 1))}
    if options.precision is not None:
        settings["precision"] = options.precision
    try:
        fabric = make(**settings)
    except Exception as problem:  # fabric has exceptions of its own for devices that are not there
        raise ValueError(
            f"cannot use --device {options.device}{f' --precision {options.precision}' if options.precision else ''}: {problem}"
        ) from None
    if "LT_CLI_USED" not in os.environ:
        fabric.launch()
    atexit.register(leave)
    fabric.barrier()  # a process that ends before the others have found it would leave them with a riddle
    return fabric


def _tell(leader: bool, text: str) -> None:
    if leader:
        say(console, text)


def run_command() -> int:
    return train(*parse(sys.argv[1:], list(STUDIES), "python scripts/train.py"))


if __name__ == "__main__":
    main(run_command)
