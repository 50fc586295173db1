"""RL-NTM's tasks: an input tape to read, a memory tape to write and read, and an output tape, each with a head that is moved by decisions.

Zaremba and Sutskever 2015, "Reinforcement Learning Neural Turing Machines" (arXiv:1505.00521v3), Sections 3 to 5 and Table 4. What the heads do is chosen and
trained by reinforcement; what is predicted and what goes into memory are real vectors and trained by back-propagation, which this core lets
through: gradients reach the writes from later reads, and the predictions from the rewards.

An episode has a fixed number of steps. A step reads windows around the heads of input and memory (`observe`), writes to the window of the
memory, scores the prediction if the output head advances, and moves the heads. All tapes are circular.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardattn.checks import at_least_one, at_least_zero, kinds, literals
from hardattn.noise import fork, integers


@dataclass(frozen=True)
class ThreeTapesConfig:
    """One task."""

    task: Literal["copy", "duplicated-input", "reverse", "repeat-copy", "forward-reverse"] = "copy"
    """forward-reverse is reverse, with an input head that cannot go back: the input must be put into the memory."""
    symbols: int = 30
    """Besides the one that ends inputs and outputs."""
    steps: int = 30
    """Of an episode (the authors' code: 44 for repeat-copy)."""
    longest: int = 9
    """Symbols of the longest input, without its end and before anything is repeated."""
    cells: int = 30
    """Of the memory."""
    depth: int | None = None
    """Numbers in a cell. None: one for every symbol and the end, which direct access (Section 4.1 of the paper) needs."""
    around: int = 2
    """A window reaches so many cells to either side of its head."""
    hurried: bool = False
    """Whether a shorter output must be complete after fewer steps, in proportion to its length, and not just at the end."""
    marked: bool = False
    """Whether the memory's first cell holds ones at the beginning (the authors' code) and not zeros (the paper)."""

    def __post_init__(self) -> None:
        literals(self)
        kinds(self)
        at_least_one(self, "symbols", "steps", "longest", "cells")
        at_least_zero(self, "around")
        if self.depth is not None:
            at_least_one(self, "depth")
        if self.task == "repeat-copy" and self.symbols < 4:
            raise ValueError(f"symbols 2 and 3 say how often to repeat, so there must be at least 4; found {self.symbols}")
        if self.cells < 2 * self.around + 1:
            raise ValueError(f"a window must fit the memory, found cells={self.cells} and around={self.around}")
        if self.letters > self.steps:
            raise ValueError(
                f"the longest output has {self.letters} symbols, and there are only {self.steps} steps to write it"
            )

    def stretched(self, longest: int) -> "ThreeTapesConfig":
        """The same task with inputs of up to `longest` symbols, and steps and cells in proportion."""

        def scaled(n: int) -> int:
            return -(-n * longest // self.longest)

        cells = max(scaled(self.cells), 2 * self.around + 1)
        return replace(self, longest=longest, steps=scaled(self.steps), cells=cells)

    @property
    def end(self) -> int:
        """The symbol that ends inputs and outputs."""
        return self.symbols

    @property
    def size(self) -> int:
        """Different symbols, the end included."""
        return self.symbols + 1

    @property
    def top(self) -> int:
        """The greatest complexity: a length, or, of repeat-copy, all lengths twice and then all lengths three times."""
        return self.longest * (2 if self.task == "repeat-copy" else 1)

    @property
    def columns(self) -> int:
        """Cells of the longest input, its end included."""
        return {"duplicated-input": 3 * self.longest, "repeat-copy": self.longest + 1}.get(self.task, self.longest) + 1

    @property
    def letters(self) -> int:
        """Symbols of the longest output, its end included."""
        return (3 * self.longest if self.task == "repeat-copy" else self.longest) + 1


class State(NamedTuple):
    """All that the next step needs."""

    tape: Int[Tensor, "b columns"]
    """The input; the end symbol at its end and beyond."""
    columns: Int[Tensor, " b"]
    """Cells of the input, its end included."""
    target: Int[Tensor, "b letters"]
    """The output as it should be; the end symbol at its end and beyond."""
    letters: Int[Tensor, " b"]
    """Of the target, its end included."""
    head: Int[Tensor, " b"]
    """On the input."""
    memory: Float[Tensor, "b cells depth"]
    finger: Int[Tensor, " b"]
    """The head on the memory."""
    emitted: Int[Tensor, " b"]
    """Symbols scored so far."""
    wrong: Int[Tensor, " b"]
    """How many of them were not thought the most probable."""
    time: Int[Tensor, " b"]
    """Steps taken so far."""
    deadline: Int[Tensor, " b"]
    """After how many steps the output must be complete."""


class Windows(NamedTuple):
    """What a controller reads."""

    tape: Int[Tensor, "b window"]
    """Symbols around the input's head."""
    memory: Float[Tensor, "b window depth"]
    """Cells around the memory's head."""


class Moves(NamedTuple):
    """What the heads do: numbers of choices, or whatever there is one of for every choice."""

    tape: Tensor
    """0 back, 1 stay, 2 forward."""
    memory: Tensor
    """0 back, 1 stay, 2 forward."""
    output: Tensor
    """0 stay, 1 score the prediction and advance."""


class Write(NamedTuple):
    """New cells are keep * old + add."""

    keep: Float[Tensor, "b window depth"]
    add: Float[Tensor, "b window depth"]


class ThreeTapes:
    """The batched core."""

    def __init__(self, config: ThreeTapesConfig) -> None:
        self.config = config
        self.depth = config.size if config.depth is None else config.depth

    def reset(self, key: Int[Tensor, " b"], complexity: Int[Tensor, " b"]) -> State:
        """Begin episodes; the keys decide about the symbols.

        Args:
            key: of the episodes.
            complexity: from 1 to the configuration's `top` (see `envs.tapes.curriculum.Widening`).

        Raises:
            ValueError: if there is no such complexity.
        """
        c = self.config
        if not ((complexity >= 1) & (complexity <= c.top)).all():
            raise ValueError(f"complexity must be from 1 to {c.top}, found {complexity.tolist()}")
        length = (complexity - 1) % c.longest + 1
        times = 2 + (complexity - 1) // c.longest
        return self.begin(length, integers(fork(key, "symbols"), c.longest, c.symbols), times)

    def begin(self, length: Int[Tensor, " b"], symbols: Int[Tensor, "b longest"], times: Int[Tensor, " b"]) -> State:
        """Begin episodes with inputs that are known.

        Args:
            length: of every input, from 1 to the configuration's `longest`, before anything is repeated.
            symbols: the inputs; anything beyond their ends.
            times: how often repeat-copy repeats, 2 or 3.
        """
        c, device = self.config, length.device
        n = length[:, None]
        there, place = torch.arange(c.columns, device=device), torch.arange(c.letters, device=device)
        read, write, columns, letters = there.expand(len(n), -1), place.expand(len(n), -1), length, length
        if c.task == "duplicated-input":
            read, columns = read // 3, 3 * length
        elif c.task == "repeat-copy":
            read, write, columns, letters = read - 1, write % n, length + 1, times * length
        elif c.task != "copy":
            write = n - 1 - write
        tape, target = (symbols.gather(1, i.clamp(0, c.longest - 1)) for i in (read, write))
        if c.task == "repeat-copy":
            tape = torch.where(there == 0, times[:, None], tape)
        nothing = torch.zeros_like(length)
        memory = torch.zeros(len(n), c.cells, self.depth, device=device)
        memory[:, 0] = float(c.marked)
        return State(
            tape=torch.where(there < columns[:, None], tape, c.end),
            columns=columns + 1,
            target=torch.where(place < letters[:, None], target, c.end),
            letters=letters + 1,
            head=nothing,
            memory=memory,
            finger=nothing,
            emitted=nothing,
            wrong=nothing,
            time=nothing,
            deadline=-(-c.steps * (letters + 1) // c.letters) if c.hurried else torch.full_like(length, c.steps),
        )

    def observe(self, state: State) -> Windows:
        """What lies around the heads."""
        offset = torch.arange(-self.config.around, self.config.around + 1, device=state.head.device)
        tape = state.tape.gather(1, (state.head[:, None] + offset) % state.columns[:, None])
        return Windows(tape, state.memory.flatten(0, 1).index_select(0, self._cells(state)).view(*tape.shape, -1))

    def window(self, state: State) -> Int[Tensor, "b window"]:
        """Cells of the memory around its head."""
        offset = torch.arange(-self.config.around, self.config.around + 1, device=state.head.device)
        return (state.finger[:, None] + offset) % self.config.cells

    def wanted(self, state: State) -> Int[Tensor, " b"]:
        """The next symbol of the output as it should be."""
        return state.target.gather(1, state.emitted.clamp(max=self.config.letters - 1)[:, None])[:, 0]

    def allowed(self, state: State) -> Moves:
        """Which choices there are: Bool [b, 3], [b, 3] and [b, 2].

        The output must advance if there would otherwise be too few steps to write all of it, and must not if all of it is written (paper,
        Section 3). All of it must be written by the deadline. The head of forward-reverse cannot go back, nor forward from the end.
        """
        remaining = state.letters - state.emitted
        waits = (remaining < state.deadline - state.time) | (remaining == 0) & (state.time < self.config.steps)
        output = torch.stack([waits, remaining > 0], dim=1)
        free = torch.ones(len(state.head), 3, dtype=torch.bool, device=state.head.device)
        tape = free.clone()
        if self.config.task == "forward-reverse":
            tape[:, 0] = False
            tape[:, 2] = state.head < state.columns - 1
        return Moves(tape, free, output)

    def step(
        self, state: State, moves: Moves, log_prob: Float[Tensor, "b symbols"], write: Write | None = None
    ) -> tuple[State, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """One step of all.

        Args:
            state: where the episodes stand; they all have as many steps, and so end together.
            moves: one number [b] for every head.
            log_prob: of every symbol, the end included, as the controller predicts the next output. Differentiated through.
            write: to the memory's window, or nothing. Differentiated through.

        Returns:
            The next state, rewards (the log-probability of the right symbol where the output advances, else 0), who has terminated (all
            steps are taken, and so the output is complete), and who was truncated (nobody).

        Raises:
            ValueError: if a move is not allowed, or if the episodes have ended.
        """
        if (state.time >= self.config.steps).any():
            raise ValueError(f"the episodes have ended after {self.config.steps} steps: reset them")
        self._check(moves, self.allowed(state))
        wanted, advance = self.wanted(state), moves.output == 1
        reward = torch.where(advance, log_prob.gather(1, wanted[:, None])[:, 0], 0.0)
        memory = state.memory
        if write is not None:
            cells, flat = self._cells(state), memory.flatten(0, 1)
            new = torch.addcmul(write.add, write.keep, flat.index_select(0, cells).view_as(write.keep))
            memory = flat.index_copy(0, cells, new.flatten(0, 1)).view_as(memory)
        time = state.time + 1
        state = state._replace(
            head=(state.head + moves.tape - 1) % state.columns,
            memory=memory,
            finger=(state.finger + moves.memory - 1) % self.config.cells,
            emitted=state.emitted + advance,
            wrong=state.wrong + (advance & (log_prob.argmax(1) != wanted)),
            time=time,
        )
        terminated = time >= self.config.steps
        return state, reward, terminated, torch.zeros_like(terminated)

    def _check(self, moves: Moves, allowed: Moves) -> None:
        """Raises: ValueError: if a move is none of those that are allowed. All at once, and only then which."""
        count = len(allowed.tape)
        sizes = [choices.shape[1] for choices in allowed]
        whole = all(move.dtype == torch.int64 and move.shape == (count,) for move in moves)
        if whole:
            chosen, least = torch.stack(tuple(moves), 1), moves.tape.new_tensor([0, *sizes]).cumsum(0)
            inside = (chosen >= 0) & (chosen < least.diff())
            place = torch.where(inside, chosen, 0) + least[:-1]
            if (inside & torch.cat(tuple(allowed), 1).gather(1, place)).all():
                return
        for name, move, choices, n in zip(Moves._fields, moves, allowed, sizes):
            if move.dtype != torch.int64 or move.shape != (count,) or ((move < 0) | (move >= n)).any():
                found = f"{move.dtype} of shape {tuple(move.shape)}, from {move.min()} to {move.max()}" if len(move) else "none"
                raise ValueError(f"expected {count} whole numbers from 0 to {n - 1} for the {name} head, found {found}")
            if not choices.gather(1, move[:, None]).all():
                row = int((~choices.gather(1, move[:, None])[:, 0]).nonzero()[0])
                raise ValueError(f"episode {row} may not make move {int(move[row])} of the {name} head now (see `allowed`)")

    def _cells(self, state: State) -> Int[Tensor, " cells"]:
        """Those around the memory's head, numbered through all memories."""
        first = self.config.cells * torch.arange(len(state.head), device=state.head.device)
        return (self.window(state) + first[:, None]).flatten()
