"""The glimpse environment: an image that is seen through a retina only, a gaze to move, and a question to answer.

This is the one core, batched and in torch. Agents read it through `Question.look`; the Gymnasium environments step it through `reset`
and `step`. State goes in and comes out; nothing is remembered here.

Timeline: the environment chooses gaze 1, and `reset` shows glimpse 1. T glimpses are T - 1 moves. The action after glimpse T answers;
its gaze would be looked at by nobody and is ignored.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardattn.checks import above_zero
from hardattn.glimpse import SummedAreaTable, check_retina, direct_retina, retina, summed_area_table

LOOKS_WORTH_A_TABLE = 32
"""An image with more pixels than the windows of so many looks gets no summed-area table: hard attention must not cost more on a larger image."""


class Eye(NamedTuple):
    """The retina of `hardattn.glimpse` with its settings."""

    side: int
    scales: int
    zoom: int
    reach: tuple[float, float]
    pool: Literal["mean", "max"] = "mean"

    @property
    def coarsest(self) -> int:
        """Image pixels along one side of the coarsest window's pixel."""
        return self.zoom ** (self.scales - 1)


class Question(NamedTuple):
    """A batch of images to be looked at. Hard agents use `gaze`, `key` and `look`; soft agents may read `image`."""

    image: Float[Tensor, "b c h w"]
    gaze: Float[Tensor, "b 2"]
    """The first gaze, chosen by the environment."""
    key: Int[Tensor, " b"]
    """Names each example's stream of noise (`hardattn.noise`)."""
    table: SummedAreaTable | None
    """What a mean-pooling retina reads; made once per image. None if the eye takes maxima, or if the image is so large that looks at the image
    itself cost less than its table."""
    eye: Eye

    def look(self, gaze: Float[Tensor, "*r b 2"]) -> Float[Tensor, "*r b kc g g"]:
        """Glimpses at `gaze`; leading axes look at the same images again."""
        side, scales, zoom, reach, pool = self.eye
        if self.table is None:
            return direct_retina(self.image, gaze, side=side, scales=scales, zoom=zoom, reach=reach, pool=pool)
        return retina(self.table, gaze, side=side, scales=scales, zoom=zoom, reach=reach)


def ask(image: Float[Tensor, "b c h w"], gaze: Float[Tensor, "b 2"], key: Int[Tensor, " b"], eye: Eye) -> Question:
    """Images as a question: what every look has in common is computed here, once.

    Raises:
        ValueError: if the eye's sizes make no retina.
    """
    check_retina(side=eye.side, scales=eye.scales, zoom=eye.zoom)
    in_windows = sum((eye.side * eye.zoom**i) ** 2 for i in range(eye.scales))
    pays = image[0, 0].numel() <= LOOKS_WORTH_A_TABLE * in_windows
    table = summed_area_table(image, block=eye.coarsest) if eye.pool == "mean" and pays else None
    return Question(image, gaze, key, table, eye)


@dataclass(frozen=True)
class Rules:
    """What an episode allows and what it pays."""

    glimpses: int = 6
    """Glimpses of an episode that is not ended early by an answer."""
    classes: int = 10
    """The answers are 0 to classes - 1; `classes` itself says "no answer yet"."""
    gaze_mode: Literal["absolute", "relative"] = "absolute"
    """Whether a move names a place or a displacement."""
    max_move: float = 0.2
    """Length of the longest displacement, as a part of the reach (relative gaze only)."""
    early_answer: bool = False
    """Whether an answer ends the episode at any step. Otherwise answers are read after the last glimpse only."""
    glimpse_cost: float = 0.0
    """Subtracted from the reward at every move."""

    def __post_init__(self) -> None:
        if self.glimpses < 1:
            raise ValueError(f"an episode needs at least 1 glimpse, found glimpses={self.glimpses}")
        if self.classes < 1:
            raise ValueError(f"there must be at least 1 class, found classes={self.classes}")
        if self.gaze_mode not in ("absolute", "relative"):
            raise ValueError(f'gaze_mode must be "absolute" or "relative", found {self.gaze_mode!r}')
        above_zero(self, "max_move")


class State(NamedTuple):
    """All that the next step needs. `target` is the answer key and never part of an observation."""

    question: Question
    target: Int[Tensor, " b"]
    gaze: Float[Tensor, "b 2"]
    seen: Int[Tensor, " b"]
    """Glimpses shown so far."""


class Observation(NamedTuple):
    """What an agent gets to know."""

    glimpse: Float[Tensor, "b kc g g"]
    gaze: Float[Tensor, "b 2"]
    time: Float[Tensor, "b 1"]
    """Glimpses shown so far as a part of all."""


class Outcome(NamedTuple):
    """What a step brings besides the next state and observation."""

    reward: Float[Tensor, " b"]
    terminated: Bool[Tensor, " b"]
    """An answer was read."""
    truncated: Bool[Tensor, " b"]
    """All glimpses were used and there was no answer."""


def reset(question: Question, target: Int[Tensor, " b"], rules: Rules) -> tuple[State, Observation]:
    """Begin an episode on every image."""
    state = State(question, target, question.gaze.clamp(-1, 1), torch.ones_like(target))
    return state, observe(state, rules)


def observe(state: State, rules: Rules) -> Observation:
    """The glimpse at the present gaze."""
    return Observation(state.question.look(state.gaze), state.gaze, state.seen[:, None] / rules.glimpses)


def step(
    state: State, move: Float[Tensor, "b 2"], answer: Int[Tensor, " b"], rules: Rules
) -> tuple[State, Observation, Outcome]:
    """Read the answers, then move the gaze of the episodes that go on.

    Args:
        state: where the episodes stand.
        move: a place (x, y), or a displacement in units of `max_move`. Places outside [-1, 1] are brought to the border;
            displacements longer than 1 are shortened to 1.
        answer: a class, or `rules.classes` for "no answer yet".
        rules: of the game.

    Returns:
        The next state, what is seen there (after an end: the last glimpse again), and the outcome. Reward is 1 for a right answer that
        was read, less `glimpse_cost` if the gaze moved.
    """
    last = state.seen >= rules.glimpses
    read = last | rules.early_answer
    terminated = read & (answer < rules.classes)
    truncated = last & ~terminated
    goes_on = ~(terminated | truncated)
    if rules.gaze_mode == "relative":
        length = move.norm(dim=-1, keepdim=True).clamp(min=1.0)
        move = state.gaze + rules.max_move * move / length
    gaze = torch.where(goes_on[:, None], move.clamp(-1, 1), state.gaze)
    state = state._replace(gaze=gaze, seen=state.seen + goes_on)
    reward = (terminated & (answer == state.target)).float() - rules.glimpse_cost * goes_on
    return state, observe(state, rules), Outcome(reward, terminated, truncated)
