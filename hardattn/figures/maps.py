"""Where a soft reader read: the weights of every place, or the window, laid over the image."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.patches import Rectangle
from torch import Tensor

from hardattn.figures import style
from hardattn.figures.seen import Looks
from hardattn.figures.sheets import GAP, HEADER, MARGIN, NUMBERS, _answer, _belief, _key
from hardattn.figures.style import Display, Page, Picture, show

LEAST = 5.0
"""The brightest colour stands for at least so many equal shares: an even map must not look like a discovery."""


def attention_maps(
    images: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "b t rows columns"],
    *,
    belief: Float[Tensor, "b t n"] | None = None,
    target: Int[Tensor, " b"] | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    columns: int = 8,
    dpi: int = 130,
) -> Picture:
    """The image, what every read weighed how much, and what it believed after every read.

    One scale of colours serves the whole page, so that maps can be compared. It counts in multiples of an equal share.

    Args:
        images: a handful of scenes.
        weights: of the places, which divide the image evenly; those of a read sum to one.
        belief: class probabilities after every read. Without them nothing is said of the answer.
        target: the true classes.
        names: of the classes; default 0, 1, ...
        title: of the page.
        columns: at most so many reads are shown; of more, the first, the last and some between.
        dpi: pixels per inch.

    Raises:
        ValueError: if the parts do not fit one another.
    """
    _check(images, weights, belief, target)
    weights = weights.detach().cpu().float()
    shares = weights * (weights.shape[2] * weights.shape[3])
    norm, colours = PowerNorm(0.5, 0, max(LEAST, shares.max().item())), heat()

    def paint(axes: Axes, i: int, time: int) -> None:
        (w, h) = axes.get_xlim()[1], axes.get_ylim()[0]
        values = shares[i, time].numpy()
        axes.imshow(values, cmap=colours, norm=norm, extent=(0, w, h, 0), interpolation="bilinear", aspect="auto")

    sheet = _Sheet(images, weights.shape[1], belief, target, names, title, columns, dpi)
    _scale(sheet.page, sheet.first + 1.9, sheet.line, norm, colours)
    return sheet.draw("Weight of every place", paint)


def windows(
    images: Float[Tensor, "b c h w"],
    window: Float[Tensor, "b t 4"],
    *,
    belief: Float[Tensor, "b t n"] | None = None,
    target: Int[Tensor, " b"] | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    columns: int = 8,
    dpi: int = 130,
) -> Picture:
    """The image, the window that every read laid over it, and what it believed after every read.

    Args:
        images: a handful of scenes.
        window: (left, top, width, height) in pixels; it may hang over the border.
        belief, target, names, title, columns, dpi: as for `attention_maps`.

    Raises:
        ValueError: if the parts do not fit one another.
    """
    _check(images, window, belief, target)
    boxes = window.detach().cpu().float()
    tints = style.time_colours(window.shape[1])
    display = Display(images.detach().cpu().float())

    def paint(axes: Axes, i: int, time: int) -> None:
        left, top, width, height = boxes[i, time].tolist()
        lit = show(axes, display(images[i].detach().cpu().float()))
        frame = Rectangle((left, top), width, height, fill=False, edgecolor=tints[time], linewidth=1.9)
        lit.set_clip_path(Rectangle((left, top), width, height, transform=axes.transData))
        axes.add_artist(frame)
        # A window that is far larger than the image, or beyond it, would be drawn over its neighbours. (The axes clip whatever is added.)
        frame.set_clip_path(Rectangle((-0.06, -0.06), 1.12, 1.12, transform=axes.transAxes))

    return _Sheet(images, window.shape[1], belief, target, names, title, columns, dpi).draw("Window of every read", paint)


class _Sheet:
    """A page with a row for every scene: the image, the image once more for every read with something painted over it, and the belief."""

    def __init__(
        self,
        images: Tensor,
        reads: int,
        belief: Tensor | None,
        target: Tensor | None,
        names: Sequence[str] | None,
        title: str,
        columns: int,
        dpi: int,
    ) -> None:
        self.images = images.detach().cpu().float()
        # What draws a belief looks at the last two only.
        self.looks = Looks._make(
            [self.images, None, None, None, *(x.detach().cpu() if x is not None else None for x in (belief, target)), None]
        )
        b, _, h, w = images.shape
        n = belief.shape[-1] if belief is not None else 0
        self.names = names or [str(i) for i in range(n)]
        longest = max(map(len, self.names), default=0)
        self.shown = np.unique(np.linspace(0, reads - 1, min(reads, columns)).round().astype(int))
        self.cell = 1.45 * min(1.0, w / h), 1.45 * min(1.0, h / w)  # inches
        self.row = NUMBERS + max(self.cell[1], min(1.45, max(0.24 * n, 0.8)) if n else 0.0)
        self.step = max(self.cell[0], 0.3) + 0.1
        self.first = MARGIN + max(self.cell[0], 0.85) + 0.27
        self.left_belief = self.first + max(len(self.shown) * self.step - 0.1, 3.1) + 0.35 + 0.075 * longest
        self.strip = min(max(0.22 * reads, 1.25), 3.2)
        self.left_answer = self.left_belief + self.strip + 0.2
        width = self.left_answer + max(1.25, 0.5 + 0.1 * longest) if n else self.left_belief - 0.1
        self.head = HEADER + (0.45 if title else 0.0)
        self.line = self.head - 0.36
        self.page = Page(width, self.head + b * self.row + (b - 1) * GAP + MARGIN + 0.1, dpi, title)

    def draw(self, heading: str, paint: Callable[[Axes, int, int], None]) -> Picture:
        """`paint` is given the axes of a dimmed image, the scene's number and the read's."""
        page, looks, row, cell = self.page, self.looks, self.row, self.cell
        page.write(MARGIN, self.line, "The image", size=style.HEAD)
        page.write(self.first, self.line, heading, size=style.HEAD)
        if looks.belief is not None:
            page.write(self.left_belief, self.line, "Belief", size=style.HEAD)
            _key(page, self.left_belief + 0.75, self.line)
        display, (h, w) = Display(self.images), self.images.shape[-2:]
        for i in range(len(self.images)):
            top = self.head + i * (row + GAP)
            if i:
                page.rule(top - GAP / 2 - 0.01, MARGIN)
            shown, line = display(self.images[i]), top + NUMBERS + (row - NUMBERS - cell[1]) / 2
            show(page.picture(MARGIN, line, cell[0], (h, w)), shown)
            for column, time in enumerate(self.shown):
                left = self.first + column * self.step
                page.write(left + cell[0] / 2, line - 0.09, str(time + 1), size=style.SMALL, color=style.MUTED, ha="center")
                axes = page.picture(left, line, cell[0], (h, w))
                show(axes, dim(shown))
                paint(axes, i, int(time))
            if looks.belief is not None:
                _belief(page, self.left_belief, top, self.strip, row, looks, i, self.names)
                _answer(page, self.left_answer, top, row, looks, i, self.names)
        return page.pixels()


def dim(shown: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Grey and darker, so that all colour and all brightness on top of it is weight."""
    return np.repeat(0.6 * shown.mean(-1, keepdims=True), 3, axis=-1)


def heat() -> ListedColormap:
    """From nothing to bright, and never so dense that the image cannot be seen through it."""
    colours = colormaps["inferno"](np.linspace(0.3, 0.95, 256))
    colours[:, 3] = np.linspace(0, 1, 256) ** 0.7 * 0.8
    return ListedColormap(colours, "weights")


def _scale(page: Page, left: float, line: float, norm: PowerNorm, colours: ListedColormap) -> None:
    """What the colours mean, over black as over a dark image."""
    most = float(norm.vmax or 0.0)
    page.write(left - 0.05, line, "0", size=style.SMALL, color=style.MUTED, ha="right")
    axes = page.axes(left, line - 0.05, 0.5, 0.1)
    axes.imshow(np.zeros((1, 1, 3)), aspect="auto", extent=(0, 1, 0, 1))
    # Even steps of colour: the numbers at the ends are what counts.
    axes.imshow(np.linspace(0, 1, 64)[None] ** 2 * most, cmap=colours, norm=norm, aspect="auto", extent=(0, 1, 0, 1))
    page.write(left + 0.55, line, f"{most:,.0f} × even", size=style.SMALL, color=style.MUTED)


def _check(images: Tensor, weights: Tensor, belief: Tensor | None, target: Tensor | None) -> None:
    b, t = weights.shape[:2]
    if not b or not t or not weights[0, 0].numel():
        raise ValueError(f"there must be something to draw: found weights or windows {tuple(weights.shape)}")
    parts = {"images": images, "belief": belief, "target": target}
    expected = {"images": (b,), "belief": (b, t), "target": (b,)}
    for name, shape in expected.items():
        part = parts[name]
        if part is not None and tuple(part.shape[: len(shape)]) != shape:
            raise ValueError(f"reads of {b} scenes and {t} steps need {name} {shape}, found {tuple(part.shape)}")
