"""Pasting digits and clutter onto canvases, compiled (numba). As tensors it is a dozen passes over index arrays; as a loop it is the pixels alone."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def draw(pixels, pieces, digits, side, canvas):  # pragma: no cover - a tracer does not see compiled code
    """Add the pieces and clip to 1, then add the digit and clip again, in `canvas` [b, c, y, x], which holds zeros.

    `pixels` [n, c, h, w] are the images; `pieces` [b, p, 5] say which image, from which row and column, and to which row and column a piece of
    side x side goes; `digits` [b, 3] say which image goes whole to which row and column.
    """
    height, width = pixels.shape[2:]
    one = np.float32(1)
    for b in range(canvas.shape[0]):
        for c in range(canvas.shape[1]):
            scene = canvas[b, c]
            for p in range(pieces.shape[1]):
                image, row, column, top, left = pieces[b, p]
                for y in range(side):
                    for x in range(side):
                        scene[top + y, left + x] += pixels[image, c, row + y, column + x]
            for p in range(pieces.shape[1]):
                top, left = pieces[b, p, 3], pieces[b, p, 4]
                for y in range(top, top + side):
                    for x in range(left, left + side):
                        scene[y, x] = min(scene[y, x], one)
            image, top, left = digits[b]
            for y in range(height):
                for x in range(width):
                    scene[top + y, left + x] = min(scene[top + y, left + x] + pixels[image, c, y, x], one)
