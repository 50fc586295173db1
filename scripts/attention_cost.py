"""What attention costs as the image grows: `python scripts/attention_cost.py [options]`. Hard attention's cost must stay flat.

The same untrained networks, eight glimpses of 12 x 12 at three scales (or eight reads), see images of more and more pixels.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from hardattn import figures
from hardattn.contract import GlimpseSpec
from hardattn.cost import Cost, cost
from scripts.cli import main, read_arguments, tune_for_cpu, writable, write_rows

GLIMPSES, SIDE, SCALES = 8, 12, 3
READERS = {"hard": "ram-cluttered-60", "filterbank": "draw-cluttered-60", "feature map": "soft-cluttered-60"}
"""Whose agents are measured."""


@dataclass(frozen=True)
class Options:
    """Measure time, memory, scores and values read per decision, for images from 28 to 896 pixels a side, and draw them."""

    sides: tuple[int, ...] = (28, 56, 112, 224, 448, 896)
    """Pixels a side of the images."""
    batch_size: int = 8
    """Images in the batch that is timed."""
    out: Path = Path("cost")
    """Where the figure goes."""
    json: str | None = None
    """Write the rows as JSON to this file; "-" for standard output."""

    def __post_init__(self) -> None:
        if min(self.sides, default=0) < 28:
            raise ValueError(f"sides must be at least 28 pixels, found {self.sides}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {self.batch_size}")


class Measured(NamedTuple):
    """Of one reader at one size, per decision."""

    reader: str
    side: int
    cost: Cost
    megabytes: float
    """Of memory asked for, in all."""


def reader(name: str, side: int, batch_size: int) -> tuple[Any, Callable[[], Any]]:
    """An agent, and a function that makes a batch of noise into its question, as the task does for every new scene."""
    from envs.glimpse import Eye, ask
    from hardattn.noise import keys
    from scripts.studies import STUDIES

    reach = (side - SIDE) / 2
    eye = Eye(SIDE, SCALES, 2, (reach, reach))
    image, gaze = torch.rand(batch_size, 1, side, side), torch.rand(batch_size, 2) * 2 - 1
    key = keys(0, "cost", torch.arange(batch_size))
    torch.manual_seed(0)
    agent = STUDIES[READERS[name]].agent.build(GlimpseSpec(1, side, side, 10, SCALES, SIDE, GLIMPSES))
    return agent.eval(), lambda: ask(image, gaze, key, eye)


@torch.inference_mode()
def measure(name: str, side: int, batch_size: int) -> Measured:
    agent, ask = reader(name, side, batch_size)
    found = cost(agent, ask(), repeats=1)

    def decide() -> None:
        """Making the scene into a question belongs to a decision: whatever has to be done once per image is part of its cost."""
        agent.answer(ask())

    milliseconds = 1000 * _fastest(decide) / batch_size
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        decide()
    asked = sum(max(0, event.self_cpu_memory_usage) for event in seen.events() or [])
    return Measured(name, side, found._replace(milliseconds=milliseconds), asked / batch_size / 2**20)


def _fastest(work: Callable[[], None], seconds: float = 1.0) -> float:
    """The shortest of as many calls as fit: whatever else runs can only add to it."""
    work()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def curves(rows: list[Measured], of: Callable[[Measured], float]) -> dict[str, figures.Curve]:
    return {
        name: figures.Curve([row.side for row in rows if row.reader == name], [of(row) for row in rows if row.reader == name])
        for name in READERS
    }


def run_command() -> int:
    options = read_arguments(Options, "python scripts/attention_cost.py")
    tune_for_cpu()
    torch.set_num_threads(1)
    folder = writable(options.out)
    console = Console(stderr=options.json == "-")
    rows = []
    for name in READERS:
        for side in options.sides:
            rows.append(measure(name, side, options.batch_size))
            console.print(f"{name}, {side} x {side}: {rows[-1].cost.milliseconds:.3f} ms", highlight=False)
    shown = Table(
        "attention", "side", "ms", "× its first", "memory, MB", "scores", "values read", "MFLOP", title="per decision"
    )
    first = {row.reader: row for row in reversed(rows)}
    for row in rows:
        times = row.cost.milliseconds / first[row.reader].cost.milliseconds
        c = row.cost
        shown.add_row(
            row.reader, str(row.side), f"{c.milliseconds:.3f}", f"{times:.2f}", f"{row.megabytes:.2f}", f"{c.scores:,.0f}", f"{c.reads:,.0f}",
            f"{c.flops / 1e6:.2f}",
        )  # fmt: skip
    console.print(shown)
    panels = {
        "milliseconds": lambda row: row.cost.milliseconds,
        "memory asked for (MB)": lambda row: row.megabytes,
        "places weighed": lambda row: row.cost.scores,
        "values read": lambda row: row.cost.reads,
    }
    picture = figures.growth(
        {label: curves(rows, of) for label, of in panels.items()},
        title="What one decision costs as the image grows",
        xlabel="pixels a side",
    )
    figures.save_png(folder / "attention-cost.png", picture)
    console.print(str(folder / "attention-cost.png"), highlight=False)
    if options.json is not None:
        numbers = [(row, {**row.cost._asdict(), "megabytes": row.megabytes}) for row in rows]
        write_rows(
            [
                {"name": f"{row.reader}-{row.side}", "metric": metric, "value": value, "low": value, "high": value}
                for row, found in numbers
                for metric, value in found.items()
            ],
            options.json,
        )
    return 0


if __name__ == "__main__":
    main(run_command)
