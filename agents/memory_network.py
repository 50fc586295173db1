"""End-to-end memory networks: a question that is asked of a memory several times (Sukhbaatar, Szlam, Weston and Fergus 2015, NIPS).

Every sentence of a story fills a slot of the memory, once as a key and once as a value (Section 2.1). The question scores all keys, the values
are read with the softmax of the scores, what was read is added to the question, and the next hop begins (Section 2.2). After the last hop a linear
layer names one word. Everything can be differentiated, so only answers are needed to learn which sentences matter.

With `access` the hops become hard: every hop reads one sentence. The score function (REINFORCE), the straight-through estimator or the
Gumbel-softmax then passes the gradient; the reward comes with the answer. That is not the paper's; the defaults are.

Where the authors' published program differs from the paper, the default is the program's (`position`, the time words); `position="paper"`
has the other. A sentence's embedding is a sum of its words' embeddings with weights l_kj = a_j + (k / d) b_j for unit k of d and word j. So it is one
product of a bag of weighted words with the table and the table whose unit k was multiplied by k / d, for all hops at once and only for sentences
that exist. The paper keeps the empty word's embedding at zero after every step; here it has no row in the tables.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hardattn.attention import Access, choose
from hardattn.checks import at_least_one, at_least_zero, literals, way
from hardattn.contract import Answer, Batch, Loss, StorySpec, Trace
from hardattn.estimators import Baseline, baseline_loss, baseline_of, score_function
from hardattn.noise import fork, uniform


@dataclass(frozen=True)
class MemoryNetworkConfig:
    """The model and its training signal. The defaults are the published model, as it was trained on all tasks together."""

    hops: int = 3
    """How often the memory is read."""
    width: int = 50
    """Units of every embedding (the paper's d): 50 for all tasks together, 20 for one."""
    tying: Literal["adjacent", "layer-wise"] = "adjacent"
    """Which tables are one. adjacent: the values of a hop are the keys of the next, the question is embedded as the first keys are, and answers
    as the last values. layer-wise: all hops have the same keys and the same values, and a matrix H between them (Section 2.2)."""
    rectified: bool = False
    """Whether the state is rectified after every hop (the appendix, for 10,000 questions, together with width 100)."""
    position: Literal["code", "paper", "none"] = "code"
    """How the order of words counts: weights as in the authors' program, as in Section 4.1, or not at all (a bag of words)."""
    random_noise: float = 0.1
    """In training, up to so many empty memories per sentence are put between the sentences, at random (Section 4.1, "RN")."""
    linear_start: float = 0.0
    """The part of the training in which the memory is read without a softmax (Section 4.1, "LS")."""
    soft_start: float = 0.0
    """The part of the training, after the linear start, in which hard hops are still soft."""
    access: Literal["soft", "sampled", "straight-through", "gumbel"] = "soft"
    """How a hop reads in training (see `hardattn.attention.Access`)."""
    rollouts: int = 1
    """Ways through the story that are drawn for every question."""
    baseline: Baseline = "learned"
    """What is subtracted from the reward of drawn hops (access "sampled")."""
    reward: Literal["correct", "log-likelihood"] = "log-likelihood"
    """What drawn hops are rewarded with."""
    entropy_bonus: float = 0.0
    """Reward for hops that are undecided, per nat."""

    def __post_init__(self) -> None:
        literals(self)
        at_least_one(self, "hops", "width", "rollouts")
        at_least_zero(self, "random_noise", "linear_start", "soft_start", "entropy_bonus")
        if self.linear_start + self.soft_start > 1:
            raise ValueError(
                f"linear_start and soft_start are parts of the training: expected a sum of at most 1, found "
                f"{self.linear_start} + {self.soft_start}"
            )
        if self.access == "sampled" and self.baseline == "leave-one-out" and self.rollouts < 2:
            raise ValueError(
                f"baseline leave-one-out compares rollouts of a story: it needs rollouts >= 2, found {self.rollouts}"
            )
        if self.access == "soft" and self.rollouts > 1:
            raise ValueError(f"soft hops draw nothing: they need rollouts 1, found {self.rollouts}")

    def build(self, spec: StorySpec) -> "MemoryNetwork":
        return MemoryNetwork(spec, self)


class Hops(NamedTuple):
    """What happened. Rollouts m share a story."""

    logits: Float[Tensor, "b m v"]
    """Of the answer."""
    states: Float[Tensor, "t b m d"]
    """The question before every hop (the paper's u)."""
    scores: Float[Tensor, "t b m n"]
    weights: Float[Tensor, "t b m n"]
    log_prob: Float[Tensor, "t b m"]
    """Of the slots that were chosen; 0 where none was."""


class Expected(nn.Module):
    """One number whatever the question: the baseline "constant"."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, states: Float[Tensor, "*r d"]) -> Float[Tensor, "*r 1"]:
        return self.value.expand(*states.shape[:-1], 1)


class MemoryNetwork(nn.Module):
    """See the module. Letters in the code are the paper's: u the question, m and c a hop's keys and values, o what it reads."""

    separate = ("baseline",)

    def __init__(self, spec: StorySpec, config: MemoryNetworkConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.progress = 1.0
        adjacent = config.tying == "adjacent"
        self.words = len(spec.vocabulary) - 1 + spec.sentences
        """Rows of a table: the words but the empty one, and a word for every distance in time."""
        self.tables = nn.Parameter(torch.randn(config.hops + 1 if adjacent else 2, self.words, config.width) * 0.1)
        """adjacent: A^1 = B, A^2 = C^1, ..., C^K = W^T. layer-wise: A, C."""
        self.query = None if adjacent else nn.Parameter(torch.randn(len(spec.vocabulary) - 1, config.width) * 0.1)
        self.output = None if adjacent else nn.Parameter(torch.randn(len(spec.vocabulary) - 1, config.width) * 0.1)
        self.between = None if adjacent else nn.Parameter(torch.randn(config.width, config.width) * 0.1)
        self.baseline: nn.Module | None = None
        if config.access == "sampled" and config.baseline in ("learned", "constant"):
            self.baseline = nn.Linear(config.width, 1) if config.baseline == "learned" else Expected()

    @property
    def hows(self) -> tuple[str, ...]:
        return ("soft", "argmax", "uniform") if self.config.access == "soft" else ("argmax", "sampled", "soft", "uniform")

    def at(self, progress: float) -> None:
        """Training has come so far, from 0 to 1: how `loss` reads depends on it. `answer` reads as a trained network does, always."""
        self.progress = progress

    def forward(self, batch: Batch) -> Loss:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy of the answer; of drawn hops, REINFORCE and the regression of its baseline too."""
        config, question, target = self.config, batch.question, batch.target
        how = self._phase()
        m = config.rollouts if how == config.access else 1
        hops = self.read(question, how, rollouts=m, key=question.key, noisy=True)
        log_likelihood, correct = _judge(hops.logits, target)
        nll = -log_likelihood.mean()
        log_weights = self._masked(hops.scores, question).log_softmax(-1)
        entropy = -(log_weights.exp() * log_weights).sum(-1).mean()  # `entr` has no finite gradient where the weight is 0
        terms = {"nll": nll, "error": 100 * (1 - correct.mean()), "entropy": entropy}  # of the hops in nats
        total = nll - config.entropy_bonus * entropy if config.entropy_bonus else nll
        reward = (correct if config.reward == "correct" else log_likelihood).detach()
        returns = reward.T.expand(config.hops, -1, -1)
        learned = None
        if self.baseline is not None:  # it learns from soft hops too, and is ready when they become hard
            learned = _time_first(self.baseline(hops.states.detach()).squeeze(-1))
            terms["baseline"] = baseline_loss(learned, returns)
            total = total + terms["baseline"]
        if how == "sampled":
            greedy = self._greedy(batch).expand(config.hops, -1) if config.baseline == "self-critical" else None
            subtracted = baseline_of(config.baseline, returns, learned=learned, greedy=greedy)
            reinforce = score_function(_time_first(hops.log_prob), returns, subtracted)
            total = total + reinforce
            terms |= {"reward": reward.mean(), "reinforce": reinforce}
            terms["advantage"] = (returns - subtracted).square().mean().sqrt()
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """Read every story and answer in one word.

        Args:
            question: with `sentences` [b, n, j], most recent first, a `query` [b, j] and a `key` [b].
            how: the usual way if not given, or "soft" (every hop reads the mean of all slots under its weights), "argmax" (the likeliest slot),
                "sampled" (one draw), or the control "uniform" (all sentences alike at every hop).
            seed: of the noise of "sampled".

        Returns:
            Log-probabilities [b, v] of the vocabulary's words, and a trace: `weights` [b, hops, n] of the slots.

        Raises:
            ValueError: if `how` is unknown.
        """
        how = way(how, self.hows)
        hops = self.read(question, how, key=fork(question.key, f"answer {seed}"))
        weights = hops.weights[:, :, 0].transpose(0, 1)
        slots = question.sentences.any(-1).sum(-1).to(weights) * self.config.hops
        read = slots if how in ("soft", "uniform") else torch.full_like(slots, self.config.hops)
        scores = None if how == "uniform" else slots
        return Answer(hops.logits[:, 0].log_softmax(-1), Trace(weights=weights, scores=scores, reads=read * self.config.width))

    def read(
        self,
        question: Any,
        how: str,
        *,
        rollouts: int = 1,
        key: Int[Tensor, " b"],
        noisy: bool = False,
    ) -> Hops:
        """All hops.

        Args:
            question: as for `answer`.
            how: a way of `hardattn.attention.Access`, or "linear" (scores are the weights) or "uniform".
            rollouts: ways through each story.
            key: of the noise of hops that are drawn, and of the empty memories.
            noisy: put empty memories between the sentences.
        """
        config = self.config
        u, memory = self.embed(question, self._ages(question.sentences, key) if noisy else None)
        u = u[:, None].expand(-1, rollouts, -1)
        b, n = memory.shape[:2]
        slots = memory.unbind(2)
        chances = None
        if how in ("sampled", "straight-through", "gumbel"):
            chances = uniform(fork(key, "hops"), config.hops * rollouts * n).view(b, config.hops, rollouts, n).transpose(0, 1)
        states, scores, weights, log_probs = [], [], [], []
        for hop in range(config.hops):
            # Section 2.2. Adjacent: the values of a hop are the keys of the next.
            m, c = slots if self.between is not None else slots[hop : hop + 2]
            score = u @ m.transpose(1, 2)
            score = score.to(torch.promote_types(score.dtype, torch.float32))
            weight, log_prob = self._weigh(score, how, question, None if chances is None else chances[hop])
            states.append(u)
            scores.append(score)
            weights.append(weight)
            log_probs.append(log_prob)
            u = (u if self.between is None else u @ self.between.T) + weight.to(c) @ c
            u = u.relu() if config.rectified else u
        answers = self.tables[-1, : len(self.spec.vocabulary) - 1] if self.output is None else self.output
        logits = F.pad(u @ answers.T, (1, 0))  # the empty word's embedding is zero
        return Hops(logits, *(torch.stack(x) for x in (states, scores, weights, log_probs)))

    def _weigh(
        self, score: Float[Tensor, "b m n"], how: str, question: Any, noise: Float[Tensor, "b m n"] | None
    ) -> tuple[Float[Tensor, "b m n"], Float[Tensor, "b m"]]:
        if how == "linear":
            return score, score.new_zeros(score.shape[:-1])
        if how == "soft":
            return choose(score, "soft")  # empty slots take part, as in the paper: they score 0 and read 0
        if how == "uniform":
            return choose(self._masked(torch.zeros_like(score), question), "soft")
        access: Access = how  # type: ignore[assignment]
        return choose(self._masked(score, question), access, noise)

    def embed(
        self, question: Any, ages: Int[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n tables d"]]:
        """The question, and every slot with every table (Section 4.1).

        Args:
            question: as for `answer`.
            ages: which word of time every slot gets; the slot's number if not given. Empty slots are zero and get none.
        """
        sentences, d = question.sentences, self.config.width
        there = sentences.any(-1)
        if ages is None:
            ages = torch.arange(there.shape[1], device=there.device).expand(there.shape)
        timed = F.pad(sentences[there], (0, 1))
        timed[:, -1] = len(self.spec.vocabulary) + ages[there]
        ramp = torch.arange(1, d + 1, device=timed.device, dtype=self.tables.dtype) / d
        table = self.tables.transpose(0, 1)
        flat = self.bags(timed) @ torch.cat([table, table * ramp]).flatten(1)
        memory = flat.new_zeros(*there.shape, len(self.tables), d)
        memory[there] = flat.view(-1, len(self.tables), d)
        asked = self.tables[0] if self.query is None else F.pad(self.query, (0, 0, 0, self.spec.sentences))
        return self.bags(F.pad(question.query, (0, 1))) @ torch.cat([asked, asked * ramp]), memory

    def bags(self, sentences: Int[Tensor, "s j"]) -> Float[Tensor, "s words"]:
        """Bags of words weighted by a_j, and beside them by b_j: the two terms of the position encoding, [s, 2 * words]."""
        a, b = position_weights(self.config.position, sentences, self.config.width)
        bags = self.tables.new_zeros(len(sentences), 2, self.words + 1)
        bags.scatter_add_(2, sentences[:, None].expand(-1, 2, -1), torch.stack([a, b], 1).to(bags))
        return bags[:, :, 1:].flatten(1)

    def _ages(self, sentences: Int[Tensor, "b n j"], key: Int[Tensor, " b"]) -> Int[Tensor, "b n"] | None:
        """Random noise: sentences are spread over more places than there are, and those that fall out of the memory get the last word of time."""
        n = sentences.shape[1]
        if not self.config.random_noise:
            return None
        key = fork(key, "empty memories")
        filled = sentences.any(-1).sum(-1, keepdim=True)
        most = (filled * self.config.random_noise).ceil().long()
        empty = (uniform(fork(key, "count"), 1) * (most + 1)).long()
        place = torch.arange(n + int(most.max()), device=key.device)
        draws = uniform(key, len(place)).masked_fill(place >= filled + empty, 2.0)
        # The places of the smallest draws, as many as there are sentences: a random subset, put in order.
        taken = draws.argsort(-1).argsort(-1) < filled
        return torch.where(taken, place, len(place)).sort(-1).values[:, :n].clamp(max=n - 1)

    def _masked(self, scores: Float[Tensor, "*t b m n"], question: Any) -> Float[Tensor, "*t b m n"]:
        """An empty slot cannot be chosen."""
        return scores.masked_fill(~question.sentences.any(-1)[:, None], torch.finfo(scores.dtype).min)

    def _phase(self) -> str:
        if self.progress < self.config.linear_start:
            return "linear"
        return "soft" if self.progress < self.config.linear_start + self.config.soft_start else self.config.access

    @torch.no_grad()
    def _greedy(self, batch: Batch) -> Float[Tensor, " b"]:
        log_likelihood, correct = _judge(
            self.read(batch.question, "argmax", key=batch.question.key, noisy=True).logits, batch.target
        )
        return (correct if self.config.reward == "correct" else log_likelihood)[:, 0]


def position_weights(
    kind: Literal["code", "paper", "none"], sentences: Int[Tensor, "s j"], width: int
) -> tuple[Float[Tensor, "s j"], Float[Tensor, "s j"]]:
    """a_j and b_j of the weight l_kj = a_j + (k / d) b_j of word j in unit k of d, both counted from 1 (Section 4.1).

    code   l = 1 + 4 (k - (d + 1) / 2) (j - (J + 1) / 2) / (d J), J being the length that all sentences are filled up to, the word of time the
           last; it is about twice as steep as the paper's
    paper  l = (1 - j / J) - (k / d) (1 - 2 j / J), J being the sentence's own length; the word of time has weight 1
    none   l = 1

    Args:
        kind: of the weights.
        sentences: filled up with 0; the last place is that of the word of time.
        width: of the embedding (d).
    """
    places = sentences.shape[1]
    j = torch.arange(1, places + 1, device=sentences.device, dtype=torch.float64).expand(sentences.shape)
    if kind == "code":
        away = (j - (places + 1) / 2) / places
        return 1 - 2 * (1 + 1 / width) * away, 4 * away
    if kind == "none":
        return torch.ones_like(j), torch.zeros_like(j)
    part = j / (sentences[:, :-1] != 0).sum(-1, keepdim=True).clamp(min=1)
    a, b = 1 - part, 2 * part - 1
    a[:, -1], b[:, -1] = 1, 0
    return a, b


def _judge(logits: Float[Tensor, "b m v"], target: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m"]]:
    """Log-likelihood of the target, and 1 where it is the likeliest word."""
    each = target[:, None].expand(logits.shape[:-1])
    log_likelihood = -F.cross_entropy(logits.flatten(0, 1), each.flatten(), reduction="none").view_as(each)
    return log_likelihood, (logits.argmax(-1) == each).to(logits.dtype)


def _time_first(x: Float[Tensor, "t b m"]) -> Float[Tensor, "t m b"]:
    return x.transpose(1, 2)
