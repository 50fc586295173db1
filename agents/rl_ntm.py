"""RL-NTM: a controller that learns which way to move the heads of its tapes (Zaremba and Sutskever 2015, arXiv:1505.00521v3).

At every step an LSTM is given the windows around the heads of the input and of the memory, and what the heads did last. From its state come three
drawn decisions (where the input's head goes, where the memory's, and whether the output's advances), a prediction of the next output symbol, and what is
written to the memory's window. The reward of a step is the log-probability of the right symbol if the output advances. So the gradient of the expected
reward has two parts: predictions and memory are trained by back-propagation through the episode, which was drawn, and the decisions by
REINFORCE. Three things lower its variance: a decision answers for what comes after it only, a baseline is subtracted that knows what the controller has
seen, and one that has read the whole input before (the offline baseline).

With "direct" access (Section 4.1) symbols and memory cells are vectors of one number for every symbol. They are added to the prediction, and symbols
to the memory, each as much as a gate says that depends on the controller's state.

Where this differs from the paper: a symbol's vector is learned for both controllers; for direct access it starts as one-hot, which it
stays in the authors' program. The last moves are given as one-hot vectors. The optimiser is the learner's affair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hardattn.checks import above_zero, at_least_one, at_least_zero, literals, way
from hardattn.contract import Answer, Batch, Loss, TapeSpec, Trace
from hardattn.estimators import baseline_loss, returns_to_go, score_function
from hardattn.lstm_chain import outputs
from hardattn.noise import fork, uniform
from hardattn.parallel import global_sum
from hardattn.policies import Choice, Joint
from hardattn.tape_chain import Walk, Weights

FORBIDDEN = -1e9
"""A logit whose probability is 0; finite, so that its product with 0 is."""

Choose = Callable[[int, Float[Tensor, "b n"]], Int[Tensor, " b"]]
"""Is told the number of the decision (those of the three heads follow one another) and the logits of its choices; returns one for every episode."""


@runtime_checkable
class Taped(Protocol):
    """The question of an exercise: one episode for every example, to be played from its beginning."""

    key: Int[Tensor, " b"]
    """Names each example's private stream of noise (see `hardattn.noise`)."""
    complexity: Int[Tensor, " b"] | None
    """None: the player may choose (see `Pace`)."""
    limit: int
    """Steps of an episode."""

    def reset(self, complexity: Int[Tensor, " b"]) -> Any:
        """The state at the beginning."""
        ...

    def observe(self, state: Any) -> tuple[Int[Tensor, "b window"], Float[Tensor, "b window depth"]]:
        """Symbols around the input's head, and cells around the memory's."""
        ...

    def place(self, state: Any) -> Int[Tensor, "b window"]:
        """Which cells of the memory are around its head."""
        ...

    def whole(self, state: Any) -> Int[Tensor, "b columns"]:
        """The input, for who helps in training. Not a player's to see."""
        ...

    def scored(self, state: Any, moves: Int[Tensor, "b heads"]) -> Int[Tensor, " b"]:
        """The symbol whose log-probability is the reward of these moves; -1 where nothing is."""
        ...

    def allowed(self, state: Any) -> tuple[Bool[Tensor, "b n"], ...]:
        """Of every head, which moves there are."""
        ...

    def step(
        self,
        state: Any,
        moves: Int[Tensor, "b heads"],
        log_prob: Float[Tensor, "b symbols"],
        keep: Float[Tensor, "b window depth"],
        add: Float[Tensor, "b window depth"],
    ) -> tuple[Any, Float[Tensor, " b"]]:
        """The next state and the rewards. The memory's window becomes keep * old + add."""
        ...

    def right(self, state: Any) -> Float[Tensor, " b"]:
        """At the end: the part of the output's symbols that were thought the most probable."""
        ...


@dataclass(frozen=True)
class RLNTMConfig:
    """The model and its training signal."""

    controller: Literal["lstm", "direct"] = "direct"
    """An LSTM alone, or with direct access to symbols and memory (Section 4.1)."""
    hidden: int = 35
    """Units of the LSTM, and of those of the baseline."""
    inverse_temperature: float = 0.1
    """The logits of the moves are multiplied by this, so that they stay undecided for long (the paper: 0.01, with another optimiser)."""
    scale: float = 0.1
    """Standard deviation of all weights at the beginning."""
    baseline: Literal["offline", "online", "none"] = "offline"
    """What is subtracted from the return: a regression on the whole input and what was seen, on what was seen, or nothing."""
    entropy: float = 0.0
    """Weight of the moves' entropy in the loss, in nats per step; of all steps, also of those after the output is complete."""

    def __post_init__(self) -> None:
        literals(self)
        at_least_one(self, "hidden")
        above_zero(self, "inverse_temperature", "scale")
        at_least_zero(self, "entropy")

    def build(self, spec: TapeSpec) -> "RLNTM":
        return RLNTM(spec, self)


class Seen(NamedTuple):
    """What the controller was given, time first; without gradient."""

    rows: Int[Tensor, "t b rows"]
    """Numbers that name the symbols around the input's head, each at its place, and the last moves: of the rows of a table (see `_tabulated`)."""
    memory: Float[Tensor, "t b window"]
    """The cells around the memory's head, one after the other."""
    vectors: Float[Tensor, "symbols depth"]
    """Of the symbols."""


class Episode(NamedTuple):
    """What happened, time first."""

    seen: Seen
    moves: Int[Tensor, "t b heads"]
    log_prob: Float[Tensor, "t b"]
    """Of the moves."""
    entropy: Float[Tensor, "t b"]
    reward: Float[Tensor, "t b"]
    """With its gradient in predictions and memory."""
    whole: Int[Tensor, "b columns"]
    """The input."""
    right: Float[Tensor, " b"]
    """Part of the output's symbols."""
    predicted: Float[Tensor, "t b symbols"]
    """Probabilities of the next output, without gradient."""


class Baseline(nn.Module):
    """What return is to be expected before every move: w . relu(L_1 h_t + L_2 h_tape), where h_t has seen what the controller has, and h_tape, if
    it is "offline", has read the whole input backwards."""

    def __init__(self, symbols: int, inputs: int, hidden: int, offline: bool) -> None:
        super().__init__()
        self.core = nn.LSTM(inputs, hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, 1)
        self.reader = nn.LSTM(symbols, hidden) if offline else None
        self.read = nn.Linear(hidden, hidden, bias=False) if offline else None

    def forward(self, seen: Seen, whole: Int[Tensor, "b columns"]) -> Float[Tensor, "t b"]:
        with torch.autocast(seen.vectors.device.type, enabled=False):
            given, recurrent, bias = _parameters(self.core)
            table, from_memory = _tabulated(given, seen.vectors, seen.memory.shape[2])
            sums = nn.functional.linear(seen.memory, from_memory, bias)
            sums = sums + nn.functional.embedding_bag(seen.rows.flatten(0, 1), table, mode="sum").view_as(sums)
            mixed = self.mix(outputs(sums, recurrent))
            if self.reader is not None and self.read is not None:
                given, recurrent, bias = _parameters(self.reader)
                backwards = nn.functional.embedding(whole.t().flip(0), given.t()) + bias
                mixed = mixed + self.read(outputs(backwards, recurrent)[-1])
            return self.value(mixed.relu()).squeeze(-1)


def _parameters(layer: nn.LSTM | nn.LSTMCell) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM's weights for what it is given and for its own last output, and the sum of its biases."""
    given, recurrent, *biases = layer.parameters()
    return given, recurrent, biases[0] + biases[1]


def _tabulated(
    weight: Float[Tensor, "g i"], vectors: Float[Tensor, "symbols depth"], window: int
) -> tuple[Float[Tensor, "rows g"], Float[Tensor, "g window"]]:
    """An LSTM's weights for symbols' vectors, `window` numbers of memory and one-hot moves: what is named by a number as a table (see `Seen`), whose last
    row is zeros, for no move; and the weights for the memory."""
    symbols, memory, last = weight.split([window, window, weight.shape[1] - 2 * window], 1)
    places = symbols.unflatten(1, (-1, vectors.shape[1])).permute(1, 2, 0)
    rows = torch.cat([(vectors @ places).flatten(0, 1), last.t()])
    return nn.functional.pad(rows, (0, 0, 0, 1)), memory


class RLNTM(nn.Module):
    """See the module. How far training has come is in the buffers, and so in every checkpoint.

    Raises:
        ValueError: if a cell of the memory does not have a number for every symbol, which direct access needs.
    """

    separate = ("baseline",)
    hows = ("argmax", "sampled")

    def __init__(self, spec: TapeSpec, config: RLNTMConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        direct, s, w, d = config.controller == "direct", spec.symbols, spec.window, spec.depth
        if direct and d != s:
            raise ValueError(f"direct access needs cells with a number for each of the {s} symbols, found depth={d}")
        self.policy = Joint(tuple(Choice(n) for n in spec.choices))
        self.sizes = {"moves": self.policy.parameters, "symbols": s, "keep": w * d, "add": w * d}
        if direct:
            self.sizes |= {"tape to memory": w * w, "memory to symbols": w, "tape to symbols": w}
        inputs = 2 * w * d + self.policy.parameters
        self.vectors = nn.Embedding(s, d)
        self.core = nn.LSTMCell(inputs, config.hidden)
        self.says = nn.Linear(config.hidden, sum(self.sizes.values()))
        self.baseline = None
        if config.baseline != "none":
            self.baseline = Baseline(s, inputs, config.hidden, config.baseline == "offline")
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=config.scale)
        if direct:
            nn.init.eye_(self.vectors.weight)
        level, error, updates = spec.pace.begin()
        self.level: Tensor
        self.mistakes: Tensor
        self.updates: Tensor
        self.register_buffer("level", torch.tensor(level))
        self.register_buffer("mistakes", torch.tensor(error))
        self.register_buffer("updates", torch.tensor(updates))

    @property
    def stage(self) -> Any:
        """How far it has come (see `Pace`). Weights that come from an easier curriculum begin at this one's beginning."""
        first = self.spec.pace.begin()
        if int(self.level) < first.level:
            return first
        return first._make((int(self.level), float(self.mistakes), int(self.updates)))

    def forward(self, batch: Batch) -> Loss:
        """`loss`; in training, the curriculum then goes on."""
        episode, counts = self._practise(batch)
        if self.training:
            self._advance(1 - episode.right, counts)
        return self.judge(episode)

    def loss(self, batch: Batch) -> Loss:
        """The negative reward, whose gradient is that of predictions and memory; REINFORCE; and the regression of the baseline."""
        return self.judge(self._practise(batch)[0])

    def judge(self, episode: Episode) -> Loss:
        """The loss of episodes that were played. Its mean gradient, but for the baseline's, is that of minus the expected total reward."""
        reward, config = episode.reward, self.config
        returns = returns_to_go(reward.detach())
        expected: Tensor | float = 0.0 if self.baseline is None else self.baseline(episode.seen, episode.whole)
        nll, entropy = -reward.sum(0).mean(), episode.entropy.mean()
        reinforce = score_function(episode.log_prob, returns, expected)
        terms = {
            "nll": nll,  # of the whole output, in nats
            "error": 100 * (episode.right < 1).to(reward.dtype).mean(),
            "wrong-symbols": 100 * (1 - episode.right.mean()),
            "level": reward.new_tensor(float(self.stage.level)),
            "entropy": entropy,
            "reinforce": reinforce,
            "advantage": (returns - expected).square().mean().sqrt(),
        }
        total = nll + reinforce
        if config.entropy:
            total = total - config.entropy * episode.entropy.sum(0).mean()
        if isinstance(expected, Tensor):
            terms["baseline"] = baseline_loss(expected, returns)
            total = total + terms["baseline"]
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Taped, how: str | None = None, seed: int = 0) -> Answer:
        """Play every episode.

        Args:
            question: the exercise; where it leaves the complexity open, it is one of this stage of training.
            how: "argmax" (the likeliest moves, the usual way) or "sampled".
            seed: of the draws.

        Returns:
            The part [b] of the output's symbols that were right, and a trace: `moves` [b, t, 3], `rewards` [b, t] and `belief` [b, t, symbols], what
            it thought the next output was.

        Raises:
            ValueError: if `how` is unknown.
        """
        how = way(how, self.hows)
        complexity, _ = self._complexity(question)
        episode = self.unroll(question, complexity, self._chooser(how, fork(question.key, f"answer {seed}"), question.limit))
        seen = torch.full_like(episode.right, question.limit * self.spec.window)
        trace = Trace(
            moves=episode.moves.transpose(0, 1).to(episode.right),
            rewards=episode.reward.transpose(0, 1),
            belief=episode.predicted.transpose(0, 1),
            log_prob=episode.log_prob.transpose(0, 1),
            entropy=episode.entropy.transpose(0, 1),
            sensed=seen,
            reads=seen * self.spec.depth,
        )
        return Answer(episode.right, trace)

    def unroll(self, question: Taped, complexity: Int[Tensor, " b"], choose: Choose) -> Episode:
        """Play episodes to their ends, with gradient, in the precision of the weights.

        Args:
            question: the exercise.
            complexity: of every episode.
            choose: makes the decisions.
        """
        spec, says, vectors, heads = self.spec, self.says, self.vectors.weight, len(self.spec.choices)
        with torch.autocast(vectors.device.type, enabled=False):
            given, recurrent, bias = _parameters(self.core)
            table, from_memory = _tabulated(given, vectors, spec.window * spec.depth)
            weights = Weights(table, from_memory, bias, recurrent, says.weight, says.bias, vectors)
            # The rows of a table in which every place of the window and every head has its own.
            sizes = torch.tensor([0, *[spec.symbols] * spec.window, *spec.choices], device=vectors.device).cumsum(0)
            of_place, of_head = sizes[: spec.window], sizes[spec.window : -1]
            with torch.no_grad():
                walk = Walk(weights, self.sizes, spec.window, question.limit, len(complexity))
                state, taken = question.reset(complexity), []
                whole = question.whole(state)
                last = sizes[-1].expand(len(complexity), heads)
                for t in range(question.limit):
                    tape, memory = question.observe(state)
                    rows = torch.cat([tape + of_place, last], 1)
                    logits, predicted, keep, add = walk.step(tape, question.place(state), memory.to(walk.memory), rows)
                    allowed = torch.cat(question.allowed(state), 1)
                    of_heads = self._possible(logits, allowed).split(spec.choices, 1)
                    moves = torch.stack([choose(t * heads + i, each) for i, each in enumerate(of_heads)], 1)
                    taken.append((moves, allowed, question.scored(state, moves)))
                    state, _ = question.step(state, moves, predicted.log_softmax(1), keep, add)
                    last = moves + of_head
                right = question.right(state).to(walk.memory)
                seen = Seen(torch.stack(walk.rows), walk.memory, vectors.detach())
            moves, allowed, scored = (torch.stack(x) for x in zip(*taken))
            logits, predicted = walk.differentiable()
            logits = self._possible(logits, allowed)
            log_prob, entropy = self.policy.log_prob(moves.to(logits), logits), self.policy.entropy(logits)
            paid = predicted.log_softmax(2).gather(2, scored.clamp(min=0)[..., None])[..., 0]
            reward = torch.where(scored >= 0, paid, 0.0)
        return Episode(seen, moves, log_prob, entropy, reward, whole, right, walk.predicted.softmax(2))

    def _possible(self, logits: Float[Tensor, "*r n"], allowed: Bool[Tensor, "*r n"]) -> Float[Tensor, "*r n"]:
        """The moves' logits as they are drawn from."""
        return (self.config.inverse_temperature * logits).masked_fill(~allowed, FORBIDDEN)

    def _practise(self, batch: Batch) -> tuple[Episode, Bool[Tensor, " b"]]:
        """Episodes drawn for training, and which of them say how well it goes."""
        question = batch.question
        complexity, counts = self._complexity(question)
        choose = self._chooser("sampled", fork(question.key, "train"), question.limit)
        return self.unroll(question, complexity, choose), counts

    def _complexity(self, question: Taped) -> tuple[Int[Tensor, " b"], Bool[Tensor, " b"]]:
        if question.complexity is not None:
            return question.complexity, torch.ones_like(question.complexity, dtype=torch.bool)
        return self.spec.pace.draw(fork(question.key, "complexity"), self.stage)

    def _chooser(self, how: str, key: Int[Tensor, " b"], steps: int) -> Choose:
        if how == "argmax":
            return lambda i, logits: logits.argmax(1)
        most = max(self.spec.choices)
        noise = uniform(key, steps * len(self.spec.choices) * most).unflatten(1, (-1, most)).transpose(0, 1)
        # The Gumbel-max trick: never one that is forbidden, however the probabilities are rounded.
        gumbel = -(-noise.log()).log()
        return lambda i, logits: (logits.detach() + gumbel[i, :, : logits.shape[1]]).argmax(1)

    @torch.no_grad()
    def _advance(self, error: Float[Tensor, " b"], counts: Bool[Tensor, " b"]) -> None:
        """The curriculum takes notice of a batch. All processes see the same mean."""
        total, count = global_sum((error * counts).sum()), global_sum(counts.sum())
        stage = self.spec.pace.advance(self.stage, (total / count.clamp(min=1))[None], (count > 0)[None])
        for buffer, value in zip((self.level, self.mistakes, self.updates), stage):
            buffer.fill_(value)
