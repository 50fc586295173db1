"""One hand for all pictures: colours, letters, and a page that is laid out in inches.

Figures are made without pyplot, so nothing here touches the global state of matplotlib. Curves have the colours of Okabe and
Ito, which colour-blind readers can tell apart; right and wrong have two of them, darkened, and differ in words as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

INK, MUTED, GRID, PAPER = "#1f2933", "#6b7682", "#e4e8ec", "#ffffff"
RIGHT, WRONG, NEUTRAL, BAR = "#00815e", "#c9500a", "#2f6690", "#6f9bbd"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f6b76")
UNSEEN = (0.39, 0.44, 0.50)
"""Slate: neither black nor white nor any grey that an image may hold."""
SMALL, BODY, HEAD, HUGE = 8.0, 9.0, 11.0, 30.0
BELIEF = LinearSegmentedColormap.from_list("belief", ["#f2f5f8", "#a9c6de", "#4c8dbf", "#12466f"])

Picture = UInt8[np.ndarray, "y x 3"]


def time_colours(count: int) -> Float[np.ndarray, "{count} 3"]:
    """Colours of glimpses 1, 2, ...: plasma, lightened so that its dark end shows on a black image."""
    return 0.26 + 0.74 * colormaps["plasma"](np.linspace(0.2, 0.92, count))[:, :3]


def ink_on(colour: Sequence[float] | np.ndarray) -> str:
    """Black or white letters, whichever can be read on `colour`."""
    return INK if np.dot(np.asarray(colour)[:3], (0.299, 0.587, 0.114)) > 0.55 else PAPER


class Display:
    """Turns pixels into colours, all with the same range: [0, 1], or wider if the images are."""

    def __init__(self, images: Float[Tensor, "b c h w"]) -> None:
        self.low, self.high = min(0.0, images.min().item()), max(1.0, images.max().item())

    def __call__(
        self, image: Float[Tensor, "c h w"], unseen: Bool[np.ndarray, "h w"] | None = None
    ) -> Float[np.ndarray, "h w 3"]:
        """Three channels are red, green and blue; of any other number the mean is shown. `unseen` marks pixels to leave blank.

        What is not a number is shown as black.
        """
        pixels = ((image.nan_to_num() - self.low) / (self.high - self.low)).clamp(0, 1)
        if len(pixels) != 3:
            pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
        shown = pixels.permute(1, 2, 0).double().numpy().copy()
        if unseen is not None:
            shown[unseen] = UNSEEN
        return shown


class Page:
    """A white page, wide enough for its title; places are in inches from its top left corner."""

    def __init__(self, width: float, height: float, dpi: int, title: str = "") -> None:
        self.width, self.height = max(width, 0.5 + 0.138 * len(title)), height
        self.figure = Figure((self.width, height), dpi=dpi, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        if title:
            self.write(0.25, 0.33, title, size=HEAD + 2, weight="bold")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Bare axes: no ticks, no frame."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes

    def picture(self, left: float, top: float, width: float, size: tuple[int, int]) -> Axes:
        """Axes in the coordinates of an image of size (height, width): (0, 0) is the top left corner of the first pixel."""
        h, w = size
        axes = self.axes(left, top, width, width * h / w)
        axes.set_xlim(0, w)
        axes.set_ylim(h, 0)
        return axes

    def write(self, left: float, top: float, text: str, **given: Any) -> Any:
        """Text; `top` is where its line is centred."""
        style: dict[str, Any] = {"size": BODY, "color": INK, "va": "center"} | given
        return self.figure.text(left / self.width, 1 - top / self.height, text, **style)

    def rule(self, top: float, left: float = 0.0) -> None:
        """A thin line across the page."""
        axes = self.axes(left, top, self.width - 2 * left, 0.02)
        axes.axhline(0.5, color=GRID, linewidth=1)

    def pixels(self) -> Picture:
        """Draw it."""
        self.canvas.draw()
        return self.grab()

    def grab(self) -> Picture:
        """What is drawn already."""
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def show(
    axes: Axes, shown: Float[np.ndarray, "h w 3"], *, left: float = 0.0, top: float = 0.0, width: float | None = None
) -> Any:
    """An image whose first pixel begins at (left, top) of the axes, drawn as hard squares; limits stay as they are."""
    h, w = shown.shape[:2]
    width = w if width is None else width
    limits = axes.get_xlim(), axes.get_ylim()
    extent = (left, left + width, top + width * h / w, top)
    artist = axes.imshow(shown, extent=extent, interpolation="nearest", aspect="auto", vmin=0, vmax=1)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    return artist


def outline(
    axes: Axes, corner: Int[np.ndarray, "k 2"], sides: tuple[int, ...], colour: Any, *, strength: float = 1.0
) -> list[Rectangle]:
    """Windows around one fixation: the finest bold, the others the fainter the coarser."""
    boxes = []
    for i in reversed(range(len(sides))):
        style: dict[str, Any] = {
            "linewidth": 1.9 if i == 0 else 0.9,
            "alpha": strength if i == 0 else strength * 0.5 * 0.6 ** (i - 1),
        }
        box = Rectangle(tuple(corner[i]), sides[i], sides[i], fill=False, edgecolor=colour, joinstyle="miter", **style)
        axes.add_artist(box)
        boxes.append(box)
    return boxes


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"
