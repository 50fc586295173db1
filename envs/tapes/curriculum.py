"""Longer inputs for players that have mastered shorter ones.

`Curriculum` is a wrapper around a batched `Tape` with an interface of the same kind; what it remembers is part of its state. Every row of a batch
has a level of its own, as if it were alone, so a vector of environments goes through what single ones would.

`Widening` is the curriculum of RL-NTM, for which all rows of a batch share one level; an environment has its own.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.tapes.algorithmic import LONGEST, State, Tape
from hardattn.checks import at_least_one
from hardattn.noise import fork, integers, uniform


@dataclass(frozen=True)
class Promotion:
    """When inputs become longer (OpenAI Gym 0.19, `AlgorithmicEnv._check_levelup`)."""

    window: int = 10
    """So many last episodes are looked at."""
    shortfall: float = -1.0
    """None of them may have missed the greatest return by more than this. Then min_length grows by 1, and the record is empty again."""
    top: int = LONGEST
    """The level at which nobody is promoted any more. 1 switches the curriculum off."""

    def __post_init__(self) -> None:
        at_least_one(self, "window", "top")
        if self.top > LONGEST:
            raise ValueError(f"top must be at most {LONGEST}, found {self.top}")


class Course(NamedTuple):
    """An episode, and the record that decides about the next one's length."""

    episode: State
    min_length: Int[Tensor, " b"]
    """The level."""
    shortfalls: Float[Tensor, "b window"]
    """Returns of the last episodes less what was possible, the last one last; -inf where there was none."""


class Curriculum:
    """A `Tape` whose inputs grow with success."""

    def __init__(self, tape: Tape, promotion: Promotion) -> None:
        self.tape = tape
        self.promotion = promotion

    def reset(self, key: Int[Tensor, " b"], before: Course | None = None) -> Course:
        """Begin episodes that follow others; without `before`, at the first level.

        An episode that was given up half-way counts with what it had brought by then (as in Gym).
        """
        if before is None:
            level = torch.full_like(key, self.tape.config.min_length)
            record = torch.full((len(key), self.promotion.window), -torch.inf, device=key.device)
        else:
            shortfall = before.episode.total - before.episode.letters
            record = torch.cat([before.shortfalls[:, 1:], shortfall[:, None]], dim=1)
            promoted = (record.amin(1) >= self.promotion.shortfall) & (before.min_length < self.promotion.top)
            level = before.min_length + promoted
            record = record.masked_fill(promoted[:, None], -torch.inf)
        return Course(self.tape.reset(key, level), level, record)

    def step(
        self, course: Course, action: Int[Tensor, "b 3"]
    ) -> tuple[Course, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """See `Tape.step`."""
        episode, *outcome = self.tape.step(course.episode, action)
        return course._replace(episode=episode), outcome[0], outcome[1], outcome[2]


@dataclass(frozen=True)
class Widening:
    """Zaremba and Sutskever 2015 (arXiv:1505.00521), Section "Curriculum Learning": mostly a little above the level, sometimes anything."""

    top: int
    """The greatest complexity."""
    start: int = 1
    """The first level."""
    anything: float = 0.1
    """Part of the examples that are of any complexity."""
    easier: float = 0.25
    """Part that are of any complexity up to a little above the level. The others are exactly a little above it."""
    threshold: float = 0.2
    """Where the mean error of these others must come for the level to rise."""
    decay: float = 0.8
    """Of the running mean of that error."""
    patience: int = 100
    """Updates that a level lasts at least."""

    def __post_init__(self) -> None:
        at_least_one(self, "top", "start")
        if self.start > self.top:
            raise ValueError(f"start must be at most top={self.top}, found {self.start}")
        if min(self.anything, self.easier) < 0 or self.anything + self.easier >= 1:
            raise ValueError(f"anything and easier must be parts of 1, found {self.anything} and {self.easier}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, found {self.decay}")

    def begin(self) -> "Progress":
        """At the first level, with nothing learnt."""
        return Progress(self.start, 1.0, 0)

    def draw(self, key: Int[Tensor, " b"], progress: "Progress") -> tuple[Int[Tensor, " b"], Bool[Tensor, " b"]]:
        """Complexities from 1 to `top`, and which of them are those whose error counts.

        "A little" is e with probability 2^-e, for e = 1, 2, ...
        """
        which, chance = uniform(fork(key, "kind"), 2).unbind(-1)
        little = (-chance.log2()).ceil().long()
        hard = (progress.level + little).clamp(max=self.top)
        any_at_all = 1 + integers(fork(key, "anything"), 1, self.top)[..., 0]
        # Not by `integers`, whose limit is one for all.
        up_to = 1 + (uniform(fork(key, "easier"), 1)[..., 0] * hard).long().clamp(max=self.top - 1)
        counts = which >= self.anything + self.easier
        return torch.where(counts, hard, torch.where(which < self.anything, any_at_all, up_to)), counts

    def advance(self, progress: "Progress", error: Float[Tensor, " b"], counts: Bool[Tensor, " b"]) -> "Progress":
        """After an update: `error` is the part of an output's symbols that are wrong; `counts` is what `draw` said."""
        some = counts.any()
        mean = error[counts].mean() if some else error.new_zeros(())
        level, running, updates = self.advance_each(_rows(progress, ()), mean, some)
        return Progress(int(level), float(running), int(updates))

    def begin_each(self, count: int) -> "Progress":
        """`begin` for environments that have a level each; an update is an episode."""
        return _rows(self.begin(), (count,))

    def advance_each(self, progress: "Progress", error: Float[Tensor, "*r"], counts: Bool[Tensor, "*r"]) -> "Progress":
        """`advance` for them."""
        mean, updates = progress.error, progress.updates + 1
        mean = torch.where(counts, self.decay * mean + (1 - self.decay) * error.double(), mean)
        rises = (mean < self.threshold) & (updates >= self.patience) & (progress.level < self.top)
        return Progress(progress.level + rises, mean, torch.where(rises, 0, updates))


class Progress(NamedTuple):
    """How far a `Widening` is: numbers that a checkpoint can hold, or a tensor of them for environments that have a level each."""

    level: Any
    error: Any
    """The running mean."""
    updates: Any
    """Since the level last rose."""


def _rows(progress: Progress, shape: tuple[int, ...]) -> Progress:
    kinds = torch.int64, torch.float64, torch.int64
    return Progress(*(torch.full(shape, x, dtype=kind) for x, kind in zip(progress, kinds)))
