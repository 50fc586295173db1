"""Random numbers as a function of their address: no generator, no state, any batch size.

A number is addressed by (key of the example, position in the example's stream). Every example therefore meets the same
noise whether it is drawn alone, in a batch, on one process or on several, and a resumed run meets the noise that the
uninterrupted one would have met. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, Section 3) applied to a
Weyl sequence, the construction that the paper itself tests with BigCrush and passes.
"""

import math
import zlib
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

_WORD = 2**64


def _signed(x: int) -> int:
    """The 64 bits of `x` as torch holds them: it has no unsigned arithmetic."""
    x %= _WORD
    return x - _WORD if x >= _WORD // 2 else x


_GAMMA = _signed(0x9E3779B97F4A7C15)  # the golden ratio
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shifted_xor(x: Tensor, by: int) -> Tensor:
    """x ^ (x >>> by): torch shifts arithmetically, so the copied sign bits are masked away."""
    return ((x >> by) & ((1 << (64 - by)) - 1)) ^ x


def mix(x: Int[Tensor, "*a"]) -> Int[Tensor, "*a"]:
    """SplitMix64's finaliser, a bijection of the 64-bit integers whose output bits look independent."""
    x = _shifted_xor(x, 30) * _MIX_1
    x = _shifted_xor(x, 27) * _MIX_2
    return _shifted_xor(x, 31)


def _mix_word(x: int) -> int:
    """`mix` of one Python integer."""
    x %= _WORD
    x = (x ^ x >> 30) * (_MIX_1 % _WORD) % _WORD
    x = (x ^ x >> 27) * (_MIX_2 % _WORD) % _WORD
    return x ^ x >> 31


@lru_cache
def _root(seed: int, stream: str) -> int:
    return _signed(_mix_word(_mix_word(seed * _GAMMA + 1) + zlib.crc32(stream.encode()) * _GAMMA))


def keys(seed: int, stream: str, index: Int[Tensor, "*a"]) -> Int[Tensor, "*a"]:
    """A key for every entry of `index`: two keys are unrelated if any of seed, stream name and index differs."""
    return mix((index.long() + 1) * _GAMMA + _root(seed, stream))


def fork(key: Int[Tensor, "*a"], stream: str) -> Int[Tensor, "*a"]:
    """A new key for every key: an independent stream for another use of the same example. Forking twice by one name undoes the fork."""
    return key ^ _root(0, stream)  # `bits` mixes; streams that begin at unrelated places do not meet


def bits(key: Int[Tensor, "*a"], count: int) -> Int[Tensor, "*a {count}"]:
    """The first `count` 64-bit words of every key's stream."""
    position = torch.arange(1, count + 1, device=key.device) * _GAMMA
    return mix(key[..., None] + position)


def uniform(key: Int[Tensor, "*a"], count: int) -> Float[Tensor, "*a {count}"]:
    """Numbers in the open interval (0, 1): the middles of 2^23 equal cells, so that neither 0 nor 1 occurs in float32."""
    return ((bits(key, count) >> 41 & (2**23 - 1)).float() + 0.5) * 2.0**-23


def integers(key: Int[Tensor, "*a"], count: int, below: int) -> Int[Tensor, "*a {count}"]:
    """Integers in [0, below), for `below` up to 2^31 (the bias of the multiplication is less than below / 2^32)."""
    return ((bits(key, count) >> 32 & (2**32 - 1)) * below) >> 32


def normal(key: Int[Tensor, "*a"], count: int) -> Float[Tensor, "*a {count}"]:
    """Standard normal numbers by the transformation of Box and Muller (1958)."""
    u = uniform(key, 2 * math.ceil(count / 2))
    radius, angle = (-2.0 * u[..., 0::2].log()).sqrt(), (2.0 * math.pi) * u[..., 1::2]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[..., :count]


def permutation(seed: int, stream: str, count: int) -> Int[Tensor, " {count}"]:
    """A shuffling of range(count), the same on every device and thread count."""
    return keys(seed, stream, torch.arange(count)).argsort()
