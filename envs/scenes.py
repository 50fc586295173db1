"""Scenes: digits placed on a canvas among clutter, as many as one asks for.

The cluttered canvas follows the generator of Mnih et al. 2014 (Section 4.1; the authors' `mnist-cluttered`): pieces cut from other
digits are added first, at any position where they fit, and the sum is clipped to 1; then the digit is added and the sum clipped again.
Scene k is a function of (seed, split, k): it does not matter in what batch it is drawn. Whole batches are drawn at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs import compiled
from hardattn.noise import integers


@dataclass(frozen=True)
class Canvas:
    """What a scene looks like."""

    height: int
    width: int
    pieces: int = 0
    """Pieces of clutter."""
    piece: int = 8
    """Side of a piece in pixels."""

    def draw(
        self, pixels: Float[Tensor, "n c h w"], chosen: Int[Tensor, " b"], key: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c y x"]:
        """Scenes with image `chosen` of `pixels` on a canvas; every scene's random numbers come from its own `key`.

        Raises:
            ValueError: if the images are larger than the canvas, or the pieces larger than the images.
        """
        n, c, h, w = pixels.shape
        if h > self.height or w > self.width:
            raise ValueError(f"an image of {h} x {w} does not fit on a canvas of {self.height} x {self.width}")
        if self.pieces == 0 and (h, w) == (self.height, self.width):
            return pixels[chosen]
        if self.pieces and self.piece > min(h, w):
            raise ValueError(f"pieces of {self.piece} x {self.piece} cannot be cut from images of {h} x {w}")
        b, p = len(chosen), self.pieces
        numbers = _Draws(key, 2 + 5 * p)
        top, left = numbers(1, self.height - h + 1), numbers(1, self.width - w + 1)
        # Any image of the split but the scene's own.
        others = (chosen[:, None] + 1 + numbers(p, n - 1)) % n if p else chosen[:, None][:, :0]
        cut = numbers(p, h - self.piece + 1), numbers(p, w - self.piece + 1)
        to = numbers(p, self.height - self.piece + 1), numbers(p, self.width - self.piece + 1)
        canvas = pixels.new_zeros((b, c, self.height, self.width))
        pasted = torch.stack([others, *cut, *to], -1)
        placed = torch.cat([chosen[:, None], top, left], 1)
        compiled.draw(pixels.numpy(), pasted.numpy(), placed.numpy(), self.piece, canvas.numpy())
        return canvas


class _Draws:
    """Hands out a scene's random numbers in order, so that no two uses share one."""

    def __init__(self, key: Tensor, count: int) -> None:
        self.key, self.count, self.used = key, count, 0
        self.raw = integers(key, count, 2**31)

    def __call__(self, count: int, below: int) -> Tensor:
        self.used += count
        return self.raw[:, self.used - count : self.used] * below >> 31
