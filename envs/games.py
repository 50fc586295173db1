"""Gymnasium over any batched game: what a single environment and a native vector have in common, whatever is played.

A `Game` is pure: states go in and come out, and every leaf of a state has the batch as its first axis. `GameEnv` and `GameVectorEnv`
add what Gymnasium wants: streams, autoreset, infos, and refusing what comes at the wrong time.

Environment i has a random stream of its own, seeded with seed + i and used for one thing only: to draw the number of its next instance (an
episode before anything is done in it). All else follows from that number, so N single environments live through exactly what one vector of N does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from operator import itemgetter
from textwrap import shorten
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.views import wholes
from hardattn.noise import keys

INSTANCES = 2**62
"""Instances are numbered from 0 to one less. So many that no two environments meet the same one by chance."""


class Game(ABC):
    """What is played: rules, spaces and pictures of b episodes at once. The type of its states is its own."""

    name: str
    """Of the stream that its instances' keys are drawn from (`hardattn.noise`)."""
    observation_space: gym.Space
    """Of one environment."""
    action_space: gym.Space
    """Of one environment."""
    render_modes: tuple[str, ...]

    @abstractmethod
    def reset(self, key: Int[Tensor, " b"], before: Any | None) -> Any:
        """Begin episodes. `before` are the states that they follow; None: nothing was played before."""

    @abstractmethod
    def decode(self, action: Any, count: int | None = None) -> Any:
        """What `step` takes, of `count` environments' actions; with None, of one environment's action (and b is 1).

        Raises:
            ValueError: if the actions do not lie in the action space.
        """

    @abstractmethod
    def step(self, state: Any, action: Any) -> tuple[Any, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """The next state, rewards, and who has terminated and who was truncated."""

    @abstractmethod
    def observe(self, state: Any) -> Tensor | dict[str, Tensor]:
        """What the players see. A tensor's rows, or those of several under their names."""

    @abstractmethod
    def info(self, state: Any) -> dict[str, Tensor]:
        """What may be known outside, but is not the player's to see: one row per episode under each name."""

    @abstractmethod
    def draw(self, state: Any, row: int, mode: str) -> Any:
        """A picture of one episode."""

    def key(self, number: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The keys of instances that are known by their numbers."""
        return keys(0, self.name, number)


def on_leaves(apply: Callable[..., Tensor], *states: Any) -> Any:
    """A state like the first, its tensors made by `apply` from those of all states."""
    first = states[0]
    if isinstance(first, Tensor):
        return apply(*states)
    return type(first)(*(on_leaves(apply, *parts) for parts in zip(*states)))


class GameEnv(gym.Env[Any, Any]):
    """One environment: a batch of one. Infos carry what the game tells, and the number of the "instance" that is played.

    Args:
        game: what is played.
        render_mode: None or one of the game's.

    Raises:
        ValueError: if there is no such render mode.
    """

    def __init__(self, game: Game, render_mode: str | None = None) -> None:
        self.game = game
        self.render_mode = _checked(game, render_mode)
        self.observation_space = game.observation_space
        self.action_space = game.action_space
        self._state: Any = None
        self._instance = 0
        self._ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of the stream that draws instances; a curriculum begins again. None goes on with both as they are.
            options: "instance": the number of the one to play; without it the stream draws one.

        Raises:
            ValueError: if there is no such instance.
        """
        super().reset(seed=seed)
        number = (options or {}).get("instance")
        self._instance = _drawn(self.np_random) if number is None else int(wholes("instance", number, (), INSTANCES))
        self._state = self.game.reset(self.game.key(torch.tensor([self._instance])), self._state if seed is None else None)
        self._ended = False
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One move (see the game's own `step`).

        Raises:
            ValueError: if the action does not lie in the action space, or if the episode has ended.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        state = _begun(self._state)
        decoded = self.game.decode(action)
        if self._ended:
            found = shorten(repr(action), 200)
            raise ValueError(f"the episode has ended and takes no action in {self.action_space}, found {found}: reset it")
        self._state, reward, terminated, truncated = self.game.step(state, decoded)
        self._ended = bool(terminated | truncated)
        observation, info = self._seen()
        return observation, float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """A picture, or None (and a warning) without a render mode."""
        pictures = _draw(self, _begun(self._state), 1)
        return None if pictures is None else pictures[0]

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        # The state may hold what is shown as well: nobody may change it from outside.
        observation = on_parts(lambda x: x.clone().numpy()[0], self.game.observe(self._state))
        info = {name: value.clone().numpy()[0] for name, value in self.game.info(self._state).items()}
        return observation, {**info, "instance": self._instance}


class StreamedVectorEnv(VectorEnv[Any, Any, Any]):
    """What native vectors share, whatever they hold: a random stream for every environment, masks, and what is refused.

    Raises:
        ValueError: if there is no environment, or no such autoreset mode.
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space,
        action_space: gym.Space,
        autoreset_mode: AutoresetMode | str,
        return_torch: bool,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"there must be at least 1 environment, found num_envs={num_envs}")
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.return_torch = return_torch
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._streams: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._ended = torch.zeros(num_envs, dtype=torch.bool)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Every environment's own stream."""
        self._seed([None] * self.num_envs, range(self.num_envs))
        return tuple(self._streams)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What every environment's stream was seeded with."""
        self._seed([None] * self.num_envs, range(self.num_envs))
        return tuple(self._seeds)

    def _seeds_of(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        """One for each environment."""
        if not isinstance(seed, Sequence):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected one seed for each of {self.num_envs} environments, found {len(seed)}")
        return seed

    def _rows(self, mask: Any) -> Int[Tensor, " rows"]:
        """The environments that a mask chooses."""
        if mask is None:
            return torch.arange(self.num_envs)
        mask = mask.numpy() if isinstance(mask, Tensor) else mask
        if not (isinstance(mask, np.ndarray) and mask.shape == (self.num_envs,) and mask.dtype == np.bool_ and mask.any()):
            raise ValueError(
                f'options["reset_mask"] must be a boolean array of shape ({self.num_envs},), not all False, found {mask!r}'
            )
        return torch.from_numpy(mask.nonzero()[0])

    def _seed(self, seeds: Sequence[int | None], rows: Sequence[int]) -> None:
        """Seed the streams that a seed is given for; those that never had one start anywhere."""
        if not self._streams:
            pairs = [seeding.np_random() for _ in range(self.num_envs)]
            self._streams, self._seeds = [stream for stream, _ in pairs], [seed for _, seed in pairs]
        for i in rows:
            if seeds[i] is not None:
                self._streams[i], self._seeds[i] = seeding.np_random(seeds[i])

    def _still_playing(self, actions: Any) -> Bool[Tensor, " n"]:
        """Whose episodes have ended. Where nobody resets them, they take no action."""
        ended = self._ended
        if self.autoreset_mode is AutoresetMode.DISABLED and ended.any():
            raise ValueError(
                f"{int(ended.sum())} episodes, the first in environment {int(ended.nonzero()[0])}, have ended and take no "
                f"action in {self.single_action_space}, found {shorten(repr(actions), 200)}: reset them first with "
                'reset(options={"reset_mask": ...})'
            )
        return ended

    def _give(self, tensor: Tensor) -> Any:
        return tensor if self.return_torch else tensor.numpy()


class GameVectorEnv(StreamedVectorEnv):
    """`num_envs` environments that step together. Infos carry what the game tells, and the numbers of their instances, "instance" [n].

    Args:
        game: what is played.
        num_envs: how many.
        autoreset_mode: one of `gymnasium.vector.AutoresetMode`, or its value: "SameStep", "NextStep" or "Disabled".
        render_mode: None or one of the game's.
        return_torch: hand out tensors instead of arrays (rewards in float32 instead of float64). Actions may always be either.

    Raises:
        ValueError: if an argument is out of place.
    """

    def __init__(
        self,
        game: Game,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        return_torch: bool = False,
    ) -> None:
        super().__init__(num_envs, game.observation_space, game.action_space, autoreset_mode, return_torch)
        self.game = game
        self.render_mode = _checked(game, render_mode)
        self._state: Any = None
        self._instance = torch.zeros(num_envs, dtype=torch.int64)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: environment i's stream is seeded with seed + i, or with entry i, and its curriculum begins again. None goes on
                with both as they are.
            options: "reset_mask": a boolean array [n] of the environments to reset, by default all. "instance": numbers of those
                to play, [n] or one for all; without it the streams draw them.

        Returns:
            Observations of all environments, and the infos of those that were reset.

        Raises:
            ValueError: if there are too few seeds, or an option is not as described.
            gymnasium.error.ResetNeeded: if the first reset is of some environments only.
        """
        options = options or {}
        rows = self._rows(options.get("reset_mask"))
        seed = self._seeds_of(seed)
        number = options.get("instance")
        if number is not None:
            number = wholes("instance", np.broadcast_to(number, self.num_envs), (self.num_envs,), INSTANCES)
        first = self._state is None
        if len(rows) < self.num_envs:
            _begun(self._state)
        self._seed(seed, rows.tolist())
        # Who was given a seed starts from nothing; the others go on from what they played before.
        seeded = torch.tensor([s is not None for s in seed])[rows]
        self._begin(rows[seeded], number, follow=False)
        self._begin(rows[~seeded], number, follow=not first)
        fresh = torch.zeros(self.num_envs, dtype=torch.bool).index_fill_(0, rows, True)
        self._ended = self._ended & ~fresh
        return self._deliver(self.game.observe(self._state)), self._infos(fresh)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One move of all. SAME_STEP keeps an episode's last observation and info in "final_obs" and "final_info".

        Raises:
            ValueError: if the actions do not lie in the action space, or if an ended episode was not reset (DISABLED).
            gymnasium.error.ResetNeeded: before the first reset.
        """
        state = _begun(self._state)
        action = self.game.decode(actions, self.num_envs)
        ended = self._still_playing(actions)
        self._state, reward, terminated, truncated = self.game.step(state, action)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and ended.any():
            # Their action is ignored: whatever it did is overwritten by the new episode, which follows the old one's last state.
            self._state = on_leaves(lambda new, old: _where(ended, old, new), self._state, state)
            self._begin(ended.nonzero()[:, 0])
            reward, terminated, truncated = (x.masked_fill(ended, 0) for x in (reward, terminated, truncated))
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            infos = self._final(done)
            self._begin(done.nonzero()[:, 0])
        else:
            self._ended = done
        # Gymnasium counts rewards in float64; tensors go on to learners, which do not.
        outcome = (self._give(x) for x in (reward if self.return_torch else reward.double(), terminated, truncated))
        observation = self._deliver(self.game.observe(self._state))
        return observation, *outcome, {**infos, **self._infos(torch.ones_like(done))}

    def render(self) -> tuple[Any, ...] | None:
        """One picture per environment, or None (and a warning) without a render mode."""
        return _draw(self, _begun(self._state), self.num_envs)

    def _begin(self, rows: Int[Tensor, " rows"], number: np.ndarray | None = None, *, follow: bool = True) -> None:
        """Begin episodes in these environments, of given numbers [n] or of those that their streams draw."""
        if not len(rows):
            return
        if number is None:
            numbers = torch.tensor([_drawn(self._streams[i]) for i in rows.tolist()])
        else:
            numbers = torch.from_numpy(number)[rows]
        old = self._state
        before = on_leaves(lambda x: x[rows], old) if follow and old is not None else None
        fresh = self.game.reset(self.game.key(numbers), before)
        if old is None:  # Then nobody looks at the other rows: they are begun before this call of `reset` is over.
            old = on_leaves(lambda x: x.new_zeros((self.num_envs, *x.shape[1:])), fresh)
        self._state = on_leaves(lambda whole, part: whole.index_copy(0, rows, part), old, fresh)
        self._instance = self._instance.index_copy(0, rows, numbers)

    def _deliver(self, observation: Tensor | dict[str, Tensor]) -> Any:
        # The state may hold what is shown as well: nobody may change it from outside.
        return on_parts(lambda x: self._give(x.clone()), observation)

    def _infos(self, here: Bool[Tensor, " n"]) -> dict[str, Any]:
        """Infos of the chosen environments, 0 for the others, beside masks of who was chosen."""
        values = {**self.game.info(self._state), "instance": self._instance}
        values = {name: _where(here, x, torch.zeros_like(x)) for name, x in values.items()}
        masks = {f"_{name}": here.clone() for name in values}
        return {name: self._give(value) for name, value in (values | masks).items()}

    def _final(self, done: Bool[Tensor, " n"]) -> dict[str, Any]:
        """What SAME_STEP keeps of the episodes that ended: Gymnasium wants every observation as an object of its own."""
        last = self._deliver(self.game.observe(self._state))
        kept = np.full(self.num_envs, None, dtype=object)
        for i in done.nonzero()[:, 0].tolist():
            kept[i] = on_parts(itemgetter(i), last)
        masks = {name: self._give(done.clone()) for name in ("_final_obs", "_final_info")}
        return {"final_obs": kept, "final_info": self._infos(done), **masks}


def on_parts(apply: Callable[[Any], Any], observation: Any) -> Any:
    """`apply` to an observation, or to every part of one whose parts have names."""
    if isinstance(observation, dict):
        return {name: apply(part) for name, part in observation.items()}
    return apply(observation)


def _where(rows: Bool[Tensor, " n"], yes: Tensor, no: Tensor) -> Tensor:
    """`yes` in these rows and `no` in the others."""
    return torch.where(rows.view(-1, *[1] * (yes.ndim - 1)), yes, no)


def _drawn(stream: np.random.Generator) -> int:
    return int(stream.integers(INSTANCES))


def _begun(state: Any) -> Any:
    if state is None:
        raise gym.error.ResetNeeded("call reset() before step() or render(), and before a reset of some environments only")
    return state


def _checked(game: Game, render_mode: str | None) -> str | None:
    if render_mode not in (None, *game.render_modes):
        modes = ", ".join(f'"{mode}"' for mode in game.render_modes)
        raise ValueError(f"render_mode must be None or one of {modes}, found {render_mode!r}")
    return render_mode


def _draw(env: Any, state: Any, count: int) -> tuple[Any, ...] | None:
    if env.render_mode is None:
        gym.logger.warn(f"{env} draws nothing: it was made without render_mode. Use gym.make(..., render_mode=...)")
        return None
    return tuple(env.game.draw(state, row, env.render_mode) for row in range(count))
