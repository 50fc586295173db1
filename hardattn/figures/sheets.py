"""Contact sheets: one row per scene."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from hardattn.figures import style
from hardattn.figures.seen import Looks, checked, reconstruct, widths
from hardattn.figures.style import Display, Page, Picture, outline, percent, show, time_colours

MARGIN, HEADER, GAP, NUMBERS = 0.25, 0.62, 0.28, 0.2
"""Inches: around the page, above the first row, between rows, and above columns for the numbers of glimpses."""


def glimpse_paths(looks: Looks, *, names: Sequence[str] | None = None, title: str = "", dpi: int = 130) -> Picture:
    """Where it looked, what the retina delivered at every glimpse and scale, and what it believed after every glimpse.

    Args:
        looks: a handful of scenes. Without belief (or target) what needs it is left out.
        names: of the classes; default 0, 1, ...
        title: of the page.
        dpi: pixels per inch.
    """
    looks = checked(looks)
    b, _, h, w = looks.images.shape
    t, scales = looks.gaze.shape[1], looks.eye.scales
    n = looks.belief.shape[-1] if looks.belief is not None else 0
    names = names or [str(i) for i in range(n)]
    longest = max(map(len, names), default=0)

    picture = 2.3 * min(1.0, w / h), 2.3 * min(1.0, h / w)  # inches
    row = max(picture[1], 1.7)
    cell = min((row - NUMBERS) / scales, 4.8 / t, 0.95)
    left_glimpses = MARGIN + max(picture[0], 1.3) + 0.62
    left_belief = left_glimpses + max(t * cell, 1.9) + 0.35 + 0.075 * longest
    strip = min(max(0.22 * t, 1.25), 3.2)
    left_answer = left_belief + strip + 0.2
    width = left_answer + max(1.25, 0.5 + 0.1 * longest) if n else left_glimpses + max(t * cell, 1.9) + MARGIN
    head = HEADER + (0.45 if title else 0.0)
    page = Page(width, head + b * row + (b - 1) * GAP + MARGIN + 0.1, dpi, title)

    line = head - 0.36
    page.write(MARGIN, line, "Where it looked", size=style.HEAD)
    page.write(left_glimpses, line, "What the retina saw", size=style.HEAD)
    if n:
        page.write(left_belief, line, "Belief", size=style.HEAD)
        _key(page, left_belief + 0.75, line)

    display = Display(looks.images)
    for i in range(b):
        top = head + i * (row + GAP)
        if i:
            page.rule(top - GAP / 2 - 0.01, MARGIN)
        _path(page.picture(MARGIN, top + (row - picture[1]) / 2, picture[0], (h, w)), looks, i, display, picture[0])
        _glimpses(page, left_glimpses, top, row, cell, looks, i, display)
        if looks.belief is not None:
            _belief(page, left_belief, top, strip, row, looks, i, names)
            _answer(page, left_answer, top, row, looks, i, names)
    return page.pixels()


def _key(page: Page, left: float, line: float) -> None:
    """What the shades of a belief mean."""
    page.write(left - 0.05, line, "0", size=style.SMALL, color=style.MUTED, ha="right")
    axes = page.axes(left, line - 0.05, 0.5, 0.1)
    axes.imshow(np.linspace(0, 1, 64)[None], cmap=style.BELIEF, aspect="auto", vmin=0, vmax=1)
    page.write(left + 0.55, line, "1", size=style.SMALL, color=style.MUTED)


def _path(axes: Axes, looks: Looks, i: int, display: Display, inches: float) -> None:
    """The image, the windows that were read, and numbered fixations joined by a path."""
    h, w = looks.images.shape[-2:]
    show(axes, display(looks.images[i]))
    n = looks.stop(i)
    corners, places = looks.corners[i, :n].numpy(), looks.places[i, :n].numpy()
    colours = time_colours(looks.gaze.shape[1])[:n]
    for corner, colour in zip(corners, colours):
        outline(axes, corner, widths(looks.eye), colour)
    for start, end, colour in zip(places, places[1:], colours[1:]):
        axes.plot(*zip(start, end), color=colour, linewidth=1.4, solid_capstyle="round")
    axes.scatter(places[:, 0], places[:, 1], s=9, color=colours, zorder=3)
    radius = 0.085 * w / inches
    tags = spread(corners[:, 0] + 0.0, 2.1 * radius, (float(w), float(h)), radius)
    for number, (tag, colour) in enumerate(zip(tags, colours), 1):
        _tag(axes, tag, radius, number, colour)


def _tag(axes: Axes, place: Sequence[float] | np.ndarray, radius: float, number: int, colour: np.ndarray) -> None:
    disc: dict[str, Any] = {"facecolor": colour, "edgecolor": style.PAPER, "linewidth": 0.7, "zorder": 4, "clip_on": False}
    axes.add_artist(Circle((place[0], place[1]), radius, **disc))
    text: dict[str, Any] = {"size": style.SMALL - 1, "weight": "bold", "ha": "center", "va": "center_baseline", "zorder": 5}
    axes.text(place[0], place[1], str(number), color=style.ink_on(colour), **text)


def spread(
    points: Float[np.ndarray, "t 2"], distance: float, size: tuple[float, float], margin: float = 0.0
) -> Float[np.ndarray, "t 2"]:
    """Push points apart until they are `distance` from one another, as far as the place (width, height) allows."""
    low, high = np.array([margin, margin]), np.array(size) - margin
    # A turn of its own for each lets points part that lie on top of one another.
    angle = 2.4 * np.arange(len(points))
    points = np.clip(points, low, high) + 1e-3 * distance * np.stack([np.cos(angle), np.sin(angle)], -1)
    for _ in range(200):
        apart = points[:, None] - points
        length = np.linalg.norm(apart, axis=-1) + np.eye(len(points)) * 1e9
        if length.min() >= distance:
            break
        push = np.clip(distance * 1.02 - length, 0, None) / 2
        points = np.clip(points + (apart / length[..., None] * push[..., None]).sum(1), low, high)
    return points


def _glimpses(page: Page, left: float, top: float, row: float, cell: float, looks: Looks, i: int, display: Display) -> None:
    """A column per glimpse, the finest scale on top, framed in the colour of its windows."""
    patches = looks.patches[i]
    t, scales = patches.shape[:2]
    top += NUMBERS + (row - NUMBERS - scales * cell) / 2
    axes = page.axes(left, top, t * cell, scales * cell)
    _numbers(axes, t, cell)
    axes.set_xlim(0, t)
    axes.set_ylim(scales, 0)
    inset = 0.06
    for column, colour in enumerate(time_colours(t)[: looks.stop(i)]):
        for line in range(scales):
            show(axes, display(patches[column, line]), left=column + inset, top=line + inset, width=1 - 2 * inset)
            frame = {"edgecolor": colour, "linewidth": 1.9 if line == 0 else 0.9, "fill": False, "joinstyle": "miter"}
            axes.add_artist(Rectangle((column + inset, line + inset), 1 - 2 * inset, 1 - 2 * inset, **frame))
    for line in range(scales if scales > 1 else 0):
        words: dict[str, Any] = {"size": style.SMALL, "color": style.MUTED, "ha": "right", "va": "center"}
        axes.text(-0.1 / cell, line + 0.5, f"×{looks.eye.zoom**line}", **words)


def _numbers(axes: Axes, count: int, column: float) -> None:
    """Glimpse numbers above columns of so many inches, as many as fit."""
    every = max(1, math.ceil(0.16 / column))
    for i in range(0, count, every):
        place: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "xytext": (0, 3), "textcoords": "offset points"}
        axes.annotate(str(i + 1), (i + 0.5, 1), size=style.SMALL, color=style.MUTED, ha="center", va="bottom", **place)


def _belief(page: Page, left: float, top: float, strip: float, row: float, looks: Looks, i: int, names: Sequence[str]) -> None:
    """Classes x glimpses; a dot is in the likeliest class, and the true class is framed."""
    assert looks.belief is not None
    belief = looks.belief[i].numpy()
    t, n = belief.shape
    belief = belief[: looks.stop(i)]
    height = min(row - NUMBERS, 0.24 * n)
    axes = page.axes(left, top + NUMBERS + (row - NUMBERS - height) / 2, strip, height)
    _numbers(axes, t, strip / t)
    extent = (0, len(belief), n, 0)
    axes.imshow(belief.T, cmap=style.BELIEF, vmin=0, vmax=1, aspect="auto", extent=extent, interpolation="nearest")
    if n <= 30:
        axes.hlines(range(1, n), 0, len(belief), color=style.PAPER, linewidth=0.8)
    axes.vlines(range(1, len(belief)), 0, n, color=style.PAPER, linewidth=0.8)
    best = belief.argmax(-1)
    dots = [style.ink_on(style.BELIEF(float(belief[j, k]))) for j, k in enumerate(best)]
    axes.scatter(np.arange(len(best)) + 0.5, best + 0.5, s=min(9.0, 130 * height / n), color=dots, linewidths=0, zorder=3)
    axes.set_xlim(0, t)
    axes.set_ylim(n, 0)
    true = int(looks.target[i]) if looks.target is not None else None
    every = max(1, math.ceil(0.14 * n / height))  # as many names as can stand above one another
    for k, name in enumerate(names):
        if k == true:
            look: dict[str, Any] = {"color": style.INK, "weight": "bold"}
        elif k % every == 0 and (true is None or every == 1 or abs(k - true) >= every):
            look = {"color": style.MUTED}
        else:
            continue
        axes.text(-0.07 * t / strip, k + 0.5, name, size=style.SMALL, ha="right", va="center_baseline", **look)
    if true is not None:
        axes.add_artist(Rectangle((0, true), t, 1, fill=False, edgecolor=style.INK, linewidth=1.2, clip_on=False, zorder=4))


def _answer(page: Page, left: float, top: float, row: float, looks: Looks, i: int, names: Sequence[str]) -> None:
    """What it says in the end, and whether that is right."""
    assert looks.belief is not None
    belief = looks.belief[i, : looks.stop(i)][-1]
    said = int(belief.argmax())
    true = int(looks.target[i]) if looks.target is not None else None
    colour, verdict = verdict_of(said, true, names)
    middle = top + row / 2
    size = style.HUGE if len(names[said]) <= 2 else style.HEAD + 2
    page.write(left, middle - 0.2, names[said], size=size, weight="bold", color=colour)
    page.write(left, middle + 0.18, percent(float(belief[said])), size=style.BODY, color=style.MUTED)
    page.write(left, middle + 0.4, verdict, size=style.BODY, color=colour)


def verdict_of(said: int, true: int | None, names: Sequence[str]) -> tuple[str, str]:
    """Colour and words."""
    if true is None:
        return style.NEUTRAL, ""
    return (style.RIGHT, "✓ right") if said == true else (style.WRONG, f"✗ it is {names[true]}")


def reconstructions(
    looks: Looks, *, names: Sequence[str] | None = None, title: str = "", columns: int = 8, dpi: int = 130
) -> Picture:
    """All the retina has delivered so far, put back where it came from: sharp where it looked, coarse around, slate elsewhere.

    Args:
        looks: a handful of scenes. Without belief nothing is written beneath.
        names: of the classes; default 0, 1, ...
        title: of the page.
        columns: at most so many glimpses are shown; of more, the first, the last and some between.
        dpi: pixels per inch.
    """
    looks = checked(looks)
    b, _, h, w = looks.images.shape
    t = looks.gaze.shape[1]
    names = names or [str(i) for i in range(looks.belief.shape[-1] if looks.belief is not None else 0)]
    longest = max(map(len, names), default=0)
    shown = np.unique(np.linspace(0, t - 1, min(t, columns)).round().astype(int))
    cell = 1.55 * min(1.0, w / h), 1.55 * min(1.0, h / w)
    beneath = 0.3 if looks.belief is not None else 0.08
    head = HEADER + (0.45 if title else 0.0)
    column_width = max(cell[0], 0.85, 0.5 + 0.08 * longest if looks.belief is not None else 0)
    first = MARGIN + column_width + 0.27
    width = first + max(2.5, len(shown) * (column_width + 0.12) - 0.12) + MARGIN
    page = Page(width, head + b * (cell[1] + beneath) + 0.12, dpi, title)
    page.write(MARGIN, head - 0.4, "The image", size=style.HEAD)
    page.write(first, head - 0.4, "What it has seen after glimpse", size=style.HEAD)
    lefts = [first + column * (column_width + 0.12) for column in range(len(shown))]
    for left, time in zip(lefts, shown):
        page.write(left + cell[0] / 2, head - 0.13, str(time + 1), color=style.MUTED, ha="center")

    display, seen, colours = Display(looks.images), reconstruct(looks), time_colours(t)
    corners, places = looks.corners.numpy(), looks.places.numpy()
    for i in range(b):
        top = head + i * (cell[1] + beneath)
        line = top + cell[1] + 0.11
        true = int(looks.target[i]) if looks.target is not None else None
        show(page.picture(MARGIN, top, cell[0], (h, w)), display(looks.images[i]))
        if true is not None and looks.belief is not None:
            page.write(MARGIN, line, f"it is {names[true]}", color=style.MUTED)
        taken = range(t)[: looks.stop(i)]
        for left, time in zip(lefts, shown):
            if time not in taken:
                break
            axes = page.picture(left, top, cell[0], (h, w))
            show(axes, display(seen.canvas[i, time], (seen.scale[i, time] == looks.eye.scales).numpy()))
            path = places[i, : time + 1]
            axes.plot(*path.T, color=style.PAPER, linewidth=0.8, alpha=0.5)
            axes.scatter(path[:, 0], path[:, 1], s=5, color=colours[: time + 1], zorder=3)
            outline(axes, corners[i, time], widths(looks.eye), colours[time])
            if looks.belief is not None:
                said = int(looks.belief[i, time].argmax())
                chance = percent(float(looks.belief[i, time, said]))
                page.write(left, line, names[said], weight="bold", color=verdict_of(said, true, names)[0])
                page.write(left + column_width, line, chance, size=style.SMALL, color=style.MUTED, ha="right")
    return page.pixels()
