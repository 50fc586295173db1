"""What a player did: frames of its episodes side by side, and of a tape where its head was at every step and what it wrote there, with the time going down
(as in Zaremba et al. 2016, Figure 3)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from hardattn.figures import style
from hardattn.figures.style import SERIES, Page, Picture

CELL, MARGIN, GAP, OUTPUT, WIDEST = 0.2, 0.3, 0.35, 0.42, 12.0
"""Inches: a side of a cell, the border, what is between panels, the column of what was written, and the widest page."""
LEGIBLE = 0.11
"""Inches: lines closer than this have no room for letters."""
ASTRAY = 4
"""Columns beyond the tape's ends that are shown; a head that goes further is drawn at the border."""


def head_paths(
    tape: Int[Tensor, "b n rows"],
    head: Int[Tensor, "b t 2"],
    written: Int[Tensor, "b t"],
    *,
    right: Bool[Tensor, "b t"] | None = None,
    steps: Int[Tensor, " b"] | None = None,
    symbols: Sequence[str] | None = None,
    title: str = "",
    dpi: int = 130,
) -> Picture:
    """A panel for every episode: the tape, under it the head's place at every step, and at the right what was written.

    On a tape of several rows the head's path has the colour of the row that it is on.

    Args:
        tape: symbols; -1 where there is no cell.
        head: (column, row) before every move; anywhere, also off the tape.
        written: the symbol that was written at every step; -1: none.
        right: whether it was to be written. Without it nothing is said of that.
        steps: moves of every episode. Default: all.
        symbols: names, one or two letters each. Default: the numbers.
        title: of the page.
        dpi: pixels per inch.

    Raises:
        ValueError: if there is no episode, or the parts do not have the same episodes and steps.
    """
    b, _, rows = tape.shape
    _check(tape, head, written, right, steps)
    t = head.shape[1]
    tapes, heads, letters = (x.detach().cpu().numpy() for x in (tape, head, written))
    fine = None if right is None else right.detach().cpu().numpy()
    length = np.full(b, t) if steps is None else steps.detach().cpu().numpy().clip(0, t)
    names = symbols if symbols is not None else [str(i) for i in range(int(max(tapes.max(), letters.max())) + 1)]

    longest = max(1, int(length.max()))
    lived = np.arange(t) < length[:, None]
    columns = heads[..., 0][lived]
    filled = int((tapes >= 0).any(-1).sum(1).max())
    first = max(min(0, int(columns.min(initial=0))), -ASTRAY)
    last = min(max(filled - 1, int(columns.max(initial=0))), filled - 1 + ASTRAY)
    last = max(last, first + 3)  # as wide as what is written above
    wide, step = (last - first + 1) * CELL, float(np.clip(5.0 / longest, 0.05, 0.17))
    above = rows * CELL + 0.08
    panel = (wide + OUTPUT, above + longest * step)
    down = math.ceil(b / max(1, int((WIDEST - 2 * MARGIN + GAP) / (panel[0] + GAP))))
    across = math.ceil(b / down)
    top, left = (0.75 if title else MARGIN) + 0.25, MARGIN + 0.25
    page = Page(
        left + across * (panel[0] + GAP) - GAP + MARGIN, top + down * (panel[1] + GAP + 0.2) - GAP - 0.2 + MARGIN, dpi, title
    )
    for i in range(b):
        x, y = left + i % across * (panel[0] + GAP), top + i // across * (panel[1] + GAP + 0.2)
        page.write(x + wide + OUTPUT / 2 + 0.05, y - 0.13, "written", size=style.SMALL, color=style.MUTED, ha="center")
        page.write(x, y - 0.13, f"{length[i]} steps", size=style.SMALL, color=style.MUTED)
        axes = page.axes(x, y, wide, above)
        axes.set(xlim=(first - 0.5, last + 0.5), ylim=(above / CELL, 0))
        _cells(axes, tapes[i], names)
        axes = page.axes(x, y + above, panel[0], longest * step)
        axes.set(xlim=(first - 0.5, first - 0.5 + panel[0] / CELL), ylim=(longest - 0.5, -0.5))
        shown = int(length[i])
        _guides(axes, int((tapes[i] >= 0).any(-1).sum()), longest)
        _path(axes, heads[i, :shown].clip((first, 0), (last, rows - 1)), rows, step)
        wrong = np.zeros(shown, bool) if fine is None else ~fine[i, :shown]
        colour = style.INK if fine is None else style.RIGHT
        _written(axes, letters[i, :shown], wrong, colour, names, last + 0.5 + (OUTPUT / 2 + 0.05) / CELL, step)
        if i % across == 0:
            for k in _named(longest):
                page.write(x - 0.1, y + above + (k + 0.5) * step, str(k + 1), size=style.SMALL, color=style.MUTED, ha="right")
    return page.pixels()


def film(episodes: Sequence[Sequence[Picture]], *, across: int = 2, end: int = 8) -> list[UInt8[np.ndarray, "Y X 3"]]:
    """Episodes side by side, a frame for every step; those that are over stand still, and the last frame comes `end` times more.

    Args:
        episodes: frames of every episode, at least one each, all of one size.
        across: episodes in a row.
        end: of the last frame.

    Raises:
        ValueError: if there is no episode, or the frames differ in size.
    """
    longest = _one_size(episodes)
    empty = np.full_like(episodes[0][0], 255)
    rows = -(-len(episodes) // across)
    frames = []
    for t in range(longest):
        cells = [episode[min(t, len(episode) - 1)] for episode in episodes] + [empty] * (rows * across - len(episodes))
        frames.append(np.concatenate([np.concatenate(cells[i : i + across], 1) for i in range(0, len(cells), across)]))
    return frames + frames[-1:] * end


def film_strip(episodes: Sequence[Sequence[Picture]]) -> UInt8[np.ndarray, "Y X 3"]:
    """A row for every episode, with its frames side by side.

    Args:
        episodes: as for `film`, all with the same number of frames.

    Raises:
        ValueError: if there is no episode, or the frames differ in size or number.
    """
    longest = _one_size(episodes)
    if any(len(episode) != longest for episode in episodes):
        raise ValueError(f"a strip needs as many frames of every episode, found {[len(episode) for episode in episodes]}")
    return np.concatenate([np.concatenate(list(episode), 1) for episode in episodes])


def _one_size(episodes: Sequence[Sequence[Picture]]) -> int:
    """Frames of the longest episode."""
    sizes = {frame.shape for episode in episodes for frame in episode}
    if len(sizes) != 1 or not all(episodes):
        raise ValueError(f"expected episodes of at least one frame, all of one size; found the sizes {sorted(sizes)}")
    return max(map(len, episodes))


def _check(tape: Tensor, head: Tensor, written: Tensor, right: Tensor | None, steps: Tensor | None) -> None:
    found = [tuple(head.shape[:2]), tuple(written.shape), tuple(written.shape if right is None else right.shape)]
    episodes = {len(tape), len(head), len(head) if steps is None else len(steps)}
    if len(set(found)) > 1 or len(episodes) > 1 or not all(found[0]):
        raise ValueError(
            f"all parts need the same episodes and steps, at least 1 of each; found {found} and {sorted(episodes)} episodes"
        )


def _cells(axes: Axes, tape: Int[np.ndarray, "n rows"], names: Sequence[str]) -> None:
    rows = tape.shape[1]
    for (column, row), symbol in np.ndenumerate(tape):
        if symbol >= 0:
            edge = SERIES[row % len(SERIES)] if rows > 1 else style.MUTED
            axes.add_patch(
                Rectangle((column - 0.44, row + 0.06), 0.88, 0.88, facecolor="#f2f5f8", edgecolor=edge, linewidth=0.7)
            )
            axes.text(column, row + 0.52, names[symbol], size=style.SMALL, color=style.INK, ha="center", va="center_baseline")


def _guides(axes: Axes, filled: int, steps: int) -> None:
    """A faint stripe under every cell of the tape, so that the eye finds the column."""
    for column in range(0, filled, 2):
        axes.add_patch(Rectangle((column - 0.5, -0.5), 1, steps, facecolor=style.GRID, alpha=0.55, linewidth=0))


def _path(axes: Axes, head: Int[np.ndarray, "t 2"], rows: int, step: float) -> None:
    time = np.arange(len(head))
    axes.plot(head[:, 0], time, color=style.MUTED, linewidth=0.9, alpha=0.7, zorder=2)
    colours = [SERIES[row % len(SERIES)] for row in head[:, 1]] if rows > 1 else style.NEUTRAL
    axes.scatter(head[:, 0], time, s=(0.55 * min(step, CELL) * 72) ** 2, c=colours, linewidths=0, zorder=3, clip_on=False)


def _written(
    axes: Axes,
    letters: Int[np.ndarray, " t"],
    wrong: Bool[np.ndarray, " t"],
    usual: str,
    names: Sequence[str],
    x: float,
    step: float,
) -> None:
    """Letters where there is room for them, else dashes."""
    for time in np.flatnonzero(letters >= 0).tolist():
        colour = style.WRONG if wrong[time] else usual
        if step >= LEGIBLE:
            text = names[letters[time]] + (" ×" if wrong[time] else "")
            letter: dict[str, Any] = {"size": min(style.BODY, 0.8 * step * 72), "color": colour, "weight": "bold"}
            axes.text(x, time, text, ha="center", va="center_baseline", **letter)
        else:
            axes.plot([x - 0.5, x + 0.5], [time, time], color=colour, linewidth=0.7 * step * 72, solid_capstyle="butt")


def _named(steps: int) -> list[int]:
    """Steps whose numbers are written, from 0."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 10**9) if steps / n <= 16)
    return [*([0] if every > 2 else []), *range(every - 1, steps, every)]
