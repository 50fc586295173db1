"""What a machine did with its memory, step by step: what went in, what came out, and where its heads were (Graves et al. 2014, Figures 6 and 9)."""

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from torch import Tensor

from hardattn.figures import style
from hardattn.figures.style import BELIEF, Page, Picture

USED = 0.1
"""A row is shown if some head once had so much of its weight there, or if it lies between such rows."""
LEFT, MARGIN, GAP = 1.95, 0.25, 0.14
"""Inches: room for the names, the border, and what is between two panels."""


def memory_use(
    input: Float[Tensor, "t c"],
    target: Float[Tensor, "t o"],
    output: Float[Tensor, "t o"],
    weights: Float[Tensor, "t heads n"],
    writes: Float[Tensor, "t heads n"],
    *,
    counts: Bool[Tensor, " t"] | None = None,
    title: str = "",
    dpi: int = 130,
) -> Picture:
    """One sequence, panels one under another with one axis of time: input, target, output, where every head wrote and where it read.

    The memory is a ring; of its rows those are shown that were used, beginning after the longest stretch that was not. Wrong bits of the
    output are orange.

    Args:
        input: at every step; channels go from the top down.
        target: bits.
        output: probabilities of a one.
        weights, writes: of the heads that read and those that write; of a machine without a memory there are none.
        counts: steps whose output is asked for; the others stay blank. Default: all.
        title: of the page.
        dpi: pixels per inch.

    Raises:
        ValueError: if the parts do not have the same number of steps, or there are none.
    """
    parts = {"input": input, "target": target, "output": output, "weights": weights, "writes": writes}
    _check(parts)
    t = len(input)
    shown = {name: part.detach().cpu().float().numpy() for name, part in parts.items()}
    asked = np.ones(t, bool) if counts is None else counts.detach().cpu().numpy()
    rows = _used(np.concatenate([shown["weights"], shown["writes"]], 1).max((0, 1), initial=0.0))

    cell = float(np.clip(8.0 / t, 0.045, 0.17))
    tall = max(0.5, min(2.2, cell * len(rows)))
    heads = [
        (f"{verb}{_number(h, part.shape[1])}", part[:, h, rows]) for verb, part in _by_verb(shown) for h in range(part.shape[1])
    ]
    bits = [cell * shown[name].shape[1] for name in ("input", "target", "output")]
    top = 0.75 if title else MARGIN
    height = top + sum(bits) + len(heads) * tall + (len(heads) + 2) * GAP + 0.55
    page = Page(LEFT + cell * t + MARGIN, height, dpi, title)

    def panel(name: str, note: str, high: float) -> Axes:
        nonlocal top
        page.write(LEFT - 0.12, top + high / 2 - (0.08 if note else 0.0), name, size=style.HEAD - 1, ha="right")
        page.write(LEFT - 0.12, top + high / 2 + 0.1, note, size=style.SMALL, color=style.MUTED, ha="right")
        axes = page.axes(LEFT, top, cell * t, high)
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_color(style.GRID)
        top += high + GAP
        return axes

    _paint(panel("Input", "", bits[0]), shown["input"], BELIEF, min(0.0, float(shown["input"].min())))
    wrong = (shown["output"] > 0.5) != (shown["target"] > 0.5)
    for name, high in zip(("target", "output"), bits[1:]):
        axes = panel(name.capitalize(), "", high)
        colours = BELIEF(shown[name])
        if name == "output":
            colours[wrong] = (*_rgb(style.WRONG), 1.0)
        colours[~asked] = 1.0
        axes.imshow(colours.transpose(1, 0, 2), aspect="auto", interpolation="nearest")
    n = shown["weights"].shape[2]
    stretch = (
        f"all {n} rows"
        if len(rows) == n
        else f"{len(rows)} of {n} rows, from {rows[0]} on"
        if len(rows) > 1
        else f"row {rows[0]}"
    )
    for name, values in heads:
        axes = panel(name, stretch, tall)
        _paint(axes, values, BELIEF, 0.0)
    _time(axes, t)
    page.write(LEFT + cell * t / 2, height - 0.2, "step", size=style.BODY, color=style.MUTED, ha="center")
    return page.pixels()


def _check(parts: dict[str, Tensor]) -> None:
    steps = {name: len(part) for name, part in parts.items()}
    if len(set(steps.values())) > 1 or not steps["input"]:
        raise ValueError(f"all parts need the same number of steps, at least 1; found {steps}")


def _by_verb(shown: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return [("Written", shown["writes"]), ("Read", shown["weights"])]


def _number(head: int, heads: int) -> str:
    return f" by {head + 1}" if heads > 1 else ""


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _paint(axes: Axes, values: Float[np.ndarray, "t rows"], colours: object, least: float) -> None:
    axes.imshow(values.T, cmap=colours, vmin=least, vmax=max(1.0, float(values.max())), aspect="auto", interpolation="nearest")  # type: ignore[arg-type]


def _time(axes: Axes, steps: int) -> None:
    """Every so many steps one is named, from 1."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if steps / n <= 12)
    named = [0, *range(every - 1, steps, every)] if every > 1 else list(range(steps))
    axes.set_xticks(named, [str(i + 1) for i in named], size=style.SMALL, color=style.MUTED)
    axes.tick_params(length=2, color=style.MUTED)


def _used(most: Float[np.ndarray, " n"]) -> Int[np.ndarray, " rows"]:
    """The rows to show, in order around the ring: all but the longest stretch that no head ever used."""
    n, used = len(most), np.flatnonzero(most >= USED)
    if not len(used):
        return np.arange(n)
    gaps = np.diff(used, append=used[0] + n)
    first = used[(gaps.argmax() + 1) % len(used)]
    return (first + np.arange(n - gaps.max() + 1)) % n
