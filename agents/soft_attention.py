"""Soft attention over a feature map: every read is a weighted mean of all places (Xu et al. 2015, "Show, Attend and Tell", ICML).

A convolutional encoder turns the image into a map of annotation vectors (Section 3.1.1). An LSTM reads the map several times; before
each read its state scores every place, and what it gets is the mean of all places under the softmax of the scores (Section 4.2, the
deterministic "soft" attention), times a gate (Section 4.2.1). After the last read a classifier answers. All of it can be differentiated.

Where this differs from the paper: it names one class instead of writing a caption, so the LSTM's input is what was read alone, and the
classifier sees the state alone. The encoder is small, learned with the rest, and is told where every pixel is (two more channels, as in
Liu et al. 2018, Section 3): the scores could not prefer a place otherwise. The initial state comes from one layer with tanh for h and one
for c. `supervise` and `gate` are options here; `doubly_stochastic` is the paper's lambda, 0 unless asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hardattn.attention import additive_score, soft_read
from hardattn.checks import at_least_one, at_least_zero, literals, way
from hardattn.contract import Answer, Batch, GlimpseSpec, Loss, Trace


@dataclass(frozen=True)
class SoftAttentionConfig:
    """The model and its training signal."""

    channels: Sequence[int] = (16, 32, 64)
    """Filters of every layer of the encoder (3 x 3). Each layer halves the map: three layers make 5 x 5 places of 40 x 40 pixels."""
    hidden: int = 128
    """Units of the LSTM."""
    attention: int = 64
    """Units of the layer that scores the places."""
    reads: int = 0
    """How often the map is read. 0: as often as a hard agent may look (the task's glimpses)."""
    gate: bool = True
    """Multiply what is read by a number between 0 and 1 that depends on the state (the paper's beta)."""
    doubly_stochastic: float = 0.0
    """Weight of the penalty on places that get more or less than their share over all reads (the paper's lambda)."""
    supervise: Literal["end", "every"] = "end"
    """Cross-entropy after the last read, or the mean over all reads."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "attention")
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON gives a list back
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must name at least 1 layer with at least 1 filter in each, found {self.channels}")
        if self.reads < 0:
            raise ValueError(f"reads must be at least 1, or 0 for the task's glimpses; found {self.reads}")
        at_least_zero(self, "doubly_stochastic")
        literals(self)

    def build(self, spec: GlimpseSpec) -> "SoftAttention":
        return SoftAttention(spec, self)


class Reads(NamedTuple):
    """What happened at every read, time first."""

    logits: Float[Tensor, "t b n"]
    weights: Float[Tensor, "t b places"]


class SoftAttention(nn.Module):
    """See the module. Letters in the code are the paper's: a the annotation vectors, z what is read, h and c the LSTM's state."""

    hows = ("mean", "uniform")
    separate: tuple[str, ...] = ()

    def __init__(self, spec: GlimpseSpec, config: SoftAttentionConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        features = config.channels[-1]
        widths = (spec.channels + 2, *config.channels)
        self.encoder = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.key = nn.Linear(features, config.attention)
        self.query = nn.Linear(config.hidden, config.attention, bias=False)  # the key has a bias already
        self.score = nn.Linear(config.attention, 1, bias=False)  # the softmax would not notice a bias
        self.initial_h = nn.Linear(features, config.hidden)
        self.initial_c = nn.Linear(features, config.hidden)
        self.gate = nn.Linear(config.hidden, 1) if config.gate else None
        self.core = nn.LSTMCell(features, config.hidden)
        self.classifier = nn.Linear(config.hidden, spec.classes)

    @property
    def reads(self) -> int:
        return self.config.reads or self.spec.glimpses

    @property
    def map_size(self) -> tuple[int, int]:
        """(rows, columns) of the map: `trace.weights` has the places line by line."""
        halved = 2 ** len(self.config.channels)
        return -(-self.spec.height // halved), -(-self.spec.width // halved)

    def forward(self, batch: Batch) -> Loss:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy, and the penalty if asked for (Equation 14)."""
        config, target = self.config, batch.target
        logits, weights = self.read(batch.question)
        judged = logits if config.supervise == "every" else logits[-1:]
        nll = F.cross_entropy(judged.flatten(0, 1), target.repeat(len(judged)))
        terms = {
            "nll": nll,
            "error": 100 * (logits[-1].argmax(-1) != target).to(nll.dtype).mean(),
            "entropy": torch.special.entr(weights).sum(-1).mean(),  # of the weights in nats
        }
        total = nll
        if config.doubly_stochastic:
            uneven = unevenness(weights)
            total = total + config.doubly_stochastic * uneven
            terms["unevenness"] = uneven
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """Read every image and name it.

        Args:
            question: with an `image` [b, c, h, w]; nothing else of it is used.
            how: "mean", the usual way (the weights as learned), or a control that ignores them: "uniform" (every place alike at every read).
            seed: of nothing; there is no noise here.

        Returns:
            Log-probabilities [b, n], and a trace. `sensed` counts every value of the image: each takes part in every read.

        Raises:
            ValueError: if `how` is unknown.
        """
        how = way(how, self.hows)
        logits, weights = self.read(question, learned=how == "mean")
        trace = Trace(
            belief=logits.softmax(-1).transpose(0, 1),
            weights=weights.transpose(0, 1),
            sensed=logits.new_full(logits.shape[1:2], self.spec.image_size),
            scores=logits.new_full(logits.shape[1:2], weights[:, 0].numel()),
            reads=logits.new_full(logits.shape[1:2], weights[:, 0].numel() * self.config.channels[-1]),
        )
        return Answer(logits[-1].log_softmax(-1), trace)

    def read(self, question: Any, *, learned: bool = True) -> Reads:
        """Encode the images once and read their maps `reads` times, with the weights learned or with equal ones."""
        a = self.encode(question.image)
        keys, v = self.key(a), self.score.weight[0]
        mean = a.mean(1)
        h, c = self.initial_h(mean).tanh(), self.initial_c(mean).tanh()
        states, weights = [], []
        for _ in range(self.reads):
            scores = additive_score(keys, self.query(h), v) if learned else keys.new_zeros(keys.shape[:2])
            z, alpha = soft_read(scores, a)
            if self.gate is not None:
                z = self.gate(h).sigmoid() * z
            h, c = self.core(z, (h, c))
            states.append(h)
            weights.append(alpha)
        return Reads(self.classifier(torch.stack(states)), torch.stack(weights))

    def encode(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b places d"]:
        """Annotation vectors, line by line."""
        image = image.to(self.key.weight.dtype)  # mixed precision hands in a coarser one
        where = coordinates(image).expand(len(image), -1, -1, -1)
        a = torch.cat([image, where], dim=1)
        for layer in self.encoder:
            a = layer(a).relu()
        return a.flatten(2).transpose(1, 2)


def coordinates(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "2 h w"]:
    """(x, y) of the middle of every pixel; the image reaches from -1 to 1 both ways."""
    h, w = image.shape[-2:]
    x, y = ((2 * torch.arange(side, device=image.device, dtype=image.dtype) + 1) / side - 1 for side in (w, h))
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)])


def unevenness(weights: Float[Tensor, "t b places"]) -> Float[Tensor, ""]:
    """sum_i (1 - sum_t alpha_ti)^2, mean over the examples (Equation 14).

    The weights of a read sum to one, so another share than 1 (T reads of L places can give T / L each) changes this by a constant only.
    """
    return (1 - weights.sum(0)).square().sum(-1).mean()
