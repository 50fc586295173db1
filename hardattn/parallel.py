"""What several processes training one model must agree on. On a single process these functions change nothing."""

import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank of this process, number of processes)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def global_sum(value: Tensor) -> Tensor:
    """Sum of `value` over all processes, as a constant."""
    value = value.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(value)
    return value


def global_mean(value: Tensor) -> Tensor:
    """Mean of `value` over all processes, as a constant."""
    return global_sum(value) / world()[1]


def leave() -> None:
    """Part from the other processes, at the very end: one whose threads still listen to them may be aborted as it exits."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank_slice(batch_size: int) -> slice:
    """The part of a global batch that belongs to this process.

    Raises:
        ValueError: if the batch cannot be shared out evenly, for then the mean of the processes' gradients is not the batch's gradient.
    """
    rank, size = world()
    if batch_size % size:
        raise ValueError(
            f"a global batch of {batch_size} cannot be shared evenly by {size} processes: make it a multiple of {size}"
        )
    share = batch_size // size
    return slice(rank * share, (rank + 1) * share)
