"""Networks that see the whole image at once: what attention is compared with (Mnih et al. 2014, Section 4.1, Tables 1 and 2).

The paper's baselines are fully connected networks of two hidden layers with 64 or 256 units each, and a convolutional network of two
layers: 8 filters of 10 x 10 pixels with stride 5, then 256 units; rectified units throughout. The defaults are those.

Where this differs from the paper: the number and kind of layers are free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hardattn.checks import at_least_one, way
from hardattn.contract import Answer, Batch, GlimpseSpec, Loss, Trace


@dataclass(frozen=True)
class FullyConnectedConfig:
    """Fully connected layers. The defaults are the paper's larger network."""

    hidden: int = 256
    """Units of every hidden layer."""
    layers: int = 2
    """Hidden layers."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "layers")

    def build(self, spec: GlimpseSpec) -> "WholeImage":
        widths = (spec.image_size, *[self.hidden] * self.layers)
        hidden = [nn.Sequential(nn.Linear(i, o), nn.ReLU()) for i, o in pairwise(widths)]
        return WholeImage(spec, self, nn.Sequential(nn.Flatten(), *hidden, nn.Linear(self.hidden, spec.classes)))


@dataclass(frozen=True)
class ConvNetConfig:
    """Convolutions, then one fully connected layer. The defaults are the paper's network."""

    channels: Sequence[int] = (8,)
    """Filters of every convolution."""
    kernel: int = 10
    """Pixels a side of every filter. Nothing is padded."""
    stride: int = 5
    """Pixels from one place of a filter to the next."""
    hidden: int = 256
    """Units of the fully connected layer."""

    def __post_init__(self) -> None:
        at_least_one(self, "kernel", "stride", "hidden")
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON gives a list back
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must name at least 1 layer with at least 1 filter in each, found {self.channels}")

    def build(self, spec: GlimpseSpec) -> "WholeImage":
        """Raises ValueError if what reaches a convolution is smaller than its filters."""
        size, widths = (spec.height, spec.width), (spec.channels, *self.channels)
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            if min(size) < self.kernel:
                what = "the image has" if not layers else f"after {len(layers) // 2} convolutions it has"
                raise ValueError(f"a kernel of {self.kernel} x {self.kernel} pixels does not fit: {what} {size[0]} x {size[1]}")
            layers += [nn.Conv2d(i, o, self.kernel, self.stride), nn.ReLU()]
            size = ((size[0] - self.kernel) // self.stride + 1, (size[1] - self.kernel) // self.stride + 1)
        layers += [nn.Flatten(), nn.Linear(widths[-1] * size[0] * size[1], self.hidden), nn.ReLU()]
        return WholeImage(spec, self, nn.Sequential(*layers, nn.Linear(self.hidden, spec.classes)))


class WholeImage(nn.Module):
    """Names every image with `network`, which turns images [b, c, h, w] into logits [b, n]."""

    hows = ("mean",)
    separate: tuple[str, ...] = ()

    def __init__(self, spec: GlimpseSpec, config: FullyConnectedConfig | ConvNetConfig, network: nn.Sequential) -> None:
        super().__init__()
        self.spec, self.config, self.network = spec, config, network

    def forward(self, batch: Batch) -> Loss:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy."""
        logits, target = self.logits(batch.question), batch.target
        nll = F.cross_entropy(logits, target)
        error = 100 * (logits.argmax(-1) != target).to(nll.dtype).mean()
        return Loss(nll, {"nll": nll.detach(), "error": error})

    @torch.no_grad()
    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """Name every image.

        Args:
            question: with an `image` [b, c, h, w]; nothing else of it is used.
            how: "mean", the only way there is.
            seed: of nothing; there is no noise here.

        Returns:
            Log-probabilities [b, n], and a trace with the number of values in the image.

        Raises:
            ValueError: if `how` is unknown.
        """
        way(how, self.hows)
        logits = self.logits(question)
        values = logits.new_full(logits.shape[:1], self.spec.image_size)
        return Answer(logits.log_softmax(-1), Trace(sensed=values, reads=values))

    def logits(self, question: Any) -> Float[Tensor, "b n"]:
        return self.network(question.image.to(next(self.parameters()).dtype))  # mixed precision hands in a coarser one
