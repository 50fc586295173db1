"""The eye at work: its gaze moves, the picture it has grows, its belief changes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from hardattn.figures import style
from hardattn.figures.seen import Looks, checked, reconstruct, widths
from hardattn.figures.sheets import verdict_of
from hardattn.figures.style import Display, Page, Picture, outline, percent, show, time_colours


def animate(
    looks: Looks,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    move: int = 5,
    hold: int = 6,
    end: int = 14,
    dpi: int = 100,
) -> list[Picture]:
    """Frames with the scenes side by side: the image and the eye above, what it has seen so far beneath, then its belief.

    Args:
        looks: one or several scenes. Without belief the lowest part is left out.
        names: of the classes; default 0, 1, ...
        title: of the page.
        move: frames between two fixations.
        hold: frames at every fixation.
        end: more frames at the last one, with the answer.
        dpi: pixels per inch.

    Returns:
        T * hold + (T - 1) * move + end frames.
    """
    looks = checked(looks)
    b, _, h, w = looks.images.shape
    t = looks.gaze.shape[1]
    cell = 2.1 * min(1.0, w / h), 2.1 * min(1.0, h / w)
    head = 0.5 + (0.38 if title else 0.0)
    names = names or [str(k) for k in range(looks.belief.shape[-1] if looks.belief is not None else 0)]
    column = max(cell[0], 1.6)
    lower = _Lower.fit(names, column)
    bars = lower.bars if looks.belief is not None else 0.0
    step = column + 0.3
    margin = 0.75
    below = lower.label + bars + lower.names if bars else 0.2
    page = Page(margin + b * step + 0.1, head + 2 * cell[1] + 0.12 + below, dpi, title)
    middles = {"the image": cell[1] / 2, "seen so far": 1.5 * cell[1] + 0.12}
    if bars:
        middles["belief"] = 2 * cell[1] + 0.12 + lower.label + bars / 2
    for words, middle in middles.items():
        page.write(0.3, head + middle, words, color=style.MUTED, rotation=90, ha="center")
    clock = page.write(margin, head - 0.18, "", size=style.HEAD, animated=True)
    players = [_Player(page, (margin + i * step, head), column, cell, lower, looks, i, names) for i in range(b)]
    page.canvas.draw()
    still = page.canvas.copy_from_bbox(page.figure.bbox)  # what never changes is drawn once

    frames: list[Picture] = []
    before = None
    for moment in _timetable(t, move, hold, end):
        if moment == before:
            frames.append(frames[-1])
            continue
        before, (time, way, settled, over) = moment, moment
        page.canvas.restore_region(still)
        clock.set_text(f"glimpse {time + 1} of {t}")
        page.figure.draw_artist(clock)
        for player in players:
            player.draw(time, way, settled, over)
        frames.append(page.grab())
    return frames


def _timetable(t: int, move: int, hold: int, end: int) -> list[tuple[int, float, float, bool]]:
    """For every frame: the glimpse, how far the eye is on its way to the next, how far the belief has settled, and the end."""
    table: list[tuple[int, float, float, bool]] = []
    for i in range(t):
        last = i + 1 == t
        table += [(i, 0.0, _ease((j + 1) / max(1, hold // 2)), last and j + 1 == hold) for j in range(hold)]
        if not last:
            table += [(i, _ease((j + 1) / (move + 1)), 1.0, False) for j in range(move)]
    return table + [(t - 1, 0.0, 1.0, True)] * end


def _ease(x: float) -> float:
    """Start and stop gently."""
    x = min(1.0, x)
    return x * x * (3 - 2 * x)


class _Lower(NamedTuple):
    """How the belief is laid out beneath the pictures; inches."""

    lines: int
    """Of text above the bars."""
    turned: bool
    """Whether the names of classes are written aslant."""
    every: int
    """Every so many-th class is named."""
    names: float
    """Room under the bars."""
    bars: float = 1.25

    @property
    def label(self) -> float:
        return 0.1 + 0.2 * self.lines

    @classmethod
    def fit(cls, names: Sequence[str], width: float) -> "_Lower":
        """What suits the names of the classes and the width of a column."""
        longest, n = max(map(len, names), default=0), max(1, len(names))
        lines = 1 if width > 1.7 and longest <= 2 else 2
        room = 0.085 * longest + 0.03
        turned = n * room > width and n * 0.13 <= width and longest > 3
        every = 1 if turned else max(1, math.ceil(n * room / width))
        return cls(lines, turned, every, 0.2 + 0.055 * longest if turned else 0.42)


class _Player:
    """One scene of an animation. What changes is drawn over what does not."""

    def __init__(
        self,
        page: Page,
        corner: tuple[float, float],
        column: float,
        cell: tuple[float, float],
        lower: _Lower,
        looks: Looks,
        i: int,
        names: Sequence[str],
    ) -> None:
        h, w = looks.images.shape[-2:]
        display, seen = Display(looks.images), reconstruct(looks)
        self.colours = time_colours(looks.gaze.shape[1])
        n = looks.stop(i)
        self.places, self.corners = looks.places[i, :n].numpy(), looks.corners[i, :n].numpy()
        self.canvases = [display(c, (s == looks.eye.scales).numpy()) for c, s in zip(seen.canvas[i], seen.scale[i])]
        self.belief = looks.belief[i].numpy() if looks.belief is not None else None
        self.names = names
        self.true = int(looks.target[i]) if looks.target is not None else None

        (left, top), inset = corner, (column - cell[0]) / 2
        above = page.picture(left + inset, top, cell[0], (h, w))
        show(above, display(looks.images[i]))
        below = page.picture(left + inset, top + cell[1] + 0.12, cell[0], (h, w))
        self.seen = show(below, self.canvases[0])
        self.eyes = [outline(axes, self.corners[0], widths(looks.eye), self.colours[0]) for axes in (above, below)]
        self.trails = [axes.plot([], [], color=style.PAPER, linewidth=1.0, alpha=0.6)[0] for axes in (above, below)]
        self.dots = [axes.scatter([], [], s=14, linewidths=0, zorder=3) for axes in (above, below)]
        self.moving: list[tuple[Axes, Any]] = [(below, self.seen)]
        for axes, boxes, trail, dots in zip((above, below), self.eyes, self.trails, self.dots):
            self.moving += [(axes, artist) for artist in (trail, dots, *boxes)]
        if self.belief is not None:
            self._bars(page, left, top + 2 * cell[1] + 0.12 + lower.label, column, lower)
        for _, artist in self.moving:
            artist.set_animated(True)

    def _bars(self, page: Page, left: float, top: float, width: float, lower: _Lower) -> None:
        assert self.belief is not None
        n = self.belief.shape[-1]
        axes = page.axes(left, top, width, lower.bars)
        axes.set_xlim(-0.6, n - 0.4)
        axes.set_ylim(0, 1)
        axes.hlines([0.5, 1], -0.6, n - 0.4, color=style.GRID, linewidth=0.8)
        axes.axhline(0, color=style.MUTED, linewidth=0.8)
        self.bars = list(axes.bar(range(n), self.belief[0], width=0.7, linewidth=0))
        turned: dict[str, Any] = {"ha": "center"}
        if lower.turned:
            turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
        for k, name in enumerate(self.names):
            if k == self.true:
                axes.text(k, -0.05, name, size=style.SMALL, weight="bold", color=style.INK, va="top", **turned)
            elif k % lower.every == 0 and (lower.every == 1 or self.true is None or abs(k - self.true) >= lower.every):
                axes.text(k, -0.05, name, size=style.SMALL, color=style.MUTED, va="top", **turned)
        if self.true is not None and not lower.turned:
            axes.plot([self.true], [-0.2], marker="^", markersize=5, color=style.INK, clip_on=False)
        # Lines of text above the bars: the answer, and the verdict beside it or under it.
        line = 0.2 / lower.bars
        words: dict[str, Any] = {"transform": axes.transAxes, "size": style.HEAD, "va": "bottom"}
        self.said = axes.text(0, 1.04 + line * (lower.lines - 1), "", weight="bold", **words)
        beside = lower.lines == 1
        self.verdict = axes.text(float(beside), 1.04, "", ha="right" if beside else "left", **words)
        self.moving += [(axes, artist) for artist in (*self.bars, self.said, self.verdict)]

    def draw(self, time: int, way: float, settled: float, over: bool) -> None:
        """See `_timetable`. An eye that has stopped stays where it is."""
        if time >= len(self.places):
            time, way, settled = len(self.places) - 1, 0.0, 1.0
        following = min(time + 1, len(self.places) - 1)
        # While the eye moves its windows are between pixels.
        corner = (1 - way) * self.corners[time] + way * self.corners[following]
        place = (1 - way) * self.places[time] + way * self.places[following]
        colour = (1 - way) * self.colours[time] + way * self.colours[following]
        track = np.concatenate([self.places[: time + 1], place[None]])
        for boxes in self.eyes:
            for box, (x, y) in zip(boxes, corner[::-1]):  # coarsest first
                box.set_xy((x, y))
                box.set_edgecolor(colour)
        for trail, dots in zip(self.trails, self.dots):
            trail.set_data(*track.T)
            dots.set_offsets(track)
            dots.set_facecolor([tuple(c) for c in (*self.colours[: time + 1], colour)])
        self.seen.set_data(self.canvases[time])
        if self.belief is not None:
            before = self.belief[max(0, time - 1)]
            self._show_belief((1 - settled) * before + settled * self.belief[time], over)
        for axes, artist in self.moving:
            axes.draw_artist(artist)

    def _show_belief(self, belief: np.ndarray, over: bool) -> None:
        said = int(belief.argmax())
        colour, verdict = verdict_of(said, self.true, self.names) if over else (style.NEUTRAL, "")
        for k, (bar, value) in enumerate(zip(self.bars, belief)):
            bar.set_height(value)
            bar.set_facecolor((colour, 1.0) if k == said else (style.NEUTRAL, 0.4))
        self.said.set_text(f"{self.names[said]}  {percent(float(belief[said]))}")
        self.said.set_color(colour)
        self.verdict.set_text(verdict)
        self.verdict.set_color(colour)
