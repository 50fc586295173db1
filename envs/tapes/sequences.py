"""RL-NTM's tasks for agents that are not given the tapes: the whole input goes in symbol by symbol, and then the output is asked for.

The inputs and outputs are those of `envs.tapes.three_tapes`, one-hot, ends included. What RL-NTM does by moving a head, a soft machine must do by
remembering. `error` is as there: outputs whose likeliest symbols are not all right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from envs.algorithms import Algorithm, Question, Size
from envs.tapes.three_tapes import ThreeTapes, ThreeTapesConfig
from hardattn.checks import at_least_one, some_sizes
from hardattn.contract import Answer, Batch, SequenceSpec
from hardattn.noise import fork


@dataclass(frozen=True)
class TapeSequencesConfig:
    """Which task, and how long."""

    tapes: ThreeTapesConfig = field(default_factory=ThreeTapesConfig)
    """Training sequences have all complexities, equally often."""
    times: Sequence[int] = (1, 2, 5)
    """The parts of the test set have inputs so many times as long as the longest of training. The split "test" has those of training's longest."""
    frozen: int = 200
    """Sequences for validation, and as many for every part of the test set."""

    def __post_init__(self) -> None:
        at_least_one(self, "frozen")
        some_sizes(self, "times")

    def build(self, data_dir: Path = Path("data")) -> "TapeSequences":
        return TapeSequences(self)


class TapeSequences(Algorithm):
    """A task (see `envs.algorithms.Algorithm`). A size is (complexity, longest input)."""

    def __init__(self, config: TapeSequencesConfig) -> None:
        self.config, tapes = config, config.tapes
        longest, rounds = tapes.longest, tapes.top // tapes.longest
        training = [(complexity, longest) for complexity in range(1, tapes.top + 1)]
        # Of repeat-copy, the parts have three repeats only.
        parts = {f"length-{n * longest}": (n * longest * rounds, n * longest) for n in config.times}
        super().__init__(
            f"tapes {tapes.task}", SequenceSpec(tapes.size, tapes.size), training, parts, training[-1], config.frozen
        )

    def _core(self, longest: int) -> ThreeTapes:
        return ThreeTapes(replace(self.config.tapes, longest=longest, steps=3 * longest + 1))

    def _lengths(self, size: Size) -> tuple[int, int]:
        """Symbols in and out, ends included."""
        complexity, longest = size
        length, repeats = (complexity - 1) % longest + 1, 2 + (complexity - 1) // longest
        task = self.config.tapes.task
        symbols = {"duplicated-input": 3 * length, "repeat-copy": length + 1}.get(task, length)
        return symbols + 1, (repeats * length if task == "repeat-copy" else length) + 1

    def steps(self, size: Size) -> int:
        return sum(self._lengths(size))

    def sequences(self, key: Int[Tensor, " b"], size: Size) -> Batch:
        complexity, longest = size
        symbols, letters = self._lengths(size)
        state = self._core(longest).reset(key, key.new_full(key.shape, complexity))
        input, target, counts = self._blank(key, size)
        input[:, :symbols] = F.one_hot(state.tape[:, :symbols], self.spec.inputs).to(input)
        target[:, symbols:] = F.one_hot(state.target[:, :letters], self.spec.outputs).to(target)
        counts[:, symbols:] = True
        return Batch(Question(input, fork(key, "agent")), target, counts)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """See `Algorithm.score`; but `error` is 100 where the likeliest symbol is a wrong one anywhere."""
        wrong = (answer.output.argmax(-1) != batch.target.argmax(-1)) & batch.notes
        return super().score(answer, batch) | {"error": 100 * wrong.any(1).float()}
