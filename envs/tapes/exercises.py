"""RL-NTM's tasks as exercises with an answer key: episodes of `ThreeTapes` that wait to be played.

In training a player says how hard an episode is to be (see `Widening`); in validation all complexities come in turn, and the parts of the test set
have the longest inputs of training and some that are several times as long. Longer ones need more steps and more cells; a player does not depend on them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.numbered import in_order
from envs.tapes.curriculum import Widening
from envs.tapes.three_tapes import Moves, State, ThreeTapes, ThreeTapesConfig, Windows, Write
from hardattn.checks import at_least_one, some_sizes
from hardattn.contract import Answer, Batch, TapeSpec
from hardattn.noise import keys


class Exercise(NamedTuple):
    """Episodes that wait to be played."""

    core: ThreeTapes
    key: Int[Tensor, " b"]
    complexity: Int[Tensor, " b"] | None
    """None: the player's to choose."""
    own: State | None = None
    """The states to begin with, if not new ones."""

    @property
    def limit(self) -> int:
        return self.core.config.steps

    def reset(self, complexity: Int[Tensor, " b"]) -> State:
        return self.core.reset(self.key, complexity) if self.own is None else self.own

    def observe(self, state: State) -> Windows:
        return self.core.observe(state)

    def place(self, state: State) -> Int[Tensor, "b window"]:
        """Which cells of the memory are around its head."""
        return self.core.window(state)

    def whole(self, state: State) -> Int[Tensor, "b columns"]:
        """The input, for who helps in training."""
        return state.tape

    def scored(self, state: State, moves: Int[Tensor, "b 3"]) -> Int[Tensor, " b"]:
        """The symbol whose log-probability is the reward of these moves; -1 where nothing is."""
        return torch.where(moves[:, 2] == 1, self.core.wanted(state), -1)

    def allowed(self, state: State) -> tuple[Bool[Tensor, "b n"], ...]:
        return self.core.allowed(state)

    def step(
        self,
        state: State,
        moves: Int[Tensor, "b 3"],
        log_prob: Float[Tensor, "b symbols"],
        keep: Float[Tensor, "b window depth"],
        add: Float[Tensor, "b window depth"],
    ) -> tuple[State, Float[Tensor, " b"]]:
        """See `ThreeTapes.step`. All episodes end after `limit` steps."""
        # A player may be more precise than the memory is at first.
        state = state._replace(memory=state.memory.to(torch.promote_types(state.memory.dtype, add.dtype)))
        state, reward, *_ = self.core.step(state, Moves(*moves.unbind(1)), log_prob, Write(keep, add))
        return state, reward

    def right(self, state: State) -> Float[Tensor, " b"]:
        """The part of the output's symbols that were thought the most probable."""
        return 1 - state.wrong / state.letters


@dataclass(frozen=True)
class ExercisesConfig:
    """A task and its curriculum."""

    tapes: ThreeTapesConfig = field(default_factory=ThreeTapesConfig)
    start: int = 1
    """The first level of the curriculum. The greatest complexity, `tapes.top`, goes without a curriculum."""
    threshold: float = 0.2
    """The level rises where the part of wrong symbols comes below this (the authors' program: 0.25 for forward-reverse)."""
    times: Sequence[int] = (1, 5)
    """The parts of the test set have inputs so many times as long as the longest of training. The split "test" has those."""
    lengths: Sequence[int] = ()
    """And there are parts whose inputs have these lengths."""
    frozen: int = 500
    """Episodes for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "frozen")
        some_sizes(self, "times")
        if self.lengths:
            some_sizes(self, "lengths")
        self.pace()

    def pace(self) -> Widening:
        """The curriculum."""
        return Widening(self.tapes.top, self.start, threshold=self.threshold)

    def build(self, data_dir: Path = Path("data")) -> "Exercises":
        return Exercises(self)


class Exercises:
    """A task (see `hardattn.contract.Task`) of `Exercise`s. Targets are zeros: what is right is known to the tapes, which say it in the rewards."""

    def __init__(self, config: ExercisesConfig) -> None:
        self.config = config
        tapes = config.tapes
        self.core = ThreeTapes(tapes)
        self.spec = TapeSpec(tapes.size, 2 * tapes.around + 1, self.core.depth, (3, 3, 2), config.pace())
        lengths = sorted({n * tapes.longest for n in config.times} | set(config.lengths))
        self._parts = {f"length-{length}": ThreeTapes(tapes.stretched(length)) for length in lengths}

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._parts)

    def size(self, split: str) -> int:
        """Episodes in a pass. Training episodes are all new; a pass is only a way of counting them."""
        if split not in ("train", "validation", "test", *self._parts):
            raise ValueError(
                f'split must be "train", "validation" or "test", or one of the parts {", ".join(self._parts)}, found {split!r}'
            )
        return self.config.frozen

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Episodes by number. Validation and test episodes do not depend on the seed."""
        self.size(split)
        core, complexity = self._parts.get(split, self.core), None
        if split == "validation":
            complexity = 1 + index % core.config.top
        elif split != "train":
            # Of repeat-copy, the longest input comes twice and three times in turn.
            complexity = core.config.longest * (1 + index % (core.config.top // core.config.longest))
        key = keys(seed if split == "train" else 0, f"{core.config.task} {split}", index)
        return Batch(Exercise(core, key, complexity), torch.zeros_like(index))

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """In percent: `error`, outputs that are not entirely right, `solved`, the others, and `wrong-symbols`. `answer.output` is the part [b] of
        right symbols."""
        right: Any = answer.output
        solved = 100 * (right == 1).to(right.dtype)
        return {"error": 100 - solved, "solved": solved, "wrong-symbols": 100 * (1 - right)}
