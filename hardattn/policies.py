"""Where to look next: distributions over places, as plain values. An agent's network gives the parameters; noise is handed in, never drawn here.

Shapes are those of rollouts: parameters [*r, p], actions [*r, a], places [*r, 2] with (x, y) in [-1, 1] and possibly beyond.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardattn.estimators import gaussian_entropy, gaussian_log_prob
from hardattn.noise import normal, uniform


class GazePolicy(Protocol):
    """What an agent asks of a distribution over places."""

    @property
    def parameters(self) -> int:
        """Numbers that the network must give for a move."""
        ...

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} a"]:
        """What `draw` turns into actions; an example's noise depends on its own key alone."""
        ...

    def draw(self, parameters: Float[Tensor, "*r p"], noise: Float[Tensor, "*r a"]) -> Float[Tensor, "*r a"]: ...

    def likeliest(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r a"]: ...

    def place(self, action: Float[Tensor, "*r a"]) -> Float[Tensor, "*r 2"]: ...

    def log_prob(self, action: Float[Tensor, "*r a"], parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        """Of what was drawn, not of the place that the environment made of it."""
        ...

    def entropy(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        """In nats."""
        ...


@dataclass(frozen=True)
class GaussianGaze:
    """A place drawn around the one that the network names (Mnih et al. 2014, Section 3, "Location network")."""

    std: float
    """In both directions, as a part of the reach."""
    parameters: int = 2

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} 2"]:
        return self.std * normal(key, 2 * count).view(len(key), count, 2)

    def draw(self, parameters: Float[Tensor, "*r 2"], noise: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r 2"]:
        return parameters + noise

    def likeliest(self, parameters: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r 2"]:
        return parameters

    def place(self, action: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r 2"]:
        return action

    def log_prob(self, action: Float[Tensor, "*r 2"], parameters: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r"]:
        return gaussian_log_prob(action, parameters, self.std)

    def entropy(self, parameters: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r"]:
        return parameters.new_full(parameters.shape[:-1], gaussian_entropy(self.std, 2))


@dataclass(frozen=True)
class GridGaze:
    """One of side x side places, the middles of equal cells, line by line; the network gives a logit for each. The action is the cell's number."""

    side: int

    @property
    def parameters(self) -> int:
        return self.side**2

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} 1"]:
        return uniform(key, count)[..., None]

    def draw(self, parameters: Float[Tensor, "*r p"], noise: Float[Tensor, "*r 1"]) -> Float[Tensor, "*r 1"]:
        """By inversion: the first cell up to which the probabilities sum to more than the noise."""
        below = parameters.softmax(-1).cumsum(-1) <= noise
        # In finite precision all cells may sum to less than the noise.
        return below.sum(-1, keepdim=True).clamp(max=self.parameters - 1).to(parameters.dtype)

    def likeliest(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r 1"]:
        return parameters.argmax(-1, keepdim=True).to(parameters.dtype)

    def place(self, action: Float[Tensor, "*r 1"]) -> Float[Tensor, "*r 2"]:
        return grid(self.side, self.side).to(action)[action.squeeze(-1).long()]

    def log_prob(self, action: Float[Tensor, "*r 1"], parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        return parameters.log_softmax(-1).gather(-1, action.long()).squeeze(-1)

    def entropy(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        log_prob = parameters.log_softmax(-1)
        return -(log_prob.exp() * log_prob).sum(-1)


@lru_cache  # every look of a grid policy asks for it
def grid(rows: int, columns: int) -> Float[Tensor, "{rows}*{columns} 2"]:
    """(x, y) of the middles of the cells that divide [-1, 1] x [-1, 1], line by line. All callers share it: not to be written into."""
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return 2 * torch.stack([x, y], -1).view(-1, 2) - 1


def raster(count: int) -> Float[Tensor, "{count} 2"]:
    """`count` places on a regular grid over [-1, 1] x [-1, 1], line by line."""
    columns = max(1, math.ceil(math.sqrt(count)))
    return grid(max(1, math.ceil(count / columns)), columns)[:count]
