"""Every path of a computation that draws: its exact expectation and gradient, for computations so small that all their choices can be enumerated.

An estimator is right if its mean over all paths, each with its probability, is the gradient of the expectation. Both are sums here, so the two agree to
rounding, where a comparison of means of samples leaves room for small mistakes. Finite differences of the expectation say whether the
automatic gradient itself can be believed (Zaremba and Sutskever 2015, arXiv:1505.00521v3, on checking gradients numerically).

The computation is a function of `choose`, which it calls wherever it would draw. It is run once for every path, so it must do the same whenever it is given the
same choices; random numbers of other kinds must be fixed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Choose = Callable[[Float[Tensor, "*r n"]], Int[Tensor, "*r"]]
"""Is given the logits of choices that are independent of one another (given all before), and returns what was chosen."""


class Path(NamedTuple):
    """One way in which all choices can fall."""

    log_prob: Float[Tensor, ""]
    """With gradient."""
    choices: tuple[int, ...]
    result: Any
    """What the computation returned."""


class Gradients(NamedTuple):
    """What there is to compare, in all parameters, flattened to one vector."""

    expectation: Float[Tensor, ""]
    """Of the objective."""
    exact: Float[Tensor, " p"]
    """Gradient of the expectation: sum over paths of d (p objective)."""
    estimated: Float[Tensor, " p"]
    """Mean of the estimator: sum over paths of p d surrogate."""
    paths: int
    """So many there are."""


def paths(run: Callable[[Choose], Any], *, limit: int = 100_000) -> Iterator[Path]:
    """All paths with a probability above 0, in the order of their choices.

    Args:
        run: the computation.
        limit: paths that are too many.

    Raises:
        ValueError: if there are more paths than `limit`, or if the computation does not do the same for the same choices.
    """
    given: list[int] = []
    for _ in range(limit):
        choose = _Replay(given)
        result = run(choose)
        yield Path(choose.log_prob, tuple(choose.taken), result)
        following = choose.next()
        if following is None:
            return
        given = following
    raise ValueError(f"there are more than {limit} paths: make the computation smaller")


class _Replay:
    """Chooses as it is told, and then the first that is possible."""

    def __init__(self, given: list[int]) -> None:
        self.given = given
        self.taken: list[int] = []
        self.options: list[list[int]] = []
        self.log_prob = torch.zeros(())

    def __call__(self, logits: Float[Tensor, "*r n"]) -> Int[Tensor, "*r"]:
        each, first = logits.reshape(-1, logits.shape[-1]).log_softmax(-1), len(self.taken)
        for row in (each.exp() > 0).tolist():
            possible, place = [i for i, there in enumerate(row) if there], len(self.taken)
            choice = self.given[place] if place < len(self.given) else possible[0]
            if choice not in possible:
                raise ValueError(f"choice {place} was possible before and is not now: the same choices must lead to the same")
            self.taken.append(choice)
            self.options.append(possible)
        chosen = torch.tensor(self.taken[first:], device=logits.device)
        self.log_prob = self.log_prob + each.gather(-1, chosen[:, None]).sum()
        return chosen.view(logits.shape[:-1])

    def next(self) -> list[int] | None:
        """The choices of the next path, as far as they matter: the last one that could fall otherwise does. None if none could."""
        for i in reversed(range(len(self.taken))):
            later = self.options[i][self.options[i].index(self.taken[i]) + 1 :]
            if later:
                return [*self.taken[:i], later[0]]
        return None


def expectation(run: Callable[[Choose], Float[Tensor, ""]], *, limit: int = 100_000) -> Float[Tensor, ""]:
    """Sum over all paths of probability times objective. The graphs of all paths are kept, if there is a gradient (see `gradients`)."""
    return torch.stack([path.log_prob.exp() * path.result for path in paths(run, limit=limit)]).sum()


def gradients(
    run: Callable[[Choose], tuple[Float[Tensor, ""], Float[Tensor, ""]]], parameters: Sequence[Tensor], *, limit: int = 100_000
) -> Gradients:
    """The exact gradient of an expectation, and the mean of an estimator of it. One path's graph is kept at a time.

    Args:
        run: returns the objective of a path and a surrogate, whose gradient is the estimate.
        parameters: with gradient.
        limit: paths that are too many.

    Raises:
        ValueError: see `paths`.
    """
    total, exact, estimated, count = torch.zeros(()), torch.zeros(()), torch.zeros(()), 0
    for path in paths(run, limit=limit):
        objective, surrogate = path.result
        weighted = path.log_prob.exp() * objective
        total = total + weighted.detach()
        exact = exact + flat_gradient(weighted, parameters, retain_graph=True)
        estimated = estimated + path.log_prob.detach().exp() * flat_gradient(surrogate, parameters)
        count += 1
    return Gradients(total, exact, estimated, count)


def flat_gradient(value: Float[Tensor, ""], parameters: Sequence[Tensor], *, retain_graph: bool = False) -> Float[Tensor, " p"]:
    """Of a scalar in all parameters, as one vector; zeros where it does not depend on them."""
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    found = torch.autograd.grad(value, parameters, retain_graph=retain_graph, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def relative_difference(found: Float[Tensor, "*n"], wanted: Float[Tensor, "*n"]) -> float:
    """The largest difference between two gradients, as a part of the largest number of `wanted`.

    Raises:
        ValueError: if `wanted` is zero throughout: everything would be infinitely far from it.
    """
    if not wanted.any():
        raise ValueError("expected a gradient that is not zero throughout: there is nothing to compare with")
    return float((found - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
def numerical_gradient(
    function: Callable[[], Float[Tensor, ""]],
    parameters: Sequence[Tensor],
    directions: Float[Tensor, "k p"] | None = None,
    *,
    step: float = 1e-4,
) -> Float[Tensor, " k"]:
    """Central differences: how much a function rises as the parameters move. They are as they were afterwards.

    Args:
        function: of the parameters, which it finds where they are.
        parameters: are changed in place; double precision is advised.
        directions: to move in, over all parameters flattened. None: one after the other, which makes the gradient.
        step: length of a move, as a part of a direction.
    """
    before = [p.clone() for p in parameters]
    sizes = [p.numel() for p in parameters]
    if directions is None:
        directions = torch.eye(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)

    def at(distance: float, direction: Float[Tensor, " p"]) -> Float[Tensor, ""]:
        for p, old, part in zip(parameters, before, direction.split(sizes)):
            p.copy_(old + distance * part.view_as(p))
        return function()

    rises = [(at(step, d) - at(-step, d)) / (2 * step) for d in directions]
    for p, old in zip(parameters, before):
        p.copy_(old)
    return torch.stack(rises)
