"""The Recurrent Attention Model: a gaze learned by reinforcement (Mnih, Heess, Graves and Kavukcuoglu 2014, NIPS).

At every glimpse the network sees one retina's worth of the image, updates its state, and draws the next place to look at. What and
where are encoded apart and joined (the glimpse network); a recurrent core remembers; a Gaussian policy moves the gaze; after the last
glimpse a classifier answers. The loss is the paper's hybrid (Section 3.1): cross-entropy trains everything that can be differentiated,
REINFORCE trains the policy, and a regression trains its baseline. The three share no gradient: the state is a constant to policy and
baseline.

Where this differs from the paper: the paper does not say whether the policy's gradient reaches the core (here it does not), nor how far
a gaze of 1 reaches (here the task says). The options are not the paper's; their defaults give the paper's model. Some of them name papers
of their own: `stop` lets the network decide after every glimpse whether it has seen enough (Li et al. 2017, ICCV Workshops, "Dynamic
computational time"), `context` starts the gaze from a coarse look at the whole image (Ba, Mnih and Kavukcuoglu 2015, ICLR, Section 3,
"Context network"), and `estimator` may replace REINFORCE on a grid of places by a relaxation, which reads all of the grid in training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hardattn.chain import Steps, Weights, differentiable
from hardattn.checks import above_zero, at_least_one, at_least_zero, literals, way
from hardattn.contract import Answer, Batch, Glimpsed, GlimpseSpec, Loss, Trace
from hardattn.estimators import (
    Baseline,
    Expected,
    baseline_loss,
    baseline_of,
    clipped_surrogate,
    gumbel_softmax,
    returns_to_go,
    score_function,
    straight_through,
)
from hardattn.moments import Moments
from hardattn.noise import fork, uniform
from hardattn.policies import GaussianGaze, GazePolicy, GridGaze, grid, raster
from hardattn.recurrent import lstm

Move = Callable[[int, Tensor | None], tuple[Tensor | None, Float[Tensor, "*m b 2"]]]
"""Is told the number of the move (0 is the first) and the policy's parameters [m, b, p]; returns the action drawn, None for a gaze that is
not the policy's, and its place, which may lie outside [-1, 1]."""


Step = Callable[[Float[Tensor, "s g"], Steps | None, Steps], object]
"""One step of a core without gradient: input, the step before (None before the first) and the one to write into, without their axes of time."""


CONTROLS = ("random", "centre", "raster")
"""Ways to look that ignore what was seen."""


@dataclass(frozen=True)
class RAMConfig:
    """The model and its training signal. The defaults are the published model."""

    core: Literal["relu", "lstm"] = "relu"
    """Recurrent core: one rectified layer (the paper's classifiers) or an LSTM (the paper's Catch player)."""
    hidden: int = 256
    """Units of the core and of the joint glimpse encoding."""
    features: int = 128
    """Units that encode what is seen, and as many that encode where."""
    glimpse: Literal["linear", "conv"] = "linear"
    """What encodes a glimpse: one rectified layer, or a convolution before it."""
    standardised: bool = False
    """Whether a glimpse is brought to mean 0 and variance 1, number by number, by the glimpses of training so far (see `hardattn.moments`)."""
    gaze: Literal["learned", "random", "centre", "raster"] = "learned"
    """Who moves the eye in training: the policy, or a control that learns to see and not to look."""
    policy: Literal["gaussian", "grid"] = "gaussian"
    """A place anywhere, or one of grid x grid places."""
    std: float = 0.15
    """Standard deviation of the Gaussian gaze in both directions, as a part of the reach."""
    bounded: bool = False
    """Whether the mean of the Gaussian gaze stays within the reach (by tanh), or may wander off beyond the border, where it learns nothing more."""
    grid: int = 7
    """Places a side of the grid policy."""
    context: int = 0
    """Pixels a side of a coarse image of everything that chooses the first gaze and tells the rest nothing. 0: the environment chooses."""
    stop: bool = False
    """Whether the agent may answer before the last glimpse, when it has seen enough; also learned by REINFORCE."""
    glimpse_cost: float = 0.0
    """Subtracted from the reward for every glimpse after the first (with `stop`)."""
    estimator: Literal["score-function", "straight-through", "gumbel"] = "score-function"
    """How the policy's gradient is estimated. The last two need the grid, read all of it, and train the policy by the cross-entropy."""
    temperature: float = 1.0
    """Of the Gumbel relaxation."""
    rollouts: int = 1
    """Gaze paths drawn for every training image."""
    baseline: Baseline = "learned"
    """What is subtracted from the return."""
    shaping: float = 0.0
    """How much of the policy's gradient reaches the core and the glimpse network, as a part of it. 0: they learn to name and not to look."""
    reward: Literal["correct", "log-likelihood"] = "correct"
    """1 for a right answer, or the log-probability of the right answer."""
    reward_at: Literal["end", "every"] = "end"
    """Reward after the last glimpse, or the mean over the rewards of every glimpse after the move."""
    supervise: Literal["end", "every"] = "end"
    """Cross-entropy after the last glimpse, or the mean over all glimpses."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "features", "rollouts", "grid")
        above_zero(self, "std", "temperature")
        at_least_zero(self, "glimpse_cost", "shaping")
        if self.context < 0:
            raise ValueError(f"context must be at least 0 pixels, found {self.context}")
        literals(self)
        if self.baseline == "leave-one-out" and self.rollouts < 2:
            raise ValueError(
                f"baseline leave-one-out compares rollouts of one image: it needs rollouts >= 2, found {self.rollouts}"
            )
        if self.estimator != "score-function" and (self.policy != "grid" or self.context):
            raise ValueError(f"estimator {self.estimator} relaxes a choice among places: it needs policy grid and no context")
        if self.stop and (
            self.context or self.gaze != "learned" or self.estimator != "score-function" or self.reward_at == "every"
        ):
            raise ValueError("stop needs a learned gaze, the score function, a reward at the end, and no context")
        if self.context and self.gaze != "learned":
            raise ValueError(f"a context starts a learned gaze, found gaze {self.gaze}")

    def build(self, spec: GlimpseSpec) -> "RAM":
        return RAM(spec, self)


class Rollout(NamedTuple):
    """M ways of looking at every image, time first. There is one move less than glimpses, unless a context chooses the first gaze too."""

    seen: Float[Tensor, "t s p"]
    """As the sensor gave it."""
    hidden: Float[Tensor, "t m b d"]
    gaze: Float[Tensor, "t m b 2"]
    before: Float[Tensor, "moves m b d"]
    """The state before every move, without gradient (but for a context's, and for `shaping`)."""
    parameters: Float[Tensor, "moves m b p"] | None
    """Of the policy. None if the agent has none."""
    drawn: Float[Tensor, "moves m b a"] | None
    """Actions as the policy drew them, before the border stopped them. None if something else moved the eye."""


class Replay(NamedTuple):
    """A rollout that was acted before, as a question: its loss is taken as often as one likes, while the policy moves on (PPO)."""

    shown: Float[Tensor, "t s p"]
    """What was seen, as the network was given it."""
    gaze: Float[Tensor, "t s 2"]
    drawn: Float[Tensor, "moves m b a"]
    log_prob: Float[Tensor, "moves m b"]
    """Under the policy that acted."""
    advantage: Float[Tensor, "moves m b"]
    returns: Float[Tensor, "moves m b"]


class ReLUCore(nn.Module):
    """h_t = relu(W_h h_{t-1} + W_g g_t + b) (Section 4.1). The state is h itself."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, hidden)
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.gates = self.cell = 0  # it keeps neither

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """From input, bias, recurrent: as `hardattn.chain` has them."""
        return self.input.weight, self.input.bias, self.recurrent.weight

    def stepper(self) -> Step:
        weight, bias, recurrent = self.weights
        from_input, recurrent = _affine(weight, bias), recurrent.T.contiguous()

        def step(g: Tensor, before: Steps | None, now: Steps) -> None:
            from_input(g, now.hidden)
            if before is not None:  # before the first glimpse the state is zero
                now.hidden.addmm_(before.hidden, recurrent)
            now.hidden.relu_()

        return step

    def forward(self, g: Float[Tensor, "t s g"], state: Tensor | None = None) -> tuple[Float[Tensor, "t s d"], Tensor]:
        """All steps at once, with gradient; and the state after them."""
        hidden = []
        for pre in self.input(g):
            state = (pre if state is None else pre + self.recurrent(state)).relu()
            hidden.append(state)
        assert state is not None
        return torch.stack(hidden), state


class LSTMCore(nn.Module):
    """An LSTM with forget gates (Gers, Schmidhuber and Cummins 2000). The state is (h, c)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden)
        self.gates, self.cell = 4 * hidden, hidden  # numbers that a step keeps of them

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """From input, bias, recurrent: as `hardattn.chain` has them."""
        from_input, recurrent, bias, other = self.lstm.parameters()
        return from_input, bias + other, recurrent

    def stepper(self) -> Step:
        weight, bias, recurrent = self.weights
        from_input, recurrent = _affine(weight, bias), recurrent.T.contiguous()

        def step(g: Tensor, before: Steps | None, now: Steps) -> None:
            from_input(g, now.gates)
            if before is not None:
                now.gates.addmm_(before.hidden, recurrent)
            i, f, new, o = now.gates.chunk(4, -1)
            for gate in (i, f, o):
                gate.sigmoid_()
            torch.mul(i, new.tanh_(), out=now.cell)
            if before is not None:
                now.cell.addcmul_(f, before.cell)
            torch.tanh(now.cell, out=now.hidden).mul_(o)

        return step

    def forward(self, g: Float[Tensor, "t s g"], state: Any = None) -> tuple[Float[Tensor, "t s d"], Any]:
        """All steps at once, with gradient; and the state after them."""
        return lstm(self.lstm, g, state)


class ConvGlimpse(nn.Module):
    """A convolution over the patch of all scales, at most seven places a side, then one layer, which the agent rectifies."""

    def __init__(self, spec: GlimpseSpec, features: int) -> None:
        super().__init__()
        self.shape = (spec.scales * spec.channels, spec.side, spec.side)
        # A small patch has no places to spare.
        kernel, border = (5, 0) if spec.side >= 8 else (3, 1)
        stride = max(1, spec.side // 6)
        self.filters = nn.Conv2d(self.shape[0], 32, kernel, stride, border)
        self.out = nn.Linear(32 * ((spec.side + 2 * border - kernel) // stride + 1) ** 2, features)

    def forward(self, seen: Float[Tensor, "*r p"]) -> Float[Tensor, "*r f"]:
        return self.out(self.filters(seen.reshape(-1, *self.shape)).relu().flatten(1)).view(*seen.shape[:-1], -1)


class Locator(nn.Linear):
    """From a state to the policy's parameters; with a context also from a coarse image to the state before the first glimpse."""

    def __init__(self, hidden: int, parameters: int, coarse: int) -> None:
        super().__init__(hidden, parameters)
        self.context = nn.Linear(coarse, hidden) if coarse else None


def _affine(
    weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"]
) -> Callable[[Float[Tensor, "s i"], Float[Tensor, "s o"]], object]:
    """A linear layer as a function that writes into its second argument, for many calls: the matrix is turned round once instead of in each product."""
    turned = weight.T.contiguous()
    return lambda x, out: torch.addmm(bias, x, turned, out=out)


class Stopped(NamedTuple):
    """Decisions to answer after glimpse 1, 2, ..., T - 1; those after the first that says yes are void, and after glimpse T there is none."""

    logits: Float[Tensor, "moves m b"]
    yes: Bool[Tensor, "moves m b"]

    @property
    def alive(self) -> Float[Tensor, "moves m b"]:
        """1 for decisions that are really taken."""
        no = (~self.yes).to(self.logits.dtype)
        return torch.cat([torch.ones_like(no[:1]), no[:-1]]).cumprod(0)

    @property
    def glimpses(self) -> Float[Tensor, "m b"]:
        """Taken before the answer."""
        return 1 + (self.alive * ~self.yes).sum(0)

    def at_the_end(self, values: Float[Tensor, "t m b *n"]) -> Float[Tensor, "1 m b *n"]:
        """Of values at every glimpse that at which the answer was given."""
        index = (self.glimpses - 1).long()[None]
        return values.gather(0, index.view(*index.shape, *[1] * (values.ndim - 3)).expand(1, *values.shape[1:]))

    def log_prob(self, gaze: Float[Tensor, "moves m b"]) -> Float[Tensor, "moves m b"]:
        """Of all that was decided: to stop, or not to stop and where to look."""
        yes = self.yes.to(self.logits.dtype)
        return self.alive * (yes * F.logsigmoid(self.logits) + (1 - yes) * (F.logsigmoid(-self.logits) + gaze))


class RAM(nn.Module):
    """See the module. Letters in the code are the paper's: g a glimpse's encoding, h the state."""

    averaged_over = 8

    def __init__(self, spec: GlimpseSpec, config: RAMConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.policy: GazePolicy = GridGaze(config.grid) if config.policy == "grid" else GaussianGaze(config.std, config.bounded)
        self.moves = spec.glimpses if config.context else spec.glimpses - 1
        self.seen = Moments(spec.glimpse_size) if config.standardised else None
        self.what = (
            nn.Linear(spec.glimpse_size, config.features) if config.glimpse == "linear" else ConvGlimpse(spec, config.features)
        )
        self.where = nn.Linear(2, config.features)
        self.join = nn.Linear(2 * config.features, config.hidden)
        self.core = (ReLUCore if config.core == "relu" else LSTMCore)(config.hidden, config.hidden)
        self.classifier = nn.Linear(config.hidden, spec.classes)
        learned = config.gaze == "learned"
        coarse = spec.channels * config.context**2
        self.locator = Locator(config.hidden, self.policy.parameters, coarse) if learned else None
        self.stopper = nn.Linear(config.hidden, 1) if config.stop else None
        if self.stopper is not None:
            # In the beginning it looks on: who stops at once learns nothing of looking.
            nn.init.constant_(self.stopper.bias, -2.0)
        self.baseline: nn.Module | None = None
        if learned and not self._relaxed:
            if config.baseline == "learned":
                self.baseline = nn.Linear(config.hidden, 1)
            elif config.baseline == "constant":
                self.baseline = Expected(self.moves)

    @property
    def hows(self) -> tuple[str, ...]:
        """Without a policy the usual way to look is the one that was trained."""
        if self.locator is not None:
            return "mean", "sampled", "averaged", *CONTROLS
        return self.config.gaze, *(how for how in CONTROLS if how != self.config.gaze)

    @property
    def separate(self) -> tuple[str, ...]:
        """Children that share no gradient with the rest: their gradients are clipped and reported on their own."""
        return () if self._relaxed else ("locator", "baseline", "stopper")

    def forward(self, batch: Batch) -> Loss:
        """`loss`; in training, what was seen then counts for the moments, from the next batch on."""
        if isinstance(batch.question, Replay):  # which `act` has counted
            return self.loss(batch)
        rollout = self._rollout(batch.question)
        loss = self._loss(rollout, batch)
        self._learn(rollout.seen)
        return loss

    def loss(self, batch: Batch) -> Loss:
        """The hybrid loss; the reward of a rollout is computed from the same answers that cross-entropy is."""
        if isinstance(batch.question, Replay):
            return self._replayed(batch.question, batch.target)
        return self._loss(self._rollout(batch.question), batch)

    def _rollout(self, question: Glimpsed) -> Rollout:
        """As in training."""
        config, key = self.config, fork(question.key, "gaze")
        if self._relaxed:
            return self._relax(question, key, config.rollouts)
        how = "sampled" if config.gaze == "learned" else config.gaze
        return self.look_around(question, self._mover(how, key, config.rollouts), config.rollouts)

    def _learn(self, seen: Float[Tensor, "t s p"]) -> None:
        if self.training and self.seen is not None:
            self.seen.learn(seen)

    def _loss(self, rollout: Rollout, batch: Batch) -> Loss:
        config, question, target = self.config, batch.question, batch.target
        logits = self.classifier(rollout.hidden if self._every_answer else rollout.hidden[-1:])
        log_likelihood, correct = _judge(logits, target)
        stopped = None
        if self.stopper is not None and self.moves:
            stopped = self._stop(rollout, self._chances(fork(question.key, "stop"), config.rollouts))
            log_likelihood, correct = (stopped.at_the_end(x) for x in (log_likelihood, correct))
        nll = -(log_likelihood if config.supervise == "every" else log_likelihood[-1:]).mean()
        terms = {"nll": nll, "error": 100 * (1 - correct[-1].mean())}
        total = nll
        if self.moves and rollout.drawn is not None and rollout.parameters is not None:
            log_prob = self.policy.log_prob(rollout.drawn, rollout.parameters)
            returns = self._returns(log_likelihood, correct)
            if stopped is not None:
                log_prob = stopped.log_prob(log_prob)
                returns = returns - config.glimpse_cost * (stopped.glimpses - 1)
                terms["glimpses"] = stopped.glimpses.mean()
            terms |= {"reward": returns[0].mean(), "entropy": -log_prob.mean()}  # of the gaze in nats, as drawn
            if config.policy == "gaussian":  # how many moves it stopped, in percent
                terms["border"] = 100 * (rollout.drawn.abs() > 1).any(-1).to(nll.dtype).mean()
            if not self._relaxed:
                learned = self.baseline(rollout.before.detach()).squeeze(-1) if self.baseline is not None else None
                greedy = self._greedy_returns(batch) if config.baseline == "self-critical" else None
                subtracted = baseline_of(config.baseline, returns, learned=learned, greedy=greedy)
                reinforce = score_function(log_prob, returns, subtracted)
                total = total + reinforce
                terms |= {"reinforce": reinforce, "advantage": (returns - subtracted).square().mean().sqrt()}
                if learned is not None:
                    regression = baseline_loss(learned, returns)
                    total = total + regression
                    terms["baseline"] = regression
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def act(self, batch: Batch) -> Batch:
        """Look around and remember what was seen, drawn and earned: a batch whose loss is PPO's (Schulman et al. 2017, Equation 9).

        Raises:
            ValueError: for settings without a policy that acts by itself, or that stops.
        """
        config, question = self.config, batch.question
        if (
            self.locator is None
            or not self.moves
            or self._relaxed
            or config.stop
            or config.context
            or config.baseline == "self-critical"
        ):
            raise ValueError(
                "only a learned gaze that moves, and neither stops nor has a context or a self-critical baseline, can be replayed"
            )
        steps, drawn = self._act(
            question, self._mover("sampled", fork(question.key, "gaze"), config.rollouts), config.rollouts, None
        )
        assert drawn is not None
        before = steps.hidden[:-1].unflatten(1, (config.rollouts, -1))
        log_prob = self.policy.log_prob(drawn, self.locator(before))
        returns = self._returns(*_judge(self.classifier(steps.hidden.unflatten(1, (config.rollouts, -1))), batch.target))
        learned = self.baseline(before).squeeze(-1) if self.baseline is not None else None
        advantage = returns - baseline_of(config.baseline, returns, learned=learned)
        shown = self._shown(steps.seen)
        self._learn(steps.seen)
        return Batch(Replay(shown, steps.gaze, drawn, log_prob, advantage, returns), batch.target)

    def _replayed(self, replay: Replay, target: Tensor) -> Loss:
        assert self.locator is not None
        hidden = self.core(self._encode(replay.shown, replay.gaze))[0].unflatten(1, (self.config.rollouts, -1))
        log_likelihood, correct = _judge(self.classifier(hidden if self.config.supervise == "every" else hidden[-1:]), target)
        before = self._told(hidden[:-1])
        nll = -log_likelihood.mean()
        reinforce = clipped_surrogate(
            self.policy.log_prob(replay.drawn, self.locator(before)), replay.log_prob, replay.advantage
        )
        terms = {
            "nll": nll,
            "error": 100 * (1 - correct[-1].mean()),
            "reinforce": reinforce,
            "reward": replay.returns[0].mean(),
        }
        if self.baseline is not None:
            terms["baseline"] = baseline_loss(self.baseline(before.detach()).squeeze(-1), replay.returns)
        total = nll + reinforce + terms.get("baseline", 0.0)
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Glimpsed, how: str | None = None, seed: int = 0) -> Answer:
        """Look at every image and name it.

        Args:
            question: of a glimpse task.
            how: the usual way if not given, or "mean" (the policy's mean, on a grid its likeliest place), "sampled" (one draw from the
                policy), "averaged" (mean of the probabilities of 8 draws), or a control that ignores the policy: "random" (uniform),
                "centre" (the middle every time), "raster" (a regular grid, line by line). The first gaze is the environment's, unless a
                context chooses it.
            seed: of the noise of "sampled", "averaged" and "random".

        Returns:
            Log-probabilities [b, n], and a trace; that of "averaged" shows the first draw and counts the values sensed in all.

        Raises:
            ValueError: if `how` is unknown, or needs a policy and there is none.
        """
        how = way(how, self.hows)
        rollouts = self.averaged_over if how == "averaged" else 1
        key = fork(question.key, f"answer {seed}")
        rollout = self.look_around(question, self._mover(how, key, rollouts), rollouts)
        belief = self.classifier(rollout.hidden).softmax(-1)
        log_prob = entropy = None
        if self.moves and rollout.parameters is not None:
            entropy = self.policy.entropy(rollout.parameters[:, 0]).transpose(0, 1)
            if rollout.drawn is not None:
                log_prob = self.policy.log_prob(rollout.drawn[:, 0], rollout.parameters[:, 0]).transpose(0, 1)
        weighed = self.moves * self.config.grid**2 if self.locator is not None and self.config.policy == "grid" else 0
        output = belief[-1].mean(0)
        spent: float | Tensor = float(self.spec.glimpses * rollouts)
        glimpses = None
        if self.stopper is not None and self.moves:
            drawn = how in ("sampled", "averaged")
            noise = self._chances(fork(question.key, f"answer {seed} stop"), rollouts) if drawn else None
            stopped = self._stop(rollout, noise)
            output, spent = stopped.at_the_end(belief)[-1].mean(0), stopped.glimpses.sum(0)
            glimpses = stopped.glimpses.to(belief).mean(0)
        sensed = spent * self.spec.glimpse_size + self.spec.channels * self.config.context**2
        sensed = sensed * rollout.gaze.new_ones(len(question.gaze))
        trace = Trace(
            gaze=rollout.gaze[:, 0].transpose(0, 1),
            belief=belief[:, 0].transpose(0, 1),
            log_prob=log_prob,
            entropy=entropy,
            glimpses=glimpses,
            sensed=sensed,
            scores=rollout.gaze.new_full(question.gaze.shape[:1], weighed * rollouts) if weighed else None,
            reads=sensed,
        )
        return Answer(output.clamp(min=1e-12).log(), trace)

    def look_around(self, question: Glimpsed, move: Move, rollouts: int = 1) -> Rollout:
        """T glimpses, the first where the environment (or the context) says, the others where `move` says.

        First the network acts, step by step and without gradient; then what it saw is differentiated, over all steps at once. What was seen
        is a constant to the gradient, so the two can be told apart, and most of the work is done in large products.
        """
        start = self._start(question, rollouts)
        with torch.no_grad():
            steps, drawn = self._act(question, move, rollouts, start)
        hidden = self._differentiate(steps) if torch.is_grad_enabled() else steps.hidden
        rows = (len(hidden), rollouts, -1)
        hidden, gaze = hidden.unflatten(1, rows[1:]), steps.gaze.unflatten(1, rows[1:])
        before = self._told(hidden[:-1])
        if start is not None:
            before = torch.cat([start[None], before])
        return Rollout(steps.seen, hidden, gaze, before, None if self.locator is None else self.locator(before), drawn)

    def _act(
        self, question: Glimpsed, move: Move, rollouts: int, start: Tensor | None
    ) -> tuple[Steps, Float[Tensor, "moves m b a"] | None]:
        """The loop everything waits for: it writes into memory taken once."""
        config, spec = self.config, self.spec
        first = question.gaze.to(self.where.weight.dtype).expand(rollouts, -1, -1)  # mixed precision hands in a coarser one
        rows = (spec.glimpses, rollouts * len(question.gaze))
        widths = (
            *(spec.glimpse_size, 2, 2 * config.features, config.hidden, config.hidden),
            *(self.core.gates, self.core.cell),
        )
        steps = Steps(*(first.new_empty((*rows, width)) for width in widths))
        gazes = steps.gaze.view(spec.glimpses, *first.shape)
        drawn: list[Tensor] = []

        def look_next(i: int, state: Tensor, at: Tensor) -> None:
            parameters = None if self.locator is None else self.locator(state).view(*first.shape[:-1], -1)
            action, place = move(i, parameters)
            if action is not None:
                drawn.append(action)
            torch.clamp(place, -1, 1, out=at)

        if start is None:
            torch.clamp(first, -1, 1, out=gazes[0])
        else:
            look_next(0, start, gazes[0])
        see = _affine(*self._sees(self.what)) if isinstance(self.what, nn.Linear) else self._see
        locate, join = (_affine(layer.weight, layer.bias) for layer in (self.where, self.join))
        step, before = self.core.stepper(), None
        for i, now in enumerate(map(Steps._make, zip(*steps))):
            now.seen.view(*first.shape[:2], -1).copy_(question.look(gazes[i]).flatten(-3))
            what, where = now.encoded.split(config.features, dim=-1)
            see(now.seen, what)
            locate(now.gaze, where)
            join(now.encoded.relu_(), now.joined)
            step(now.joined.relu_(), before, now)
            before = now
            if i + 1 < spec.glimpses:
                look_next(i + self.moves + 1 - spec.glimpses, now.hidden, gazes[i + 1])
        return steps, torch.stack(drawn) if drawn else None

    def _see(self, seen: Tensor, out: Tensor) -> None:
        out.copy_(self.what(self._shown(seen)))

    def _sees(self, layer: nn.Linear) -> tuple[Float[Tensor, "f p"], Float[Tensor, " f"]]:
        """Weight and bias for what is seen as the sensor gives it."""
        return (layer.weight, layer.bias) if self.seen is None else self.seen.before(layer)

    def _shown(self, seen: Float[Tensor, "*r p"]) -> Float[Tensor, "*r p"]:
        """What is seen, as the network is given it."""
        return seen if self.seen is None else self.seen(seen)

    def _start(self, question: Any, rollouts: int) -> Float[Tensor, "m b d"] | None:
        """The state before the first glimpse: what a coarse image of everything says. It reaches the locator only."""
        if self.locator is None or self.locator.context is None:
            return None
        coarse = F.adaptive_avg_pool2d(question.image, self.config.context).flatten(1)
        return self.locator.context(coarse.to(self.where.weight.dtype)).relu().expand(rollouts, -1, -1)

    def _encode(self, shown: Float[Tensor, "*r p"], place: Float[Tensor, "*r 2"]) -> Float[Tensor, "*r g"]:
        """The glimpse network, with gradient."""
        return self.join(torch.cat([self.what(shown), self.where(place)], dim=-1).relu()).relu()

    def _differentiate(self, steps: Steps) -> Float[Tensor, "t s d"]:
        """The hidden states with their gradient in the glimpse network and the core."""
        if isinstance(self.what, nn.Linear):
            rest = (p for layer in (self.where, self.join) for p in (layer.weight, layer.bias))
            return differentiable(steps, Weights._make([*self._sees(self.what), *rest, *self.core.weights]))
        return self.core(self._encode(self._shown(steps.seen), steps.gaze))[0]

    def _told(self, state: Float[Tensor, "moves m b d"]) -> Float[Tensor, "moves m b d"]:
        """The state as the policy is told it: the same numbers, with the part of the gradient that `shaping` says."""
        constant, part = state.detach(), self.config.shaping
        return constant if part == 0 else part * state + (1 - part) * constant

    def _relax(self, question: Glimpsed, key: Tensor, rollouts: int) -> Rollout:
        """A rollout in which the choice among places has a gradient: every glimpse is a weighted sum of those at all places of the grid."""
        assert isinstance(self.policy, GridGaze) and self.locator is not None
        places = grid(self.policy.side, self.policy.side).to(self.where.weight)
        everything = (
            question.look(places[:, None].expand(-1, len(key), -1)).flatten(2).transpose(0, 1).to(places)
        )  # [b, places, p]
        draws = self._noise(lambda k, n: uniform(k, n * len(places)).view(len(k), n, -1), key, rollouts)
        gaze = question.gaze.to(places).clamp(-1, 1).expand(rollouts, -1, -1)
        glimpses = [question.look(gaze).flatten(-3).to(places)]
        hidden, gazes, parameters, drawn, state = [], [gaze], [], [], None
        for i in range(self.spec.glimpses):
            h, state = self.core(self._encode(self._shown(glimpses[-1]), gaze).flatten(0, 1)[None], state)
            hidden.append(h[0].unflatten(0, (rollouts, -1)))
            if i < self.moves:
                parameters.append(self.locator(hidden[-1].detach()))
                if self.config.estimator == "gumbel":
                    weights = gumbel_softmax(parameters[-1], draws[i], self.config.temperature)
                else:
                    weights = straight_through(parameters[-1], draws[i])
                gaze = weights @ places
                glimpses.append(torch.einsum("mbn,bnp->mbp", weights, everything))
                gazes.append(gaze)
                drawn.append(weights.argmax(-1, keepdim=True).to(places))
        states = torch.stack(hidden)
        chosen, actions = (torch.stack(x) if x else None for x in (parameters, drawn))
        return Rollout(torch.stack(glimpses).flatten(1, 2), states, torch.stack(gazes), states[:-1].detach(), chosen, actions)

    def _stop(self, rollout: Rollout, noise: Float[Tensor, "moves m b"] | None) -> "Stopped":
        """Where every rollout ends: drawn, or without noise where stopping is likelier than not. All glimpses were taken, some of them in vain."""
        assert self.stopper is not None
        logits = self.stopper(rollout.before.detach()).squeeze(-1)
        return Stopped(logits, logits > 0 if noise is None else noise < logits.sigmoid())

    def _noise(self, noise: Callable[[Tensor, int], Tensor], key: Tensor, rollouts: int) -> Float[Tensor, "moves m b a"]:
        """Noise for every move of every rollout; an example's noise depends on its own key alone."""
        return noise(key, rollouts * self.moves).unflatten(1, (rollouts, self.moves)).permute(2, 1, 0, 3)

    def _chances(self, key: Tensor, rollouts: int) -> Float[Tensor, "moves m b"]:
        """A uniform number for every decision."""
        return self._noise(lambda k, n: uniform(k, n)[..., None], key, rollouts).squeeze(-1)

    def _mover(self, how: str, key: Tensor, rollouts: int) -> Move:
        if how in ("sampled", "averaged"):
            noise = self._noise(self.policy.noise, key, rollouts)
            return lambda i, parameters: self._go(self.policy.draw(_given(parameters), noise[i]))
        if how == "mean":
            return lambda i, parameters: self._go(self.policy.likeliest(_given(parameters)))
        if how == "random":
            places = 2 * self._noise(lambda k, n: uniform(k, 2 * n).view(len(k), n, 2), key, rollouts) - 1
        else:
            fixed = raster(self.moves) if how == "raster" else torch.zeros(self.moves, 2)
            places = fixed.to(key.device)[:, None, None].expand(-1, rollouts, len(key), -1)
        return lambda i, parameters: (None, places[i].to(self.where.weight))

    def _go(self, action: Tensor) -> tuple[Tensor, Tensor]:
        action = action.to(self.where.weight.dtype)  # mixed precision hands in a coarser one
        return action, self.policy.place(action)

    @property
    def _relaxed(self) -> bool:
        return self.config.gaze == "learned" and self.config.estimator != "score-function"

    @property
    def _every_answer(self) -> bool:
        return self.config.supervise == "every" or self.config.reward_at == "every" or self.config.stop

    def _returns(self, log_likelihood: Float[Tensor, "t m b"], correct: Float[Tensor, "t m b"]) -> Float[Tensor, "moves m b"]:
        """What followed every move. The last move leads to the last glimpse."""
        reward = (correct if self.config.reward == "correct" else log_likelihood).detach()
        if self.config.reward_at == "end":
            return reward[-1:].expand(self.moves, *reward.shape[1:])
        return returns_to_go(reward[-self.moves :]) / torch.arange(self.moves, 0, -1, device=reward.device)[:, None, None]

    @torch.no_grad()
    def _greedy_returns(self, batch: Batch) -> Float[Tensor, "moves b"]:
        hidden = self.look_around(batch.question, self._mover("mean", batch.question.key, 1)).hidden
        return self._returns(*_judge(self.classifier(hidden), batch.target))[:, 0]


def _given(parameters: Tensor | None) -> Tensor:
    assert parameters is not None  # `hows` offers the policy's ways to agents that have one
    return parameters


def _judge(logits: Float[Tensor, "t m b n"], target: Any) -> tuple[Float[Tensor, "t m b"], Float[Tensor, "t m b"]]:
    """Log-likelihood of the target, and 1 where it is the likeliest class."""
    target = target.expand(logits.shape[:-1])
    log_likelihood = -F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view_as(target)
    return log_likelihood, (logits.argmax(-1) == target).to(logits.dtype)
