"""The retina: what an eye at a given gaze delivers of an image.

`retina` is the glimpse sensor rho(x, l) of Mnih et al. 2014 (Section 3, "Glimpse Sensor"; Figure 1A): square windows around one
point, each wider than the last and reduced to the same number of pixels, so that detail falls off away from the gaze.

Averaging a window costs the same at any zoom, because it reads a summed-area table (Crow 1984) that is made once per image: the mean
over a block is four look-ups. The table is kept in fixed point. Sums of integers are exact, so an average does not depend on how far its
block lies from the corner; and they may wrap around, because only differences are read.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hardattn import compiled_glimpse as compiled


class SummedAreaTable(NamedTuple):
    """What `retina` reads of a batch of images."""

    sums: Int[Tensor, "b c h+1 w+1"]
    """Entry (y, x): the sum of all pixels above and to the left of corner (y, x), in units, modulo 2^32."""
    unit: Float[Tensor, " b"]
    """The power of two that pixels are rounded to: about a 2^24th of the brightest pixel's size for blocks of 8 x 8."""


def summed_area_table(image: Float[Tensor, "b c h w"], *, block: int) -> SummedAreaTable:
    """Prepare images for a retina whose coarsest pixel averages `block` x `block` pixels (side of the block, zoom^(scales - 1)).

    Pixels may be of any finite size and sign. A block's sum must fit 31 bits, so the larger the block, the coarser the unit, but at most
    that of float32 itself for blocks up to 8.
    """
    fraction_bits = 30 - math.ceil(2 * math.log2(block))
    brightest = torch.maximum(image.amax((1, 2, 3)), -image.amin((1, 2, 3)))
    # Pixels are smaller than 2^(exponent + fraction_bits); a unit below 2^-126 could not be divided by.
    exponent = (brightest.frexp().exponent - fraction_bits).clamp_(min=-126)
    one = torch.ones_like(brightest)
    sum_areas = _sum_areas_compiled if image.device.type == "cpu" and image.dtype == torch.float32 else _sum_areas
    return SummedAreaTable(sum_areas(image, torch.ldexp(one, -exponent)), torch.ldexp(one, exponent))


def _sum_areas(image: Float[Tensor, "b c h w"], units: Float[Tensor, " b"]) -> Int[Tensor, "b c h+1 w+1"]:
    """The sums of a table; a pixel of 1 is `units` units."""
    b, c, h, w = image.shape
    sums = image.new_zeros((b, c, h + 1, w + 1), dtype=torch.int32)
    sums[..., 1:, 1:] = image * units[:, None, None, None]  # rounds towards zero
    return sums.cumsum_(-1).cumsum_(-2)


def _sum_areas_compiled(image: Float[Tensor, "b c h w"], units: Float[Tensor, " b"]) -> Int[Tensor, "b c h+1 w+1"]:
    """As `_sum_areas`, to the bit, for float32 on the CPU."""
    b, c, h, w = image.shape
    sums = torch.empty((b, c, h + 1, w + 1), dtype=torch.int32)
    compiled.sum_areas(image.detach().contiguous().numpy(), units.numpy(), sums.numpy())
    return sums


def window_corners(
    gaze: Float[Tensor, "*r 2"], *, size: tuple[int, int], reach: tuple[float, float], widths: tuple[int, ...]
) -> Int[Tensor, "*r k 2"]:
    """Column and row (x, y) of the top-left pixel of square windows around `gaze`.

    Args:
        gaze: (x, y); (0, 0) is the middle of the image, (-1, -1) lies up and to the left of it.
        size: (height, width) of the image in pixels.
        reach: how many pixels a gaze of 1 lies from the middle, (vertically, horizontally).
        widths: sides of the windows in pixels.

    Returns:
        (left, top) of every window, rounded half up; negative, or beyond the image, where a window hangs over the border.
    """
    scale, corner = _geometry(size, reach, widths, gaze.device)
    return (gaze.detach()[..., None, :] * scale + corner).floor_().int()


@lru_cache
def _geometry(
    size: tuple[int, int], reach: tuple[float, float], widths: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pixels per unit of gaze (x, y), and the unrounded corner of every window around the middle, both plus one half for rounding."""
    # float64 keeps the rounding of a corner from depending on the size of the image.
    scale = torch.tensor(reach[::-1], dtype=torch.float64, device=device)
    middle = torch.tensor(size[::-1], dtype=torch.float64, device=device) / 2
    half = torch.tensor(widths, dtype=torch.float64, device=device)[:, None] / 2
    return scale, middle - half + 0.5


def retina(
    table: SummedAreaTable,
    gaze: Float[Tensor, "*r b 2"],
    *,
    side: int,
    scales: int = 1,
    zoom: int = 2,
    reach: tuple[float, float],
) -> Float[Tensor, "*r b kc g g"]:
    """Average-pooled windows around `gaze`, finest first (Mnih et al. 2014, Section 3).

    Window i spans side * zoom^i pixels a side and is averaged over blocks of zoom^i x zoom^i. Outside the image there are zeros.
    All leading axes of `gaze` look at the same images: M rollouts need no copies of them.

    Args:
        table: `summed_area_table` of the images.
        gaze: (x, y), see `window_corners`. Not differentiated through.
        side: pixels a side of every delivered patch.
        scales: number of windows.
        zoom: how many times wider each window is than the one before.
        reach: pixels from the middle to a gaze of 1, (vertically, horizontally).

    Returns:
        Patches with scales and channels on one axis, channel fastest.

    Raises:
        ValueError: if side, scales or zoom is less than 1.
    """
    check_retina(side=side, scales=scales, zoom=zoom)
    on_cpu = table.sums.device.type == "cpu" and table.unit.dtype == torch.float32
    look = _look_compiled if on_cpu else _look
    return look(table, gaze, side, scales, zoom, reach).flatten(-4, -3)


def _look_compiled(
    table: SummedAreaTable, gaze: Float[Tensor, "*r b 2"], side: int, scales: int, zoom: int, reach: tuple[float, float]
) -> Float[Tensor, "*r b k c g g"]:
    """As `_look`, to the bit, on the CPU."""
    b, c = table.sums.shape[:2]
    places = gaze.detach().double().reshape(-1, b, 2)
    seen = torch.empty((len(places), b, scales, c, side, side))
    compiled.look(table.sums.numpy(), table.unit.numpy(), places.numpy(), side, zoom, *reach, seen.numpy())
    return seen.view(*gaze.shape[:-1], *seen.shape[2:])


def _look(
    table: SummedAreaTable, gaze: Float[Tensor, "*r b 2"], side: int, scales: int, zoom: int, reach: tuple[float, float]
) -> Float[Tensor, "*r b k c g g"]:
    """A look by index arithmetic, on any device."""
    b, c, rows, columns = table.sums.shape
    widths = tuple(side * zoom**i for i in range(scales))
    corner = window_corners(gaze, size=(rows - 1, columns - 1), reach=reach, widths=widths)
    steps, zero, limits, strides, plane, area = _blocks(side, scales, zoom, (b, c, rows, columns), gaze.device)
    # Edges of the blocks, first in pixels and then as parts of a flat index. Clamping them to the image is the zero padding.
    edges = (corner[..., None] + steps).clamp_(zero, limits).mul_(strides)
    x, y = edges[..., 0, :], edges[..., 1, :]  # [*r, b, k, g + 1] each
    index = (y[..., None, :] + plane)[..., None] + x[..., None, None, :]  # [*r, b, k, c, g + 1, g + 1]
    corners = table.sums.view(-1).index_select(0, index.reshape(-1)).view(index.shape)
    strips = corners[..., 1:, :] - corners[..., :-1, :]
    sums = strips[..., 1:] - strips[..., :-1]
    return sums * (table.unit[:, None] / area)[:, :, None, None, None]


@lru_cache
def _blocks(side: int, scales: int, zoom: int, shape: tuple[int, int, int, int], device: torch.device) -> tuple[Tensor, ...]:
    """What all looks of one kind share.

    Distances of block edges from a window's corner [k, 1, g + 1]; last indices and strides of columns and rows [2, 1]; where every
    image and channel begins [b, 1, c, 1]; pixels of a block [k].
    """
    b, c, rows, columns = shape
    if b * c * rows * columns >= 2**31:  # entries are counted in 32 bits
        raise ValueError(
            f"the tables of {b} images of {rows - 1} x {columns - 1} pixels and {c} channels have 2^31 entries or more: make the batch smaller"
        )
    factors = torch.tensor([zoom**i for i in range(scales)], dtype=torch.int32, device=device)
    steps = factors[:, None, None] * torch.arange(side + 1, dtype=torch.int32, device=device)
    limits = torch.tensor([[columns - 1], [rows - 1]], dtype=torch.int32, device=device)
    strides = torch.tensor([[1], [columns]], dtype=torch.int32, device=device)
    plane = torch.arange(b * c, dtype=torch.int32, device=device).view(b, 1, c, 1) * (rows * columns)
    return steps, torch.zeros_like(limits), limits, strides, plane, factors.float() ** 2


def direct_retina(
    image: Float[Tensor, "b c h w"],
    gaze: Float[Tensor, "*r b 2"],
    *,
    side: int,
    scales: int = 1,
    zoom: int = 2,
    reach: tuple[float, float],
    pool: Literal["mean", "max"] = "max",
) -> Float[Tensor, "*r b kc g g"]:
    """As `retina`, but read off the image itself: what a look costs depends on its widest window and not on the size of the image.

    `pool` "max" delivers the largest value of each block instead of its mean; outside the image there are zeros. A one-pixel object then keeps
    its brightness at every scale (an average over 4 x 4 would dim it sixteenfold).
    """
    check_retina(side=side, scales=scales, zoom=zoom)
    if image.device.type != "cpu" or image.dtype != torch.float32:
        return _look_directly(image, gaze, side, scales, zoom, reach, pool)
    b, c = image.shape[:2]
    places = gaze.detach().double().reshape(-1, b, 2)
    seen = torch.empty((len(places), b, scales, c, side, side))
    pixels = image.detach().contiguous().numpy()
    compiled.look_directly(pixels, places.numpy(), side, zoom, *reach, pool == "max", seen.numpy())
    return seen.view(*gaze.shape[:-1], scales * c, side, side)


def _look_directly(
    image: Float[Tensor, "b c h w"],
    gaze: Float[Tensor, "*r b 2"],
    side: int,
    scales: int,
    zoom: int,
    reach: tuple[float, float],
    pool: str,
) -> Float[Tensor, "*r b kc g g"]:
    """`compiled.look_directly` by index arithmetic, on any device."""
    b, c, h, w = image.shape
    lead = gaze.shape[:-1]
    batch = torch.arange(b, device=image.device).view(b, 1, 1, 1)
    channel = torch.arange(c, device=image.device).view(c, 1, 1)
    reduce = F.max_pool2d if pool == "max" else F.avg_pool2d
    patches = []
    for z in (zoom**i for i in range(scales)):
        width = side * z
        corner = window_corners(gaze, size=(h, w), reach=reach, widths=(width,))[..., 0, :]
        pixels = corner[..., None] + torch.arange(width, device=image.device)  # [*r, b, 2, width]
        x, y = pixels[..., 0, :], pixels[..., 1, :]
        inside = ((y >= 0) & (y < h))[..., :, None] & ((x >= 0) & (x < w))[..., None, :]
        window = image[batch, channel, y.clamp(0, h - 1)[..., None, :, None], x.clamp(0, w - 1)[..., None, None, :]]
        window = window * inside[..., None, :, :]
        patches.append(reduce(window.flatten(0, -4), z).unflatten(0, lead))
    return torch.cat(patches, dim=-3)


def check_retina(*, side: int, scales: int, zoom: int) -> None:
    """Raises ValueError, naming the culprit, unless every size is a positive whole number."""
    for name, value in {"side": side, "scales": scales, "zoom": zoom}.items():
        if value < 1:
            raise ValueError(f"the retina's {name} must be a whole number of at least 1, found {value}")
