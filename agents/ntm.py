"""The Neural Turing Machine: a controller with a memory that it reads and writes by attention (Graves, Wayne and Danihelka 2014, arXiv:1410.5401).

At every step the controller is given the input and what was read one step before. From its output come the parameters of the heads, which
address the memory by content and by place (`hardattn.addressing`); they read it, and then write it. The output is made of the controller's
and of what was just read. As in the paper's counts, one head is a head that reads and a head that writes.

The paper leaves open how to start and how to keep it stable. From Collier and Beel 2018, "Implementing Neural Turing Machines" (ICANN): the memory
starts at a small constant, the first weightings, the first reads and the controller's first state are learned, keys and additions go through
tanh, and the parameters of the heads and the logits stay within 20 of zero. Not from there: the first weightings begin on one row, and the forget gates open.

`access` says whether a head takes the weighting as it is (the paper's), or draws one row from it and reads or writes that row alone. A drawn
weighting is also what the next step's shift starts from, so that the machine has a tape and a head on it. Drawn rows need an estimator: see `NTMConfig.access`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hardattn.arrays import compiles
from hardattn.attention import Access, choose
from hardattn.checks import at_least_one, at_least_zero, literals, way
from hardattn.contract import Answer, Batch, Loss, SequenceSpec, Trace
from hardattn.estimators import baseline_loss, baseline_of, returns_to_go, score_function
from hardattn.heads import BOUND, numbers, turn, use
from hardattn.memory_chain import State, all_steps
from hardattn.noise import fork, uniform


@dataclass(frozen=True)
class NTMConfig:
    """The machine and its training signal; the sizes are the paper's for copying (Tables 1 and 2)."""

    controller: Literal["lstm", "feed-forward"] = "lstm"
    """With a memory of its own, or with the machine's alone."""
    hidden: int = 100
    """Units of a layer of the controller."""
    layers: int = 1
    """Of the controller."""
    heads: int = 1
    """Each reads and writes once at every step."""
    rows: int = 128
    """Places in the memory."""
    columns: int = 20
    """Numbers in a row."""
    memory: Literal["constant", "learned"] = "constant"
    """What every sequence begins with: the same small number everywhere, or numbers that are learned and tell the rows apart, so that a head
    can go to a place by what is there before anything was written."""
    constant: float = 1e-6
    """Every number of a constant memory before the first step. A cosine is the steeper the shorter a row is: with rows that are drawn, and
    the gradient of all ("straight-through"), it explodes from 1e-6, and not from 0.1."""
    shifts: int = 1
    """A head moves by so many rows at most, up or down."""
    access: Literal["soft", "sampled", "straight-through"] = "soft"
    """What a head does with its weighting: take all rows by their weights; draw one row, with the gradient of REINFORCE; or draw one row, with
    the gradient that all rows would have had, which needs a `constant` of 0.1 or a learned memory."""
    baseline: Literal["learned", "batch-mean", "leave-one-out", "none"] = "batch-mean"
    """Of REINFORCE; see `hardattn.estimators.Baseline`."""
    rollouts: int = 1
    """How often every sequence of a batch is gone through with other draws; for access "sampled"."""
    policy_weight: float = 1.0
    """Of REINFORCE in the loss. At 1 the mean gradient is that of the expected cross-entropy."""

    def __post_init__(self) -> None:
        at_least_one(self, "hidden", "layers", "heads", "rows", "columns", "rollouts")
        at_least_zero(self, "shifts", "policy_weight", "constant")
        literals(self)
        if self.rollouts > 1 and self.access != "sampled":
            raise ValueError(f'rollouts are for access "sampled", found {self.rollouts} with {self.access!r}')
        if self.access == "sampled" and self.baseline == "leave-one-out" and self.rollouts < 2:
            raise ValueError("leave-one-out compares rollouts of one sequence: it needs at least 2 of them, found 1")

    def build(self, spec: SequenceSpec) -> "NTM":
        return NTM(spec, self)


class Unrolled(NamedTuple):
    """What happened at every step, time first."""

    logits: Float[Tensor, "t b o"]
    weights: Float[Tensor, "t heads b n"]
    log_prob: Float[Tensor, "t b"]
    """Of the rows drawn, over all heads; 0 where none are drawn."""
    hidden: Float[Tensor, "t b d"]


class NTM(nn.Module):
    """See the module. Letters in the code are the paper's."""

    def __init__(self, spec: SequenceSpec, config: NTMConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        d, h, n, m = config.hidden, config.heads, config.rows, config.columns
        gates = 4 if config.controller == "lstm" else 1
        self.input = nn.Linear(spec.inputs, gates * d)
        # What a layer is given besides: the reads and, of an LSTM, its own last output.
        back = d if config.controller == "lstm" else 0
        lowest = nn.Linear(h * m + back, gates * d, bias=False)
        upper = [nn.Linear(d + back, gates * d) for _ in range(config.layers - 1)]
        self.core = nn.ModuleList([lowest, *upper])
        self.heads = nn.Linear(d, numbers(h, m, config.shifts))
        self.output = nn.Linear(d + h * m, spec.outputs)
        self.baseline = nn.Linear(d, 1) if config.access == "sampled" and config.baseline == "learned" else None
        self.first_h = nn.Parameter(torch.zeros(config.layers, d)) if config.controller == "lstm" else None
        self.first_c = nn.Parameter(torch.zeros(config.layers, d)) if config.controller == "lstm" else None
        self.first_reads = nn.Parameter(torch.randn(h * m) * 0.1)
        self.first_memory = nn.Parameter(torch.randn(m, n) * 0.5) if config.memory == "learned" else None
        # Half of every weighting is on row 0. All rows of the memory are alike at first: from equal weights a head could not tell them apart, and
        # from one row it can count.
        self.first_weights = nn.Parameter(torch.randn(2 * h, n) * 0.1)
        with torch.no_grad():
            self.first_weights[:, 0] += math.log(n)
            if config.controller == "lstm":  # what is remembered is not forgotten at once
                for layer in (self.input, *upper):
                    layer.bias[d : 2 * d] += 1.0

    @property
    def separate(self) -> tuple[str, ...]:
        return ("baseline",) if self.baseline is not None else ()

    @property
    def hows(self) -> tuple[str, ...]:
        return ("soft", "argmax") if self.config.access == "soft" else ("argmax", "sampled")

    def forward(self, batch: Batch) -> Loss:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy in nats, summed over the outputs that count, mean over the sequences; and REINFORCE where rows are drawn.

        The reward of a draw is the log-likelihood of all outputs from its step on. As cross-entropy and reward are the same number, the whole is
        an unbiased gradient of the expected cross-entropy, through the memory as well.
        """
        config, question = self.config, batch.question
        copies = config.rollouts
        input, target, counts = (x.repeat(copies, *[1] * (x.ndim - 1)) for x in (question.input, batch.target, batch.notes))
        noise = None if config.access == "soft" else self._noise(question, "train", copies)
        found = self.unroll(input, config.access, noise)
        target, counts = target.transpose(0, 1), counts.t()[..., None]
        each = F.binary_cross_entropy_with_logits(found.logits, target.to(found.logits.dtype), reduction="none") * counts
        nll = each.sum((0, 2)).mean()
        wrong = (((found.logits > 0) != (target > 0.5)) & counts).any(2).any(0)
        terms = {"bits": nll / math.log(2), "error": 100 * wrong.to(nll.dtype).mean()}
        total = nll
        if config.access == "sampled":
            rollouts = (copies, len(batch.target))
            returns = returns_to_go(-each.detach().sum(2)).unflatten(1, rollouts)
            learned = (
                self.baseline(found.hidden.detach()).squeeze(-1).unflatten(1, rollouts) if self.baseline is not None else None
            )
            baseline = baseline_of(config.baseline, returns, learned=learned)
            policy = score_function(found.log_prob.unflatten(1, rollouts), returns, baseline)
            total = total + config.policy_weight * policy
            if learned is not None:
                total = total + baseline_loss(learned, returns)
        if config.access != "soft":
            terms["confidence"] = found.log_prob.mean() / (2 * config.heads)  # log-probability of a draw, in nats
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def answer(self, question: Any, how: str | None = None, seed: int = 0) -> Answer:
        """Go through every sequence.

        Args:
            question: with an `input` [b, t, c], and a `key` [b] for "sampled"; nothing else of it is used.
            how: "soft" (all rows by their weights), "argmax" (the likeliest row) or "sampled" (a drawn row), as the agent's `hows` say.
            seed: of the draws.

        Returns:
            Logits [b, t, o], and a trace: `weights` and `writes` [b, t, heads, n], as they were used.

        Raises:
            ValueError: if `how` is unknown.
        """
        how = way(how, self.hows)
        access: Access = "soft" if how == "soft" else "argmax" if how == "argmax" else "sampled"
        found = self.unroll(question.input, access, self._noise(question, f"answer {seed}", 1) if how == "sampled" else None)
        reads, writes = found.weights.permute(2, 0, 1, 3).chunk(2, dim=2)
        places = reads[0].numel()
        values = self.config.columns * (places if how == "soft" else places // self.config.rows)
        trace = Trace(
            weights=reads,
            writes=writes,
            scores=found.logits.new_full((len(reads),), 2 * places),
            reads=found.logits.new_full((len(reads),), values),
        )
        return Answer(found.logits.transpose(0, 1), trace)

    def start(self, count: int) -> State:
        """The state before the first step, of `count` sequences."""
        config = self.config
        nothing = self.first_reads.new_zeros(config.layers, 0)
        h, c = (x.tanh() if x is not None else nothing for x in (self.first_h, self.first_c))
        constant = self.first_reads.new_full((count, config.columns, config.rows), config.constant)
        return State(
            constant if self.first_memory is None else self.first_memory.tanh().expand(count, -1, -1),
            self.first_weights.softmax(-1)[:, None].expand(-1, count, -1),
            self.first_reads.tanh().expand(count, -1),
            h[:, None].expand(-1, count, -1),
            c[:, None].expand(-1, count, -1),
        )

    def step(
        self,
        input: Float[Tensor, "b c"],
        state: State,
        access: Access = "soft",
        noise: Float[Tensor, "heads b n"] | None = None,
    ) -> tuple[Float[Tensor, "b o"], State, Float[Tensor, " b"]]:
        """One step, for who has the input one at a time: logits, the next state, and the log-probability of the rows drawn."""
        state, log_prob, hidden = self._advance(self.input(input), state, access, noise)
        return self._output(hidden, state.reads), state, log_prob

    def unroll(
        self, input: Float[Tensor, "b t c"], access: Access = "soft", noise: Float[Tensor, "t heads b n"] | None = None
    ) -> Unrolled:
        """All steps. What does not depend on the state is computed for all of them at once.

        Args:
            input: at every step.
            access: how the heads use their weightings (see `hardattn.attention.Access`).
            noise: uniform in (0, 1), for the ways that draw.
        """
        projected = self.input(input.transpose(0, 1).to(self.input.weight.dtype))
        if access == "soft" and compiles(projected):
            core: Any = [(layer.weight, layer.bias) for layer in self.core]
            said = self.heads.weight, self.heads.bias
            hidden, reads, weights = all_steps(projected, self.start(len(input)), said, core)
            return Unrolled(self._output(hidden, reads), weights, hidden.new_zeros(hidden.shape[:2]), hidden)
        state, states, drawn, hiddens = self.start(len(input)), [], [], []
        for t, given in enumerate(projected.unbind(0)):
            state, log_prob, hidden = self._advance(given, state, access, None if noise is None else noise[t])
            states.append(state)
            drawn.append(log_prob)
            hiddens.append(hidden)
        hidden = torch.stack(hiddens)
        logits = self._output(hidden, torch.stack([state.reads for state in states]))
        return Unrolled(logits, torch.stack([state.weights for state in states]), torch.stack(drawn), hidden)

    def _output(self, hidden: Float[Tensor, "*t b d"], reads: Float[Tensor, "*t b r"]) -> Float[Tensor, "*t b o"]:
        return self.output(torch.cat([hidden, reads], -1)).clamp(-BOUND, BOUND)

    def _advance(
        self, given: Float[Tensor, "b g"], state: State, access: Access, noise: Float[Tensor, "heads b n"] | None
    ) -> tuple[State, Float[Tensor, " b"], Float[Tensor, "b d"]]:
        """From the projected input to the next state, the log-probability of the rows drawn, and the controller's output."""
        memory = state.memory
        hidden, h, c = self._control(given, state)

        said = self.heads(hidden).to(memory.dtype)  # mixed precision hands out a coarser one
        w = turn(said, memory, state.weights)
        if access == "soft":
            log_prob = w.new_zeros(len(given))
        else:
            w, chosen = choose(w.clamp(min=torch.finfo(w.dtype).tiny).log(), access, noise)
            w, log_prob = w.to(memory.dtype), chosen.sum(0)

        reads, memory = use(said, memory, w)
        return State(memory, w, reads, h, c), log_prob, hidden

    def _control(self, given: Float[Tensor, "b g"], state: State) -> tuple[Tensor, Tensor, Tensor]:
        """(output, states h, states c) of the controller."""
        if self.config.controller == "feed-forward":
            hidden = (given + self.core[0](state.reads)).tanh()
            for layer in self.core[1:]:
                hidden = layer(hidden).tanh()
            return hidden, state.h, state.c
        below = state.reads
        hs: list[Tensor] = []
        cs: list[Tensor] = []
        for layer, h, c in zip(self.core, state.h, state.c):
            gates = layer(torch.cat([below, h], -1))
            i, f, z, o = (gates + given if not hs else gates).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * z.tanh()
            below = o.sigmoid() * c.tanh()
            hs.append(below)
            cs.append(c)
        return below, torch.stack(hs), torch.stack(cs)

    def _noise(self, question: Any, stream: str, rollouts: int) -> Float[Tensor, "t heads b n"]:
        """For every draw. Each sequence has its own; rollout i of it is the i-th block."""
        t, heads, n = question.input.shape[1], 2 * self.config.heads, self.config.rows
        noise = uniform(fork(question.key, stream), rollouts * t * heads * n).unflatten(1, (rollouts, t, heads, n))
        return noise.permute(2, 3, 1, 0, 4).flatten(2, 3)
