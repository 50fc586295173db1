"""Games that others wrote, as questions for a player: any vector environment of Gymnasium, and ap_gym's CircleSquare as a task.

`ForeignGame` asks nothing of an environment but Gymnasium's interface. What is seen becomes one row of numbers, and what is done becomes an action
as `hardattn.contract.PlaySpec` has it: one bounded box of two numbers is the gaze, and everything else is chosen from a list.

CircleSquare-v0 of ap_gym 0.7 (https://github.com/TimSchneider42/active-perception-gym, MIT; Schneider et al. 2026, "APPLE"): one bright object on a
slope of light that leads to it, seen through 5 x 5 pixels that move by a tenth of the image at most; circle or square?
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.numbered import frozen_size, in_order
from envs.vector import GlimpseVectorEnv
from hardattn.checks import at_least_one, literals
from hardattn.contract import Answer, Batch, PlaySpec
from hardattn.noise import fork, integers, keys, uniform

Outcome = tuple[Any, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]


class ForeignGame:
    """Whatever a vector environment plays. It is made anew for every number of episodes, and kept.

    Args:
        make: makes a vector environment of so many.
        limit: steps of the longest episode.
        seeds: "each" gives every environment a seed that follows from its episode's key, so that the same key is the same episode anywhere;
            "batch" is for environments that take one seed for all (their episodes depend on the company that they are played in).
        spec: sizes for a player; default: those of the environment's spaces.
        act: turns actions [b, a] into what the environment takes; default: as its action space says.
        see: turns rows of numbers [b, n] into those that a player sees; default: as they are.
        bonus: is added to every reward. A player whose rewards lie around 0 knows sooner what to expect.

    Raises:
        ValueError: if a space cannot be put into such terms.
    """

    def __init__(
        self,
        make: Callable[[int], VectorEnv[Any, Any, Any]],
        *,
        limit: int,
        seeds: Literal["each", "batch"] = "each",
        spec: PlaySpec | None = None,
        act: Callable[[Float[np.ndarray, "b a"]], Any] | None = None,
        see: Callable[[Float[Tensor, "b n"]], Float[Tensor, "b o"]] = lambda seen: seen,
        bonus: float = 0.0,
    ) -> None:
        self.make, self.limit, self.seeds, self.see, self.bonus = make, limit, seeds, see, bonus
        self._seats: dict[int, _Seat] = {}
        env = self.seat(1).env
        self.spec = play_spec(env.single_observation_space, env.single_action_space) if spec is None else spec
        self.act = act if act is not None else lambda action: actions_in(env.single_action_space, action)

    def seat(self, count: int) -> "_Seat":
        """Where so many episodes are played."""
        if count not in self._seats:
            self._seats[count] = _Seat(self.make(count))
        return self._seats[count]

    def close(self) -> None:
        """Close all environments."""
        while self._seats:
            self._seats.popitem()[1].env.close()


class _Seat:
    """An environment, and how often it was reset or stepped: it has one present only."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self.env, self.turn = env, 0
        self.mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))


class Stage(NamedTuple):
    """Where the episodes stand."""

    seen: Float[Tensor, "b n"]
    over: Bool[Tensor, " b"]
    turn: int


class ForeignEpisodes(NamedTuple):
    """Episodes that wait to be played (see `hardattn.contract.Played`). Only the latest state can be stepped: a foreign environment does not go back."""

    game: ForeignGame
    key: Int[Tensor, " b"]

    @property
    def limit(self) -> int:
        return self.game.limit

    def reset(self) -> Stage:
        """Begin the episodes.

        Raises:
            ValueError: if an episode is to be played several times and the environment takes one seed for all.
        """
        seat = self.game.seat(len(self.key))
        seed: Any = integers(fork(self.key, "seed"), 1, 2**31)[:, 0].tolist()
        if self.game.seeds == "batch":
            if len(self.key.unique()) < len(self.key):
                raise ValueError(
                    'repeated keys are no repeated episodes where one seed is for all: expected rollouts 1, or seeds="each"'
                )
            seed = int(integers(fork(self.key, "seed").sum()[None], 1, 2**31))
        observation, _ = seat.env.reset(seed=seed)
        seat.turn += 1
        seen = torch.from_numpy(flat(seat.env.single_observation_space, observation))
        return Stage(seen, torch.zeros(len(self.key), dtype=torch.bool), seat.turn)

    def observe(self, state: Stage) -> Float[Tensor, "b o"]:
        return self.game.see(state.seen)

    def step(self, state: Stage, action: Float[Tensor, "b a"]) -> Outcome:
        """Whatever an environment that resets itself does after an episode's end is ignored.

        Raises:
            ValueError: if this is not the environment's present state.
        """
        seat = self.game.seat(len(self.key))
        if state.turn != seat.turn:
            raise ValueError(f"a foreign environment does not go back: this is state {state.turn}, and it is at {seat.turn}")
        if seat.mode is AutoresetMode.DISABLED and state.over.any():
            seat.env.reset(options={"reset_mask": state.over.numpy()})
        observation, reward, terminated, truncated, info = seat.env.step(self.game.act(action.numpy()))
        seat.turn += 1
        over = np.asarray(terminated) | np.asarray(truncated)
        space = seat.env.single_observation_space
        seen = flat(space, observation)
        if seat.mode is AutoresetMode.SAME_STEP and over.any():
            # What is seen already belongs to the next episode; a truncated one's last view says what was still to come.
            last = list(info["final_obs"][over])
            empty: Any = gym.vector.utils.create_empty_array(space, len(last))
            joined = gym.vector.utils.concatenate(space, last, empty)
            seen[over] = flat(space, joined)
        each = (torch.from_numpy(np.asarray(x)) for x in (seen, reward, terminated, truncated, over))
        seen_, reward_, terminated_, truncated_, over_ = each
        return Stage(seen_, state.over | over_, seat.turn), reward_.float() + self.game.bonus, terminated_, truncated_


def play_spec(observation: gym.Space, action: gym.Space) -> PlaySpec:
    """What a player of single environments with these spaces is built from.

    Raises:
        ValueError: if an observation is not made of boxes and whole numbers in dictionaries, or an action is not made of whole numbers and at most
            one bounded box of two.
    """
    leaves = list(_leaves(action))
    boxes = [space for space in leaves if isinstance(space, gym.spaces.Box)]
    if len(boxes) > 1 or any(box.shape != (2,) or not box.is_bounded() for box in boxes):
        raise ValueError(f"expected actions with at most one bounded box of two numbers, the gaze; found {action}")
    choices: list[int] = []
    for space in leaves:
        if isinstance(space, gym.spaces.Discrete):
            choices.append(int(space.n))
        elif isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
            choices += space.nvec.tolist()
        elif not isinstance(space, gym.spaces.Box):
            raise ValueError(
                f"expected actions of Discrete, MultiDiscrete and a box in dictionaries and tuples, found {action}"
            )
    for space in _leaves(observation):
        if not isinstance(space, (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)):
            raise ValueError(
                f"expected observations of boxes and whole numbers in dictionaries and tuples, found {observation}"
            )
    return PlaySpec(gym.spaces.flatdim(observation), tuple(choices), gaze=bool(boxes))


def actions_in(space: gym.Space, action: Float[np.ndarray, "b a"]) -> Any:
    """Actions of a player, as a vector of environments with this action space takes them; the gaze's [-1, 1] is stretched to its box."""
    gaze = 2 * any(isinstance(leaf, gym.spaces.Box) for leaf in _leaves(space))
    return _acted(space, action[:, :gaze], iter(action[:, gaze:].T))


def _acted(space: gym.Space, gaze: np.ndarray, choices: Iterator[np.ndarray]) -> Any:
    if isinstance(space, gym.spaces.Dict):
        return {name: _acted(part, gaze, choices) for name, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_acted(part, gaze, choices) for part in space)
    if isinstance(space, gym.spaces.Discrete):
        return next(choices).astype(space.dtype) + space.start
    if isinstance(space, gym.spaces.MultiDiscrete):
        return np.stack([next(choices) for _ in space.nvec], 1).astype(space.dtype) + space.start
    assert isinstance(space, gym.spaces.Box)
    return (space.low + (gaze.clip(-1, 1) + 1) / 2 * (space.high - space.low)).astype(space.dtype)


def flat(space: gym.Space, observation: Any) -> Float[np.ndarray, "b o"]:
    """Observations of a vector of environments as rows of numbers: parts in the space's order, whole numbers as one-hot vectors."""
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        pairs = space.items() if isinstance(space, gym.spaces.Dict) else enumerate(space)
        return np.concatenate([flat(part, observation[name]) for name, part in pairs], 1)
    if isinstance(space, gym.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[np.asarray(observation) - space.start]
    if isinstance(space, gym.spaces.MultiDiscrete):
        digits = (np.asarray(observation) - space.start).reshape(len(observation), -1)
        return np.concatenate([np.eye(n, dtype=np.float32)[x] for n, x in zip(space.nvec.flat, digits.T)], 1)
    return np.array(observation, np.float32).reshape(len(observation), -1)


def _leaves(space: gym.Space) -> Iterator[gym.Space]:
    if isinstance(space, gym.spaces.Dict):
        for part in space.values():
            yield from _leaves(part)
    elif isinstance(space, gym.spaces.Tuple):
        for part in space:
            yield from _leaves(part)
    else:
        yield space


SIDE, GLIMPSE, RADIUS, STEPS, STRIDE = 28, 5, 4.0, 16, 0.2
"""CircleSquare-v0: pixels of the image and of the glimpse, half of the object's extent, steps of an episode, and the longest move, as a part of the reach."""
BONUS = 1.0
"""Per step. ap_gym's loss is 1 for a blind guess, which is thus paid 0."""
CIRCLE_SQUARE = PlaySpec(1 + GLIMPSE**2 + 3, (2,), gaze=True)
"""Seen is what `sharpened` makes of it. The gaze is a displacement, in units of the longest one; the choice is the class."""


def sharpened(seen: Float[Tensor, "b n"]) -> Float[Tensor, "b o"]:
    """The same in other numbers: the glimpse's mean, what its pixels differ from it (tenfold), where it is, and the time, from -1 to 1.

    All that tells a circle from a square is an edge of a tenth of the range. As ap_gym gives it, a player hardly sees it at first.
    """
    pixels, rest = seen.split([GLIMPSE**2, seen.shape[1] - GLIMPSE**2], 1)
    mean = pixels.mean(1, keepdim=True)
    return torch.cat([4 * (mean - 0.75), 10 * (pixels - mean), rest], 1)


class Spot(NamedTuple):
    """One episode's all."""

    place: Float[Tensor, "b 2"]
    """(x, y) of the glimpse in [-1, 1]."""
    object: Float[Tensor, "b 2"]
    """(column, row) of the object's middle."""
    target: Int[Tensor, " b"]
    """0 for a square, 1 for a circle."""
    time: int


class CircleSquareEpisodes(NamedTuple):
    """CircleSquare-v0 in torch, to the rule: the same images, glimpses and rewards (and `BONUS`), many at once.

    Images are a formula, of which only the pixels under the glimpse are worked out.
    """

    key: Int[Tensor, " b"]
    confidence: float
    limit: int = STEPS

    def reset(self) -> Spot:
        middle = integers(fork(self.key, "object"), 2, SIDE).float()
        target = integers(fork(self.key, "class"), 1, 2)[:, 0]
        return Spot(2 * uniform(fork(self.key, "place"), 2) - 1, middle, target, 0)

    def observe(self, state: Spot) -> Float[Tensor, "b o"]:
        return sharpened(self.raw(state))

    def raw(self, state: Spot) -> Float[Tensor, "b n"]:
        """What ap_gym shows: the glimpse, line by line, its place, and the time."""
        corner = (SIDE - GLIMPSE) / 2 * (state.place + 1)
        first = corner.floor().clamp(max=SIDE - GLIMPSE - 1)
        part = (corner - first)[:, :, None, None]
        # All 5 x 5 points have the same place within their pixels: they are blended from 6 x 6 pixels.
        ahead = torch.arange(GLIMPSE + 1.0)
        away = first[:, :, None] + ahead - state.object[:, :, None]
        x, y = away[:, 0, None, :], away[:, 1, :, None]
        distance = (x.square() + y.square()).sqrt()
        square = torch.maximum(x.abs(), y.abs())
        inside = torch.where((state.target == 0)[:, None, None], square, distance) <= RADIUS
        pixels = torch.where(inside, 1.0, 1 - distance / (SIDE * math.sqrt(2)))
        rows = pixels[:, :-1] * (1 - part[:, 1]) + pixels[:, 1:] * part[:, 1]
        glimpse = rows[..., :-1] * (1 - part[:, 0]) + rows[..., 1:] * part[:, 0]
        time = torch.full((len(self.key), 1), 2 * state.time / STEPS - 1)
        return torch.cat([glimpse.flatten(1), state.place, time], 1)

    def step(self, state: Spot, action: Float[Tensor, "b a"]) -> Outcome:
        move = action[:, :2].clamp(-1, 1)
        length = move.norm(dim=1)
        place = (state.place + STRIDE * move / length.clamp(min=1)[:, None]).clamp(-1, 1)
        right = action[:, 2] == state.target
        loss = -torch.where(right, math.log(self.confidence), math.log(1 - self.confidence)) / math.log(2)
        over = torch.full_like(right, state.time + 1 >= STEPS)
        return state._replace(place=place, time=state.time + 1), BONUS - 1e-3 * length - loss, over, torch.zeros_like(over)


@dataclass(frozen=True)
class CircleSquareConfig:
    """ap_gym's CircleSquare-v0 as a task. Its published measure is the part of episodes whose last prediction is right."""

    confidence: float = 0.75
    """Probability that a prediction gives to the class it chooses: ap_gym wants logits, and takes their cross-entropy from the reward."""
    train: Literal["own", "ap_gym"] = "own"
    """Who plays the episodes of training and validation: a copy of the environment in torch, dozens of times as fast, or ap_gym itself."""
    test: Literal["own", "ap_gym"] = "ap_gym"
    """Who plays those of the test set."""
    frozen: int = 2000
    """Episodes for validation, and as many for testing."""

    def __post_init__(self) -> None:
        literals(self)
        at_least_one(self, "frozen")
        if not 0.51 <= self.confidence < 1:  # nearer to a guess, what a right one gains is less than what moving costs
            raise ValueError(f"confidence must be at least 0.51 and below 1, found {self.confidence}")

    def build(self, data_dir: Path = Path("data")) -> "CircleSquare":
        """Raises ValueError if ap_gym is asked to play and is not installed."""
        return CircleSquare(self)


class CircleSquare:
    """A task (see `hardattn.contract.Task`). Targets are zeros: nobody knows what is right. ap_gym takes one seed for all, so its test episodes depend
    on the size of the batches that they come in; the copy's do not."""

    spec = CIRCLE_SQUARE

    def __init__(self, config: CircleSquareConfig) -> None:
        self.config = config
        self._foreign = circle_square(config.confidence) if "ap_gym" in (config.train, config.test) else None

    def size(self, split: str) -> int:
        """Episodes in a pass. Training episodes are all new; a pass is only a way of counting them."""
        return frozen_size(split, self.config.frozen)

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Episodes by number. Validation and test episodes do not depend on the seed."""
        self.size(split)
        key = keys(seed if split == "train" else 0, f"circle square {split}", index)
        player = self.config.test if split == "test" else self.config.train
        question: Any = CircleSquareEpisodes(key, self.config.confidence)
        if player == "ap_gym":
            assert self._foreign is not None
            question = ForeignEpisodes(self._foreign, key)
        return Batch(question, torch.zeros_like(index))

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """`error`: 100 where the last prediction is wrong (ap_gym's "final_accuracy", from 100 %), else 0; and the `return`, as ap_gym pays it."""
        assert answer.trace.rewards is not None
        # A right prediction is paid more than a blind guess, a wrong one less; moving costs next to nothing.
        last = answer.trace.rewards[:, -1]
        return {"error": 100.0 * (last < 0), "return": answer.output - BONUS * STEPS}


def circle_square(confidence: float) -> ForeignGame:
    """ap_gym's own CircleSquare-v0.

    Raises:
        ValueError: if ap_gym is not installed.
    """
    ap_gym = _ap_gym()
    # It reads 128 batches ahead. Here every batch begins with a seed of its own, and all that would be thrown away.
    settings = replace(gym.spec("CircleSquare-v0").kwargs["image_perception_config"], prefetch=False)
    sure = math.log(confidence / (1 - confidence))

    def act(action: Float[np.ndarray, "b 3"]) -> dict[str, np.ndarray]:
        logits = sure * np.eye(2, dtype=np.float32)[action[:, 2].astype(int)]
        return {"action": action[:, :2].clip(-1, 1), "prediction": logits}

    def make(count: int) -> VectorEnv[Any, Any, Any]:
        return ap_gym.make_vec("CircleSquare-v0", num_envs=count, image_perception_config=settings)

    return ForeignGame(make, limit=STEPS, seeds="batch", spec=CIRCLE_SQUARE, act=act, see=sharpened, bonus=BONUS)


def for_ap_gym(num_envs: int = 1, **game: Any) -> Any:
    """Our glimpse environments as one of ap_gym's `ActiveClassificationVectorEnv`, for whoever has agents for those.

    An action moves the gaze, a prediction holds the logits of the classes; it is paid for after every glimpse, and an episode ends after the last. What
    moving costs is the base reward.

    Args:
        num_envs: how many.
        **game: see `envs.vector.Game`; of the views, only "dict" has logits beside the gaze.

    Raises:
        ValueError: if ap_gym is not installed, or an argument is out of place.
    """
    ap_gym = _ap_gym()
    inner = GlimpseVectorEnv(num_envs, autoreset_mode=AutoresetMode.NEXT_STEP, **game)
    if not isinstance(inner.single_action_space, gym.spaces.Dict):
        raise ValueError(f'ap_gym asks for a gaze and a prediction: the view must be "dict", found {game["view"]!r}')
    rules, look = inner.game.rules, inner.single_action_space["gaze"]
    if rules.early_answer:
        raise ValueError(
            "ap_gym asks for a prediction at every step, so an answer cannot end an episode: early_answer must be False"
        )

    class Glimpses(ap_gym.ActiveClassificationVectorEnv):  # type: ignore[name-defined]
        metadata = inner.metadata

        def __init__(self) -> None:
            super().__init__(num_envs, rules.classes, look)
            self.single_observation_space, self.observation_space = inner.single_observation_space, inner.observation_space

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            return inner.reset(seed=seed, options=options)

        def _step(self, action: np.ndarray, prediction: np.ndarray) -> tuple[Any, ...]:
            # The prediction is ap_gym's to judge; as an answer it says that the episode may end.
            answer = prediction.argmax(-1)
            observation, reward, terminated, truncated, info = inner.step({"gaze": action, "label": answer})
            base = reward - (terminated & (answer == info["target"]))
            return observation, base, terminated, truncated, info, info["target"]

    return Glimpses()


def _ap_gym() -> Any:
    if importlib.util.find_spec("ap_gym") is None:
        raise ValueError("this needs ap_gym, which is not installed: pip install 'ap-gym>=0.7' aiohttp")
    import ap_gym  # takes seconds: not before it is needed

    return ap_gym
