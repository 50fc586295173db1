"""Addressing a memory: where to read and write, as pure functions in the letters of Graves, Wayne and Danihelka 2014 (Section 3).

A memory M has N rows of M numbers, [b, n, m]; a head's weighting w says how much of every row it means, [*h, b, n], and sums to 1. The leading
axes *h are heads: several address the same memory at once. State goes in and comes out; nothing is remembered here. All work in float32 and
float64, and no input of finite numbers, strengths of at least 0 among them, makes a NaN: neither a key or a row of zeros, nor a weighting with
zeros under any exponent.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST = 1e-12
"""Where a length or a sum would be zero."""


def content(k: Float[Tensor, "*h b m"], memory: Float[Tensor, "b n m"], beta: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b n"]:
    """Rows that are like the key: w_i = softmax_i(beta cos(k, M_i)) (Equations 5 and 6).

    A key or a row of zeros is like nothing: its cosine is 0.
    """
    row = memory / memory.norm(dim=-1, keepdim=True).clamp(min=_LEAST)
    key = k / k.norm(dim=-1, keepdim=True).clamp(min=_LEAST)
    cosine = (row @ key[..., None]).squeeze(-1)
    return _softmax(cosine, beta)


def gate(
    w_content: Float[Tensor, "*h b n"], w_before: Float[Tensor, "*h b n"], g: Float[Tensor, "*h b"]
) -> Float[Tensor, "*h b n"]:
    """g w_content + (1 - g) w_before (Equation 7)."""
    return torch.lerp(w_before, w_content, g[..., None])


def shift(w: Float[Tensor, "*h b n"], s: Float[Tensor, "*h b k"]) -> Float[Tensor, "*h b n"]:
    """Circular convolution: w'_i = sum_j w_j s(i - j mod N) (Equation 8).

    Args:
        w: a weighting.
        s: how much to move by -R, -R + 1, ... rows, with R = k // 2: of an odd number of shifts as far up as down, of an even one a row farther
            down. A one-hot s is a roll. Whoever moves farther than around arrives where the rest would have taken him.
    """
    k, n = s.shape[-1], w.shape[-1]
    # Window i holds w_{i-k+1+R} ... w_{i+R}; a shift by +1 takes what lies one row below.
    around = w[..., (torch.arange(n + k - 1, device=w.device) + 1 - k + k // 2) % n]
    return (around.unfold(-1, k, 1) * s.flip(-1)[..., None, :]).sum(-1)


def sharpen(w: Float[Tensor, "*h b n"], gamma: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b n"]:
    """w_i^gamma / sum_j w_j^gamma (Equation 9).

    Computed as a softmax of gamma log w, in which no sum underflows, however sharp. An entry below 1e-12 counts as that, so that its logarithm and its
    gradient are finite.
    """
    return _softmax(w.clamp(min=_LEAST).log(), gamma)


def address(
    memory: Float[Tensor, "b n m"],
    w_before: Float[Tensor, "*h b n"],
    *,
    k: Float[Tensor, "*h b m"],
    beta: Float[Tensor, "*h b"],
    g: Float[Tensor, "*h b"],
    s: Float[Tensor, "*h b s"],
    gamma: Float[Tensor, "*h b"],
) -> Float[Tensor, "*h b n"]:
    """The whole way from a key to a weighting (Figure 2): content, gate, shift, sharpen."""
    return sharpen(shift(gate(content(k, memory, beta), w_before, g), s), gamma)


def read(memory: Float[Tensor, "b n m"], w: Float[Tensor, "*h b n"]) -> Float[Tensor, "*h b m"]:
    """r = sum_i w_i M_i (Equation 2)."""
    return (w[..., None, :] @ memory).squeeze(-2)


def write(
    memory: Float[Tensor, "b n m"],
    w: Float[Tensor, "*h b n"],
    e: Float[Tensor, "*h b m"],
    a: Float[Tensor, "*h b m"],
) -> Float[Tensor, "b n m"]:
    """M_i (1 - w_i e) + w_i a (Equations 3 and 4). Of several heads all erase before any adds, so their order does not matter."""
    erased = (1 - w[..., None] * e[..., None, :]).flatten(0, -4).prod(0) if w.ndim > 2 else 1 - w[..., None] * e[..., None, :]
    added = (w[..., None] * a[..., None, :]).flatten(0, -4).sum(0) if w.ndim > 2 else w[..., None] * a[..., None, :]
    return memory * erased + added


def _softmax(x: Float[Tensor, "*h b n"], strength: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b n"]:
    """softmax(strength x). The largest is taken off first: what is infinite after the product is then the smallest, not the largest."""
    return (strength[..., None] * (x - x.amax(-1, keepdim=True).detach())).softmax(-1)
