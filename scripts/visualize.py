"""Draw where a trained model looks: `python scripts/visualize.py RUN_OR_WEIGHTS [options]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from hardattn import figures
from hardattn.checks import way
from hardattn.contract import SequenceSpec
from hardattn.evaluation import CONTROLS, control_of, evaluate, label_of, metric_of
from hardattn.runs import Run
from scripts.cli import main, writable
from scripts.pictures import by_size, pictures, policies, save, size_of
from scripts.studies import Trained, load_trained


@dataclass(frozen=True)
class Options:
    """Write pictures and an animation of where a trained model looks, what it sees and what it believes."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a .safetensors file."""
    out: Path | None = None
    """Where the pictures go. Default: `pictures` in the run's folder, or pictures/NAME here for weights."""
    how: str | None = None
    """The way of looking: mean, sampled, averaged, random, centre or raster; uniform for soft attention; argmax
    for what chooses a place or a move. Default: the usual one."""
    split: Literal["test", "validation"] = "validation"
    """Whose scenes are drawn."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw and babi/tasks_1-20_v1-2, for the tasks that need them."""


def run_command() -> int:
    options = tyro.cli(Options, prog="python scripts/visualize.py")
    trained = load_trained(options.model, options.data_dir)
    how = way(options.how, trained.agent.hows)
    is_run = options.model.is_dir()
    folder = writable(options.out or (options.model / "pictures" if is_run else Path("pictures") / trained.name))
    title = f"{trained.name}, {how}"
    drawn = pictures(trained.agent, trained.task, split=options.split, how=how, title=title)
    drawn.still["policies"] = policies(trained.agent, trained.task, options.split)
    if options.split == "test" and any(map(size_of, getattr(trained.task, "parts", ()))):
        drawn.still.update(by_size(evaluate(trained.agent, trained.task, "test", trained.agent.hows), trained.name))
    if is_run:
        drawn.still.update(learning(trained))
    console = Console()
    for path in save(drawn, folder):
        console.print(str(path), highlight=False)
    return 0


def learning(trained: Trained) -> dict[str, Any]:
    """The curves of a run: its metric, and of sequences the bits against the sequences seen."""
    assert trained.folder is not None
    records, agent, metric = Run.open(trained.folder).metrics(), trained.agent, metric_of(trained.task)
    control = control_of(agent.hows)

    def curves(keys: dict[str, str], scale: int = 1) -> dict[str, figures.Curve]:
        drawn = {}
        for label, key in keys.items():
            rows = [row for row in records if key in row]
            bands = [f"{key.replace('validation', 'interval')}/{end}" for end in ("low", "high")]
            values = [[row[name] for row in rows if name in row] for name in (key, *bands)]
            if rows:
                band = values[1:] if len(values[1]) == len(rows) else ()  # older runs have none
                drawn[label] = figures.Curve([scale * row["step"] for row in rows], values[0], *band)
        return drawn

    keys = {"training": metric, "validation": f"validation/{agent.hows[0]}"}
    if control:
        keys[f"validation, {CONTROLS[control]}"] = f"validation/{control}"
    drawn = {"learning": figures.learning_curves(curves(keys), title=trained.name, ylabel=label_of(metric))}
    if isinstance(trained.task.spec, SequenceSpec):
        bits = curves({"training": "bits"}, trained.study.fit.batch_size)
        drawn["bits"] = figures.learning_curves(bits, title=trained.name, ylabel="bits per sequence", xlabel="sequences seen")
    for name, curve in curves({"return": "return", "level": "level"}).items():  # of a player; of a curriculum
        drawn[name] = figures.learning_curves({name: curve}, title=trained.name, ylabel=name)
    return drawn


if __name__ == "__main__":
    main(run_command)
