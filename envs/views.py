"""Action views: one game, with the actions that different libraries are able to send.

Every view reads a batch of its actions into the two tensors that `envs.glimpse.step` takes: moves of the gaze and answers.

    name            one environment's action space                              whom it is for
    dict            Dict(gaze: Box(-1, 1, (2,)), label: Discrete(K + 1))         libraries with structured actions
    box             Box(-1, 1, (2,)): gaze only                                 agents that are judged outside
    multidiscrete   MultiDiscrete([G * G, K + 1]): cell and label               PPO and A2C of most libraries
    discrete        Discrete(G * G + K): look at a cell, or answer              DQN and its kin

K is the number of classes; label K says "no answer yet". Cells lie row by row on a grid of G x G places that reaches from -1 to
1: where a gaze of 1 puts the window into the corner, G = canvas / window tiles the canvas. With relative gaze, cells are
displacements.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class View(ABC):
    """How the actions of one space name moves and answers."""

    space: gym.Space
    """Of one environment."""
    needs_early_answer = False

    def decode(self, action: Any, count: int | None = None) -> tuple[Float[Tensor, "b 2"], Int[Tensor, " b"]]:
        """Moves and answers of `count` environments' actions; with None, of one environment's action (and b is 1).

        Raises:
            ValueError: names the space and what was found, if the action has another shape or dtype, is not finite or names no
                class or cell. (A gaze beyond the border is not an error: the core brings it back.)
        """
        try:
            move, answer = self._read(action, () if count is None else (count,))
        except ValueError as problem:
            expected = "an action" if count is None else f"{count} actions"
            raise ValueError(f"expected {expected} in {self.space}, found {problem}") from None
        return torch.from_numpy(move).view(-1, 2), torch.from_numpy(answer).view(-1)

    @abstractmethod
    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Moves float32 [*lead, 2] and answers int64 [*lead]; a ValueError says what is wrong with the action."""


@final
class DictView(View):
    def __init__(self, classes: int, grid: int) -> None:
        self.space = gym.spaces.Dict({"gaze": _gaze_space(), "label": gym.spaces.Discrete(classes + 1)})
        self.classes = classes

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(action, Mapping):
            raise ValueError(f"a {type(action).__name__}")
        if set(action) != {"gaze", "label"}:
            raise ValueError(f"the keys {sorted(map(str, action))}")
        return reals("gaze", action["gaze"], (*lead, 2)), wholes("label", action["label"], lead, self.classes + 1)


@final
class BoxView(View):
    def __init__(self, classes: int, grid: int) -> None:
        self.space = _gaze_space()
        self.classes = classes

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return reals("gaze", action, (*lead, 2)), np.full(lead, self.classes, dtype=np.int64)


@final
class MultiDiscreteView(View):
    def __init__(self, classes: int, grid: int) -> None:
        self.sizes = np.array([grid * grid, classes + 1])
        self.space = gym.spaces.MultiDiscrete(self.sizes)
        self.places = cells(grid)

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        pair = wholes("action", action, (*lead, 2), self.sizes)
        return self.places[pair[..., 0]], pair[..., 1].copy()


@final
class DiscreteView(View):
    needs_early_answer = True

    def __init__(self, classes: int, grid: int) -> None:
        self.space = gym.spaces.Discrete(grid * grid + classes)
        self.places = cells(grid)
        self.classes = classes

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        chosen = wholes("action", action, lead, len(self.places) + self.classes)
        answer = chosen - len(self.places)  # negative: a look
        looks = answer < 0
        # Whoever answers goes nowhere: the episode ends and the core ignores the place.
        return self.places[np.where(looks, chosen, 0)], np.where(looks, self.classes, answer)


VIEWS: dict[str, type[DictView] | type[BoxView] | type[MultiDiscreteView] | type[DiscreteView]] = {
    "dict": DictView,
    "box": BoxView,
    "multidiscrete": MultiDiscreteView,
    "discrete": DiscreteView,
}


def cells(grid: int) -> np.ndarray:
    """Places (x, y) of a grid's cells, row by row [grid * grid, 2]. The outermost lie at -1 and 1, a single one at 0."""
    ticks = np.linspace(-1, 1, grid, dtype=np.float32) if grid > 1 else np.zeros(1, dtype=np.float32)
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def reals(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 copy of `value`. ValueError (a noun phrase) unless it holds finite floating-point numbers in this shape."""
    array = _array(name, value, shape)
    if array.dtype.kind != "f":
        raise ValueError(f"{name} of dtype {array.dtype}, which is not floating point")
    with np.errstate(over="ignore"):
        array = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} that is not finite{_where(np.asarray(~np.isfinite(array)), array)}")
    return array


def wholes(name: str, value: Any, shape: tuple[int, ...], below: Any) -> np.ndarray:
    """An int64 copy of `value`. ValueError (a noun phrase) unless it holds integers from 0 to `below` - 1 in this shape."""
    array = _array(name, value, shape)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} of dtype {array.dtype}, which is not an integer type")
    wrong = np.asarray((array < 0) | (array >= below))
    if wrong.any():
        limit = np.broadcast_to(below, array.shape)[wrong].flat[0]
        raise ValueError(f"{name} outside 0 to {limit - 1}{_where(wrong, array)}")
    return np.array(array, dtype=np.int64, order="C")


def _array(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        raise ValueError(f"{name} that makes no array") from None
    if array.shape != shape:
        raise ValueError(f"{name} of shape {array.shape} instead of {shape}")
    return array


def _where(wrong: np.ndarray, array: np.ndarray) -> str:
    """The first wrong entry, and which environment's it is."""
    first = np.argwhere(np.atleast_1d(wrong))[0].tolist()
    value = np.atleast_1d(array)[tuple(first)]
    return f": {value}" + (f" at {first}" if array.size > 1 else "")


def _gaze_space() -> gym.spaces.Box:
    return gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
