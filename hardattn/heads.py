"""Heads on a memory: from what a controller says to where they are, and from there to what they read and how the memory looks afterwards.

The equations are those of `hardattn.addressing`; here they are taken together with the activations before them. On a CPU both halves are
compiled loops with a backward pass of their own (`hardattn.compiled_heads`): as tensors, a step is some eighty small operations, each of which
costs more than its arithmetic. The tensor version runs everywhere else, and a test says that the two agree.

The memory lies as [b, m, n], the rows along the last axis: the loops run along them, and there are more of them than numbers in a row.

A controller says P numbers, [b, P], for J heads: for each the key k (m numbers), beta, g, the shifts s (2 R + 1) and gamma; then, for each
of the J / 2 heads that write (the second half), the erasure e and the addition a (m each). All are kept within `BOUND` of zero first.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardattn import compiled_heads as compiled
from hardattn.addressing import address, read, write
from hardattn.arrays import arrays, compiles

BOUND = 20.0
"""Numbers said to the heads stay within this distance of zero (Collier and Beel 2018)."""


def numbers(heads: int, width: int, shifts: int) -> int:
    """How many numbers a controller says to `heads` pairs of a head that reads and one that writes."""
    return 2 * heads * (width + 3 + 2 * shifts + 1) + heads * 2 * width


def turn(
    said: Float[Tensor, "b p"], memory: Float[Tensor, "b m n"], w_before: Float[Tensor, "j b n"]
) -> Float[Tensor, "j b n"]:
    """The weightings of all heads: tanh, softplus, sigmoid, softmax and 1 + softplus make k, beta, g, s and gamma; see `hardattn.addressing.address`."""
    if compiles(memory):
        return _Turn.apply(said, memory, w_before)
    heads, m = len(w_before), memory.shape[1]
    each = (said[:, : said.shape[1] - heads * m].unflatten(1, (heads, -1))).clamp(-BOUND, BOUND).transpose(0, 1)
    k, beta, g, s, gamma = each.split([m, 1, 1, each.shape[-1] - m - 3, 1], -1)
    return address(
        memory.transpose(1, 2),
        w_before,
        k=k.tanh(),
        beta=F.softplus(beta).squeeze(-1),
        g=g.sigmoid().squeeze(-1),
        s=s.softmax(-1),
        gamma=1 + F.softplus(gamma).squeeze(-1),
    )


def use(
    said: Float[Tensor, "b p"], memory: Float[Tensor, "b m n"], w: Float[Tensor, "j b n"]
) -> tuple[Float[Tensor, "b r"], Float[Tensor, "b m n"]]:
    """What the first half of the heads read, one after the other, and the memory after the second half has written: sigmoid and tanh make e and a.

    All heads meet the memory as it was before the step; of those that write, all erase before any adds.
    """
    if compiles(memory):
        return _Use.apply(said, memory, w)
    heads, m, rows = len(w) // 2, memory.shape[1], memory.transpose(1, 2)
    each = said[:, said.shape[1] - 2 * heads * m :].unflatten(1, (heads, 2, m)).clamp(-BOUND, BOUND).permute(2, 1, 0, 3)
    reads = read(rows, w[:heads]).transpose(0, 1).flatten(1)
    return reads, write(rows, w[heads:], each[0].sigmoid(), each[1].tanh()).transpose(1, 2)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, said: Tensor, memory: Tensor, w_before: Tensor) -> Tensor:
        cosine, near, blurred, w = (torch.empty(w_before.shape, dtype=memory.dtype) for _ in range(4))
        compiled.turn(*arrays(said, memory, w_before, cosine, near, blurred, w))
        ctx.save_for_backward(said, memory, w_before, cosine, near, blurred, w)
        return w

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said, memory, w_before = ctx.saved_tensors[:3]
        grads = torch.zeros_like(said), torch.zeros_like(memory), torch.empty(w_before.shape, dtype=memory.dtype)
        compiled.turn_back(*arrays(*ctx.saved_tensors, grad, *grads))
        return grads


class _Use(torch.autograd.Function):
    @staticmethod
    def forward(ctx, said: Tensor, memory: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        reads, after = memory.new_empty(len(memory), len(w) // 2 * memory.shape[1]), torch.empty_like(memory)
        compiled.use(*arrays(said, memory, w, reads, after))
        ctx.save_for_backward(said, memory, w)
        return reads, after

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_reads: Tensor, grad_after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said, memory, w = ctx.saved_tensors
        grads = torch.zeros_like(said), torch.empty_like(memory), torch.zeros_like(w)
        compiled.use_back(*arrays(said, memory, w, grad_reads, grad_after, *grads))
        return grads
