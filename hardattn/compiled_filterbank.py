"""The inner loops of `hardattn.filterbank`, compiled for the CPU (numba): Gaussian filters, forward and backward.

As tensors a bank is half a dozen passes over every pixel of every filter, and an exponential each. Here a filter is walked from where it
begins to be something to where it is nothing any more. From pixel to pixel e^(-z^2) changes by a factor, and that factor by another, which
stays the same all the way: two exponentials a filter, and two products a pixel. Numbers on the way have 64 bits, so what rounding adds up
stays far below 32.
"""

from typing import no_type_check

import numpy as np
from numba import njit

FLOOR = 1e-8
"""Added to the sum of a filter's entries (before it is divided by it), so that a filter outside the image is not 0 / 0."""
FARTHEST = 40.0**0.5
"""z ends here: e^-40 is nothing beside the floor, and below e^-87 exp is a hundred times slower, because its results are denormal."""


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
@no_type_check
def gaussians(centre, stride, sigma, bank):  # pragma: no cover - a tracer does not see compiled code
    """Fill `bank` [k, g, n], which holds zeros, with Gaussians `stride` apart around `centre`, `sigma` wide (all [k]), each divided by its sum."""
    count, side, size = bank.shape
    for k in range(count):
        width = np.float64(sigma[k])
        sharpness = 0.5 / width**2
        bend = np.exp(-2 * sharpness)
        for i in range(side):
            mu, first, last = _extent(centre[k], stride[k], width, i - (side - 1) / 2, size)
            if mu + width != mu + width:
                bank[k, i] = np.nan  # what is not a number is to be seen
            if first >= last:
                continue
            entries, d = bank[k, i], first + 0.5 - mu
            value, factor, total = np.exp(-sharpness * d * d), np.exp(-sharpness * (2 * d + 1)), 0.0
            for a in range(first, last):
                entries[a] = value
                total += value
                value *= factor
                factor *= bend
            share = bank.dtype.type(1 / (total + FLOOR))
            for a in range(first, last):
                entries[a] *= share


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
@no_type_check
def gaussians_back(centre, stride, sigma, bank, grad, back):  # pragma: no cover - a tracer does not see compiled code
    """From the gradient in `bank` to those in `centre`, `stride` and `sigma`: `back` [3, k]."""
    count, side, size = bank.shape
    for k in range(count):
        width = np.float64(sigma[k])
        to_centre = to_stride = to_sigma = 0.0
        for i in range(side):
            offset = i - (side - 1) / 2
            mu, first, last = _extent(centre[k], stride[k], width, offset, size)
            entries, g = bank[k, i], grad[k, i]
            mean = 0.0
            for a in range(first, last):
                mean += g[a] * entries[a]
            slope = 0.0
            for a in range(first, last):
                d = a + 0.5 - mu
                pull = (g[a] - mean) * entries[a] * d
                slope += pull
                to_sigma += pull * d
            to_centre += slope
            to_stride += slope * offset
        back[0, k], back[1, k], back[2, k] = to_centre / width**2, to_stride / width**2, to_sigma / width**3


@njit(cache=True, nogil=True)
@no_type_check
def _extent(centre, stride, sigma, offset, size):  # pragma: no cover - a tracer does not see compiled code
    """Where a filter's middle is, the first pixel that it reaches, and the one after the last."""
    mu = np.float64(centre) + offset * np.float64(stride)
    reach = FARTHEST * 2**0.5 * sigma
    low, high = min(max(mu - reach - 0.5, -1.0), size + 1.0), min(max(mu + reach - 0.5, -1.0), size + 1.0)
    return mu, max(int(np.ceil(low)), 0), min(int(np.floor(high)) + 1, size)
