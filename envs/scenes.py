"""Scenes: digits placed on a canvas among clutter, as many as one asks for.

The cluttered canvas follows the generator of Mnih et al. 2014 (Section 4.1; the authors' `mnist-cluttered`): pieces cut from other
digits are added first, at any position where they fit, and the sum is clipped to 1; then the digit is added and the sum clipped again.
Scene k is a function of (seed, split, k): it does not matter in what batch it is drawn. Whole batches are drawn at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
        b = len(chosen)
        numbers = _Draws(key, 2 + 5 * self.pieces)
        canvas = pixels.new_zeros((b, c, self.height, self.width))
        top, left = numbers(1, self.height - h + 1), numbers(1, self.width - w + 1)
        if self.pieces:
            # Any image of the split but the scene's own.
            others = (chosen[:, None] + 1 + numbers(self.pieces, n - 1)) % n
            side = (self.piece, self.piece)
            cut = _blocks(
                others, (numbers(self.pieces, h - self.piece + 1), numbers(self.pieces, w - self.piece + 1)), (c, h, w), side
            )
            to = (numbers(self.pieces, self.height - self.piece + 1), numbers(self.pieces, self.width - self.piece + 1))
            paste = _blocks(torch.arange(b, device=key.device)[:, None], to, canvas.shape[1:], side)
            canvas.view(-1).index_add_(0, paste.reshape(-1), pixels.view(-1)[cut].reshape(-1))
            canvas.clamp_(max=1.0)
        place = _blocks(torch.arange(b, device=key.device)[:, None], (top, left), canvas.shape[1:], (h, w))
        canvas.view(-1).index_add_(0, place.view(-1), pixels[chosen].view(-1))
        return canvas.clamp_(max=1.0)


class _Draws:
    """Hands out a scene's random numbers in order, so that no two uses share one."""

    def __init__(self, key: Tensor, count: int) -> None:
        self.key, self.count, self.used = key, count, 0
        self.raw = integers(key, count, 2**31)

    def __call__(self, count: int, below: int) -> Tensor:
        self.used += count
        return self.raw[:, self.used - count : self.used] * below >> 31


def _blocks(image: Tensor, corner: tuple[Tensor, Tensor], shape: tuple[int, ...], side: tuple[int, int]) -> Tensor:
    """Flat indices [b, p, c, side, side] of blocks of images of `shape` (c, h, w), for image numbers and corners [b, p]."""
    c, h, w = shape
    device = corner[0].device
    block = torch.arange(side[0], device=device)[:, None] * w + torch.arange(side[1], device=device)
    block = torch.arange(c, device=device)[:, None, None] * (h * w) + block
    return (image * (c * h * w) + corner[0] * w + corner[1])[..., None, None, None] + block
