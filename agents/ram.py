"""The Recurrent Attention Model: a gaze learned by reinforcement (Mnih, Heess, Graves and Kavukcuoglu 2014, NIPS).

At every glimpse the network sees one retina's worth of the image, updates its state, and draws the next place to look at. What and
where are encoded apart and joined (the glimpse network); a recurrent core remembers; a Gaussian policy moves the gaze; after the last
glimpse a classifier answers. The loss is the paper's hybrid (Section 3.1): cross-entropy trains everything that can be differentiated,
REINFORCE trains the policy, and a regression trains its baseline. The three share no gradient: the state is a constant to policy and
baseline.

Where this differs from the paper: the paper does not say whether the policy's gradient reaches the core (here it does not), nor how far
a gaze of 1 reaches (here the task says). The options `rollouts`, `reward`, `reward_at`, `supervise` and every baseline but "learned"
are not the paper's; their defaults give the paper's model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hardattn.chain import Steps, Weights, differentiable
from hardattn.checks import at_least_one
from hardattn.contract import Answer, Batch, Glimpsed, GlimpseSpec, Loss, Trace
from hardattn.estimators import (
    Baseline,
    baseline_loss,
    baseline_of,
    gaussian_entropy,
    gaussian_log_prob,
    returns_to_go,
    score_function,
)
from hardattn.noise import fork, normal, uniform

Move = Callable[[int, Float[Tensor, "m b 2"], Float[Tensor, "m b 2"]], object]
"""Is told the number of the move (0 is the first) and the policy's mean, and writes the place drawn into its third argument. A place may lie
outside [-1, 1]."""


Step = Callable[[Float[Tensor, "s g"], Any, Float[Tensor, "s d"]], Any]
"""One step of a core without gradient: input, state (None before the first) and where to write h; returns the state."""


@dataclass(frozen=True)
class RAMConfig:
    """The model and its training signal. The defaults are the published model."""

    core: Literal["relu", "lstm"] = "relu"
    """Recurrent core: one rectified layer (the paper's classifiers) or an LSTM (the paper's Catch player)."""
    hidden: int = 256
    """Units of the core and of the joint glimpse encoding."""
    features: int = 128
    """Units that encode what is seen, and as many that encode where."""
    std: float = 0.15
    """Standard deviation of the gaze in both directions, as a part of the reach."""
    rollouts: int = 1
    """Gaze paths drawn for every training image."""
    baseline: Baseline = "learned"
    """What is subtracted from the return."""
    reward: Literal["correct", "log-likelihood"] = "correct"
    """1 for a right answer, or the log-probability of the right answer."""
    reward_at: Literal["end", "every"] = "end"
    """Reward after the last glimpse, or the mean over the rewards of every glimpse after the move."""
    supervise: Literal["end", "every"] = "end"
    """Cross-entropy after the last glimpse, or the mean over all glimpses."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "features", "rollouts")
        if self.std <= 0:
            raise ValueError(f"std must be above 0, or nothing is explored; found {self.std}")
        choices = {
            "core": ("relu", "lstm"),
            "baseline": get_args(Baseline),
            "reward": ("correct", "log-likelihood"),
            "reward_at": ("end", "every"),
            "supervise": ("end", "every"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; found {getattr(self, name)!r}")
        if self.baseline == "leave-one-out" and self.rollouts < 2:
            raise ValueError(
                f"baseline leave-one-out compares rollouts of one image: it needs rollouts >= 2, found {self.rollouts}"
            )

    def build(self, spec: GlimpseSpec) -> "RAM":
        return RAM(spec, self)


class Rollout(NamedTuple):
    """M ways of looking at every image, time first. `drawn` are the T - 1 moves as the policy drew them, before the border stopped them."""

    hidden: Float[Tensor, "t m b d"]
    gaze: Float[Tensor, "t m b 2"]
    mean: Float[Tensor, "t-1 m b 2"]
    drawn: Float[Tensor, "t-1 m b 2"]


class ReLUCore(nn.Module):
    """h_t = relu(W_h h_{t-1} + W_g g_t + b) (Section 4.1). The state is h itself."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, hidden)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)

    def stepper(self) -> Step:
        from_input, recurrent = _affine(self.input), self.recurrent.weight.T.contiguous()

        def step(g: Tensor, state: Tensor | None, out: Tensor) -> Tensor:
            from_input(g, out)
            if state is not None:  # before the first glimpse the state is zero
                out.addmm_(state, recurrent)
            return out.relu_()

        return step


class LSTMCore(nn.Module):
    """An LSTM with forget gates (Gers, Schmidhuber and Cummins 2000). The state is (h, c)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden)

    def stepper(self) -> Step:
        def step(g: Tensor, state: Any, out: Tensor) -> Any:
            h, state = self.lstm(g[None], state)
            out.copy_(h[0])
            return state

        return step


def _affine(layer: nn.Linear) -> Callable[[Float[Tensor, "s i"], Float[Tensor, "s o"]], object]:
    """The layer as a function that writes into its second argument, for many calls: the matrix is turned round once instead of in each product."""
    bias, weight = layer.bias, layer.weight.T.contiguous()
    return lambda x, out: torch.addmm(bias, x, weight, out=out)


class RAM(nn.Module):
    """See the module. Letters in the code are the paper's: g a glimpse's encoding, h the state."""

    hows = ("mean", "sampled", "averaged", "random", "centre", "raster")
    separate = ("locator", "baseline")
    """Children that share no gradient with the rest: their gradients are clipped and reported on their own."""
    averaged_over = 8

    def __init__(self, spec: GlimpseSpec, config: RAMConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.what = nn.Linear(spec.glimpse_size, config.features)
        self.where = nn.Linear(2, config.features)
        self.join = nn.Linear(2 * config.features, config.hidden)
        self.core = (ReLUCore if config.core == "relu" else LSTMCore)(config.hidden, config.hidden)
        self.classifier = nn.Linear(config.hidden, spec.classes)
        self.locator = nn.Linear(config.hidden, 2)
        self.baseline = nn.Linear(config.hidden, 1) if config.baseline == "learned" else None

    def forward(self, batch: Batch) -> Loss:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """The hybrid loss; the reward of a rollout is computed from the same answers that cross-entropy is."""
        config, question, target = self.config, batch.question, batch.target
        rollout = self.look_around(question, self._sample(fork(question.key, "gaze"), config.rollouts), config.rollouts)
        logits = self.classifier(rollout.hidden if self._every_answer else rollout.hidden[-1:])
        log_likelihood, correct = _judge(logits, target)
        nll = -(log_likelihood if config.supervise == "every" else log_likelihood[-1:]).mean()
        terms = {"nll": nll, "error": 100 * (1 - correct[-1].mean())}
        total = nll
        if self.spec.glimpses > 1:
            returns = self._returns(log_likelihood, correct)
            learned = self.baseline(rollout.hidden[:-1].detach()).squeeze(-1) if self.baseline is not None else None
            greedy = self._greedy_returns(batch) if config.baseline == "self-critical" else None
            subtracted = baseline_of(config.baseline, returns, learned=learned, greedy=greedy)
            log_prob = gaussian_log_prob(rollout.drawn, rollout.mean, config.std)
            reinforce = score_function(log_prob, returns, subtracted)
            total = total + reinforce
            terms |= {
                "reward": returns[0].mean(),
                "reinforce": reinforce,
                "entropy": -log_prob.mean(),  # of the gaze in nats, as drawn
                "advantage": (returns - subtracted).square().mean().sqrt(),
            }
            if learned is not None:
                regression = baseline_loss(learned, returns)
                total = total + regression
                terms["baseline"] = regression
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Glimpsed, how: str = "mean", seed: int = 0) -> Answer:
        """Look at every image and name it.

        Args:
            question: of a glimpse task.
            how: "mean" (the policy's mean), "sampled" (one draw from the policy), "averaged" (mean of the probabilities of 8 draws), or a
                control that ignores the policy: "random" (uniform), "centre" (the middle every time), "raster" (a regular grid, line by
                line). The first gaze is the environment's in every case.
            seed: of the noise of "sampled", "averaged" and "random".

        Returns:
            Log-probabilities [b, n], and a trace; that of "averaged" shows the first draw and counts the values sensed in all.

        Raises:
            ValueError: if `how` is unknown.
        """
        rollouts = self.averaged_over if how == "averaged" else 1
        rollout = self.look_around(question, self._mover(question, how, seed), rollouts)
        belief = self.classifier(rollout.hidden).softmax(-1)
        first = Rollout(*(x[:, 0] for x in rollout))
        ways = len(question.gaze), max(self.spec.glimpses - 1, 0)
        trace = Trace(
            gaze=first.gaze.transpose(0, 1),
            belief=belief[:, 0].transpose(0, 1),
            log_prob=gaussian_log_prob(first.drawn, first.mean, self.config.std).transpose(0, 1) if ways[1] else None,
            entropy=first.gaze.new_full(ways, gaussian_entropy(self.config.std, 2)),
            sensed=first.gaze.new_full(ways[:1], rollouts * self.spec.glimpses * self.spec.glimpse_size),
        )
        return Answer(belief[-1].mean(0).clamp(min=1e-12).log(), trace)

    def look_around(self, question: Glimpsed, move: Move, rollouts: int = 1) -> Rollout:
        """T glimpses, the first where the environment says, the others where `move` says.

        First the network acts, step by step and without gradient; then what it saw is differentiated, over all steps at once. What was seen
        is a constant to the gradient, so the two can be told apart, and most of the work is done in large products.
        """
        with torch.no_grad():
            steps, drawn = self._act(question, move, rollouts)
        hidden = self._differentiate(steps) if torch.is_grad_enabled() else steps.hidden
        rows = (len(hidden), rollouts, -1)
        hidden, gaze = hidden.unflatten(1, rows[1:]), steps.gaze.unflatten(1, rows[1:])
        return Rollout(hidden, gaze, self.locator(hidden[:-1].detach()), drawn)

    def _act(self, question: Glimpsed, move: Move, rollouts: int) -> tuple[Steps, Float[Tensor, "moves m b 2"]]:
        """The loop everything waits for: it writes into memory taken once."""
        config, spec = self.config, self.spec
        first = question.gaze.to(self.what.weight.dtype).expand(rollouts, -1, -1)  # mixed precision hands in a coarser one
        rows = (spec.glimpses, rollouts * len(question.gaze))
        widths = (spec.glimpse_size, 2, 2 * config.features, config.hidden, config.hidden)
        steps = Steps(*(first.new_empty((*rows, width)) for width in widths))
        gazes = steps.gaze.view(spec.glimpses, *first.shape)
        drawn = first.new_empty((spec.glimpses - 1, *first.shape))
        torch.clamp(first, -1, 1, out=gazes[0])
        see, locate, join, step = _affine(self.what), _affine(self.where), _affine(self.join), self.core.stepper()
        state = None
        for i, (seen, place, encoded, joined, hidden) in enumerate(zip(*steps)):
            seen.view(*first.shape[:2], -1).copy_(question.look(gazes[i]).flatten(-3))
            what, where = encoded.split(config.features, dim=-1)
            see(seen, what)
            locate(place, where)
            join(encoded.relu_(), joined)
            state = step(joined.relu_(), state, hidden)
            if i < len(drawn):
                move(i, self.locator(hidden).view_as(first), drawn[i])
                torch.clamp(drawn[i], -1, 1, out=gazes[i + 1])
        return steps, drawn

    def _differentiate(self, steps: Steps) -> Float[Tensor, "t s d"]:
        """The hidden states with their gradient in the glimpse network and the core."""
        if isinstance(self.core, ReLUCore):
            linear = (self.what, self.where, self.join, self.core.input)
            weights = [p for layer in linear for p in (layer.weight, layer.bias)]
            return differentiable(steps, Weights._make([*weights, self.core.recurrent.weight]))
        encoded = torch.cat([self.what(steps.seen), self.where(steps.gaze)], dim=-1).relu()
        return self.core.lstm(self.join(encoded).relu())[0]

    def _sample(self, key: Tensor, rollouts: int) -> Move:
        noise = _paths(normal, key, self.spec.glimpses - 1, rollouts) * self.config.std
        return lambda i, mean, out: torch.add(mean, noise[i], out=out)

    def _mover(self, question: Glimpsed, how: str, seed: int) -> Move:
        moves = self.spec.glimpses - 1
        key = fork(question.key, f"answer {seed}")
        if how == "mean":
            return _greedy
        if how in ("sampled", "averaged"):
            return self._sample(key, self.averaged_over if how == "averaged" else 1)
        if how == "random":
            places = 2 * _paths(uniform, key, moves, 1) - 1
            return lambda i, mean, out: out.copy_(places[i])
        if how == "centre":
            return lambda i, mean, out: out.zero_()
        if how == "raster":
            grid = raster(moves).to(question.gaze)
            return lambda i, mean, out: out.copy_(grid[i])
        raise ValueError(f"how must be one of {', '.join(self.hows)}; found {how!r}")

    @property
    def _every_answer(self) -> bool:
        return self.config.supervise == "every" or self.config.reward_at == "every"

    def _returns(self, log_likelihood: Float[Tensor, "t m b"], correct: Float[Tensor, "t m b"]) -> Float[Tensor, "moves m b"]:
        """What followed every move. Move i leads to glimpse i + 2, counted from one."""
        moves = self.spec.glimpses - 1
        reward = (correct if self.config.reward == "correct" else log_likelihood).detach()
        if self.config.reward_at == "end":
            return reward[-1:].expand(moves, *reward.shape[1:])
        return returns_to_go(reward[1:]) / torch.arange(moves, 0, -1, device=reward.device)[:, None, None]

    @torch.no_grad()
    def _greedy_returns(self, batch: Batch) -> Float[Tensor, "moves b"]:
        hidden = self.look_around(batch.question, _greedy).hidden
        return self._returns(*_judge(self.classifier(hidden), batch.target))[:, 0]


def _greedy(i: int, mean: Tensor, out: Tensor) -> None:
    out.copy_(mean)


def raster(count: int) -> Float[Tensor, "{count} 2"]:
    """`count` places on a regular grid over [-1, 1] x [-1, 1], line by line; the middles of its cells."""
    columns = max(1, math.ceil(math.sqrt(count)))
    rows = max(1, math.ceil(count / columns))
    i = torch.arange(count)
    x, y = (i % columns + 0.5) / columns, (i // columns + 0.5) / rows
    return 2 * torch.stack([x, y], -1) - 1


def _judge(logits: Float[Tensor, "t m b n"], target: Any) -> tuple[Float[Tensor, "t m b"], Float[Tensor, "t m b"]]:
    """Log-likelihood of the target, and 1 where it is the likeliest class."""
    target = target.expand(logits.shape[:-1])
    log_likelihood = -F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view_as(target)
    return log_likelihood, (logits.argmax(-1) == target).to(logits.dtype)


def _paths(draw: Callable[[Tensor, int], Tensor], key: Tensor, moves: int, rollouts: int) -> Float[Tensor, "moves m b 2"]:
    """Noise for every move of every rollout; an example's noise depends on its own key alone."""
    return draw(key, rollouts * moves * 2).view(len(key), rollouts, moves, 2).permute(2, 1, 0, 3)
