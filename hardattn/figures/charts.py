"""Numbers as pictures: learning curves and errors with their intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from hardattn.figures import style
from hardattn.figures.style import SERIES, Page, Picture

DOT = 14.0
"""Width of a numbered dot in points, with its white edge."""


class Curve(NamedTuple):
    """One run: values at steps, with an optional band around them."""

    steps: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class Bar(NamedTuple):
    """A value and its interval."""

    name: str
    value: float
    low: float
    high: float


class Dot(NamedTuple):
    """A system: what it costs, and its error with an interval."""

    name: str
    x: float
    value: float
    low: float
    high: float


def learning_curves(
    curves: Mapping[str, Curve],
    *,
    title: str = "",
    ylabel: str = "error (%)",
    xlabel: str = "steps",
    log: bool = False,
    dpi: int = 130,
) -> Picture:
    """Curves against steps, each named at its end.

    Args:
        curves: by name, drawn in order.
        title: of the page.
        ylabel: what is measured.
        xlabel: what it is measured against.
        log: whether the values are on a logarithmic scale.
        dpi: pixels per inch.
    """
    names = 0.3 + 0.085 * max(map(len, curves), default=0)
    page = Page(6.4 + names, 4.3, dpi, title)
    top = 0.75 if title else 0.3
    axes = _chart(page, 0.75, top, 5.4, 4.3 - top - 0.65)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    for i, curve in enumerate(curves.values()):
        colour = SERIES[i % len(SERIES)]
        dash = "-" if i < len(SERIES) else "--"
        marker = "o" if len(curve.values) == 1 else None
        line: dict[str, Any] = {"linewidth": 1.9, "linestyle": dash, "solid_capstyle": "round", "marker": marker, "zorder": 3}
        axes.plot(curve.steps, curve.values, color=colour, **line)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
    axes.set_xlabel(xlabel, size=style.HEAD - 1, color=style.INK)
    axes.set_ylabel(ylabel, size=style.HEAD - 1, color=style.INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(True, color=style.GRID, linewidth=0.8)
    axes.margins(x=0)
    if not log:
        axes.set_ylim(bottom=0 if _near_zero(curves) else None)
    _name_ends(axes, curves)
    return page.pixels()


def _near_zero(curves: Mapping[str, Curve]) -> bool:
    """Whether the scale should begin at 0: an error is read against none."""
    values = [v for curve in curves.values() for v in (*curve.values, *(curve.low or ())) if math.isfinite(v)]
    return bool(values) and 0 <= min(values) < 0.5 * max(values)


def _name_ends(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """The name of every curve where it ends; those that end at the right are moved up or down until no two overlap."""
    ends = []
    for i, (name, curve) in enumerate(curves.items()):
        points = [(x, y) for x, y in zip(curve.steps, curve.values) if math.isfinite(y)]
        if points:
            ends.append((name, SERIES[i % len(SERIES)], *axes.transLimits.transform(axes.transScale.transform(points[-1]))))
    inside = [end for end in ends if end[2] < 0.85]
    right = sorted((end for end in ends if end[2] >= 0.85), key=lambda end: end[3])
    for name, colour, x, y in inside:
        axes.text(x + 0.012, y, name, transform=axes.transAxes, size=style.BODY, color=colour, va="center", weight="bold")
    places = np.array([end[3] for end in right])
    line = 1.45 * style.BODY / 72 / (axes.get_position().height * axes.figure.get_figheight())  # type: ignore[union-attr]
    for _ in range(200):
        for k in range(len(places) - 1):
            short = line - (places[k + 1] - places[k])
            if short > 0:
                places[k : k + 2] += (-short / 2, short / 2)
        places = places.clip(min=0)
    for (name, colour, *_), y in zip(right, places):
        axes.text(1.02, y, name, transform=axes.transAxes, size=style.BODY, color=colour, va="center", weight="bold")


def error_bars(
    rows: Sequence[Bar | tuple[str, float, float, float]], *, title: str = "", xlabel: str = "error (%)", dpi: int = 130
) -> Picture:
    """A bar per row, with its interval and its value.

    Args:
        rows: (name, value, low, high), from top to bottom.
        title: of the page.
        xlabel: what is measured.
        dpi: pixels per inch.
    """
    bars = [Bar(*row) for row in rows]
    left = 0.35 + 0.085 * max((len(bar.name) for bar in bars), default=0)
    top = 0.75 if title else 0.3
    height = max(1, len(bars)) * 0.42
    page = Page(left + 5.6, top + height + 0.7, dpi, title)
    axes = _chart(page, left, top, 5.2, height)
    axes.grid(True, axis="x", color=style.GRID, linewidth=0.8)
    limit = max((max(bar.value, bar.high) for bar in bars), default=1.0)
    digits = 1 if limit >= 10 else 2
    for i, bar in enumerate(bars):
        axes.barh(i, bar.value, height=0.62, color=style.BAR, zorder=2)
        axes.hlines(i, bar.low, bar.high, color=style.INK, linewidth=1.6, zorder=3)
        axes.vlines([bar.low, bar.high], i - 0.14, i + 0.14, color=style.INK, linewidth=1.6, zorder=3)
        beside: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center_baseline", "zorder": 4}
        axes.annotate(f"{bar.value:.{digits}f}", (max(bar.value, bar.high), i), size=style.BODY, color=style.INK, **beside)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.tick_params(axis="y", labelsize=style.BODY, length=0, labelcolor=style.INK)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(min(0.0, *(bar.low for bar in bars), 0.0), 1.14 * limit if limit > 0 else None)
    axes.set_xlabel(xlabel, size=style.HEAD - 1, color=style.INK)
    return page.pixels()


def growth(panels: Mapping[str, Mapping[str, Curve]], *, xlabel: str, title: str = "", dpi: int = 130) -> Picture:
    """Charts side by side on logarithmic scales, every one with the same systems: how each measure grows.

    Args:
        panels: by what is measured, curves by system. Values of 0 are not drawn; a system that has no other is named with its 0.
        xlabel: what grows.
        title: of the page.
        dpi: pixels per inch.
    """
    wide, high, top = 3.1, 3.0, 1.3 if title else 0.85
    page = Page(0.4 + len(panels) * (wide + 0.75), top + high + 0.7, dpi, title)
    systems = list(next(iter(panels.values())))
    for i, name in enumerate(systems):
        page.write(0.75 + 1.7 * i, top - 0.47, name, size=style.HEAD, color=SERIES[i % len(SERIES)], weight="bold")
    for column, (label, curves) in enumerate(panels.items()):
        axes = _chart(page, 0.75 + column * (wide + 0.75), top, wide, high)
        axes.set_xscale("log")
        axes.set_yscale("log")
        absent = 0
        for i, name in enumerate(systems):
            points, colour = [(x, y) for x, y in zip(curves[name].steps, curves[name].values) if y > 0], SERIES[i % len(SERIES)]
            if points:
                axes.plot(*zip(*points), color=colour, linewidth=1.9, marker="o", markersize=4)
            else:
                axes.text(0.04, 0.95 - 0.08 * absent, f"{name}: 0", transform=axes.transAxes, size=style.BODY, color=colour)
                absent += 1
        ticks = sorted({x for curve in curves.values() for x in curve.steps})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        axes.grid(True, color=style.GRID, linewidth=0.8)
        axes.set_xlabel(xlabel, size=style.BODY, color=style.INK)
        axes.set_title(label, size=style.HEAD - 1, color=style.INK, loc="left")
    return page.pixels()


def scatter(dots: Sequence[Dot], *, xlabel: str, ylabel: str = "error (%)", title: str = "", dpi: int = 130) -> Picture:
    """Errors against costs, both on logarithmic scales; every dot has a number, and the numbers are explained beside the chart.

    Dots that would cover one another stand side by side.

    Args:
        dots: costs must be above 0; an error of 0 is drawn at the bottom.
        xlabel: what is paid.
        ylabel: what is measured.
        title: of the page.
        dpi: pixels per inch.
    """
    names = 0.75 + 0.085 * max((len(dot.name) for dot in dots), default=0)
    top = 0.75 if title else 0.3
    height = max(4.6, top + 0.65 + 0.21 * len(dots))
    page = Page(6.6 + names, height, dpi, title)
    axes = _chart(page, 0.75, top, 5.4, height - top - 0.65)
    least = min((v for dot in dots for v in (dot.low, dot.value) if v > 0), default=0.1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(True, color=style.GRID, linewidth=0.8)
    axes.margins(0.08)
    heights = [[max(v, 0.8 * least) for v in (dot.low, dot.value, max(dot.high, dot.value))] for dot in dots]
    axes.update_datalim([(dot.x, y) for dot, ys in zip(dots, heights) for y in ys])
    axes.autoscale_view()
    inch = page.figure.dpi_scale_trans
    middles = inch.inverted().transform(
        axes.transData.transform([(dot.x, y) for dot, (_, y, _) in zip(dots, heights)] or [(1, 1)])
    )
    asides = _side_by_side(middles, DOT / 72)
    for i, (dot, (low, value, high), aside) in enumerate(zip(dots, heights, asides)):
        colour, number = SERIES[i % len(SERIES)], str(i + 1)
        moved = axes.transData + ScaledTranslation(aside, 0, inch)
        axes.vlines(dot.x, low, high, color=colour, linewidth=1.5, alpha=0.6, zorder=2, transform=moved)
        disc: dict[str, Any] = {"marker": "o", "markersize": DOT - 1, "markeredgecolor": style.PAPER, "clip_on": False}
        axes.plot([dot.x], [value], color=colour, zorder=3, transform=moved, **disc)
        white: dict[str, Any] = {"color": style.PAPER, "weight": "bold", "ha": "center", "va": "center_baseline", "zorder": 4}
        axes.text(dot.x, value, number, size=style.SMALL, transform=moved, **white)
        line = top + 0.1 + 0.21 * i
        page.write(6.5, line, number, size=style.BODY, color=colour, weight="bold", ha="right")
        page.write(6.6, line, dot.name, size=style.BODY, color=style.INK)
    if any(asides):
        for i, note in enumerate(("Dots that would overlap", "stand side by side.")):
            page.write(6.6, top + 0.22 + 0.21 * len(dots) + 0.16 * i, note, size=style.SMALL, color=style.MUTED)
    axes.set_xlabel(xlabel, size=style.HEAD - 1, color=style.INK)
    axes.set_ylabel(ylabel, size=style.HEAD - 1, color=style.INK)
    return page.pixels()


def _side_by_side(middles: Float[np.ndarray, "n 2"], width: float) -> list[float]:
    """How far to move every dot to the right (or the left, below 0) so that none covers another."""
    placed: list[np.ndarray] = []
    for x, y in middles:
        steps = (side * n * width / 2 for n in range(len(middles) * 2) for side in (1, -1))
        free = (aside for aside in steps if all(np.hypot(x + aside - u, y - v) >= 0.99 * width for u, v in placed))
        placed.append(np.array([x + next(free), y]))
    return [float(x - start) for (x, _), (start, _) in zip(placed, middles)]


def _short(value: float, _: Any = None) -> str:
    """0.1, 20, 3k: thousandths have no letter, which would look like another unit."""
    return f"{value:g}" if value < 1000 else EngFormatter(sep="")(value)


def _chart(page: Page, left: float, top: float, width: float, height: float) -> Axes:
    """Axes with thin ticks and no box."""
    axes = page.axes(left, top, width, height)
    axes.set_axis_on()
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(style.MUTED)
    axes.tick_params(labelsize=style.BODY, color=style.MUTED, labelcolor=style.INK, length=2.5)
    return axes
