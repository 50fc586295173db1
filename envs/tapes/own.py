"""Inputs of one's own for whoever plays on tapes. A line of a text file is an input in the letters of pictures; empty lines are skipped:

    task                                    a line
    copy, reverse, repeat-copy, ...         ABCAD
    duplicated-input                        AABBCC, every symbol as often as the task has it (RL-NTM's and the fixed task: AAABBBCCC)
    repeat-copy that says how often         x3 ABC (RL-NTM's and the fixed task)
    reversed-addition                       021+11: the least significant digit first; a shorter number goes on with zeros

What ends a tape is not written. Spaces between symbols mean nothing, unless there are so many symbols that some have longer names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from envs.tapes.algorithmic import Tape, TapeConfig
from envs.tapes.exercises import Exercise
from envs.tapes.pictures import letter, names
from envs.tapes.play import TapeEpisodes
from envs.tapes.three_tapes import ThreeTapes, ThreeTapesConfig
from envs.text import lines_of, refuse
from hardattn.noise import keys

MOST = 1000
"""Symbols in a line for RL-NTM, whose tapes are as long as they need to be."""


class Given(NamedTuple):
    """One input."""

    line: int
    """In the file."""
    text: str
    rows: list[list[int]]
    """Symbols, before any is doubled; a row for each number that is to be added."""
    times: int
    """How often to repeat them, where that is said."""


def own_tapes(path: Path, config: TapeConfig, last: bool = True) -> tuple[list[Given], TapeEpisodes]:
    """The inputs of a file for a player of OpenAI Gym's tapes.

    Args:
        path: of the file.
        config: of the task.
        last: whether the player sees its last move.

    Raises:
        ValueError: if the file cannot be read or is not as described above, or an input is longer than the tape; it names the file and the line.
    """
    called = [letter(config, i) for i in range(config.base)]
    copies = config.copies if config.task == "duplicated-input" else 1
    counted = config.fixed and config.task == "repeat-copy"
    given = _read(path, called, config.rows, copies, counted, (config.columns - counted) // copies)
    size, symbols, times = _tensors(given, config.columns)
    core, key = Tape(config), keys(0, "own tapes", torch.tensor([one.line for one in given]))
    return given, TapeEpisodes(core, key, 1, torch.ones_like(size), last=last, own=core.begin(size, symbols, times))


def own_exercises(path: Path, config: ThreeTapesConfig) -> list[tuple[list[Given], Exercise]]:
    """The inputs of a file for RL-NTM.

    Args:
        path: of the file.
        config: of the task as it was trained.

    Returns:
        Those that are no longer than in training, with the steps and cells of training; and of every greater length, with as many more.

    Raises:
        ValueError: if the file cannot be read or is not as described above, or an input is longer than `MOST`; it names the file and the line.
    """
    copies = 3 if config.task == "duplicated-input" else 1
    given = _read(path, names(config)[:-1], 1, copies, config.task == "repeat-copy", MOST)
    found = []
    for longest in sorted({max(len(one.rows[0]), config.longest) for one in given}):
        alike = [one for one in given if max(len(one.rows[0]), config.longest) == longest]
        core = ThreeTapes(config.stretched(longest))
        length, symbols, times = _tensors(alike, longest)
        key = keys(0, "own exercises", torch.tensor([one.line for one in alike]))
        found.append((alike, Exercise(core, key, torch.ones_like(length), core.begin(length, symbols[..., 0], times))))
    return found


def _read(path: Path, called: Sequence[str], rows: int, copies: int, counted: bool, most: int) -> list[Given]:
    """Args: the symbols' names, numbers to add, how often every symbol stands there, whether a line says how often to repeat it, and the most symbols."""
    source, given = str(path), []
    for line, text in enumerate(lines_of(path, "tapes"), 1):
        if not text.strip():
            continue
        word, times = text, 2
        if counted:
            many, word = [*text.split(None, 1), ""][:2]
            if many not in ("x2", "x3"):
                refuse(source, line, f"expected x2 or x3 and a space before the symbols, found {many[:20]!r}")
            times = int(many[1])
        numbers = word.split("+") if rows > 1 else [word]
        if len(numbers) != rows:
            refuse(source, line, f"expected {rows} numbers with a + between them, found {len(numbers)}")
        read = [_single(_symbols(number, called, source, line), copies, source, line) for number in numbers]
        longest = max(map(len, read))
        if longest > most:
            refuse(source, line, f"at most {most} symbols fit on the tape, found {longest}")
        given.append(Given(line, text.strip(), [row + [0] * (longest - len(row)) for row in read], times))
    if not given:
        raise ValueError(f"{source} is empty: expected an input on every line")
    return given


def _symbols(text: str, called: Sequence[str], source: str, line: int) -> list[int]:
    found = text.split() if max(map(len, called)) > 1 else list("".join(text.split()))
    if not found:
        refuse(source, line, "expected at least one symbol, found none")
    for name in found:
        if name not in called:
            refuse(source, line, f"unknown symbol {name[:20]!r}: expected {called[0]} to {called[-1]}")
    return [called.index(name) for name in found]


def _single(symbols: list[int], copies: int, source: str, line: int) -> list[int]:
    """One of every `copies` that stand together."""
    together = [symbols[i : i + copies] for i in range(0, len(symbols), copies)]
    if any(len(group) < copies or len(set(group)) > 1 for group in together):
        refuse(source, line, f"expected every symbol {copies} times in a row")
    return symbols[::copies]


def _tensors(given: Sequence[Given], wide: int) -> tuple[Int[Tensor, " b"], Int[Tensor, "b wide rows"], Int[Tensor, " b"]]:
    """Lengths, symbols up to a width, and how often to repeat."""
    length = [len(one.rows[0]) for one in given]
    symbols = [F.pad(torch.tensor(one.rows).t(), (0, 0, 0, wide - n)) for one, n in zip(given, length)]
    return torch.tensor(length), torch.stack(symbols), torch.tensor([one.times for one in given])
