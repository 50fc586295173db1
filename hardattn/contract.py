"""The records and protocols that cross the borders between tasks, agents and the training loop.

Axis legend, used in every shape annotation of the project:

    b  examples of a batch          m  rollouts of one example      t  glimpses (or time steps)
    c  channels                     h w  image height and width     k  scales of the retina
    g  side of a glimpse in pixels  n  classes                      *r  any leading axes (rollouts, steps, none)

A task hands out batches (question and answer key); an agent turns a batch into a loss and a question into an answer.
The agent never sees the answer key when it answers, and a hard agent never sees the image: it calls `look`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """What a task yields: `question` is all an agent may use to answer, `target` is the answer key."""

    question: Any
    target: Tensor
    notes: Any = None
    """What else the answer key says: which outputs of a sequence count, which facts support an answer. Never an agent's to answer with."""


class Loss(NamedTuple):
    """`total` is differentiated; `terms` are detached scalars that get logged under their names."""

    total: Tensor
    terms: dict[str, Tensor]


class Trace(NamedTuple):
    """What a human wants to see of an answer. A system fills the fields that it has; the others stay None."""

    gaze: Tensor | None = None
    """[b, t, 2]: (x, y) of every glimpse in [-1, 1], in the order they were taken."""
    belief: Tensor | None = None
    """[b, t, n]: class probabilities after every glimpse."""
    log_prob: Tensor | None = None
    """[b, t - 1]: log-density of every move under the policy."""
    entropy: Tensor | None = None
    """[b, t - 1]: entropy of the policy at every move, in nats."""
    weights: Tensor | None = None
    """[b, t, *heads, places]: how much of every place each read took."""
    writes: Tensor | None = None
    """[b, t, *heads, places]: how much of every place each write changed."""
    moves: Tensor | None = None
    """[b, t, a]: what was done in a game, as the agent's policy has it."""
    rewards: Tensor | None = None
    """[b, t]: of every move."""
    glimpses: Tensor | None = None
    """[b]: how many were taken, of an agent that may stop early."""
    sensed: Tensor | None = None
    """[b]: how many values the sensor delivered."""
    scores: Tensor | None = None
    """[b]: how many places were weighed against one another, over all reads. None: nothing was weighed."""
    reads: Tensor | None = None
    """[b]: how many values went into what was read, each with a weight of its own."""
    window: Tensor | None = None
    """[b, t, 4]: (left, top, width, height) in pixels of every window that was read."""


class Answer(NamedTuple):
    """`output` holds the log-probabilities [b, n] of the classes (or what the task's `score` says it expects)."""

    output: Tensor
    trace: Trace


@dataclass(frozen=True)
class GlimpseSpec:
    """The sizes a glimpse agent is built from."""

    channels: int
    height: int
    width: int
    classes: int
    scales: int
    side: int
    glimpses: int

    @property
    def glimpse_size(self) -> int:
        """Values in one glimpse: scales x channels x side x side."""
        return self.scales * self.channels * self.side**2

    @property
    def image_size(self) -> int:
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class SequenceSpec:
    """The sizes an agent is built from that turns one sequence of vectors into another, step by step."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class StorySpec:
    """What an agent is built from that reads a story and answers a question in one word."""

    vocabulary: tuple[str, ...]
    """Word i, in the order of the ids; word 0 is the empty one that fills short sentences."""
    sentences: int
    """A memory's size: so many of a story's last sentences are kept."""
    words: int
    """Of the longest sentence or question."""


@dataclass(frozen=True)
class PlaySpec:
    """The sizes an agent is built from that plays games."""

    seen: int
    """Values of an observation."""
    choices: tuple[int, ...] = ()
    """How many ways there are to choose from, for every choice of a move."""
    gaze: bool = False
    """Whether a move also says where to look next."""


@runtime_checkable
class Pace(Protocol):
    """How hard the exercises are, as the player comes on. A stage is three numbers that a checkpoint holds."""

    def begin(self) -> Any:
        """The first stage: a level, a mean error, and updates at this level, as a named tuple."""
        ...

    def draw(self, key: Int[Tensor, " b"], stage: Any) -> tuple[Int[Tensor, " b"], Bool[Tensor, " b"]]:
        """Complexities, and which of the episodes say whether the player may come on."""
        ...

    def advance(self, stage: Any, error: Float[Tensor, " b"], counts: Bool[Tensor, " b"]) -> Any: ...


@dataclass(frozen=True)
class TapeSpec:
    """The sizes an agent is built from that moves heads over tapes, and what makes its exercises harder."""

    symbols: int
    """Different symbols, that which ends an output included."""
    window: int
    """Cells that are seen around a head."""
    depth: int
    """Numbers in a cell of the memory."""
    choices: tuple[int, ...]
    """How many moves every head has: of the input, of the memory, of the output."""
    pace: Pace
    """How hard the exercises are in training."""


@runtime_checkable
class Played(Protocol):
    """The question of a game: one episode for every example, to be played from its beginning. Its reward is all that is known of the answer.

    An action [b, a] is what `PlaySpec` says: the gaze (x, y) in [-1, 1] first, if there is one, then the number of every choice. A game that can be
    shown to people also has `draw(state, row)`, which returns a picture [y, x, 3] of one episode, always of the same size.
    """

    key: Int[Tensor, " b"]
    """Names each example's private stream of noise (see `hardattn.noise`)."""
    limit: int
    """Steps of the longest episode."""

    def reset(self) -> Any:
        """The state at the beginning."""
        ...

    def observe(self, state: Any) -> Float[Tensor, "b o"]:
        """What a player sees."""
        ...

    def step(
        self, state: Any, action: Float[Tensor, "b a"]
    ) -> tuple[Any, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """The next state, rewards, who has terminated, and who was truncated. What comes after an episode's end is nobody's concern."""
        ...


@runtime_checkable
class Glimpsed(Protocol):
    """The question of a glimpse task, as a hard agent may use it."""

    gaze: Float[Tensor, "b 2"]
    """Where the environment made the eye start."""
    key: Int[Tensor, " b"]
    """Names each example's private stream of noise (see `hardattn.noise`)."""

    def look(self, gaze: Float[Tensor, "*r b 2"]) -> Float[Tensor, "*r b kc g g"]:
        """What the retina delivers at `gaze`; scales (finest first) and channels share an axis."""
        ...


@runtime_checkable
class Task(Protocol):
    """Something to be read, with the answer key.

    `score` has a metric "error" (percent), or the task names another in an attribute `metric`: it is what training reports and makes small in
    validation. A task whose test set has parts (lengths of a sequence, kinds of questions) names them in `parts`, and gives the batches of
    part p as the split p.
    """

    spec: Any

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches from number `start` on. "train" never ends and depends on `seed`; "validation" and "test" end and do not."""
        ...

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """One number per example under each metric's name."""
        ...


@runtime_checkable
class Agent(Protocol):
    """Something that chooses what to read. In practice an `nn.Module` whose `forward` is `loss`; in training it may also take in what was
    seen (`hardattn.moments`), which `loss` never does."""

    @property
    def hows(self) -> tuple[str, ...]:
        """The ways in which it can answer, its usual one first."""
        ...

    def loss(self, batch: Batch) -> Loss: ...

    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """`how` is one of `hows`; without it, the usual one. `seed` is that of the noise of ways that draw."""
        ...
