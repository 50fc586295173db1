"""Five algorithms to be learned from examples: the tasks of Graves, Wayne and Danihelka 2014, "Neural Turing Machines" (Section 4).

A sequence of vectors goes in, and later another comes out, bit by bit; while the agent answers, nothing goes in. What is asked of it is the
same whatever the length, so an agent that has learned the algorithm goes on beyond the lengths that it was trained with: the parts of the test set say how far.

Training sequences of a batch have one size (length, number of items, ...), drawn for the whole batch: sequences of different lengths would have
to be filled up to the longest, and nearly half of the arithmetic would be done on nothing. Over batches the sizes are as in the paper. Frozen
splits mix all training sizes, and are filled up to the longest of the split, so that an example does not depend on its batch.

The channels of repeat-copy, recall and 6-grams are those that the paper's parameter counts imply (tests/agents/test_lstm.py). Copying follows the text,
9 channels in and 8 out; its counts imply 10 and 9, which is repeat-copy with vectors of 8 bits. Those of sorting imply nothing that we could find.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardattn.checks import at_least_one, some_sizes
from hardattn.contract import Answer, Batch, SequenceSpec
from hardattn.noise import fork, integers, keys, uniform
from hardattn.parallel import rank_slice

Size = tuple[int, ...]
"""How long a sequence is, in the task's own terms."""
CONTEXT = 5
"""Bits on which the next one depends in 6-grams."""


class Question(NamedTuple):
    """All that an agent may use to answer."""

    input: Float[Tensor, "b t c"]
    key: Int[Tensor, " b"]
    """Names each example's private stream of noise (see `hardattn.noise`)."""


@dataclass(frozen=True)
class CopyConfig:
    """Sizes of `Copy`; the values of the paper (Section 4.1)."""

    width: int = 8
    """Bits of a vector."""
    length: int = 20
    """Training sequences have 1 to so many vectors."""
    lengths: Sequence[int] = (10, 20, 30, 50, 80, 120)
    """Parts of the test set. The split "test" has the longest training sequences."""
    frozen: int = 200
    """Sequences for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "width", "length", "frozen")
        some_sizes(self, "lengths")

    def build(self, data_dir: Path = Path("data")) -> "Copy":
        return Copy(self)


@dataclass(frozen=True)
class RepeatCopyConfig:
    """Sizes of `RepeatCopy` (Section 4.2). Vectors of 6 bits are what the paper's parameter counts imply."""

    width: int = 6
    """Bits of a vector."""
    length: int = 10
    """Training sequences have 1 to so many vectors."""
    repeats: int = 10
    """They are to be repeated 1 to so many times."""
    lengths: Sequence[int] = (10, 15, 20, 30)
    """Parts of the test set, with the most repeats of training. The split "test" has the largest of training."""
    times: Sequence[int] = (15, 20, 30)
    """Repeats of further parts, with the longest vectors of training."""
    frozen: int = 200
    """Sequences for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "width", "length", "repeats", "frozen")
        some_sizes(self, "lengths")
        some_sizes(self, "times")

    def build(self, data_dir: Path = Path("data")) -> "RepeatCopy":
        return RepeatCopy(self)


@dataclass(frozen=True)
class RecallConfig:
    """Sizes of `Recall`; the values of the paper (Section 4.3)."""

    width: int = 6
    """Bits of a vector."""
    vectors: int = 3
    """Of an item."""
    items: int = 6
    """Training sequences have 2 to so many items."""
    counts: Sequence[int] = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
    """Items of the parts of the test set. The split "test" has the most of training."""
    frozen: int = 200
    """Sequences for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "width", "vectors", "frozen")
        some_sizes(self, "counts")
        if min(self.items, *self.counts) < 2:
            raise ValueError(f"the last item has no next one: there must be at least 2, found {self.items} and {self.counts}")

    def build(self, data_dir: Path = Path("data")) -> "Recall":
        return Recall(self)


@dataclass(frozen=True)
class NgramsConfig:
    """Sizes of `Ngrams`; the values of the paper (Section 4.4)."""

    length: int = 200
    """Bits of a sequence."""
    lengths: Sequence[int] = (100, 200, 400)
    """Parts of the test set. The split "test" has the length of training."""
    frozen: int = 1000
    """Sequences for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "frozen")
        some_sizes(self, "lengths")
        if min(self.length, *self.lengths) <= CONTEXT:
            raise ValueError(
                f"length must be more than the {CONTEXT} bits of a context, found {self.length} and lengths {self.lengths}"
            )

    def build(self, data_dir: Path = Path("data")) -> "Ngrams":
        return Ngrams(self)


@dataclass(frozen=True)
class SortConfig:
    """Sizes of `Sort`; the values of the paper (Section 4.5)."""

    width: int = 8
    """Bits of a vector."""
    vectors: int = 20
    """Of a sequence."""
    highest: int = 16
    """So many of them come out."""
    counts: Sequence[int] = (10, 20, 30)
    """Vectors that go in, of the parts of the test set; the same share of them comes out. The split "test" is as training."""
    frozen: int = 200
    """Sequences for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "width", "vectors", "highest", "frozen")
        some_sizes(self, "counts")
        if self.highest > self.vectors:
            raise ValueError(f"highest must be at most the {self.vectors} vectors that go in, found {self.highest}")

    def build(self, data_dir: Path = Path("data")) -> "Sort":
        return Sort(self)


class Algorithm(ABC):
    """A task (see `hardattn.contract.Task`) of `Question`s. Targets are bits [b, t, o], notes are `counts` [b, t]: the steps whose output is asked for.

    Args:
        name: of the streams of noise.
        spec: channels in and out.
        training: sizes of training and validation, all equally likely.
        parts: sizes of the parts of the test set, by name.
        test: the part that the split "test" is.
        frozen: sequences in validation and in every part.
    """

    metric: ClassVar[str] = "bits"

    def __init__(
        self, name: str, spec: SequenceSpec, training: Sequence[Size], parts: Mapping[str, Size], test: Size, frozen: int
    ) -> None:
        self.name, self.spec, self.training, self.frozen, self.test = name, spec, tuple(training), frozen, test
        self._parts = parts

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._parts)

    @abstractmethod
    def steps(self, size: Size) -> int:
        """Time steps of a sequence of this size."""

    @abstractmethod
    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        """Sequences of one size: their content is a function of their keys."""

    def size(self, split: str) -> int:
        """Sequences in a pass. Training sequences are all new; a pass is only a way of counting them."""
        self._sizes(split)
        return self.frozen

    def scenes(self, split: str, index: Int[Tensor, " b"]) -> Batch:
        """Sequences of a frozen split by number, filled up with zeros to the longest of the split."""
        sizes = self._sizes(split)
        which, key = index % len(sizes), keys(0, f"{self.name} {split}", index)
        b, t = len(index), max(map(self.steps, sizes))
        input, target = torch.zeros(b, t, self.spec.inputs), torch.zeros(b, t, self.spec.outputs)
        counts = torch.zeros(b, t, dtype=torch.bool)
        for i in which.unique().tolist():
            rows = which == i
            part = self.sequences(key[rows], sizes[i])
            steps = part.notes.shape[1]
            input[rows, :steps], target[rows, :steps], counts[rows, :steps] = part.question.input, part.target, part.notes
        return Batch(Question(input, fork(key, "agent")), target, counts)

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `hardattn.contract.Task.batches`. In training with several processes each gets its share of the global batch.

        Raises:
            ValueError: if there is no such split, or if `batch_size` is less than 1 or cannot be shared evenly.
        """
        sizes = self._sizes(split)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        if split == "train":
            share = rank_slice(batch_size)
            while True:
                size = integers(keys(seed, f"{self.name} size", torch.tensor(start)), 1, len(sizes)).item()
                index = torch.arange(share.start, share.stop) + start * batch_size
                yield self.sequences(keys(seed, f"{self.name} train", index), sizes[int(size)])
                start += 1
        for first in range(start * batch_size, self.frozen, batch_size):
            yield self.scenes(split, torch.arange(first, min(first + batch_size, self.frozen)))

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """One number per sequence, over the outputs that count. `answer.output` is the logits [b, t, o].

        `bits` is the sum of the cross-entropies in bits (the paper's cost per sequence), `wrong-bits` the percentage of bits on the wrong side of
        1/2, and `error` 100 where any bit is wrong.
        """
        logits, target, counts = answer.output, batch.target, batch.notes[..., None]
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") / math.log(2)
        wrong = ((logits > 0) != (target > 0.5)) & counts
        asked = counts.sum((1, 2)) * target.shape[-1]
        return {
            "bits": (each * counts).sum((1, 2)),
            "wrong-bits": 100 * wrong.sum((1, 2)) / asked,
            "error": 100 * wrong.any(2).any(1).float(),
        }

    def _blank(
        self, key: Int[Tensor, " b"], size: Size
    ) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b t o"], Bool[Tensor, "b t"]]:
        """Input, target and counts with nothing in them."""
        b, t = len(key), self.steps(size)
        input, target = (torch.zeros(b, t, size, device=key.device) for size in (self.spec.inputs, self.spec.outputs))
        return input, target, torch.zeros(b, t, dtype=torch.bool, device=key.device)

    def _sizes(self, split: str) -> tuple[Size, ...]:
        if split in ("train", "validation"):
            return self.training
        if split == "test":
            return (self.test,)
        if split not in self._parts:
            raise ValueError(
                f'split must be one of the parts {", ".join(self._parts)}, or "train", "validation" or "test", found {split!r}'
            )
        return (self._parts[split],)


class Copy(Algorithm):
    """Say again what was heard: vectors, a delimiter on a channel of its own, and then the vectors are to come out (Section 4.1)."""

    def __init__(self, config: CopyConfig) -> None:
        self.config, w = config, config.width
        training = [(length,) for length in range(1, config.length + 1)]
        parts = {f"length-{length}": (length,) for length in config.lengths}
        super().__init__("copy", SequenceSpec(w + 1, w), training, parts, training[-1], config.frozen)

    def steps(self, size: Size) -> int:
        (length,) = size
        return 2 * length + 1

    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        (length,) = size
        input, target, counts = self._blank(key, size)
        vectors = _vectors(key, length, self.config.width)
        input[:, :length, :-1] = vectors
        input[:, length, -1] = 1.0
        target[:, length + 1 :] = vectors
        counts[:, length + 1 :] = True
        return Batch(Question(input, fork(key, "agent")), target, counts)


class RepeatCopy(Algorithm):
    """Say again so many times, and say when done (Section 4.2).

    After the vectors, one step has the delimiter and on a channel of its own the number of repeats, normalised to mean 0 and variance 1 over
    training. The last output has the end marker on a channel of its own. With one repeat this is `Copy`, with a marker more.
    """

    def __init__(self, config: RepeatCopyConfig) -> None:
        self.config, w = config, config.width
        training = list(product(range(1, config.length + 1), range(1, config.repeats + 1)))
        parts = {f"length-{length}": (length, config.repeats) for length in config.lengths}
        parts |= {f"repeats-{repeats}": (config.length, repeats) for repeats in config.times}
        super().__init__("repeat copy", SequenceSpec(w + 2, w + 1), training, parts, training[-1], config.frozen)

    def steps(self, size: Size) -> int:
        length, repeats = size
        return length + 1 + length * repeats + 1

    def normalised(self, repeats: int) -> float:
        """The number of repeats as the agent is told it."""
        most = self.config.repeats
        return (repeats - (1 + most) / 2) / math.sqrt((most**2 - 1) / 12) if most > 1 else float(repeats - 1)

    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        length, repeats = size
        input, target, counts = self._blank(key, size)
        vectors = _vectors(key, length, self.config.width)
        input[:, :length, :-2] = vectors
        input[:, length, -2] = 1.0
        input[:, length, -1] = self.normalised(repeats)
        target[:, length + 1 : -1, :-1] = vectors.repeat(1, repeats, 1)
        target[:, -1, -1] = 1.0
        counts[:, length + 1 :] = True
        return Batch(Question(input, fork(key, "agent")), target, counts)


class Recall(Algorithm):
    """Which item came after this one? (Section 4.3.)

    Every item, a few vectors, follows a delimiter on a channel of its own. Then one of them, never the last, comes again between two
    delimiters on another channel, and the item that followed it is to come out.
    """

    def __init__(self, config: RecallConfig) -> None:
        self.config, w = config, config.width
        training = [(items,) for items in range(2, config.items + 1)]
        parts = {f"items-{items}": (items,) for items in config.counts}
        super().__init__("recall", SequenceSpec(w + 2, w), training, parts, training[-1], config.frozen)

    def steps(self, size: Size) -> int:
        (items,) = size
        return items * (1 + self.config.vectors) + 2 * (1 + self.config.vectors)

    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        (items,), v = size, self.config.vectors
        input, target, counts = self._blank(key, size)
        item = _vectors(key, items * v, self.config.width).unflatten(1, (items, v))
        asked, rows = integers(fork(key, "asked"), 1, items - 1)[:, 0], torch.arange(len(key), device=key.device)
        shown = input[:, : items * (1 + v)].unflatten(1, (items, 1 + v))  # views: what is written here is written to the input
        shown[:, :, 0, -2] = 1.0
        shown[:, :, 1:, :-2] = item
        query = input[:, items * (1 + v) :]
        query[:, [0, v + 1], -1] = 1.0
        query[:, 1 : v + 1, :-2] = item[rows, asked]
        target[:, -v:] = item[rows, asked + 1]
        counts[:, -v:] = True
        return Batch(Question(input, fork(key, "agent")), target, counts)


class Ngrams(Algorithm):
    """Which bit is next? (Section 4.4.)

    Each sequence has its own table of 32 probabilities of a one, from Beta(1/2, 1/2), one for every context of 5 bits. The first 5 bits
    are even, those after them are drawn from the table, and each is to be predicted after the one before it was seen: what goes in is the
    sequence, one step late. `optimal_bits` is what can be had: 133 bits, which is the paper's number if the first 5 bits count too, so they do.
    """

    def __init__(self, config: NgramsConfig) -> None:
        self.config = config
        size = (config.length,)
        parts = {f"length-{length}": (length,) for length in config.lengths}
        super().__init__("ngrams", SequenceSpec(1, 1), [size], parts, size, config.frozen)

    def steps(self, size: Size) -> int:
        (length,) = size
        return length

    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        (length,) = size
        input, _, counts = self._blank(key, size)
        # A number from Beta(1/2, 1/2) is the squared sine of an even angle.
        table = (uniform(fork(key, "table"), 2**CONTEXT) * (math.pi / 2)).sin().square()
        noise = uniform(fork(key, "bits"), length)
        bits, context = [(noise[:, i] < 0.5).long() for i in range(CONTEXT)], torch.zeros_like(key)
        for bit in bits:
            context = 2 * context + bit
        for i in range(CONTEXT, length):
            bit = (noise[:, i] < table.gather(1, context[:, None])[:, 0]).long()
            bits.append(bit)
            context = (2 * context + bit) % 2**CONTEXT
        target = torch.stack(bits, 1)[..., None].float()
        input[:, 1:] = target[:, :-1]
        return Batch(Question(input, fork(key, "agent")), target, ~counts)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """As all algorithms, and `optimal-bits`: what the best predictor pays for the same sequence."""
        return {**super().score(answer, batch), "optimal-bits": optimal_bits(batch)}


class Sort(Algorithm):
    """Vectors with priorities go in, those of the highest priorities come out, the highest first (Section 4.5).

    Priorities are even in [-1, 1], on a channel of their own. There is no delimiter: all sequences are of one length.
    """

    def __init__(self, config: SortConfig) -> None:
        self.config = config
        size = (config.vectors,)
        parts = {f"vectors-{count}": (count,) for count in config.counts}
        super().__init__("sort", SequenceSpec(config.width + 1, config.width), [size], parts, size, config.frozen)

    def steps(self, size: Size) -> int:
        (vectors,) = size
        return vectors + self.highest(vectors)

    def highest(self, vectors: int) -> int:
        """How many of so many come out."""
        return max(1, round(vectors * self.config.highest / self.config.vectors))

    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        (n,) = size
        input, target, counts = self._blank(key, size)
        vectors, priority = _vectors(key, n, self.config.width), 2 * uniform(fork(key, "priority"), n) - 1
        input[:, :n, :-1], input[:, :n, -1] = vectors, priority
        first = priority.argsort(dim=1, descending=True, stable=True)[:, : self.highest(n)]
        target[:, n:] = vectors.gather(1, first[..., None].expand(-1, -1, self.config.width))
        counts[:, n:] = True
        return Batch(Question(input, fork(key, "agent")), target, counts)


def optimal_bits(batch: Batch) -> Float[Tensor, " b"]:
    """What the best predictor of 6-grams pays for every sequence of a batch of `Ngrams`, in bits.

    Having seen N1 ones and N0 zeros after a context, it gives a one (N1 + 1/2) / (N1 + N0 + 1) (Equation 10). The first 5 bits cost one each.
    """
    bits = batch.target[..., 0].long()
    rows = torch.arange(len(bits), device=bits.device)
    seen, paid = bits.new_zeros(len(bits), 2**CONTEXT, 2).float(), []
    windows = bits.unfold(1, CONTEXT, 1) @ (2 ** torch.arange(CONTEXT - 1, -1, -1, device=bits.device))
    for i in range(bits.shape[1] - CONTEXT):
        place = rows, windows[:, i], bits[:, i + CONTEXT]
        paid.append((seen[place] + 0.5) / (seen[place[:2]].sum(-1) + 1))
        seen[place] += 1
    return CONTEXT - torch.stack(paid, 1).log2().sum(1)


def _vectors(key: Int[Tensor, " b"], count: int, width: int) -> Float[Tensor, "b {count} {width}"]:
    """Random bits. The first vectors of a longer sequence are those of a shorter one."""
    return integers(fork(key, "vectors"), count * width, 2).unflatten(1, (count, width)).float()
