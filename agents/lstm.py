"""A recurrent network without a memory to address: the control of Graves, Wayne and Danihelka 2014 (Section 4).

Layers of LSTM units, one above the other. As in Graves 2013, "Generating Sequences With Recurrent Neural Networks" (arXiv:1308.0850, Section 2), every
layer is given the input beside the output of the layer below, and all layers give theirs to the output; no peepholes. The first state is learned. This is what
reproduces the parameter counts of the paper's Table 3.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hardattn.checks import at_least_one, way
from hardattn.contract import Answer, Batch, Loss, SequenceSpec, Trace
from hardattn.recurrent import lstm

BOUND = 20.0
"""Logits stay within this distance of zero, as those of the machine that this is the control of."""


@dataclass(frozen=True)
class LSTMConfig:
    """The network; sizes are the paper's for copying (Table 3)."""

    hidden: int = 256
    """Units of a layer."""
    layers: int = 3
    """One above the other."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "layers")

    def build(self, spec: SequenceSpec) -> "LSTM":
        return LSTM(spec, self)


class LSTM(nn.Module):
    """See the module."""

    hows = ("usual",)
    separate: tuple[str, ...] = ()

    def __init__(self, spec: SequenceSpec, config: LSTMConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        d = config.hidden
        # torch's LSTM has two biases that are only ever added. A last input that is always 1 makes do with one.
        self.core = nn.ModuleList(nn.LSTM(spec.inputs + 1 + (d if i else 0), d, bias=False) for i in range(config.layers))
        self.output = nn.Linear(config.layers * d, spec.outputs)
        self.first_h = nn.Parameter(torch.zeros(config.layers, d))
        self.first_c = nn.Parameter(torch.zeros(config.layers, d))

    def forward(self, batch: Batch) -> Loss:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy in nats, summed over the outputs that count, mean over the sequences."""
        logits, counts = self.unroll(batch.question.input).transpose(0, 1), batch.notes[..., None]
        target = batch.target.to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * counts
        nll = each.sum((1, 2)).mean()
        wrong = (((logits > 0) != (target > 0.5)) & counts).any(2).any(1)
        terms = {"bits": nll / math.log(2), "error": 100 * wrong.to(nll.dtype).mean()}
        return Loss(nll, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """Go through every sequence.

        Args:
            question: with an `input` [b, t, c]; nothing else of it is used.
            how: "usual"; there is no other.
            seed: of nothing; there is no noise here.

        Returns:
            Logits [b, t, o], and an empty trace.

        Raises:
            ValueError: if `how` is unknown.
        """
        way(how, self.hows)
        return Answer(self.unroll(question.input).transpose(0, 1), Trace())

    def unroll(self, input: Float[Tensor, "b t c"]) -> Float[Tensor, "t b o"]:
        """Logits of every step."""
        given = F.pad(input.transpose(0, 1).to(self.output.weight.dtype), (0, 1), value=1.0)
        below: list[Tensor] = []
        for layer, h, c in zip(self.core, self.first_h.tanh(), self.first_c.tanh()):
            first = h.expand(1, given.shape[1], -1).contiguous(), c.expand(1, given.shape[1], -1).contiguous()
            below.append(lstm(layer, torch.cat([given, *below[-1:]], -1), first)[0])
        return self.output(torch.cat(below, -1)).clamp(-BOUND, BOUND)
