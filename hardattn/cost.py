"""What attention costs: arithmetic, memory, and how much of the image has to be read for one decision."""

import time
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hardattn.contract import Agent


class Cost(NamedTuple):
    """Of one answer to one question."""

    parameters: int
    flops: float
    """Floating-point operations in matrix products and convolutions (a multiplication and an addition are two)."""
    sensed: float
    """Values that the sensor delivered to the network."""
    scores: float
    """Places that were weighed against one another, over all reads: what attention computes before it reads."""
    reads: float
    """Values that went into what was read: every pixel or feature with a weight of its own."""
    milliseconds: float
    """Of wall time, in a batch."""


@torch.inference_mode()
def cost(agent: Agent, question: Any, how: str | None = None, *, repeats: int = 5) -> Cost:
    """Measure an answer on `question`, a batch of b examples; every figure is per example.

    The time is the shortest of `repeats`, because whatever else runs can only add to it. Time nothing while something else runs.
    """
    assert isinstance(agent, nn.Module)
    with FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        answer = agent.answer(question, how)
    b, trace = len(answer.output), answer.trace
    fastest = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        agent.answer(question, how)
        fastest = min(fastest, time.perf_counter() - began)
    sensed, scores, reads = (0.0 if x is None else x.double().mean().item() for x in (trace.sensed, trace.scores, trace.reads))
    parameters = sum(p.numel() for p in agent.parameters())
    return Cost(parameters, counter.get_total_flops() / b, sensed, scores, reads, 1000 * fastest / b)


def _product_in_place(total: Any, one: Any, other: Any, *, out_val: Any = None, **_: Any) -> int:
    """addmm_: [n, k] times [k, m]."""
    return 2 * one.shape[0] * one.shape[1] * other.shape[1]


def _product_with_a_vector(matrix: Any, vector: Any, *, out_val: Any = None, **_: Any) -> int:
    """mv: [n, k] times [k]."""
    return 2 * matrix.numel()


def _lstm(inputs: Any, *weights: Any, out_val: Any = None, **_: Any) -> int:
    """A layer of an LSTM in one kernel: its two matrices, for every row of the input."""
    matrices = [w for w in weights[:2] if isinstance(w, torch.Tensor)]
    return sum(2 * w.numel() for w in matrices) * (inputs.numel() // inputs.shape[-1])


for _formula in (_product_in_place, _product_with_a_vector, _lstm):
    setattr(_formula, "_get_raw", True)  # noqa: B010 - hands over tensors instead of shapes
_UNCOUNTED = {
    torch.ops.aten.addmm_: _product_in_place,
    torch.ops.aten.mv: _product_with_a_vector,
    torch.ops.aten.mkldnn_rnn_layer: _lstm,
}
"""What the counter does not know."""
