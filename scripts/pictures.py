"""The pictures of an agent: drawn into TensorBoard while it learns, and into files by `visualize.py`."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from hardattn import figures
from hardattn.contract import Answer, Batch
from hardattn.evaluation import Estimate, answer_all, first_scenes, interval

SCENES = 6
"""A fixed handful, always the first of the validation set, so that one sees the gaze change."""
HEAT_SCENES = 1000
"""Scenes behind a heat map."""


class Drawn(NamedTuple):
    """The pictures of one moment, by name."""

    still: dict[str, Any]
    moving: dict[str, list[Any]]


def looks_of(batch: Batch, answer: Answer) -> figures.Looks:
    """What an agent looked at, ready to be drawn."""
    trace = answer.trace
    assert trace.gaze is not None
    glimpses = batch.question.look(trace.gaze.transpose(0, 1)).transpose(0, 1)
    return figures.Looks(batch.question.image, glimpses, trace.gaze, batch.question.eye, trace.belief, batch.target)


@torch.inference_mode()
def pictures(
    agent: Any, task: Any, *, split: str = "validation", how: str | None = None, title: str = "", moving: bool = True
) -> Drawn:
    """What there is to be seen of an agent: glimpses of a hard one, windows or maps of a soft one, nothing of a network without attention."""
    many = first_scenes(task, split, HEAT_SCENES)
    few = Batch(*(_first(part, _spread(many, task)) for part in many))
    answer = agent.answer(few.question, how)
    trace = answer.trace
    if trace.window is not None:
        windows = figures.windows(few.question.image, trace.window, belief=trace.belief, target=few.target, title=title)
        return Drawn({"windows": windows}, {})
    if trace.weights is not None:
        maps = trace.weights.unflatten(-1, agent.map_size)
        shown = figures.attention_maps(few.question.image, maps, belief=trace.belief, target=few.target, title=title)
        return Drawn({"attention": shown}, {})
    if trace.gaze is not None:
        return _glimpses(looks_of(few, answer), looks_of(many, agent.answer(many.question, how)), title, moving)
    return Drawn({}, {})


def _glimpses(looks: figures.Looks, everywhere: figures.Looks, title: str, moving: bool) -> Drawn:
    """Paths with what the retina saw and the belief, what was seen put back on the canvas, a heat map of fixations, and an animation."""
    still = {
        "glimpses": figures.glimpse_paths(looks, title=title),
        "seen": figures.reconstructions(looks, title=title),
        "fixations": figures.heat_map(
            everywhere.images, everywhere.gaze, reach=everywhere.eye.reach, per_glimpse=True, title=title
        ),
    }
    return Drawn(still, {"animation": figures.animate(looks)} if moving else {})


def _spread(batch: Batch, task: Any) -> torch.Tensor:
    """The numbers of a handful of scenes with different source images: the frozen views of one image follow one another."""
    step = max(1, min(getattr(task, "views", 1), len(batch.target) // SCENES))
    return torch.arange(0, min(len(batch.target), SCENES * step), step)


def _first(part: Any, index: torch.Tensor) -> Any:
    """A batch's tensors, however deep, at `index`."""
    if isinstance(part, torch.Tensor):
        return part[index]
    if isinstance(part, tuple) and hasattr(part, "_fields") and any(isinstance(x, torch.Tensor | tuple) for x in part):
        return type(part)(*(_first(x, index) for x in part))
    return part


def draw(run: Any, agent: Any, task: Any, step: int, *, final: bool) -> None:
    """The pictures of one evaluation into TensorBoard; the animation, which takes longest, at the end only."""
    drawn = pictures(agent, task, title=f"after {step:,} steps", moving=final)
    for name, picture in drawn.still.items():
        figures.add_figure(run.board, name, picture, step)
    for name, frames in drawn.moving.items():
        figures.add_animation(run.board, name, frames, step)
    run.board.flush()


def policies(agent: Any, task: Any, split: str) -> Any:
    """Bars: the error of every way of looking."""
    bars = []
    for how in agent.hows:
        values = answer_all(agent, task, split, how).scores["error"]
        estimate: Estimate = interval(values, group=getattr(task, "views", 1))
        bars.append(figures.Bar(how, *estimate))
    return figures.error_bars(bars, title=f"error on the {split} set, by way of looking")


def save(drawn: Drawn, folder: Path) -> list[Path]:
    """PNG and GIF files; returns where they are."""
    paths = []
    for name, picture in drawn.still.items():
        paths.append(folder / f"{name}.png")
        figures.save_png(paths[-1], picture)
    for name, frames in drawn.moving.items():
        paths.append(folder / f"{name}.gif")
        figures.save_gif(paths[-1], frames)
    return paths
