"""Many glimpse environments at once: Gymnasium's vector interface over the batched core.

Environment i has a random stream of its own, seeded with seed + i and used for one thing only: to draw the number of its next
scene. All else follows from that number. N single environments therefore live through exactly what one vector of N does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Int
from torch import Tensor

from envs import glimpse as core
from envs.digits import DigitsConfig
from envs.games import StreamedVectorEnv
from envs.glimpse import Observation, Rules, State
from envs.numbered import Scenes
from envs.render import Frames
from envs.views import VIEWS, wholes

# Passes over the training images that scene numbers are drawn from. A task keeps the orders of so many passes at hand; with
# more, every reset would shuffle all images anew.
PASSES = 64


class Game:
    """What single and vector environments have in common: scenes, rules and spaces.

    Args:
        task: a task (see `Scenes`), a configuration that builds one, or the fields of a `DigitsConfig` as a dictionary, which
            is what a JSON file can hold. Default: the small task on scikit-learn's digits.
        view: a name in `envs.views.VIEWS`.
        split: "train", "validation" or "test". All scenes of the split are equally likely at every reset.
        gaze_mode: see `Rules`; so are `max_move`, `early_answer` and `glimpse_cost`.
        grid: places along one side of the grid, for views whose gaze is a cell.
        data_dir: where a configuration's data lie.

    Raises:
        ValueError: if an argument is none of these, or if the data are missing.
    """

    def __init__(
        self,
        task: Any = None,
        *,
        view: str = "dict",
        split: str = "train",
        gaze_mode: Any = "absolute",
        max_move: float = 0.2,
        early_answer: bool = False,
        glimpse_cost: float = 0.0,
        grid: int = 5,
        data_dir: str | Path = "data",
    ) -> None:
        self.task = _task(task, Path(data_dir))
        self.split = split
        self.size = self.task.size(split)
        spec = self.task.spec
        self.rules = Rules(spec.glimpses, spec.classes, gaze_mode, max_move, early_answer, glimpse_cost)
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, found {view!r}")
        if grid < 1:
            raise ValueError(f"the grid must have at least 1 cell, found grid={grid}")
        self.view = VIEWS[view](spec.classes, grid)
        if self.view.needs_early_answer and not early_answer:
            raise ValueError(f"an action of {self.view.space} either looks or answers, so it needs early_answer=True")
        shape = (spec.scales * spec.channels, spec.side, spec.side)
        self.observation_space = gym.spaces.Dict(
            {
                "glimpse": gym.spaces.Box(0.0, 1.0, shape, np.float32),
                "gaze": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
                "t": gym.spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )

    def draw(self, stream: np.random.Generator) -> int:
        """The number of a scene."""
        return int(stream.integers(self.size * PASSES if self.split == "train" else self.size))

    def named(self, scene: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Scene numbers that a user gave, int64 in this shape. One number stands for all.

        Raises:
            ValueError: if there are no such scenes.
        """
        try:
            return wholes("scene", np.broadcast_to(scene, shape), shape, 2**31 if self.split == "train" else self.size)
        except ValueError as problem:
            raise ValueError(f'options["scene"] must hold scene numbers of split "{self.split}", found {problem}') from None

    def begin(self, numbers: Int[Tensor, " b"]) -> tuple[State, Observation]:
        """Episodes on the scenes of these numbers, all drawn at once."""
        batch = self.task.scenes(self.split, numbers)
        return core.reset(batch.question, batch.target, self.rules)


def _task(task: Any, data_dir: Path) -> Scenes:
    if task is None:
        task = DigitsConfig()
    if isinstance(task, dict):
        try:
            task = DigitsConfig(**task)
        except TypeError as problem:
            raise ValueError(f"the task's dictionary must hold fields of DigitsConfig: {problem}") from None
    if hasattr(task, "build"):
        task = task.build(data_dir)
    if not isinstance(task, Scenes):
        raise ValueError(f"expected a task whose scenes can be drawn by number, found a {type(task).__name__}")
    return task


class GlimpseVectorEnv(StreamedVectorEnv):
    """`num_envs` glimpse environments that step together.

    Observations, for n environments, k scales, c channels and windows of side g: "glimpse" [n, k * c, g, g] in [0, 1], finest
    scale first; "gaze" [n, 2] in [-1, 1]; "t" [n, 1], the part of all glimpses shown so far. Infos carry the answer key,
    "target" [n], and the number of the scene, "scene" [n].

    Args:
        num_envs: how many.
        task: see `Game`, which also names the other arguments.
        autoreset_mode: one of `gymnasium.vector.AutoresetMode`, or its value: "SameStep", "NextStep" or "Disabled".
        render_mode: None or "rgb_array".
        return_torch: hand out tensors instead of arrays (rewards in float32 instead of float64). Actions may always be either.
        **game: see `Game`.

    Raises:
        ValueError: if an argument is out of place.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    belief: Any = None
    """[n, classes]: what the agent believes, to be drawn by `render`. Set it before you render; `reset` takes it back."""

    def __init__(
        self,
        num_envs: int = 1,
        task: Any = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        return_torch: bool = False,
        **game: Any,
    ) -> None:
        self.game = Game(task, **game)
        super().__init__(num_envs, self.game.observation_space, self.game.view.space, autoreset_mode, return_torch)
        self.render_mode = render_mode
        self._frames = Frames(render_mode, num_envs, self.game.rules)
        self._state: State | None = None
        self._scene = torch.zeros(num_envs, dtype=torch.int64)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: environment i's stream is seeded with seed + i, or with entry i. None goes on with the streams as they are.
            options: "reset_mask": a boolean array [n] of the environments to reset, by default all. "scene": numbers of the
                scenes to show, [n] or one for all; without it the streams draw them.

        Returns:
            Observations of all environments, and the infos of those that were reset.

        Raises:
            ValueError: if there are too few seeds, or an option is not as described.
        """
        options = options or {}
        rows = self._rows(options.get("reset_mask"))
        seed = self._seeds_of(seed)
        self._seed(seed, rows.tolist())
        scene = options.get("scene")
        numbers = None if scene is None else torch.from_numpy(self.game.named(scene, (self.num_envs,)))[rows]
        everything = len(rows) == self.num_envs
        observation = None if everything else core.observe(self._begun(), self.game.rules)
        observation = self._begin(rows, observation, numbers)
        self.belief = None
        fresh = torch.zeros(self.num_envs, dtype=torch.bool).index_fill_(0, rows, True)
        self._ended = self._ended & ~fresh
        return self._deliver(observation), self._infos(fresh)

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """See `envs.glimpse.step`. SAME_STEP keeps an episode's last observation and info in "final_obs" and "final_info".

        Raises:
            ValueError: if the actions do not lie in the action space, or if an ended episode was not reset (DISABLED).
            gymnasium.error.ResetNeeded: before the first reset.
        """
        state = self._begun()
        move, answer = self.game.view.decode(actions, self.num_envs)
        ended = self._still_playing(actions)
        state, observation, (reward, terminated, truncated) = core.step(state, move, answer, self.game.rules)
        self._state = state
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and ended.any():
            observation = self._begin(ended.nonzero()[:, 0], observation)
            reward, terminated, truncated = (x.masked_fill(ended, 0) for x in (reward, terminated, truncated))
        done = terminated | truncated
        self._frames.record(self._begun(), answer, terminated)
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            infos = self._final(done, observation)
            observation = self._begin(done.nonzero()[:, 0], observation)
        else:
            self._ended = done
        everyone = torch.ones_like(done)
        # Gymnasium counts rewards in float64; tensors go on to learners, which do not.
        outcome = (self._give(x) for x in (reward if self.return_torch else reward.double(), terminated, truncated))
        return self._deliver(observation), *outcome, {**infos, **self._infos(everyone)}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture per environment (see `envs.render.frame`), or None without a render mode.

        Raises:
            ValueError: if the belief does not fit.
        """
        return self._frames.draw(self, self._begun(), self.belief)

    def _begun(self) -> State:
        if self._state is None:
            raise gym.error.ResetNeeded("call reset() before step() or render(), and before a reset of some environments only")
        return self._state

    def _begin(self, rows: Int[Tensor, " rows"], observation: Observation | None, numbers: Tensor | None = None) -> Observation:
        """Begin episodes in these environments. Returns all observations: `observation`, with theirs put in."""
        if numbers is None:
            numbers = torch.tensor([self.game.draw(self._streams[i]) for i in rows.tolist()])
        state, fresh = self.game.begin(numbers)
        self._scene = self._scene.index_copy(0, rows, numbers)
        if len(rows) == self.num_envs:
            self._state = state
        else:
            assert observation is not None
            self._state = _replace(self._begun(), rows, state)
            fresh = Observation(*(whole.index_copy(0, rows, part) for whole, part in zip(observation, fresh)))
        self._frames.begin(rows, state)
        return fresh

    def _deliver(self, observation: Observation) -> dict[str, Any]:
        # The state holds the gaze as well: nobody may change it from outside.
        return {
            "glimpse": self._give(observation.glimpse),
            "gaze": self._give(observation.gaze.clone()),
            "t": self._give(observation.time),
        }

    def _infos(self, here: Bool[Tensor, " n"]) -> dict[str, Any]:
        """Target and scene of the chosen environments, 0 for the others, beside masks of who was chosen."""
        values = {"target": self._begun().target * here, "scene": self._scene * here}
        masks = {f"_{name}": here.clone() for name in values}
        return {name: self._give(value) for name, value in (values | masks).items()}

    def _final(self, done: Bool[Tensor, " n"], observation: Observation) -> dict[str, Any]:
        """What SAME_STEP keeps of the episodes that ended: Gymnasium wants every observation as an object of its own."""
        last = self._deliver(observation)
        kept = np.full(self.num_envs, None, dtype=object)
        for i in done.nonzero()[:, 0].tolist():
            kept[i] = {name: values[i] for name, values in last.items()}
        masks = {name: self._give(done.clone()) for name in ("_final_obs", "_final_info")}
        return {"final_obs": kept, "final_info": self._infos(done), **masks}


def _replace(state: State, rows: Int[Tensor, " rows"], fresh: State) -> State:
    """`state` with other episodes in these rows. The question is large, and ours alone: it is overwritten in place."""
    old, new = state.question, fresh.question
    for whole, part in zip((*old[:3], *(old.table or ())), (*new[:3], *(new.table or ()))):  # image, gaze, key; sums, unit
        whole.index_copy_(0, rows, part)
    pairs = zip(state[1:], fresh[1:])
    return State(old, *(whole.index_copy(0, rows, part) for whole, part in pairs))
