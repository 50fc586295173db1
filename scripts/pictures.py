"""The pictures of an agent: drawn into TensorBoard while it learns, and into files by `visualize.py`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from envs.stories import spoken
from envs.tapes.pictures import letter, machine_picture, names
from envs.tapes.play import TapeEpisodes
from envs.tapes.three_tapes import Moves
from hardattn import figures
from hardattn.contract import Answer, Batch, PlaySpec, SequenceSpec, StorySpec, TapeSpec
from hardattn.evaluation import (
    CONTROLS,
    Estimate,
    Scores,
    answer_all,
    control_of,
    first_scenes,
    interval,
    label_of,
    metric_of,
    over_models,
)
from hardattn.runs import Run
from scripts.studies import Trained

SCENES = 6
"""A fixed handful, always the first of the validation set, so that one sees the gaze change."""
STORIES = 5
"""Stories on a page."""
SIZES = ("length", "repeats", "level", "items", "vectors")
"""What the numbers of a test set's parts may count."""
GAMES, STRIPS, MOMENTS = 6, 3, 4
"""Games in a film; how many of them are shown in still pictures, and how many moments of each."""
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
    taken = trace.glimpses.round().long() if trace.glimpses is not None else None
    return figures.Looks(batch.question.image, glimpses, trace.gaze, batch.question.eye, trace.belief, batch.target, taken)


@torch.inference_mode()
def pictures(
    agent: Any, task: Any, *, split: str = "validation", how: str | None = None, title: str = "", moving: bool = True
) -> Drawn:
    """What there is to be seen of an agent: glimpses of a hard one, windows or maps of a soft one, the hops of a reader, the heads of a machine with
    a memory or with tapes, a player's games, nothing of a network without attention on an image."""
    if isinstance(task.spec, StorySpec):
        return Drawn({"hops": _hops(agent, task, split, how, title)}, {})
    if isinstance(task.spec, SequenceSpec):
        return Drawn(_memories(agent, task, split, how, title), {})
    if isinstance(task.spec, PlaySpec):
        return _episodes(agent, task, split, how, title, moving)
    if isinstance(task.spec, TapeSpec):
        return _heads(agent, task, split, how, title, moving)
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
            everywhere.images,
            everywhere.gaze,
            reach=everywhere.eye.reach,
            taken=everywhere.taken,
            per_glimpse=True,
            title=title,
        ),
    }
    return Drawn(still, {"animation": figures.animate(looks)} if moving else {})


def _hops(agent: Any, task: Any, split: str, how: str | None, title: str) -> Any:
    """Which sentences were read, of a handful of questions from the whole split."""
    index = torch.linspace(0, task.size(split) - 1, STORIES).round().long()
    batch = task.scenes(split, index)
    answer = agent.answer(batch.question, how)
    assert answer.trace.weights is not None
    words = task.spec.vocabulary
    return figures.story_hops(
        [[spoken(sentence, task.spec) for sentence in story if sentence.any()] for story in batch.question.sentences],
        [f"{spoken(query, task.spec)}?" for query in batch.question.query],
        answer.trace.weights,
        given=[words[i] for i in answer.output.argmax(-1)],
        right=[words[i] for i in batch.target],
        supports=batch.notes,
        title=title,
    )


def _memories(agent: Any, task: Any, split: str, how: str | None, title: str) -> dict[str, Any]:
    """One sequence of the longest in training and, of the test set, one of every part: also such as were never trained on.

    Of a network without a memory, what it was given and what it said.
    """
    still = {}
    for part in (split, *(task.parts if split == "test" else ())):
        some = first_scenes(task, part, len(task.training))  # one of every size, where they are mixed
        longest = int(some.notes.sum(1).argmax())
        batch = Batch(*(_first(x, torch.tensor([longest])) for x in some))
        answer = agent.answer(batch.question, how)
        trace, nowhere = answer.trace, answer.output.new_zeros(*answer.output.shape[:2], 0, 0)
        what = "output" if trace.weights is None else "memory"
        still[what if part == split else f"{what}-{part}"] = figures.memory_use(
            batch.question.input[0],
            batch.target[0],
            answer.output[0].sigmoid(),
            (nowhere if trace.weights is None else trace.weights)[0],
            (nowhere if trace.writes is None else trace.writes)[0],
            counts=batch.notes[0],
            title=title if part == split else f"{title}: {part}",
        )
    return still


def _episodes(agent: Any, task: Any, split: str, how: str | None, title: str, moving: bool) -> Drawn:
    """A handful of games: moments of each, of tapes the paths of their heads, and a film."""
    batch = first_scenes(task, split, GAMES)
    game, n = batch.question, len(batch.target)
    if not hasattr(game, "draw"):  # others' environments
        return Drawn({}, {})
    trace = agent.answer(game, how).trace
    state = game.reset()
    states, over, steps = [state], torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.long)
    for action in trace.moves.unbind(1):
        steps += ~over
        state, _, terminated, truncated = game.step(state, action)
        states.append(state)
        over = over | terminated | truncated
    moments = [torch.linspace(0, int(last), MOMENTS).round().long().tolist() for last in steps[:STRIPS]]
    still = {"episodes": figures.film_strip([[game.draw(states[i], row) for i in at] for row, at in enumerate(moments)])}
    if isinstance(game, TapeEpisodes):
        config, tape = game.tape.config, states[0].tape
        there = torch.arange(tape.shape[1]) < states[0].columns[:, None]
        _, write, symbol = trace.moves.long().unbind(-1)
        still["heads"] = figures.head_paths(
            tape.where(there[..., None], -1)[:STRIPS],
            torch.stack([state.head for state in states[:-1]], 1)[:STRIPS],
            symbol.where(write == 1, -1)[:STRIPS],
            right=trace.rewards[:STRIPS] > 0,
            steps=steps[:STRIPS],
            symbols=[letter(config, i) for i in range(config.readable)],
            title=title,
        )
    if not moving:
        return Drawn(still, {})
    frames = [[game.draw(state, row) for state in states[: int(steps[row]) + 1]] for row in range(n)]
    return Drawn(still, {"animation": figures.film(frames)})


def _heads(agent: Any, task: Any, split: str, how: str | None, title: str, moving: bool) -> Drawn:
    """Where the heads of a machine with three tapes were, and what it wrote."""
    # Of all complexities come in turn, those above the first third.
    most = min(task.config.tapes.top, task.size(split))
    index = torch.linspace(most // 3, most - 1, GAMES).round().long()
    batch = task.scenes(split, torch.cat([index[::2], index[1::2]]))
    game, n = batch.question, len(batch.target)
    trace = agent.answer(game, how).trace
    state, size = game.reset(game.complexity), game.core.config.size
    nothing = torch.zeros(n, size)
    states, targets = [state], []
    for action in trace.moves.long().unbind(1):
        targets.append(state.target.gather(1, state.emitted.clamp(max=state.target.shape[1] - 1)[:, None])[:, 0])
        state, *_ = game.core.step(state, Moves(*action.unbind(-1)), nothing)
        states.append(state)
    heads, fingers = ([getattr(s, name) for s in states[:-1]] for name in ("head", "finger"))
    said, written = trace.belief.argmax(-1), trace.moves[..., 2] == 1
    # What the heads do when all is said is nobody's concern.
    steps = (written * torch.arange(1, written.shape[1] + 1)).amax(1)
    right = said == torch.stack(targets, 1)
    told: dict[str, Any] = {
        "right": right[:STRIPS],
        "steps": steps[:STRIPS],
        "symbols": [*names(game.core.config), "", "x2", "x3"],
    }
    there = torch.arange(state.tape.shape[1]) < state.columns[:, None]
    tape = state.tape
    if game.core.config.task == "repeat-copy":
        tape = torch.cat([tape[:, :1] + size - 1, tape[:, 1:]], 1)
    cells = torch.full((n, game.core.config.cells), size)
    still = {}
    for name, places, symbols in (("input", heads, tape.where(there, -1)), ("memory", fingers, cells)):
        head = torch.stack(places, 1)
        still[f"heads-{name}"] = figures.head_paths(
            symbols[:STRIPS, :, None],
            torch.stack([head, torch.zeros_like(head)], -1)[:STRIPS],
            said.where(written, -1)[:STRIPS],
            title=f"{title}: head on the {name}",
            **told,
        )
    if not moving:
        return Drawn(still, {})

    def frame(row: int, t: int) -> Any:
        so_far = written[row, :t]
        return machine_picture(
            game.core.config, states[t], row, said[row, :t][so_far].tolist(), right[row, :t][so_far].tolist()
        )

    frames = [[frame(row, t) for t in range(int(steps[row]) + 1)] for row in range(n)]
    return Drawn(still, {"animation": figures.film(frames)})


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
    """Bars: the error of every way of answering."""
    bars, metric = [], metric_of(task)
    for how in agent.hows:
        values = answer_all(agent, task, split, how).scores[metric]
        estimate: Estimate = interval(values, group=getattr(task, "views", 1))
        bars.append(figures.Bar(how, *estimate))
    return figures.error_bars(bars, title=f"{metric} on the {split} set, by way of answering")


def size_of(part: str) -> tuple[str, int] | None:
    """What a part of a test set counts, and how many of it; None of a part that counts nothing."""
    kind, _, number = part.rpartition("-")
    return (kind, int(number)) if number.isdigit() and kind in SIZES else None


def has_sizes(task: Any) -> bool:
    """Whether there is a test set of which parts have sizes."""
    return any(map(size_of, getattr(task, "parts", ())))


def by_size(
    table: Iterable[Scores], title: str = "", of: Callable[[Scores], str] = lambda scores: scores.how or "usual way"
) -> dict[str, Any]:
    """Every metric of a test set whose parts have numbers (lengths, levels) against these numbers; nothing of other test sets. `of` names the curve; what
    several seeds have there becomes their mean."""
    charts: dict[tuple[str, str], dict[str, dict[int, list[Scores]]]] = {}
    for scores in table:
        if size := size_of(scores.part):
            charts.setdefault((scores.metric, size[0]), {}).setdefault(of(scores), {}).setdefault(size[1], []).append(scores)
    drawn = {}
    for (metric, kind), ways in charts.items():
        curves = {}
        for name, points in ways.items():
            estimates = [over_models([one.values for one in found], group=found[0].group) for found in points.values()]
            curves[name] = figures.Curve(list(points), *map(list, zip(*estimates)))
        drawn[f"{metric}-by-{kind}"] = figures.learning_curves(curves, title=title, ylabel=label_of(metric), xlabel=kind)
    return drawn


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
    # Of a player; of a curriculum.
    for name, of in {
        "return": {"training": "return", "validation": f"validation return/{agent.hows[0]}"},
        "level": {"level": "level"},
    }.items():
        if found := curves(of):
            drawn[name] = figures.learning_curves(found, title=trained.name, ylabel=name)
    return drawn


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
