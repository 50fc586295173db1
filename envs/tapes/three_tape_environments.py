"""RL-NTM's tasks for Gymnasium: single environments and native vectors over `envs.tapes.three_tapes`.

    view            one environment's action space                        whom it is for
    dict            Dict(tape: Discrete(3), memory: Discrete(3),          whoever predicts with probabilities and writes
                         output: Discrete(2), scores: Box(S),             vectors
                         keep: Box(W, D), add: Box(W, D))
    multidiscrete   MultiDiscrete([3, 3, 2, S, D + 1])                    PPO and A2C of most libraries: whole numbers only

S is the number of symbols with the end, W the width of a window and D the depth of a cell. Scores are logits, divided by `SHARPNESS`. The flat view predicts
one symbol, which then has the probability `SURE` and all the others the same share of the rest; and it writes one of D marks (one-hot) into the cell
under the memory's head, or (number D) nothing.

A head that may not make a move stays, and the output advances when it must (see `ThreeTapes.allowed`): so every action of the space can be taken. Numbers
beyond a box are brought to its border.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.games import Game, GameEnv, GameVectorEnv
from envs.tapes.curriculum import Progress, Widening
from envs.tapes.pictures import machine_picture, machine_text
from envs.tapes.three_tapes import Moves, State, ThreeTapes, ThreeTapesConfig, Write
from envs.views import reals, wholes
from hardattn.noise import fork, integers

MACHINES = {
    "Copy": "copy",
    "DuplicatedInput": "duplicated-input",
    "Reverse": "reverse",
    "RepeatCopy": "repeat-copy",
    "ForwardReverse": "forward-reverse",
}
"""The tasks of `ThreeTapesConfig` under the names of their environments, `hardattn/RLNTM...-v0`."""
VIEWS = ("dict", "multidiscrete")
SURE = 0.9
"""Probability of a symbol that is predicted by its number."""
SHARPNESS = 20.0
"""Scores from -1 to 1 are multiplied by it: the greatest logit."""


class Act(NamedTuple):
    """What all do in a step."""

    moves: Moves
    log_prob: Float[Tensor, "b symbols"]
    write: Write


class Machine(NamedTuple):
    """An episode and what was said in it."""

    tapes: State
    said: Int[Tensor, "b letters"]
    """The symbols thought the most probable, where the output advanced; -1 for what was not yet said."""
    progress: Progress
    """How far each is in the curriculum."""
    counts: Bool[Tensor, " b"]
    """Whether this episode decides about that."""


class ThreeTapesGame(Game):
    """A task for Gymnasium.

    Args:
        task: a name in `MACHINES`.
        view: a name in `VIEWS`.
        curriculum: whether inputs grow with success, for each environment by itself (see `Widening`); a seed at reset begins again at the first
            level. Without it, one complexity comes as often as another.
        complexity: of every episode, from 1 to the configuration's `top`, instead of a curriculum.
        **tapes: see `ThreeTapesConfig`, but for its `task`. Without any, the paper's sizes (of repeat-copy the authors' 44 steps).

    Raises:
        ValueError: if an argument is none of these.
    """

    render_modes = ("ansi", "rgb_array")

    def __init__(
        self, task: str = "Copy", *, view: str = "dict", curriculum: bool = True, complexity: int | None = None, **tapes: Any
    ) -> None:
        if task not in MACHINES:
            raise ValueError(f"task must be one of {', '.join(MACHINES)}, found {task!r}")
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, found {view!r}")
        if task == "RepeatCopy":
            tapes = {"steps": 44, **tapes}
        try:
            self.config = ThreeTapesConfig(task=MACHINES[task], **tapes)  # type: ignore[arg-type]
        except TypeError as problem:
            raise ValueError(f"expected fields of ThreeTapesConfig: {problem}") from None
        if complexity is not None and complexity not in range(1, self.config.top + 1):
            raise ValueError(f"complexity must be a whole number from 1 to {self.config.top}, found {complexity!r}")
        self.name = f"three tapes {task}"
        self.view = view
        self.complexity, self.curriculum = complexity, curriculum and complexity is None
        self.pace = Widening(self.config.top)
        self.core = ThreeTapes(self.config)
        size, window, depth = self.config.size, 2 * self.config.around + 1, self.core.depth
        self.cells = (window, depth)
        most = float(self.config.steps + self.config.marked)
        self.sizes = np.array([3, 3, 2, size, depth + 1])
        self.observation_space = gym.spaces.Dict(
            {
                "tape": gym.spaces.MultiDiscrete([size] * window),
                # A step adds at most 1 to a number and never multiplies it by more; a mark is a 1 at the beginning.
                "memory": gym.spaces.Box(-most, most, self.cells, np.float32),
            }
        )
        self.action_space = self._space()

    def _space(self) -> gym.Space:
        spaces = gym.spaces
        if self.view == "multidiscrete":
            return spaces.MultiDiscrete(self.sizes)
        return spaces.Dict(
            {
                "tape": spaces.Discrete(3),
                "memory": spaces.Discrete(3),
                "output": spaces.Discrete(2),
                "scores": spaces.Box(-1.0, 1.0, (self.config.size,), np.float32),
                "keep": spaces.Box(0.0, 1.0, self.cells, np.float32),
                "add": spaces.Box(-1.0, 1.0, self.cells, np.float32),
            }
        )

    def reset(self, key: Int[Tensor, " b"], before: Machine | None) -> Machine:
        progress = self.pace.begin_each(len(key))
        if before is not None and self.curriculum:
            # What was not said before it was given up is wrong, too.
            right = (before.tapes.emitted - before.tapes.wrong) / before.tapes.letters
            progress = self.pace.advance_each(before.progress, 1 - right, before.counts)
        complexity, counts = self.pace.draw(fork(key, "complexity"), progress)
        if not self.curriculum:
            complexity = 1 + integers(fork(key, "any complexity"), 1, self.config.top)[:, 0]
        if self.complexity is not None:
            complexity = torch.full_like(key, self.complexity)
        said = torch.full((len(key), self.config.letters), -1, device=key.device)
        return Machine(self.core.reset(key, complexity), said, progress, counts)

    def decode(self, action: Any, count: int | None = None) -> Act:
        try:
            return (self._whole if self.view == "multidiscrete" else self._parts)(action, () if count is None else (count,))
        except ValueError as problem:
            expected = "an action" if count is None else f"{count} actions"
            raise ValueError(f"expected {expected} in {self.action_space}, found {problem}") from None

    def _parts(self, action: Any, lead: tuple[int, ...]) -> Act:
        if not isinstance(action, Mapping):
            raise ValueError(f"a {type(action).__name__}")
        if set(action) != set(self.action_space):  # type: ignore[call-overload]
            raise ValueError(f"the keys {sorted(map(str, action))}")
        sizes = zip(Moves._fields, self.sizes)
        moves = Moves(*(torch.from_numpy(wholes(name, action[name], lead, size)).view(-1) for name, size in sizes))
        scores = torch.from_numpy(reals("scores", action["scores"], (*lead, self.config.size))).view(-1, self.config.size)
        keep, add = (
            torch.from_numpy(reals(name, action[name], (*lead, *self.cells))).view(-1, *self.cells) for name in Write._fields
        )
        return Act(moves, (SHARPNESS * scores.clamp(-1, 1)).log_softmax(1), Write(keep.clamp(0, 1), add.clamp(-1, 1)))

    def _whole(self, action: Any, lead: tuple[int, ...]) -> Act:
        numbers = torch.from_numpy(wholes("action", action, (*lead, 5), self.sizes)).view(-1, 5)
        *moves, symbol, mark = numbers.unbind(1)
        size, (window, depth) = self.config.size, self.cells
        rest = (1 - SURE) / (size - 1)
        probability = rest + (SURE - rest) * F.one_hot(symbol, size)
        under = torch.arange(window) == self.config.around
        marks = (mark < depth)[:, None] & under
        add = marks[..., None] * F.one_hot(mark, depth + 1)[:, None, :depth]
        return Act(Moves(*moves), probability.log(), Write(1.0 - marks[..., None].expand(-1, -1, depth).float(), add.float()))

    def step(self, state: Machine, action: Act) -> tuple[Machine, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        moves, log_prob, write = action
        # In a vector, episodes that have ended may wait for their reset; what this step does to them is overwritten by it.
        tapes = state.tapes._replace(time=state.tapes.time % self.config.steps)
        legal = []
        for move, choices in zip(moves, self.core.allowed(tapes)):
            otherwise = torch.where(choices[:, 1], 1, 0)  # a head stays; the output does what it must
            legal.append(torch.where(choices.gather(1, move[:, None])[:, 0], move, otherwise))
        after, reward, terminated, truncated = self.core.step(tapes, Moves(*legal), log_prob, write)
        now = F.one_hot(tapes.emitted.clamp(max=self.config.letters - 1), self.config.letters).bool() & (legal[2] == 1)[:, None]
        said = torch.where(now, log_prob.argmax(1, keepdim=True), state.said)
        return state._replace(tapes=after, said=said), reward, terminated, truncated

    def observe(self, state: Machine) -> dict[str, Tensor]:
        return self.core.observe(state.tapes)._asdict()

    def info(self, state: Machine) -> dict[str, Tensor]:
        """The input [columns] and its length, the target [letters], its number of letters (both with the end), what was said (-1: nothing yet), how many of
        those were wrong, after how many steps the output must be complete, the level of the curriculum, and which moves the heads may make."""
        tapes = state.tapes
        return {
            "input": tapes.tape,
            "length": tapes.columns,
            "target": tapes.target,
            "letters": tapes.letters,
            "said": state.said,
            "wrong": tapes.wrong,
            "deadline": tapes.deadline,
            "level": state.progress.level,
            **{f"allowed_{name}": choices for name, choices in self.core.allowed(tapes)._asdict().items()},
        }

    def draw(self, state: Machine, row: int, mode: str) -> Any:
        tapes = state.tapes
        said = [symbol for symbol in state.said[row].tolist() if symbol >= 0]
        right = [symbol == wanted for symbol, wanted in zip(said, tapes.target[row].tolist())]
        return (machine_text if mode == "ansi" else machine_picture)(self.config, tapes, row, said, right)


class ThreeTapesEnv(GameEnv):
    """A tape to read, a memory tape and an output (see `ThreeTapesGame`, which also names the other arguments).

    Observations are the windows around the heads: "tape" [window], numbers of symbols, of which the last is the end; and "memory" [window, depth]. The
    reward of a step is the log-probability of the right symbol if the output advances, else 0 (Zaremba and Sutskever 2015, Section 3). An episode
    has `steps` steps.

    Args:
        task: see `ThreeTapesGame`.
        render_mode: None, "ansi" or "rgb_array".
        **game: see `ThreeTapesGame`.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, task: str = "Copy", *, render_mode: str | None = None, **game: Any) -> None:
        super().__init__(ThreeTapesGame(task, **game), render_mode)


class ThreeTapesVectorEnv(GameVectorEnv):
    """`num_envs` of them that step together (see `ThreeTapesEnv`, `ThreeTapesGame` and `envs.games.GameVectorEnv`)."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "Copy",
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        return_torch: bool = False,
        **game: Any,
    ) -> None:
        super().__init__(
            ThreeTapesGame(task, **game),
            num_envs,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            return_torch=return_torch,
        )
