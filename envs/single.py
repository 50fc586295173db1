"""One glimpse environment: Gymnasium's interface over the batched core, with a batch of one."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs import glimpse as core
from envs.glimpse import Observation, State
from envs.render import Frames
from envs.vector import Game


class GlimpseEnv(gym.Env[Any, Any]):
    """An image seen in glimpses, and a question about it.

    Observations, for k scales, c channels and windows of side g: "glimpse" [k * c, g, g] in [0, 1], finest scale first;
    "gaze" [2] in [-1, 1]; "t" [1], the part of all glimpses shown so far. The info carries the answer key, "target", and the
    number of the "scene".

    Args:
        task: see `envs.vector.Game`, which also names the other arguments.
        render_mode: None or "rgb_array".
        **game: see `envs.vector.Game`.

    Raises:
        ValueError: if an argument is out of place.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012

    belief: Any = None
    """[classes]: what the agent believes, to be drawn by `render`. Set it before you render; `reset` takes it back."""

    def __init__(self, task: Any = None, *, render_mode: str | None = None, **game: Any) -> None:
        self.game = Game(task, **game)
        self.render_mode = render_mode
        self._frames = Frames(render_mode, 1, self.game.rules)
        self.observation_space = self.game.observation_space
        self.action_space = self.game.view.space
        self._state: State | None = None
        self._scene = 0
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of the stream that draws scenes. None goes on with the stream as it is.
            options: "scene": the number of the scene to show; without it the stream draws one.

        Raises:
            ValueError: if there is no such scene.
        """
        super().reset(seed=seed)
        scene = (options or {}).get("scene")
        self._scene = self.game.draw(self.np_random) if scene is None else int(self.game.named(scene, ()))
        self._state, observation = self.game.begin(torch.tensor([self._scene]))
        self._ended = False
        self.belief = None
        self._frames.begin(torch.zeros(1, dtype=torch.int64), self._state)
        return _first(observation), self._info(self._state)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """See `envs.glimpse.step`.

        Raises:
            ValueError: if the action does not lie in the action space, or if the episode has ended.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        state = self._begun()
        move, answer = self.game.view.decode(action)
        if self._ended:
            raise ValueError(f"the episode has ended and takes no action in {self.action_space}, found {action}: reset it")
        state, observation, outcome = core.step(state, move, answer, self.game.rules)
        self._state = state
        self._frames.record(state, answer, outcome.terminated)
        terminated, truncated = bool(outcome.terminated), bool(outcome.truncated)
        self._ended = terminated or truncated
        return _first(observation), float(outcome.reward), terminated, truncated, self._info(state)

    def render(self) -> np.ndarray | None:
        """A picture (see `envs.render.frame`), or None without a render mode.

        Raises:
            ValueError: if the belief does not fit.
        """
        frames = self._frames.draw(self, self._begun(), None if self.belief is None else [self.belief])
        return None if frames is None else frames[0]

    def _begun(self) -> State:
        if self._state is None:
            raise gym.error.ResetNeeded("call reset() before step() or render()")
        return self._state

    def _info(self, state: State) -> dict[str, Any]:
        return {"target": int(state.target), "scene": self._scene}


def _first(observation: Observation) -> dict[str, Any]:
    # The state holds the gaze as well: nobody may change it from outside.
    return {
        "glimpse": observation.glimpse[0].numpy(),
        "gaze": observation.gaze[0].clone().numpy(),
        "t": observation.time[0].numpy(),
    }
