"""Where the eye went, over many scenes."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from torch import Tensor

from hardattn.figures import style
from hardattn.figures.style import Display, Page, Picture, show


def density(
    gaze: Float[Tensor, "*r 2"], *, size: tuple[int, int], reach: tuple[float, float], blur: float | None = None
) -> Float[Tensor, "h w"]:
    """Fixations at every pixel, relative to fixations spread evenly over the image: the mean over all pixels is 1.

    Args:
        gaze: (x, y), see `hardattn.glimpse.window_corners`; places beyond the image count at its border.
        size: (height, width) of the image.
        reach: pixels from the middle to a gaze of 1, (vertically, horizontally).
        blur: standard deviation of the smoothing in pixels; default a fortieth of the image. 0: none.
    """
    h, w = size
    blur = max(h, w) / 40 if blur is None else blur
    place = gaze.detach().cpu().double().reshape(-1, 2) * torch.tensor(reach[::-1]) + torch.tensor([w / 2, h / 2])
    x, y = place[:, 0].floor().long().clamp(0, w - 1), place[:, 1].floor().long().clamp(0, h - 1)
    counts = torch.bincount(y * w + x, minlength=h * w).view(h, w).double()
    smooth = _smoother(h, blur) @ counts @ _smoother(w, blur).T
    return (smooth * (h * w / max(1, len(place)))).float()


def _smoother(length: int, blur: float) -> Float[Tensor, "{length} {length}"]:
    """A Gaussian that keeps the weight of every point within the image."""
    if blur == 0:
        return torch.eye(length, dtype=torch.float64)
    i = torch.arange(length, dtype=torch.float64)
    kernel = torch.exp(-((i[:, None] - i) ** 2) / (2 * blur**2))
    return kernel / kernel.sum(0)


def heat_map(
    images: Float[Tensor, "b c h w"],
    gaze: Float[Tensor, "b t 2"],
    *,
    reach: tuple[float, float],
    taken: Int[Tensor, " b"] | None = None,
    per_glimpse: bool = False,
    blur: float | None = None,
    title: str = "",
    dpi: int = 130,
) -> Picture:
    """Fixations over the mean image, in multiples of what an even spread would give.

    Args:
        images: the scenes, as many as one likes.
        gaze: where each was looked at.
        reach: pixels from the middle to a gaze of 1, (vertically, horizontally).
        taken: how many glimpses each was given; those after them do not count. None: all.
        per_glimpse: also one small map for every glimpse but the first, which the environment chose.
        blur: see `density`.
        title: of the page.
        dpi: pixels per inch.
    """
    b, _, h, w = images.shape
    t = gaze.shape[1]
    mean = images.detach().cpu().float().mean(0)
    mean = mean / mean.abs().max().clamp(min=1e-6) * 0.6  # the mean of many scenes is dim
    shown = Display(mean[None])(mean)
    counts = torch.full((b,), t) if taken is None else taken.cpu()
    there = torch.arange(t) < counts[:, None]
    gaze = gaze.detach().cpu()
    maps = [density(gaze[there], size=(h, w), reach=reach, blur=blur).numpy()]
    if per_glimpse:
        maps += [density(gaze[there[:, i], i], size=(h, w), reach=reach, blur=blur).numpy() for i in range(1, t)]
    norm = PowerNorm(0.5, 0, max(1.0, *(m.max() for m in maps)))

    margin, large = 0.3, 3.4
    wide, high = large * min(1.0, w / h), large * min(1.0, h / w)
    rows = 1 if t <= 4 else 2
    columns = math.ceil((len(maps) - 1) / rows)
    gap = 0.3
    small = (high - (rows - 1) * gap) / rows if rows > 1 else min(high, 2.2)  # height of a small map
    step = small * w / h + 0.12
    head = 0.55 + (0.4 if title else 0.0)
    bar = margin + wide + (0.3 + columns * step if columns else 0.0) + 0.15
    page = Page(bar + 0.95, head + high + margin, dpi, title)
    page.write(margin, head - 0.17, f"{int(there.sum()):,} fixations, {b:,} scenes", size=style.BODY)

    colours = _overlay()

    def place(left: float, top: float, width: float, values: np.ndarray) -> None:
        axes = page.picture(left, top, width, (h, w))
        show(axes, shown)
        axes.imshow(values, cmap=colours, norm=norm, extent=(0, w, h, 0), interpolation="bilinear", aspect="auto")

    place(margin, head, wide, maps[0])
    for i, values in enumerate(maps[1:]):
        left = margin + wide + 0.3 + (i % columns) * step
        top = head + (i // columns) * (small + gap)
        page.write(left, top - 0.14, f"glimpse {i + 2}", size=style.SMALL, color=style.MUTED)
        place(left, top, small * w / h, values)
    axes = page.axes(bar, head, 0.14, high)
    axes.set_axis_on()
    axes.set_facecolor("black")
    scale = page.figure.colorbar(ScalarMappable(norm, colours), cax=axes)
    scale.outline.set_visible(False)
    axes.tick_params(labelsize=style.SMALL, color=style.MUTED, labelcolor=style.INK, length=2)
    scale.set_label("density (1: spread evenly)", size=style.BODY, color=style.INK)
    return page.pixels()


def _overlay() -> ListedColormap:
    """From nothing to bright: the mean image shows where nobody looked."""
    colours = colormaps["inferno"](np.linspace(0.2, 1, 256))
    colours[:, 3] = np.linspace(0, 1, 256) ** 0.6 * 0.95
    return ListedColormap(colours, "fixations")
