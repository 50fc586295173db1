"""Tasks whose scenes have numbers: whoever can draw scene k of a split has batches of them, in order, for any number of processes."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardattn.contract import Answer, Batch
from hardattn.parallel import rank_slice


@runtime_checkable
class Scenes(Protocol):
    """A task whose scenes can be drawn by number, such as `envs.digits.Digits`."""

    spec: Any

    def size(self, split: str) -> int: ...

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch: ...


def in_order(task: Scenes, split: str, *, batch_size: int, seed: int, start: int) -> Iterator[Batch]:
    """See `hardattn.contract.Task.batches`. In training with several processes each gets its share of the global batch.

    Raises:
        ValueError: if `batch_size` is less than 1 or cannot be shared evenly.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    if split == "train":
        share = rank_slice(batch_size)
        while True:
            yield task.scenes(split, torch.arange(share.start, share.stop) + start * batch_size, seed)
            start += 1
    total = task.size(split)
    for first in range(start * batch_size, total, batch_size):
        yield task.scenes(split, torch.arange(first, min(first + batch_size, total)))


def frozen_size(split: str, frozen: int) -> int:
    """Scenes in a pass of a task whose scenes are all made up: `frozen`, whatever the split.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f'split must be "train", "validation" or "test", found {split!r}')
    return frozen


def classification_error(answer: Answer, batch: Batch) -> Float[Tensor, " b"]:
    """100 where the likeliest class is not the target, else 0, so that its mean is in percent."""
    return (answer.output.argmax(-1) != batch.target).float() * 100
