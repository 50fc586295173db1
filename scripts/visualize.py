"""Draw where a trained model looks: `python scripts/visualize.py RUN_OR_WEIGHTS [options]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from hardattn.checks import way
from hardattn.evaluation import evaluate
from scripts.cli import main, read_arguments, writable
from scripts.pictures import by_size, has_sizes, learning, pictures, policies, save
from scripts.studies import load_trained


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
    options = read_arguments(Options, "python scripts/visualize.py")
    trained = load_trained(options.model, options.data_dir)
    how = way(options.how, trained.agent.hows)
    is_run = options.model.is_dir()
    folder = writable(options.out or (options.model / "pictures" if is_run else Path("pictures") / trained.name))
    title = f"{trained.name}, {how}"
    drawn = pictures(trained.agent, trained.task, split=options.split, how=how, title=title)
    drawn.still["policies"] = policies(trained.agent, trained.task, options.split)
    if options.split == "test" and has_sizes(trained.task):
        drawn.still.update(by_size(evaluate(trained.agent, trained.task, "test", trained.agent.hows), trained.name))
    if is_run:
        drawn.still.update(learning(trained))
    console = Console()
    for path in save(drawn, folder):
        console.print(str(path), highlight=False)
    return 0


if __name__ == "__main__":
    main(run_command)
