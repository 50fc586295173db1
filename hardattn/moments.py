"""Mean and variance of what was seen, so that a network is given numbers of one size whatever the sensor gives.

A pixel that is nearly always dark is else drowned by the biases of the layer that reads it, and by whatever else the network is told.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hardattn.parallel import global_sum

LEAST = 1e-4
"""The smallest variance that is divided by: what never changed in training must not become huge should it ever change."""


class Moments(nn.Module):
    """Mean and variance of all observations so far, which its forward takes out of them (Andrychowicz et al. 2021, Section 3.4): state, not parameters.

    Args:
        width: numbers of an observation; each has moments of its own.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    @property
    def scale(self) -> Float[Tensor, " o"]:
        return self.variance.clamp(min=LEAST).rsqrt()

    def forward(self, seen: Float[Tensor, "*r o"]) -> Float[Tensor, "*r o"]:
        return (seen - self.mean) * self.scale

    def before(self, layer: nn.Linear) -> tuple[Float[Tensor, "f o"], Float[Tensor, " f"]]:
        """Weight and bias of the layer that does to observations what `layer` does to standardised ones, with the gradient in `layer`'s: no
        observation has to be touched."""
        weight = layer.weight * self.scale
        return weight, layer.bias - F.linear(self.mean.clone(), weight)  # `learn` may come before the gradient is taken

    @torch.no_grad()
    def learn(self, seen: Float[Tensor, "*r o"], alive: Bool[Tensor, "*r"] | None = None) -> None:
        """Take in what was seen, over all processes (Chan, Golub and LeVeque 1983); of padded episodes only where they are `alive`."""
        rows = seen.detach().flatten(0, -2).to(self.mean)
        if alive is None:
            count, total = rows.new_tensor(len(rows)), rows.sum(0)
        else:
            weight = alive.flatten()[:, None].to(rows)
            count, total = weight.sum(), (rows * weight).sum(0)
        count = global_sum(count)
        mean = global_sum(total) / count
        square = (rows - mean).square()
        variance = global_sum((square if alive is None else square * weight).sum(0)) / count
        share = count / (self.count + count)
        self.variance.lerp_(variance, share).add_((mean - self.mean).square() * share * (1 - share))
        self.mean.lerp_(mean, share)
        self.count += count
