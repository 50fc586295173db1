"""The algorithmic tapes as tasks: an episode is a question, and the reward for playing it is all that is known of the answer.

Gym's curriculum makes inputs longer when they have been mastered, so what comes next depends on the player. Here an episode is a function of its number, as
everywhere else: with `ramp` inputs become longer in training, and short ones stay among them; one seed, one course. The measure is the one
that the environment's threshold is about (see `PlayTape.threshold`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from envs.numbered import in_order
from envs.tapes.algorithmic import LONGEST, State, Tape
from envs.tapes.environments import EXERCISES
from envs.tapes.pictures import picture
from hardattn.checks import above_zero, at_least_one
from hardattn.contract import Answer, Batch, PlaySpec
from hardattn.noise import fork, keys, uniform


class TapeEpisodes(NamedTuple):
    """Tapes that wait to be read (see `hardattn.contract.Played`). An observation is the symbol under the head, one-hot; and, if `last`, the last move: where
    the head went, whether something was written, and what. (A player that draws its moves does not know otherwise what it did.)

    A move is `Tape.step`'s: the number of a direction, whether to write (1) or not (0), and the number of a symbol.
    """

    tape: Tape
    key: Int[Tensor, " b"]
    low: int
    high: Int[Tensor, " b"]
    """Levels (least lengths of an input) are drawn from `low` to `high`, by the episode's key. Whoever repeats the keys has these repeated, too."""
    skew: float = 1.0
    """1: all levels are equally likely. More: short ones are."""
    last: bool = True
    exploring_starts: float = 0.0
    """The share of episodes that begin elsewhere: half of these on the first blank behind the tape, and a half, a quarter, an eighth, ... of the others 2, 3,
    4, ... cells before it (not on the last symbol, which is right to write for who does not know that it is the last, too); of repeat-copy,
    with any of the three copies, those before it being written and the head on the blank to which they lead."""
    own: State | None = None
    """The states to begin with, if not new ones."""

    @property
    def limit(self) -> int:
        """Of the longest input of all: the episodes end by themselves."""
        c = self.tape.config
        passes = 3 if c.fixed and c.task == "repeat-copy" else 1
        return passes * c.columns * c.rows + c.letters + 5

    @property
    def level(self) -> Int[Tensor, " b"]:
        """Of every episode."""
        drawn = uniform(fork(self.key, "level"), 1)[:, 0] ** self.skew
        more = self.high.repeat(len(self.key) // len(self.high)) - self.low
        return self.low + (drawn * (more + 1)).long().minimum(more)

    def reset(self) -> State:
        if self.own is not None:
            return self.own
        state = self.tape.reset(self.key, self.level)
        if not self.exploring_starts:
            return state
        n, key = state.columns, fork(self.key, "start")
        where, elsewhere = uniform(key, 1)[:, 0], uniform(fork(key, "exploring"), 1)[:, 0] < self.exploring_starts
        if self.tape.config.task == "repeat-copy" and not self.tape.config.fixed:
            copy = (3 * where).long().clamp(max=2)
            place, written = torch.stack([torch.zeros_like(n), n, -torch.ones_like(n)])[copy, torch.arange(len(n))], copy * n
        else:
            back = torch.where(where < 0.5, 0.0, 1 + (-(2 * where - 1).log2()).ceil()).clamp(max=self.limit).long()
            place, written = (n - back).clamp(min=0), torch.zeros_like(n)
        # The last move is the one that leads there: what is seen must be what who comes there sees.
        wrote = state.target.gather(1, (written - 1).clamp(min=0)[:, None])[:, 0] * (written > 0)
        came = torch.stack([(place > 0).long(), (written > 0).long(), wrote], 1)
        elsewhere = elsewhere & (place != 0)
        return state._replace(
            head=torch.stack([place, torch.zeros_like(place)], 1) * elsewhere[:, None],
            written=written * elsewhere,
            action=torch.where(elsewhere[:, None], came, state.action),
        )

    def observe(self, state: State) -> Float[Tensor, "b o"]:
        c = self.tape.config
        seen = [F.one_hot(self.tape.observe(state), c.readable)]
        if self.last:
            move, write, symbol = (
                F.one_hot(a + 1, n + 1)[:, 1:] for a, n in zip(state.action.unbind(1), (c.moves, 2, c.writable))
            )  # nothing is marked before the first move
            seen += [move, write, symbol * write[:, 1:]]
        return torch.cat(seen, 1).float()

    def step(
        self, state: State, action: Float[Tensor, "b 3"]
    ) -> tuple[State, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        return self.tape.step(state, action.long())

    def draw(self, state: State, row: int) -> UInt8[np.ndarray, "y x 3"]:
        """One tape, for people."""
        return picture(self.tape.config, state, row)


@dataclass(frozen=True)
class PlayTapeConfig:
    """An algorithmic environment as a task."""

    exercise: str = "Copy"
    """A name in `envs.tapes.EXERCISES`."""
    top: int = LONGEST
    """The greatest level of training and validation."""
    skew: float = 1.0
    """Levels of training are u^skew of the way from the first to the greatest, u uniform: with 2, half of them lie in the first quarter."""
    ramp: int = 1
    """Training episodes in which the greatest level rises from the first to the top."""
    last: bool = True
    """Whether the last move is seen, too. Gym's players saw the symbol only."""
    exploring_starts: float = 0.0
    """The share of training episodes that begin elsewhere, so that what is good at the end of the tape is known before the way there is (see
    `TapeEpisodes`). Validation and tests begin where they always do."""
    levels: Sequence[int] = (2, 5, 10, 20, 30)
    """Of the parts of the test set. The split "test" has the level that the threshold is about."""
    frozen: int = 500
    """Episodes for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        if self.exercise not in EXERCISES:
            raise ValueError(f"exercise must be one of {', '.join(EXERCISES)}, found {self.exercise!r}")
        at_least_one(self, "top", "frozen", "ramp")
        above_zero(self, "skew")
        if not 0 <= self.exploring_starts <= 1:
            raise ValueError(f"exploring_starts is a share and must be from 0 to 1, found {self.exploring_starts}")
        object.__setattr__(self, "levels", tuple(self.levels))  # JSON gives lists back
        first = EXERCISES[self.exercise].config.min_length
        for name, least, found in (("top", first, (self.top,)), ("levels", 1, self.levels)):
            if any(not least <= level <= LONGEST for level in found):
                raise ValueError(f"{name} must be from {least} to {LONGEST}, found {getattr(self, name)}")

    def build(self, data_dir: Path = Path("data")) -> "PlayTape":
        return PlayTape(self)


class PlayTape:
    """A task (see `hardattn.contract.Task`) of `TapeEpisodes`. Targets are zeros: what is right is the environment's affair.

    Training has levels of all kinds, validation all equally often, and the test set those of `threshold`.
    """

    metric: ClassVar[str] = "error"

    def __init__(self, config: PlayTapeConfig) -> None:
        self.config = config
        tape, _, self.solved_at = EXERCISES[config.exercise]
        self.tape = Tape(tape)
        seen = tape.readable + (tape.moves + 2 + tape.writable if config.last else 0)
        self.spec = PlaySpec(seen, (tape.moves, 2, tape.writable))
        self.parts = tuple(f"level-{level}" for level in config.levels)
        self.threshold = self._threshold()

    def _threshold(self) -> int:
        """The first level at which the mean return of a perfect player is the `solved_at` that counts as a solution in Gym; or the last."""
        first, count = self.tape.config.min_length, 300
        level = torch.arange(first, LONGEST + 1).repeat_interleave(count)
        best = self.tape.reset(keys(0, "tape levels", torch.arange(len(level))), level).letters.float().view(-1, count).mean(1)
        enough = (best >= self.solved_at).nonzero()[:, 0].tolist()
        return first + enough[0] if enough else LONGEST

    def _levels(self, split: str) -> tuple[int, int, float]:
        """The lowest, the highest, and their skew."""
        first, c = self.tape.config.min_length, self.config
        known = {"train": (first, c.top, c.skew), "validation": (first, c.top, 1.0), "test": (self.threshold,) * 2 + (1.0,)}
        known |= {part: (level, level, 1.0) for part, level in zip(self.parts, c.levels)}
        if split not in known:
            parts = ", ".join(self.parts)
            raise ValueError(f'split must be one of the parts {parts}, or "train", "validation" or "test", found {split!r}')
        return known[split]

    def size(self, split: str) -> int:
        """Episodes in a pass. Training episodes are all new; a pass is only a way of counting them."""
        self._levels(split)
        return self.config.frozen

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Episodes by number. Validation and test episodes do not depend on the seed."""
        low, top, skew = self._levels(split)
        high = torch.full_like(index, top)
        if split == "train":
            high = (low + index * (top - low + 1) // self.config.ramp).clamp(max=top)
        key = keys(seed if split == "train" else 0, f"tape {self.config.exercise} {split}", index)
        starts = self.config.exploring_starts if split == "train" else 0.0
        return Batch(TapeEpisodes(self.tape, key, low, high, skew, self.config.last, starts), torch.zeros_like(index))

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """`error`: 100 where the output was not completed without a fault, else 0; and the `return`, to be compared with `solved_at`."""
        best = batch.question.reset().letters  # every right symbol pays 1
        return {"error": 100.0 * (answer.output < best - 0.25), "return": answer.output}
