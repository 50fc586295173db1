"""Where to look, what to do: distributions over actions, as plain values. An agent's network gives the parameters; noise is handed in, never drawn here.

Shapes are those of rollouts: parameters [*r, p], actions [*r, a], places [*r, 2] with (x, y) in [-1, 1] and possibly beyond.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardattn.estimators import gaussian_entropy, gaussian_log_prob
from hardattn.noise import fork, normal, uniform


@runtime_checkable
class Policy(Protocol):
    """What an agent asks of a distribution over actions."""

    @property
    def parameters(self) -> int:
        """Numbers that the network must give for a move."""
        ...

    @property
    def actions(self) -> int:
        """Numbers that make an action."""
        ...

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} a"]:
        """What `draw` turns into actions; an example's noise depends on its own key alone."""
        ...

    def draw(self, parameters: Float[Tensor, "*r p"], noise: Float[Tensor, "*r a"]) -> Float[Tensor, "*r a"]: ...

    def likeliest(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r a"]: ...

    def log_prob(self, action: Float[Tensor, "*r a"], parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        """Of what was drawn, not of what the environment made of it."""
        ...

    def entropy(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        """In nats."""
        ...


@runtime_checkable
class GazePolicy(Policy, Protocol):
    """One whose actions are places."""

    def place(self, action: Float[Tensor, "*r a"]) -> Float[Tensor, "*r 2"]: ...


@dataclass(frozen=True)
class GaussianGaze:
    """A place drawn around the one that the network names (Mnih et al. 2014, Section 3, "Location network")."""

    std: float
    """In both directions, as a part of the reach."""
    bounded: bool = False
    """Whether the mean stays within the reach, as the tanh of what the network names. One that does not may wander off beyond the border, where
    all draws come to the same place and nothing more is learned."""
    parameters: int = 2
    actions: int = 2

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} 2"]:
        return self.std * normal(key, 2 * count).view(len(key), count, 2)

    def draw(self, parameters: Float[Tensor, "*r 2"], noise: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r 2"]:
        return self.likeliest(parameters) + noise

    def likeliest(self, parameters: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r 2"]:
        return parameters.tanh() if self.bounded else parameters

    def place(self, action: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r 2"]:
        return action

    def log_prob(self, action: Float[Tensor, "*r 2"], parameters: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r"]:
        return gaussian_log_prob(action, self.likeliest(parameters), self.std)

    def entropy(self, parameters: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r"]:
        return parameters.new_full(parameters.shape[:-1], gaussian_entropy(self.std, 2))


@dataclass(frozen=True)
class Choice:
    """One of so many; the network gives a logit for each. The action is the number of what was chosen."""

    parameters: int
    actions: int = 1

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} 1"]:
        return uniform(key, count)[..., None]

    def draw(self, parameters: Float[Tensor, "*r p"], noise: Float[Tensor, "*r 1"]) -> Float[Tensor, "*r 1"]:
        """By inversion: the first up to which the probabilities sum to more than the noise."""
        below = parameters.softmax(-1).cumsum(-1) <= noise
        # In finite precision all may sum to less than the noise.
        return below.sum(-1, keepdim=True).clamp(max=self.parameters - 1).to(parameters.dtype)

    def likeliest(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r 1"]:
        return parameters.argmax(-1, keepdim=True).to(parameters.dtype)

    def log_prob(self, action: Float[Tensor, "*r 1"], parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        return parameters.log_softmax(-1).gather(-1, action.long()).squeeze(-1)

    def entropy(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        log_prob = parameters.log_softmax(-1)
        return -(log_prob.exp() * log_prob).sum(-1)


class GridGaze(Choice):
    """One of side x side places, the middles of equal cells, line by line. The action is the cell's number."""

    def __init__(self, side: int) -> None:
        super().__init__(side**2)

    @property
    def side(self) -> int:
        return math.isqrt(self.parameters)

    def place(self, action: Float[Tensor, "*r 1"]) -> Float[Tensor, "*r 2"]:
        return grid(self.side, self.side).to(action)[action.squeeze(-1).long()]


@dataclass(frozen=True)
class Joint:
    """Several decisions in one action, drawn independently of one another: where to look and what to do (Mnih et al. 2014, Section 4.2)."""

    parts: tuple[Policy, ...]

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def actions(self) -> int:
        return sum(part.actions for part in self.parts)

    def noise(self, key: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count} a"]:
        return torch.cat([part.noise(fork(key, f"part {i}"), count) for i, part in enumerate(self.parts)], -1)

    def draw(self, parameters: Float[Tensor, "*r p"], noise: Float[Tensor, "*r a"]) -> Float[Tensor, "*r a"]:
        each = zip(self.parts, self._given(parameters), self._done(noise))
        return torch.cat([part.draw(p, n) for part, p, n in each], -1)

    def likeliest(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r a"]:
        return torch.cat([part.likeliest(p) for part, p in zip(self.parts, self._given(parameters))], -1)

    def log_prob(self, action: Float[Tensor, "*r a"], parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        each = zip(self.parts, self._done(action), self._given(parameters))
        return torch.stack([part.log_prob(a, p) for part, a, p in each]).sum(0)

    def entropy(self, parameters: Float[Tensor, "*r p"]) -> Float[Tensor, "*r"]:
        return torch.stack([part.entropy(p) for part, p in zip(self.parts, self._given(parameters))]).sum(0)

    def _given(self, parameters: Tensor) -> tuple[Tensor, ...]:
        return parameters.split([part.parameters for part in self.parts], -1)

    def _done(self, action: Tensor) -> tuple[Tensor, ...]:
        return action.split([part.actions for part in self.parts], -1)


@lru_cache  # every look of a grid policy asks for it
@torch.inference_mode(False)  # whoever asks first: a tensor of inference mode could not be used in training later
def grid(rows: int, columns: int) -> Float[Tensor, "{rows}*{columns} 2"]:
    """(x, y) of the middles of the cells that divide [-1, 1] x [-1, 1], line by line. All callers share it: not to be written into."""
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return 2 * torch.stack([x, y], -1).view(-1, 2) - 1


def raster(count: int) -> Float[Tensor, "{count} 2"]:
    """`count` places on a regular grid over [-1, 1] x [-1, 1], line by line."""
    columns = max(1, math.ceil(math.sqrt(count)))
    return grid(max(1, math.ceil(count / columns)), columns)[:count]
