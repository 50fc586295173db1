"""A controller with a memory tape whose heads move by decisions, and the way back through it by hand: the machine of `agents.rl_ntm`.

Where the heads went is a constant to the gradient. So the forward pass goes step by step without autograd (`Walk`), and the backward pass walks back through
the states and the cells of the memory only: every other product is taken over all steps at once, and the memory is there once, where autograd
makes a new one at every step. It computes the gradient that autograd would (a test compares them).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardattn.lstm_chain import LSTM


class Weights(NamedTuple):
    """The parameters in the order of the forward pass."""

    table: Float[Tensor, "rows g"]
    """What everything that is named by a number adds to the gates: symbols around the input's head, each at its place, and the last moves."""
    memory: Float[Tensor, "g window"]
    """Weights from the memory's window to the gates."""
    bias: Float[Tensor, " g"]
    recurrent: Float[Tensor, "g d"]
    says: Float[Tensor, "s d"]
    """Makes, of the LSTM's output, what the controller says."""
    says_bias: Float[Tensor, " s"]
    vectors: Float[Tensor, "symbols depth"]
    """Of the symbols, for direct access."""


class Walk:
    """Episodes in the making, with all that the way back needs, in tensors that hold all steps.

    What the controller, an LSTM, says has parts: the logits of the "moves" and of the next "symbols", and how the memory's window m changes: it
    becomes keep * m + add, "keep" squashed by a sigmoid and "add" by tanh. With direct access, where x are the vectors of the symbols around the
    input's head, to add comes ["tape to memory"] x, and to the next symbols ["memory to symbols"] of the new window and ["tape to symbols"] x;
    these gates are squashed by a sigmoid, too.

    Args:
        weights: of the controller.
        sizes: of the parts, in their order.
        window: symbols, and cells of the memory, around a head.
        steps: of an episode.
        count: of episodes.
    """

    def __init__(self, weights: Weights, sizes: Mapping[str, int], window: int, steps: int, count: int) -> None:
        w, n = weights, window
        self.weights, self.sizes = weights, sizes
        self.tape: Int[Tensor, "t b n"]
        """Symbols around the input's head."""
        self.place: Int[Tensor, "t b n"]
        """Cells of the memory around its head."""
        self.tape, self.place = torch.zeros(2, steps, count, n, dtype=torch.long, device=w.says.device)
        self.memory: Float[Tensor, "t b window"] = w.says.new_empty(steps, count, w.memory.shape[1])
        """What these cells held."""
        self.written: Float[Tensor, "t b n depth"] = torch.empty_like(self.memory).unflatten(2, (n, -1))
        """What they were made to hold."""
        self.gates, self.hidden = (w.says.new_zeros(t, count, d) for t, d in zip((steps, steps + 1), w.recurrent.shape))
        self.said, self.predicted = (w.says.new_empty(steps, count, k) for k in (len(w.says), sizes["symbols"]))
        self.rows: list[Int[Tensor, "b rows"]] = []
        """Of the table."""
        self._says = {part: x.unbind() for part, x in self.parts(self.said).items()}
        self.lstm = LSTM(self.gates, self.hidden[1:], self.hidden[0])

    @property
    def direct(self) -> bool:
        return "tape to memory" in self.sizes

    def parts(self, said: Float[Tensor, "t b s"]) -> dict[str, Tensor]:
        """What the controller says, or its gradient, by its parts."""
        return dict(zip(self.sizes, said.split(list(self.sizes.values()), 2)))

    def step(
        self,
        tape: Int[Tensor, "b n"],
        place: Int[Tensor, "b n"],
        memory: Float[Tensor, "b n depth"],
        rows: Int[Tensor, "b rows"],
    ) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b symbols"], Float[Tensor, "b n depth"], Float[Tensor, "b n depth"]]:
        """Take the next step.

        Args:
            tape: the symbols around the input's head.
            place: which cells are around the memory's.
            memory: what these hold.
            rows: of the table, which add to the gates.

        Returns:
            The logits of the moves and of the next symbols, what the window keeps, and what is added to it.
        """
        t, w = len(self.rows), self.weights
        self.rows.append(rows)
        self.tape[t], self.place[t], self.memory[t] = tape, place, memory.flatten(1)
        sums = torch.addmm(w.bias, self.memory[t], w.memory.t(), out=self.gates[t])
        sums.addmm_(self.hidden[t], w.recurrent.t()).add_(F.embedding_bag(rows, w.table, mode="sum"))
        self.lstm.step(t)
        torch.addmm(w.says_bias, self.hidden[t + 1], w.says.t(), out=self.said[t])
        says = {part: x[t] for part, x in self._says.items()}
        keep, add = says["keep"].sigmoid_().view_as(memory), says["add"].tanh_().view_as(memory)
        predicted = self.predicted[t].copy_(says["symbols"])
        x = F.embedding(tape, w.vectors) if self.direct else None
        if x is not None:
            add = torch.baddbmm(add, says["tape to memory"].sigmoid_().view(*tape.shape, -1), x)
        torch.addcmul(add, keep, self.memory[t].view_as(memory), out=self.written[t])
        if x is not None:  # The prediction is made of what the memory holds after the write.
            for gate, what in (("memory to symbols", self.written[t]), ("tape to symbols", x)):
                predicted += (says[gate].sigmoid_()[:, None] @ what)[:, 0]
        return says["moves"], predicted, keep, add

    def differentiable(self) -> tuple[Float[Tensor, "t b m"], Float[Tensor, "t b symbols"]]:
        """After the last step: the logits of all moves and of the next symbols, with their gradient in the weights. What was read from the input's
        tape, and where the heads went, are constants."""
        found: Any = _Chain.apply(self, *self.weights)
        return found


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, walk: Walk, *weights: Tensor) -> tuple[Tensor, Tensor]:
        ctx.walk = walk  # neither an input nor an output
        ctx.save_for_backward(*weights)
        return walk.parts(walk.said)["moves"].clone(), walk.predicted.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_logits: Tensor, d_predicted: Tensor) -> tuple[Tensor | None, ...]:
        walk, w = ctx.walk, Weights(*ctx.saved_tensors)
        d_said, d_sums, d_symbols = _walk_back(walk, w, d_logits, d_predicted)
        said, sums = d_said.flatten(0, 1), d_sums.flatten(0, 1)
        rows = torch.cat(walk.rows)
        counts = sums.new_zeros(len(rows), len(w.table)).scatter_add_(1, rows, torch.ones_like(rows, dtype=sums.dtype))
        return (
            *(None, counts.t() @ sums),
            *(sums.t() @ walk.memory.flatten(0, 1), sums.sum(0), sums.t() @ walk.hidden[:-1].flatten(0, 1)),
            *(said.t() @ walk.hidden[1:].flatten(0, 1), said.sum(0)),
            torch.ops.aten.embedding_dense_backward(d_symbols, walk.tape, len(w.vectors), -1, False) if walk.direct else None,
        )


def _walk_back(walk: Walk, w: Weights, d_logits: Tensor, d_predicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in what the controller said, in what was added up for its gates, and, with direct access, in the symbols' vectors."""
    d_said, d_written, d_symbols = torch.empty_like(walk.said), torch.zeros_like(walk.written), d_logits[..., :0]
    steps, count, n, depth = d_written.shape
    of, d_of = walk.parts(walk.said), walk.parts(d_said)
    d_of["moves"].copy_(d_logits)
    d_of["symbols"].copy_(d_predicted)
    memory, keep, add = (x.unflatten(2, (n, depth)) for x in (walk.memory, of["keep"], of["add"]))
    slope_keep, slope_add = torch.ops.aten.sigmoid_backward(memory, keep).unbind(), (1 - add * add).unbind()
    d_keep, d_add = (d_of[part].unflatten(2, (n, depth)).unbind() for part in ("keep", "add"))
    if walk.direct:
        symbols, between = F.embedding(walk.tape, w.vectors), of["tape to memory"].unflatten(2, (n, n))
        d_symbols = torch.empty_like(symbols)
        for gate, what, d_what in (("memory to symbols", walk.written, d_written), ("tape to symbols", symbols, d_symbols)):
            d_gate = (what @ d_predicted[..., None])[..., 0]
            d_of[gate].copy_(torch.ops.aten.sigmoid_backward(d_gate, of[gate]))
            torch.mul(of[gate][..., None], d_predicted[:, :, None], out=d_what)
        slope_between, d_between = (between * (1 - between)).unbind(), d_of["tape to memory"].unflatten(2, (n, n)).unbind()
        symbols_t = symbols.transpose(2, 3).unbind()
    # The memory's cells, all in one row, and where in it the windows lie; in `d_memory` is the gradient in the cells after the step in hand.
    cells = int(walk.place.max()) + 1
    first = torch.arange(count, device=d_said.device)[:, None] * cells
    places, d_memory = (walk.place + first).flatten(1).view(steps, -1).unbind(), d_said.new_zeros(count * cells, depth)
    d_sums = walk.lstm.turn_round()
    kept, d_new, d_says, d_sum = (x.unbind() for x in (keep, d_written, d_said, d_sums))
    for t in range(steps - 1, -1, -1):
        d_new[t].add_(d_memory.index_select(0, places[t]).view_as(d_new[t]))
        torch.mul(slope_keep[t], d_new[t], out=d_keep[t])
        torch.mul(slope_add[t], d_new[t], out=d_add[t])
        if walk.direct:
            torch.mul(slope_between[t], d_new[t] @ symbols_t[t], out=d_between[t])
        d_hidden = d_says[t] @ w.says
        if t + 1 < steps:
            d_hidden.addmm_(d_sum[t + 1], w.recurrent)
        walk.lstm.step_back(t, d_hidden)
        d_read = torch.addcmul((d_sum[t] @ w.memory).view_as(kept[t]), d_new[t], kept[t])
        d_memory.index_copy_(0, places[t], d_read.view(-1, depth))
    if walk.direct:
        d_symbols += between.transpose(2, 3) @ d_written
    return d_said, d_sums, d_symbols
