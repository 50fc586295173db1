"""Glimpses with a gradient: a grid of filters that is laid over the image, and that may be moved and stretched by back-propagation.

A bank holds one filter per row of the glimpse and one per column, and a glimpse is two matrix products, F_y . image . F_x^T (Gregor et al.
2015, ICML, Section 3.2; Equations 19 to 27). The filters are Gaussians, as in that paper, or boxes: a box is the mean over a stretch of the
image, which makes it the hard retina with a gradient, and over one pixel it is the bilinear sampling of the spatial transformer (Jaderberg
et al. 2015, NIPS, Equation 5).

All places and lengths are in pixels. Pixel a covers [a, a + 1], so its middle lies at a + 0.5, and 0 is the image's left or upper border.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardattn import compiled_filterbank as compiled
from hardattn.arrays import arrays, compiles
from hardattn.compiled_filterbank import FARTHEST, FLOOR

_NARROWEST = 0.2
"""Pixels. A narrower Gaussian between two pixels would be as good as zero on both, and the floor would show."""


def gaussian_bank(
    centre: Float[Tensor, "*r b"], stride: Float[Tensor, "*r b"], sigma: Float[Tensor, "*r b"], *, side: int, size: int
) -> Float[Tensor, "*r b g n"]:
    """`side` Gaussians, `stride` apart, around `centre` (Gregor et al. 2015, Equations 19, 20, 25 and 26).

    Filter i stands at centre + (i - side / 2 + 0.5) * stride. Inside the image its entries sum to 1. A filter about six sigmas beyond the
    border fades out; nine sigmas beyond it is zero, where the equations would divide 0 by 0.

    Args:
        centre: middle of the grid in pixels.
        stride: between the middles of neighbouring filters in pixels.
        sigma: standard deviation of every filter in pixels, above 0; less than a fifth of a pixel counts as that.
        side: number of filters, the glimpse's pixels a side.
        size: pixels of the image in this direction.

    Returns:
        One row per filter, differentiable in centre, stride and sigma.

    Raises:
        ValueError: if side or size is less than 1.
    """
    _check(side, size)
    bank: Any = _Gaussians.apply(centre, stride, sigma.clamp(min=_NARROWEST), side, size)
    return bank


def box_bank(
    centre: Float[Tensor, "*r b"], stride: Float[Tensor, "*r b"], *, side: int, size: int
) -> Float[Tensor, "*r b g n"]:
    """The means over `side` blocks, each `stride` wide, that lie side by side around `centre`.

    Block i covers centre + (i - side / 2) * stride and the `stride` pixels after it; an entry is the part of the block that lies on the pixel.
    No block is narrower than a pixel. A narrower one is widened around its middle, and then reads what bilinear interpolation reads there
    (Jaderberg et al. 2015, Equation 5), for the mean of an image of square pixels over a square of one pixel is just that. Outside the image
    there are zeros. Where a block's edge meets a pixel's, the derivative jumps, and its two sides are averaged.

    Args:
        centre: middle of the blocks in pixels.
        stride: width of a block in pixels.
        side: number of blocks, the glimpse's pixels a side.
        size: pixels of the image in this direction.

    Returns:
        One row per block, differentiable in centre and stride. Rows of blocks inside the image sum to 1.

    Raises:
        ValueError: if side or size is less than 1.
    """
    _check(side, size)
    bank: Any = _Boxes.apply(_middles(centre, stride, side), stride.clamp(min=1.0), size)
    return bank


def read(
    image: Float[Tensor, "b c h w"], rows: Float[Tensor, "*r b g h"], columns: Float[Tensor, "*r b g w"]
) -> Float[Tensor, "*r b c g g"]:
    """F_y . image . F_x^T for every channel (Gregor et al. 2015, Equation 27, without its intensity).

    All leading axes of the banks read the same images: M rollouts need no copies of them.

    Args:
        image: what is read.
        rows: the bank over the image's height.
        columns: the bank over its width.

    Returns:
        Glimpses, differentiable in all three.
    """
    lead, (b, g, h) = rows.shape[:-3], rows.shape[-3:]
    # The image is large and the glimpse is small: the rollouts' filters join one product with the image.
    across = rows.reshape(-1, b, g, h).transpose(0, 1).reshape(b, 1, -1, h) @ image  # [b, c, r g, w]
    strips = across.unflatten(2, (-1, g)).permute(2, 0, 1, 3, 4)  # [r, b, c, g, w]
    patch = strips @ columns.reshape(-1, b, 1, *columns.shape[-2:]).mT
    return patch.reshape(*lead, *patch.shape[1:])


def _check(side: int, size: int) -> None:
    for name, value in {"side": side, "size": size}.items():
        if value < 1:
            raise ValueError(f"a filter bank's {name} must be at least 1, found {value}")


def _middles(centre: Float[Tensor, "*r b"], stride: Float[Tensor, "*r b"], side: int) -> Float[Tensor, "*r b g"]:
    """Where the filters of a bank stand."""
    return centre[..., None] + _offsets(side, centre) * stride[..., None]


def _offsets(side: int, like: Tensor) -> Float[Tensor, " {side}"]:
    """Of the filters' middles from the centre, in strides."""
    return torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2


def _pixels(size: int, like: Tensor) -> Float[Tensor, " {size}"]:
    """The pixels' middles."""
    return torch.arange(size, dtype=like.dtype, device=like.device) + 0.5


class _Gaussians(torch.autograd.Function):
    """Normalised Gaussians e^(-z^2) / (sum e^(-z^2) + floor), z = (a - mu) / (sqrt(2) sigma).

    Autograd would keep five tensors of the bank's size and walk over each twice; this keeps the bank alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        centre: Float[Tensor, "*r b"],
        stride: Float[Tensor, "*r b"],
        sigma: Float[Tensor, "*r b"],
        side: int,
        size: int,
    ) -> Float[Tensor, "*r b g n"]:
        bank = centre.new_zeros(*centre.shape, side, size)
        if all(map(compiles, (centre, stride, sigma))):
            compiled.gaussians(*arrays(*(x.flatten() for x in (centre, stride, sigma)), bank.view(-1, side, size)))
        else:
            bank = _gaussians(centre, stride, sigma, side, size)
        ctx.save_for_backward(centre, stride, sigma, bank)
        return bank

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "*r b g n"]) -> tuple[Tensor, Tensor, Tensor, None, None]:
        centre, stride, sigma, bank = ctx.saved_tensors
        if all(map(compiles, (*ctx.saved_tensors, gradient))):
            back = centre.new_empty(3, *centre.shape)
            places, banks = (x.flatten() for x in (centre, stride, sigma)), (x.flatten(0, -3) for x in (bank, gradient))
            compiled.gaussians_back(*arrays(*places, *banks, back.view(3, -1)))
        else:
            back = _gaussians_back(centre, stride, sigma, bank, gradient)
        return *back, None, None


def _gaussians(
    centre: Float[Tensor, "*r b"], stride: Float[Tensor, "*r b"], sigma: Float[Tensor, "*r b"], side: int, size: int
) -> Float[Tensor, "*r b g n"]:
    """The bank, on any device."""
    z = _distances(centre, stride, sigma, side, size)
    bank = torch.addcmul(z.new_zeros(()), z, z, value=-1).exp_().masked_fill_(z.abs() >= FARTHEST, 0)
    return bank.mul_(bank.sum(-1, keepdim=True).add_(FLOOR).reciprocal_())


def _gaussians_back(
    centre: Float[Tensor, "*r b"],
    stride: Float[Tensor, "*r b"],
    sigma: Float[Tensor, "*r b"],
    bank: Float[Tensor, "*r b g n"],
    gradient: Float[Tensor, "*r b g n"],
) -> Float[Tensor, "3 *r b"]:
    """The gradients in centre, stride and sigma, on any device."""
    z, share = _distances(centre, stride, sigma, *bank.shape[-2:]), (gradient * bank).sum(-1, keepdim=True)
    slope = (gradient - share).mul_(bank).mul_(z)  # in the exponent -z^2, times z
    to_middle, to_sigma = slope.sum(-1) * math.sqrt(2) / sigma[..., None], 2 * slope.mul_(z).sum((-1, -2)) / sigma
    return torch.stack([to_middle.sum(-1), (to_middle * _offsets(bank.shape[-2], centre)).sum(-1), to_sigma])


def _distances(
    centre: Float[Tensor, "*r b"], stride: Float[Tensor, "*r b"], sigma: Float[Tensor, "*r b"], side: int, size: int
) -> Float[Tensor, "*r b g n"]:
    """z, no farther than counts."""
    scale = math.sqrt(0.5) / sigma[..., None]
    middle = _middles(centre, stride, side)
    z = (_pixels(size, middle) * scale)[..., None, :] - (middle * scale)[..., None]
    return z.clamp_(-FARTHEST, FARTHEST)


class _Boxes(torch.autograd.Function):
    """Overlaps of pixels with blocks: clamp((width + 1) / 2 - |a - middle|, 0, 1) / width."""

    @staticmethod
    def forward(
        ctx: Any, middle: Float[Tensor, "*r b g"], width: Float[Tensor, "*r b"], size: int
    ) -> Float[Tensor, "*r b g n"]:
        width = width[..., None, None]
        distance = _pixels(size, middle) - middle[..., None]
        bank = torch.sub((width + 1) / 2, distance.abs()).clamp_(0, 1).mul_(1 / width)
        ctx.save_for_backward(distance, bank, width)
        return bank

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "*r b g n"]) -> tuple[Tensor, Tensor, None]:
        distance, bank, width = ctx.saved_tensors
        reach = (width + 1) / 2 - distance.abs()
        # 2 where an edge of the block lies within the pixel, 1 where it lies on the pixel's edge.
        cut = reach.sign().add_((1 - reach).sign_()).mul_(gradient)
        of_width = cut.sum((-1, -2)) / 4 - (gradient * bank).sum((-1, -2))
        return cut.mul_(distance.sign()).sum(-1) / (2 * width[..., 0]), of_width / width[..., 0, 0], None
