"""The algorithmic tasks for Gymnasium: single environments and native vectors over `envs.tapes.algorithmic`.

    view            one environment's action space                     whom it is for
    tuple           Tuple(Discrete(M), Discrete(2), Discrete(S))        whoever knew OpenAI Gym's
    multidiscrete   MultiDiscrete([M, 2, S])                           PPO and A2C of most libraries
    discrete        Discrete(M (S + 1)): (S + 1) * move + symbol        DQN and its kin; symbol S writes nothing

M is the number of moves (left, right; with rows also up, down) and S the number of symbols that can be written.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.games import Game, GameEnv, GameVectorEnv
from envs.tapes.algorithmic import Tape, TapeConfig
from envs.tapes.curriculum import Course, Curriculum, Promotion
from envs.tapes.pictures import picture, text
from envs.views import wholes

VIEWS = ("tuple", "multidiscrete", "discrete")


class Exercise(NamedTuple):
    """A task as it is registered."""

    config: TapeConfig
    promotion: Promotion
    threshold: float
    """A mean return that counts as a solution. It can only be reached once the inputs have grown."""


_STRICT = Promotion(window=50, shortfall=-0.1)
EXERCISES: dict[str, Exercise] = {
    "Copy": Exercise(TapeConfig("copy"), Promotion(), 25.0),
    "DuplicatedInput": Exercise(TapeConfig("duplicated-input"), Promotion(), 9.0),
    "RepeatCopy": Exercise(TapeConfig("repeat-copy"), _STRICT, 75.0),
    "Reverse": Exercise(TapeConfig("reverse", base=2, min_length=1), _STRICT, 25.0),
    "ReversedAddition": Exercise(TapeConfig("reversed-addition", base=3, rows=2), Promotion(), 25.0),
    "ReversedAddition3": Exercise(TapeConfig("reversed-addition", base=3, rows=3), Promotion(), 25.0),
    "CopyFixed": Exercise(TapeConfig("copy", fixed=True), Promotion(), 25.0),
    "DuplicatedInputFixed": Exercise(TapeConfig("duplicated-input", fixed=True), Promotion(), 25.0),
    "RepeatCopyFixed": Exercise(TapeConfig("repeat-copy", fixed=True), _STRICT, 60.0),
    "ReverseFixed": Exercise(TapeConfig("reverse", fixed=True), _STRICT, 25.0),
    "ReversedAdditionFixed": Exercise(TapeConfig("reversed-addition", base=3, rows=2, fixed=True), Promotion(), 25.0),
    "ReversedAddition3Fixed": Exercise(TapeConfig("reversed-addition", base=3, rows=3, fixed=True), Promotion(), 25.0),
}
"""Without "Fixed": as in OpenAI Gym 0.19 (`gym/envs/__init__.py` and `gym/envs/algorithmic`)."""


class TapeGame(Game):
    """A task for Gymnasium.

    Args:
        exercise: a name in `EXERCISES`.
        view: a name in `VIEWS`.
        curriculum: whether inputs grow with success. A seed at reset begins again at the first level.
        min_length: the shortest input, at the first level.
        base: symbols.

    Raises:
        ValueError: if an argument is none of these.
    """

    render_modes = ("ansi", "rgb_array")

    def __init__(
        self,
        exercise: str = "Copy",
        *,
        view: str = "tuple",
        curriculum: bool = True,
        min_length: int | None = None,
        base: int | None = None,
    ) -> None:
        if exercise not in EXERCISES:
            raise ValueError(f"exercise must be one of {', '.join(EXERCISES)}, found {exercise!r}")
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, found {view!r}")
        config, promotion, _ = EXERCISES[exercise]
        self.config = replace(
            config,
            min_length=config.min_length if min_length is None else min_length,
            base=config.base if base is None else base,
        )
        self.name = f"tape {exercise}"
        self.view = view
        self.core = Tape(self.config)
        # At level 1 nobody is promoted beyond it, and every level is at least 1.
        self.curriculum = Curriculum(self.core, promotion if curriculum else replace(promotion, top=1))
        self.observation_space = gym.spaces.Discrete(self.config.readable)
        self.sizes = np.array([self.config.moves, 2, self.config.writable])
        self.action_space = self._space()

    def _space(self) -> gym.Space:
        if self.view == "tuple":
            return gym.spaces.Tuple([gym.spaces.Discrete(int(size)) for size in self.sizes])
        if self.view == "multidiscrete":
            return gym.spaces.MultiDiscrete(self.sizes)
        return gym.spaces.Discrete(self.config.moves * (self.config.writable + 1))

    def reset(self, key: Int[Tensor, " b"], before: Course | None) -> Course:
        return self.curriculum.reset(key, before)

    def decode(self, action: Any, count: int | None = None) -> Int[Tensor, "b 3"]:
        try:
            triple = self._read(action, () if count is None else (count,))
        except ValueError as problem:
            expected = "an action" if count is None else f"{count} actions"
            raise ValueError(f"expected {expected} in {self.action_space}, found {problem}") from None
        return torch.from_numpy(triple).view(-1, 3)

    def _read(self, action: Any, lead: tuple[int, ...]) -> np.ndarray:
        if self.view == "multidiscrete":
            return wholes("action", action, (*lead, 3), self.sizes)
        if self.view == "discrete":
            symbols = self.config.writable
            move, symbol = np.divmod(wholes("action", action, lead, self.config.moves * (symbols + 1)), symbols + 1)
            return np.stack([move, symbol < symbols, symbol % symbols], axis=-1)
        if not isinstance(action, Sequence) or len(action) != 3:
            raise ValueError(f"a {type(action).__name__} that does not hold a move, whether to write, and a symbol")
        parts = zip(("move", "write", "symbol"), action, self.sizes)
        return np.stack([wholes(name, part, lead, size) for name, part, size in parts], axis=-1)

    def step(
        self, state: Course, action: Int[Tensor, "b 3"]
    ) -> tuple[Course, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        return self.curriculum.step(state, action)

    def observe(self, state: Course) -> Int[Tensor, " b"]:
        return self.core.observe(state.episode)

    def info(self, state: Course) -> dict[str, Tensor]:
        """The tape [columns, rows], the target [letters] (-1 beyond its end), what was written, and the level."""
        tape = state.episode
        return {
            "input": tape.tape,
            "length": tape.columns,
            "target": tape.target,
            "letters": tape.letters,
            "written": tape.written,
            "level": state.min_length,
        }

    def draw(self, state: Course, row: int, mode: str) -> Any:
        return (text if mode == "ansi" else picture)(self.config, state.episode, row)


class TapeEnv(GameEnv):
    """One tape to read and one to write (see `TapeGame`, which also names the other arguments).

    An observation is the symbol under the head: 0 to base - 1, or `base`, the blank. Infos carry the "input" [columns, rows], its "length" in
    columns, the "target" [letters] (-1 beyond its end), its number of "letters", how many were "written", and the "level", min_length.

    Args:
        exercise: see `TapeGame`.
        render_mode: None, "ansi" or "rgb_array".
        **game: see `TapeGame`.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, exercise: str = "Copy", *, render_mode: str | None = None, **game: Any) -> None:
        super().__init__(TapeGame(exercise, **game), render_mode)


class TapeVectorEnv(GameVectorEnv):
    """`num_envs` of them that step together (see `TapeEnv`, `TapeGame` and `envs.games.GameVectorEnv`). Each has a level of its own."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        exercise: str = "Copy",
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        return_torch: bool = False,
        **game: Any,
    ) -> None:
        super().__init__(
            TapeGame(exercise, **game),
            num_envs,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            return_torch=return_torch,
        )
