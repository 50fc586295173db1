"""Draw where a trained model looks: `python scripts/visualize.py RUN_OR_WEIGHTS [options]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from hardattn import figures
from hardattn.checks import way
from hardattn.evaluation import CONTROLS, control_of
from hardattn.runs import Run
from scripts.cli import main, writable
from scripts.pictures import pictures, policies, save
from scripts.studies import load_trained


@dataclass(frozen=True)
class Options:
    """Write pictures and an animation of where a trained model looks, what it sees and what it believes."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or a .safetensors file."""
    out: Path | None = None
    """Where the pictures go. Default: `pictures` in the run's folder, or pictures/NAME here for weights."""
    how: str | None = None
    """The way of looking: mean, sampled, averaged, random, centre or raster; uniform for soft attention. Default: the usual one."""
    split: Literal["test", "validation"] = "validation"
    """Whose scenes are drawn."""
    data_dir: Path = Path("data")
    """The folder that holds MNIST/raw."""


def run_command() -> int:
    options = tyro.cli(Options, prog="python scripts/visualize.py")
    trained = load_trained(options.model, options.data_dir)
    how = way(options.how, trained.agent.hows)
    is_run = options.model.is_dir()
    folder = writable(options.out or (options.model / "pictures" if is_run else Path("pictures") / trained.name))
    title = f"{trained.name}, {how}"
    drawn = pictures(trained.agent, trained.task, split=options.split, how=how, title=title)
    drawn.still["policies"] = policies(trained.agent, trained.task, options.split)
    if is_run:
        metrics = Run.open(options.model).metrics()
        control, curves = control_of(trained.agent.hows), {}
        for label, key in {
            "training": "error",
            "validation": f"validation/{trained.agent.hows[0]}",
            **({f"validation, {CONTROLS[control]}": f"validation/{control}"} if control else {}),
        }.items():
            rows = [row for row in metrics if key in row]
            if rows:
                curves[label] = figures.Curve([row["step"] for row in rows], [row[key] for row in rows])
        drawn.still["learning"] = figures.learning_curves(curves, title=trained.name)
    console = Console()
    for path in save(drawn, folder):
        console.print(str(path), highlight=False)
    return 0


if __name__ == "__main__":
    main(run_command)
