"""Tapes to read and a tape to write: the batched core of the algorithmic environments.

The player sees one symbol at a time, under a head that it moves over the input, and writes the output symbol by symbol. The tasks
are those that OpenAI Gym had as `gym.envs.algorithmic` until version 0.19 (after Zaremba, Mikolov, Joulin and Fergus 2016, "Learning Simple Algorithms from
Examples"), to the rule; and the same tasks without the faults that are known of them (`TapeConfig.fixed`).

A step first writes, then moves the head: there is no staying. A right symbol pays 1; a wrong one costs 0.5 and ends the episode; so does a full
output, for nothing; and a player that needs too long loses 1.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardattn.checks import at_least_one, literals
from hardattn.noise import fork, integers

LONGEST = 30
"""Inputs are of min_length to min_length + 2, and min_length is at most so many."""

MOVES = ("left", "right", "up", "down")
"""Of the head. On a tape of one row there are only the first two."""


@dataclass(frozen=True)
class TapeConfig:
    """One task."""

    task: Literal["copy", "duplicated-input", "repeat-copy", "reverse", "reversed-addition"] = "copy"
    """What the output is to be. The fixed tasks are described at `Tape`."""
    base: int = 5
    """Symbols, or digits."""
    rows: int = 1
    """Numbers to add up, one below the other; every other task has one row."""
    min_length: int = 2
    """The shortest input. Lengths are drawn from this to this + 2."""
    fixed: bool = False
    """Without the known faults."""

    def __post_init__(self) -> None:
        literals(self)
        at_least_one(self, "rows", "min_length")
        if self.base < 2:
            raise ValueError(f"base must be at least 2, found {self.base}")
        if self.min_length > LONGEST:
            raise ValueError(f"min_length must be at most {LONGEST}, found {self.min_length}")
        if (self.rows > 1) != (self.task == "reversed-addition"):
            raise ValueError(
                f"reversed-addition needs at least 2 rows, and every other task 1; found rows={self.rows} of {self.task}"
            )
        if self.rows > self.base:
            raise ValueError(f"the carry must be one digit, found rows={self.rows} and base={self.base}")

    @property
    def moves(self) -> int:
        """Ways to move the head."""
        return 2 if self.rows == 1 else 4

    @property
    def blank(self) -> int:
        """What is seen beyond the input. In fixed tasks it is also what the player writes to say that the output is complete."""
        return self.base

    @property
    def writable(self) -> int:
        """Symbols that can be written."""
        return self.base + self.fixed

    @property
    def readable(self) -> int:
        """Symbols that can be seen: those of the input, the blank, and then "twice" and "three times" if they stand on the tape."""
        return self.base + 1 + (2 if self.fixed and self.task == "repeat-copy" else 0)

    @property
    def copies(self) -> int:
        """How often each symbol of duplicated input stands there."""
        return 3 if self.fixed else 2

    @property
    def columns(self) -> int:
        """Of the longest input."""
        longest = LONGEST + 2
        if self.fixed and self.task == "duplicated-input":
            return longest * self.copies
        return longest + (self.fixed and self.task == "repeat-copy")

    @property
    def letters(self) -> int:
        """Of the longest output."""
        longest = (LONGEST + 2) * (3 if self.task == "repeat-copy" else 1)
        return longest + (self.task == "reversed-addition") + self.fixed


class State(NamedTuple):
    """All that the next step needs."""

    tape: Int[Tensor, "b columns rows"]
    """The input; blank beyond its end."""
    columns: Int[Tensor, " b"]
    """That the input fills."""
    target: Int[Tensor, "b letters"]
    """The output as it should be; -1 beyond its end."""
    letters: Int[Tensor, " b"]
    """Of the target."""
    limit: Int[Tensor, " b"]
    """Steps that may be taken."""
    head: Int[Tensor, "b 2"]
    """(column, row); anywhere, also off the tape."""
    written: Int[Tensor, " b"]
    """Symbols written so far."""
    time: Int[Tensor, " b"]
    """Steps taken so far."""
    total: Float[Tensor, " b"]
    """Rewards so far."""
    over: Bool[Tensor, " b"]
    """Whether the episode has ended."""
    action: Int[Tensor, "b 3"]
    """The last one; -1 before the first."""
    reward: Float[Tensor, " b"]
    """The last one."""


class Tape:
    """The batched core of all tasks.

    As Gym had them (`fixed=False`), for an input x of n symbols:

        copy               x
        duplicated-input   every symbol of the input stands there twice, and is to be written once; n is halved, and an odd one is lost
        repeat-copy        x, x backwards, x
        reverse            x backwards
        reversed-addition  the sum of the rows, whose first column is the least significant

    The time limit is n + the target's symbols + 4, for additions 2 n + 4, which is too little for three rows of n >= 5 digits. Being too
    late costs 1 instead of what the last write would have paid.

    Fixed: the player must say that it is done, by writing the blank after the last symbol (as in Zaremba and Sutskever 2015,
    arXiv:1505.00521), instead of being stopped for it. Input is duplicated threefold, as there, and n counts different symbols.
    repeat-copy is x two or three times, each time forwards; the first symbol on the tape says how often. The limit is what
    seeing every cell takes (of repeat-copy: once for each copy) + the target's symbols + 4. Being too late costs 1 besides what was written, and
    nobody is late who completes the output.
    """

    def __init__(self, config: TapeConfig) -> None:
        self.config = config

    def reset(self, key: Int[Tensor, " b"], min_length: Int[Tensor, " b"] | None = None) -> State:
        """Begin episodes; the keys decide about the inputs.

        Args:
            key: of the episodes.
            min_length: the shortest input of every episode (at most `LONGEST`); without it, the configuration's.
        """
        c = self.config
        if min_length is None:
            min_length = torch.full_like(key, c.min_length)
        size = integers(fork(key, "length"), 1, 3)[:, 0] + min_length
        if c.task == "duplicated-input" and not c.fixed:
            size = size.clamp(min=c.copies) // c.copies  # Gym's n counts cells
        symbols = integers(fork(key, "symbols"), c.columns * c.rows, c.base).view(len(key), c.columns, c.rows)
        says_times = c.task == "repeat-copy" and c.fixed
        return self.begin(
            size, symbols, 2 + integers(fork(key, "times"), 1, 2)[:, 0] if says_times else torch.full_like(size, 3)
        )

    def begin(self, size: Int[Tensor, " b"], symbols: Int[Tensor, "b columns rows"], times: Int[Tensor, " b"]) -> State:
        """Begin episodes with inputs that are known.

        Args:
            size: symbols of every input, before any is doubled.
            symbols: the inputs; anything beyond their ends.
            times: how often to repeat, where the tape says it.
        """
        c, device = self.config, size.device
        tape, columns, target, letters, passes = getattr(self, "_" + c.task.replace("-", "_"))(size, symbols, times)
        place = torch.arange(c.columns, device=device)
        tape = torch.where((place < columns[:, None])[..., None], tape, c.blank)
        place = torch.arange(c.letters, device=device)
        target = torch.where(place < letters[:, None], target, -1)
        if c.fixed:
            target = torch.where(place == letters[:, None], c.blank, target)
            letters = letters + 1
            limit = passes * columns * c.rows + letters + 4
        else:
            limit = 2 * columns + 4 if c.task == "reversed-addition" else columns + letters + 4
        nothing = torch.zeros_like(size)
        return State(
            tape=tape,
            columns=columns,
            target=target,
            letters=letters,
            limit=limit,
            head=nothing[:, None].expand(-1, 2).clone(),
            written=nothing,
            time=nothing,
            total=nothing.float(),
            over=nothing.bool(),
            action=torch.full((len(size), 3), -1, device=device),
            reward=nothing.float(),
        )

    def observe(self, state: State) -> Int[Tensor, " b"]:
        """The symbol under the head; beyond the tape's ends, the blank."""
        return self.cell(state, state.head)

    def cell(self, state: State, place: Int[Tensor, "b 2"]) -> Int[Tensor, " b"]:
        """The symbol at (column, row)."""
        last = torch.tensor([self.config.columns - 1, self.config.rows - 1], device=place.device)
        inside = ((place >= 0) & (place <= last)).all(dim=1)
        x, y = place.clamp(min=torch.zeros_like(last), max=last).unbind(dim=1)
        return torch.where(inside, state.tape[torch.arange(len(x), device=x.device), x, y], self.config.blank)

    def step(
        self, state: State, action: Int[Tensor, "b 3"]
    ) -> tuple[State, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """Write, then move the head.

        Args:
            state: where the episodes stand. Those that have ended pay nothing and stay ended.
            action: (move, whether to write, symbol); see `MOVES`.

        Returns:
            The next state, rewards, who has terminated, and who was truncated (nobody: being late is one of the game's rules, and pays).
        """
        move, write, symbol = action[:, 0], action[:, 1] == 1, action[:, 2]
        wanted = state.target.gather(1, state.written.clamp(max=state.target.shape[1] - 1)[:, None])[:, 0]
        right, wrong = write & (symbol == wanted), write & (symbol != wanted)
        written, time = state.written + write, state.time + 1
        done = wrong | (written >= state.letters)
        reward = right.float() - 0.5 * wrong
        late = time > state.limit
        if self.config.fixed:
            reward = reward - (late & ~done).float()
        else:
            reward = reward.masked_fill(late, -1.0)
        reward = reward.masked_fill(state.over, 0.0)
        steps = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]], device=move.device)
        over = done | late | state.over
        state = state._replace(
            head=state.head + steps[move],
            written=written,
            time=time,
            total=state.total + reward,
            over=over,
            action=action,
            reward=reward,
        )
        return state, reward, over, torch.zeros_like(over)

    # One method per task: sizes [b], symbols [b columns rows] and repeats [b] become the tape and its columns, the target and its
    # letters, both with anything beyond their ends, and how often the input must be gone through.

    def _copy(self, size: Tensor, symbols: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int | Tensor]:
        return symbols, size, self._pick(symbols, self._places(size)), size, 1

    def _reverse(self, size: Tensor, symbols: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int | Tensor]:
        return symbols, size, self._pick(symbols, size[:, None] - 1 - self._places(size)), size, 1

    def _duplicated_input(
        self, size: Tensor, symbols: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int | Tensor]:
        copies = self.config.copies
        tape = symbols[:, torch.arange(self.config.columns, device=size.device) // copies]
        return tape, size * copies, self._pick(symbols, self._places(size)), size, 1

    def _repeat_copy(self, size: Tensor, symbols: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int | Tensor]:
        place, n = self._places(size), size[:, None]
        if not self.config.fixed:
            backwards = (place >= n) & (place < 2 * n)
            return symbols, size, self._pick(symbols, torch.where(backwards, 2 * n - 1 - place, place % n)), 3 * size, 1
        mark = self.config.blank + times - 1  # the symbols after the blank
        tape = torch.cat([mark[:, None, None], symbols[:, :-1]], 1)
        return tape, size + 1, self._pick(symbols, place % n), times * size, times

    def _reversed_addition(
        self, size: Tensor, symbols: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int | Tensor]:
        there = torch.arange(self.config.columns, device=size.device) < size[:, None]
        sums = (symbols * there[..., None]).sum(-1)
        digits, carry = [], torch.zeros_like(size)
        for total in (*sums.unbind(1), *[carry] * (self.config.letters - self.config.columns)):
            digits.append((total + carry) % self.config.base)
            carry = (total + carry) // self.config.base
        target = torch.stack(digits, dim=1)
        carried = target.gather(1, size[:, None])[:, 0] > 0
        return symbols, size, target, size + carried, 1

    def _places(self, size: Tensor) -> Tensor:
        """Numbers of the letters of the longest output, for every episode [b letters]."""
        return torch.arange(self.config.letters, device=size.device).expand(len(size), -1)

    def _pick(self, symbols: Tensor, place: Tensor) -> Tensor:
        """The first row's symbols at these places; anything for places that do not exist."""
        return symbols[..., 0].gather(1, place.clamp(0, self.config.columns - 1))
