"""Noise must be a function of its address alone, and look like noise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardattn.noise import bits, fork, integers, keys, mix, normal, permutation, uniform

MANY = 200_000


def _unsigned(words: torch.Tensor) -> list[int]:
    return [word % 2**64 for word in words.tolist()]


def test_bits_are_the_published_splitmix64():
    """The first words of the reference implementation started from 0 and from 1234567."""
    assert _unsigned(bits(torch.tensor(0), 3)) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert _unsigned(bits(torch.tensor(1234567), 2)) == [6457827717110365317, 3203168211198807973]


def test_every_kind_of_number_is_the_same_as_ever():
    """What was published with a seed must stay reproducible: changing these numbers changes every scene and every run."""
    key = keys(3, "a stream", torch.tensor([5]))
    assert key.tolist() == [7597054658890388591]
    assert fork(key, "another").tolist() == [5582300991177582310]
    assert integers(key, 4, 1000).tolist() == [[264, 956, 21, 666]]
    torch.testing.assert_close(uniform(key, 3), torch.tensor([[0.26480979, 0.95645505, 0.02147955]]), rtol=0, atol=1e-7)
    torch.testing.assert_close(normal(key, 3), torch.tensor([[1.5695442, -1.3869176, -0.4404749]]), rtol=0, atol=1e-5)
    assert permutation(0, "order", 8).tolist() == [1, 6, 0, 5, 4, 2, 3, 7]


@given(st.integers(-(2**63), 2**63 - 1))
def test_mix_equals_its_definition_in_whole_numbers(x):
    z = x % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    assert _unsigned(mix(torch.tensor([x]))) == [z ^ (z >> 31)]


@pytest.mark.parametrize("draw", [bits, uniform, normal, lambda key, count: integers(key, count, 7)])
def test_noise_does_not_depend_on_the_batch(draw):
    key = keys(0, "batch", torch.arange(6).view(2, 3))
    together = draw(key, 5)
    assert together.shape == (2, 3, 5)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], draw(key[i, j], 5))


def test_keys_differ_in_seed_stream_and_index():
    index = torch.arange(1000)
    everything = [keys(seed, stream, index) for seed in (-1, 0, 1, 2**40) for stream in ("", "a", "b", "train scenes")]
    everything += [fork(key, name) for key in everything for name in ("a", "b")]
    words = torch.cat(everything)
    assert len(words.unique()) == len(words)


def test_streams_of_one_example_do_not_meet():
    """As they are forked in use: for the first gaze, for the agent, and from there for every use of the agent's."""
    key = keys(0, "test scenes", torch.arange(1000))
    agent = fork(key, "agent")
    streams = [key, fork(key, "first gaze"), agent, fork(agent, "gaze"), *(fork(agent, f"answer {seed}") for seed in range(3))]
    words = torch.cat([bits(stream, 50).flatten() for stream in streams])
    assert len(words.unique()) == len(words)


def test_neighbouring_streams_are_uncorrelated():
    """Neighbours in seed, in name, in index and in position: a correlation beyond 5 standard errors would be one in a million."""
    index = torch.arange(MANY)
    first = normal(keys(0, "x", index), 2)
    others = {
        "seed": normal(keys(1, "x", index), 1)[:, 0],
        "name": normal(keys(0, "y", index), 1)[:, 0],
        "fork": normal(fork(keys(0, "x", index), "x"), 1)[:, 0],
        "index": first[:, 0].roll(1),
        "position": first[:, 1],
    }
    for name, other in others.items():
        assert abs((first[:, 0] * other).mean()) < 5 / math.sqrt(MANY), name


def test_uniform_is_uniform_and_never_an_end():
    u = uniform(keys(0, "u", torch.arange(MANY // 4)), 4).flatten()
    assert u.min() > 0 and u.max() < 1
    counts = torch.histc(u, bins=20, min=0, max=1)
    expected = MANY / 20
    assert ((counts - expected).square() / expected).sum() < 19 + 5 * math.sqrt(2 * 19)  # chi-squared of 19 degrees of freedom
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / MANY)


def test_uniform_reaches_the_ends_of_its_cells_in_float32():
    """The extreme words give the first and the last cell: 2^-24 and 1 - 2^-24."""
    for word, value in ((0, 2.0**-24), (2**64 - 1, 1 - 2.0**-24)):
        key = torch.tensor([_inverse_of_mix(word)])
        assert uniform(key, 1).item() == value
        assert math.isfinite(normal(key, 1).item())


def _inverse_of_mix(z: int) -> int:
    """The key whose first word is `z`."""

    def unshift(z: int, by: int) -> int:
        x = z
        for _ in range(64 // by + 1):
            x = z ^ x >> by
        return x

    z = unshift(z, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    z = (unshift(z, 30) - 0x9E3779B97F4A7C15) % 2**64
    return z - 2**64 if z >= 2**63 else z


@pytest.mark.parametrize("below", [1, 2, 7, 1000, 2**31])
def test_integers_are_uniform_up_to_but_without_their_bound(below):
    numbers = integers(keys(0, "i", torch.arange(MANY)), 1, below).flatten()
    assert numbers.min() >= 0 and numbers.max() < below
    if below <= 7:
        assert numbers.unique().tolist() == list(range(below))
    mean, deviation = (below - 1) / 2, math.sqrt((below**2 - 1) / 12)
    assert abs(numbers.double().mean() - mean) <= 5 * deviation / math.sqrt(MANY)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_normal_is_standard_normal(count):
    """Its first four moments, its tail, and no correlation within an example."""
    x = normal(keys(0, "n", torch.arange(MANY)), count).double()
    assert x.shape == (MANY, count)
    error = 5 / math.sqrt(MANY)
    for moment, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert ((x**moment).mean(0) - mean).abs().max() < error * math.sqrt(variance), moment
    assert ((x.abs() > 2).double().mean(0) - math.erfc(math.sqrt(2))).abs().max() < error * 0.21
    correlation = x.T @ x / MANY
    assert (correlation - torch.diag(correlation.diag())).abs().max() < error


@given(st.integers(-5, 5), st.integers(0, 300))
def test_a_permutation_is_a_permutation(seed, count):
    assert permutation(seed, "order", count).sort().values.tolist() == list(range(count))


def test_permutations_put_every_number_everywhere():
    places = torch.stack([permutation(seed, "order", 5) for seed in range(1000)])
    counts = torch.stack([(places == number).sum(0) for number in range(5)]).double()
    assert (counts - 200).abs().max() < 5 * math.sqrt(1000 * 0.2 * 0.8)
