"""Gradients through a choice: what stands in for back-propagation where an action was sampled.

Shapes are time first: `log_prob` and `reward` are [t, *r, b], one entry per move, with any axes of rollouts between. The functions
here return surrogates, scalars whose gradient is the estimate; what is not to receive gradient is detached here, so that no caller
can forget.
"""

import math
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hardattn.parallel import global_sum

Baseline = Literal["learned", "constant", "batch-mean", "leave-one-out", "self-critical", "none"]
"""What is subtracted from the return. None of them changes the expected gradient; they differ in variance and in cost:

learned        a regression of the return on the state before the move (Williams 1992; Mnih et al. 2014, Section 3.1)
constant       a regression on nothing: one number for every move, learned as well
batch-mean     the mean return of all other rollouts in the batch, over every process
leave-one-out  the mean return of the other rollouts of the same example (Kool et al. 2019, Equation 8); needs M >= 2
self-critical  the return of the policy that always takes its mean or likeliest action (Rennie et al. 2017, Equation 9)
none           nothing
"""


def score_function(
    log_prob: Float[Tensor, "t *r b"], returns: Float[Tensor, "t *r b"], baseline: Float[Tensor, "t *r b"] | float = 0.0
) -> Float[Tensor, ""]:
    """Surrogate of REINFORCE: -sum_t log pi(a_t | s_t) (R_t - b_t), mean over rollouts and examples (Williams 1992, Theorem 1).

    Its gradient estimates that of minus the expected return. Returns and baseline are treated as constants.
    """
    return -(log_prob * (returns - baseline).detach()).sum(0).mean()


def clipped_surrogate(
    log_prob: Float[Tensor, "t *r b"],
    acted: Float[Tensor, "t *r b"],
    advantage: Float[Tensor, "t *r b"],
    *,
    clip: float = 0.2,
) -> Float[Tensor, ""]:
    """PPO's objective, negated: -min(ratio A, clamp(ratio, 1 - clip, 1 + clip) A), summed over time, mean over the rest (Schulman et al. 2017, Equation 7).

    `acted` is the log-probability under the policy that acted. Where the two policies are one, the gradient is that of `score_function`; where
    they have come apart, moves that have become likelier or unlikelier by more than `clip` get none, so one rollout may serve several updates.
    """
    ratio = (log_prob - acted.detach()).exp()
    advantage = advantage.detach()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).sum(0).mean()


def baseline_loss(baseline: Float[Tensor, "t *r b"], returns: Float[Tensor, "t *r b"]) -> Float[Tensor, ""]:
    """Mean squared error of a learned baseline; the return is a constant (Mnih et al. 2014, Section 3.1)."""
    return (baseline - returns.detach()).square().mean()


def gaussian_log_prob(
    sample: Float[Tensor, "*a d"], mean: Float[Tensor, "*a d"], std: float | Float[Tensor, "*a d"]
) -> Float[Tensor, "*a"]:
    """Log-density of `sample` under independent normals; the sample is a constant.

    Pass what was drawn, not what the environment made of it: a clamped gaze no longer has this density, and its gradient would be
    that of another policy.
    """
    log_std = std.log() if isinstance(std, Tensor) else math.log(std)
    z = (sample.detach() - mean) / std
    return (z.square() * -0.5 - (log_std + 0.5 * math.log(2 * math.pi))).sum(-1)


def gaussian_entropy(std: float, dimensions: int) -> float:
    """Entropy in nats of independent normals."""
    return dimensions * (0.5 * math.log(2 * math.pi * math.e) + math.log(std))


def returns_to_go(reward: Float[Tensor, "t *r b"]) -> Float[Tensor, "t *r b"]:
    """Entry i is the sum of the rewards from i on: what a move can still influence (Sutton et al. 1999, Theorem 1)."""
    return reward.flip(0).cumsum(0).flip(0)


def generalised_advantage(
    reward: Float[Tensor, "t *r b"],
    value: Float[Tensor, "t+1 *r b"],
    terminated: Bool[Tensor, "t *r b"],
    over: Bool[Tensor, "t *r b"],
    *,
    discount: float = 1.0,
    decay: float = 1.0,
) -> Float[Tensor, "t *r b"]:
    """What every move was worth beyond what was expected: sum_l (discount decay)^l delta_(t+l) within an episode, where
    delta_t = r_t + discount V_(t+1) - V_t (Schulman et al. 2016, Equation 16).

    Args:
        reward: of every move.
        value: expected of the state before every move, and of the last state; zeros give discounted returns.
        terminated: where the episode ended by itself: nothing comes after, whatever is expected.
        over: where it ended, by itself or by a limit of time; the limit says nothing of what would have come, so the value stands for it.
        discount: of a reward per step.
        decay: 1 sums the rewards (REINFORCE), 0 looks one step ahead.
    """
    delta = reward + discount * value[1:] * ~terminated - value[:-1]
    advantage = torch.empty_like(delta)
    after = torch.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        advantage[t] = after = delta[t] + discount * decay * ~over[t] * after
    return advantage


def leave_one_out(returns: Float[Tensor, "t m b"]) -> Float[Tensor, "t m b"]:
    """The mean return of the other rollouts of the same example (Kool et al. 2019, Equation 8).

    Raises:
        ValueError: if there are fewer than two rollouts.
    """
    rollouts = returns.shape[1]
    if rollouts < 2:
        raise ValueError(f"leave-one-out compares rollouts of one example: it needs at least 2 of them, found {rollouts}")
    return (returns.sum(1, keepdim=True) - returns) / (rollouts - 1)


def batch_mean(returns: Float[Tensor, "t *r b"]) -> Float[Tensor, "t *r b"]:
    """The mean return at the same step of all *other* rollouts of the batch, over every process; 0 for a rollout on its own.

    Leaving the rollout itself out keeps the gradient unbiased; including it would shrink the gradient by 1 / (number of rollouts).
    """
    over = tuple(range(1, returns.ndim))
    total = global_sum(returns.detach().sum(over, keepdim=True))
    count = global_sum(torch.tensor(float(returns[0].numel()), device=returns.device))
    return (total - returns) / (count - 1).clamp(min=1.0) * (count > 1)


def baseline_of(
    kind: Baseline,
    returns: Float[Tensor, "t m b"],
    *,
    learned: Float[Tensor, "t m b"] | None = None,
    greedy: Float[Tensor, "t b"] | None = None,
) -> Float[Tensor, "t m b"] | float:
    """The baseline called `kind`. `learned` and `greedy` (the greedy policy's return) are needed by the kinds that use them.

    Raises:
        ValueError: if `kind` is unknown.
    """
    if kind in ("learned", "constant"):
        assert learned is not None
        return learned
    if kind == "batch-mean":
        return batch_mean(returns)
    if kind == "leave-one-out":
        return leave_one_out(returns)
    if kind == "self-critical":
        assert greedy is not None
        return greedy[:, None].expand_as(returns)
    if kind == "none":
        return 0.0
    raise ValueError(f"baseline must be one of {', '.join(get_args(Baseline))}; found {kind!r}")


class Expected(nn.Module):
    """A return that is expected whatever was seen, one number for every move (or one for all of them): the baseline "constant"."""

    def __init__(self, moves: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(moves))

    def forward(self, before: Float[Tensor, "moves *r d"]) -> Float[Tensor, "moves *r 1"]:
        return self.value.view(-1, *[1] * (before.ndim - 1)).expand(*before.shape[:-1], 1)


def straight_through(logits: Float[Tensor, "*r n"], noise: Float[Tensor, "*r n"]) -> Float[Tensor, "*r n"]:
    """A drawn one-hot choice whose gradient is that of the probabilities (Bengio, Leonard and Courville 2013, Section 4): biased, of low variance.

    Args:
        logits: of the choice.
        noise: uniform in (0, 1); the choice is drawn by the Gumbel-max trick.
    """
    soft = logits.softmax(-1)
    return _one_hot(logits - (-noise.log()).log()) + (soft - soft.detach())  # exactly one-hot


def gumbel_softmax(
    logits: Float[Tensor, "*r n"], noise: Float[Tensor, "*r n"], temperature: float = 1.0
) -> Float[Tensor, "*r n"]:
    """A drawn one-hot choice whose gradient is that of its relaxation (Jang, Gu and Poole 2017, Sections 2.1 and 2.2, straight-through variant).

    The lower the temperature, the smaller the bias and the larger the variance. Arguments as for `straight_through`.
    """
    perturbed = logits - (-noise.log()).log()
    soft = (perturbed / temperature).softmax(-1)
    return _one_hot(perturbed) + (soft - soft.detach())


def _one_hot(scores: Float[Tensor, "*r n"]) -> Float[Tensor, "*r n"]:
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)


def expected_reward(log_prob: Float[Tensor, "actions *r"], reward: Float[Tensor, "actions *r"]) -> Float[Tensor, "*r"]:
    """Exact expectation over every action (or action sequence) on the first axis: the value whose gradient the estimators estimate."""
    return (log_prob.exp() * reward).sum(0)


def relative_variance(gradients: Iterable[Float[Tensor, " p"]]) -> tuple[Float[Tensor, ""], Float[Tensor, " p"]]:
    """How noisy an estimator is: trace of the covariance of its draws, divided by the squared norm of their mean.

    The squared norm of a mean of D noisy draws overestimates that of the true mean by trace / D; this is subtracted, so that the
    figure does not depend on D. It is infinite where no signal can be told from noise.

    Args:
        gradients: independent draws of one gradient, at least two, flattened to vectors of p entries.

    Returns:
        (the relative variance, the mean gradient).
    """
    draws = torch.stack(list(gradients))
    mean = draws.mean(0)
    trace = draws.var(0).sum()
    signal = mean.square().sum() - trace / len(draws)
    return torch.where(signal > 0, trace / signal, torch.inf), mean
