"""The retina's inner loops, compiled for the CPU (numba): the same integers as `hardattn.glimpse` computes with tensors, several times sooner.

A look reads a few thousand scattered numbers. As tensors that is a dozen passes over index arrays larger than what is read; as a loop it is
the reads alone. `hardattn.glimpse` is the only caller, and says what the arguments mean.
"""

from math import floor
from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def sum_areas(image, units, sums):  # pragma: no cover - a tracer does not see compiled code
    """Fill `sums` [b, c, h + 1, w + 1] from `image` [b, c, h, w], of which 1 is `units` [b] units."""
    batch, channels, height, width = image.shape
    for b in range(batch):
        for c in range(channels):
            sums[b, c, 0] = 0
            for y in range(height):
                sums[b, c, y + 1, 0] = 0
                pixels, above, out = image[b, c, y], sums[b, c, y], sums[b, c, y + 1]
                row = 0
                for x in range(width):
                    row += np.int32(pixels[x] * units[b])  # rounds towards zero
                    out[x + 1] = np.int32(above[x + 1] + row)  # the cast wraps around


@njit(cache=True, nogil=True)
@no_type_check
def look(sums, unit, gaze, side, zoom, reach_y, reach_x, seen):  # pragma: no cover - a tracer does not see compiled code
    """Fill `seen` [r, b, k, c, side, side] with what the summed-area tables `sums` [b, c, h + 1, w + 1] say of windows around `gaze` [r, b, 2]."""
    rows, batch, scales, channels = seen.shape[:4]
    height, width = sums.shape[2] - 1, sums.shape[3] - 1
    xs, ys = np.empty(side + 1, np.int64), np.empty(side + 1, np.int64)
    for b in range(batch):
        for r in range(rows):
            for k in range(scales):
                block = zoom**k
                left = _first(gaze[r, b, 0] * reach_x + (width - side * block) / 2 + 0.5)
                top = _first(gaze[r, b, 1] * reach_y + (height - side * block) / 2 + 0.5)
                for i in range(side + 1):
                    xs[i] = min(max(left + i * block, 0), width)
                    ys[i] = min(max(top + i * block, 0), height)
                share = unit[b] / np.float32(block * block)
                for c in range(channels):
                    table = sums[b, c]
                    for i in range(side):
                        above, below = table[ys[i]], table[ys[i + 1]]
                        before = below[xs[0]] - above[xs[0]]
                        for j in range(side):
                            after = below[xs[j + 1]] - above[xs[j + 1]]
                            seen[r, b, k, c, i, j] = np.float32(np.int32(after - before)) * share
                            before = after


@njit(cache=True, nogil=True)
@no_type_check
def look_directly(
    image, gaze, side, zoom, reach_y, reach_x, largest, seen
):  # pragma: no cover - a tracer does not see compiled code
    """As `look`, but from the pixels of `image` [b, c, h, w]; with `largest` the largest value of every block instead of its mean."""
    rows, batch, scales, channels = seen.shape[:4]
    height, width = image.shape[2:]
    found = np.empty(side)
    for b in range(batch):
        for r in range(rows):
            for k in range(scales):
                block = zoom**k
                left = _first(gaze[r, b, 0] * reach_x + (width - side * block) / 2 + 0.5)
                top = _first(gaze[r, b, 1] * reach_y + (height - side * block) / 2 + 0.5)
                for c in range(channels):
                    for i in range(side):
                        y0, y1 = top + i * block, top + (i + 1) * block
                        high = y0 >= 0 and y1 <= height
                        for j in range(side):
                            inside = high and left + j * block >= 0 and left + (j + 1) * block <= width
                            found[j] = -np.inf if largest and inside else 0.0  # there are zeros outside
                        for y in range(max(y0, 0), min(y1, height)):  # along the rows, as memory lies
                            row = image[b, c, y]
                            for j in range(side):
                                pixels = row[max(left + j * block, 0) : max(min(left + (j + 1) * block, width), 0)]
                                if largest:
                                    for pixel in pixels:
                                        found[j] = max(found[j], pixel)
                                else:
                                    for pixel in pixels:
                                        found[j] += pixel
                        for j in range(side):
                            seen[r, b, k, c, i, j] = found[j] if largest else found[j] / (block * block)


@njit(cache=True, nogil=True)
@no_type_check
def _first(place):  # pragma: no cover - a tracer does not see compiled code
    """The whole number below `place`; places without end are brought near enough to be whole numbers."""
    return floor(min(max(place, -1e12), 1e12))
