"""Tapes for people: as text, and as a picture."""

import string
from collections.abc import Sequence

import numpy as np
from gymnasium.utils import colorize
from jaxtyping import UInt8
from PIL import Image

from envs.render import BACKGROUND, FAINT, GAP, OUTSIDE, PATH, RIGHT, SCALES, SMOOTH, TEXT, WRONG, Pen
from envs.tapes import three_tapes
from envs.tapes.algorithmic import MOVES, State, TapeConfig

CELL = 26
"""Pixels a side of a cell."""
SHOWN = 21
"""Cells of a tape in a picture, the head's in the middle: pictures of one task have one size."""


def letter(config: TapeConfig, symbol: int) -> str:
    """Digits for additions, else A, B, C...; a space is the blank; x2 and x3 say how often to copy."""
    if symbol < 0 or symbol == config.blank:
        return " "
    if symbol > config.blank:
        return f"x{symbol - config.blank + 1}"
    return str(symbol) if config.task == "reversed-addition" else chr(ord("A") + symbol)


def text(config: TapeConfig, state: State, row: int) -> str:
    """One episode of a batch as OpenAI Gym printed it: the tapes with the head and the last write marked, and the last action."""
    columns, letters, written = int(state.columns[row]), int(state.letters[row]), int(state.written[row])
    x, y = state.head[row].tolist()
    move, write, symbol = state.action[row].tolist()
    headline = f"Total length of input instance: {columns}, step: {int(state.time[row])}"
    lines = [headline, "=" * len(headline)]
    for j in range(config.rows):
        cells = [(_at(config, state, row, i, j), i == x and j == y) for i in range(-2, columns + 2)]
        lines.append(
            ("Observation Tape    : " if j == 0 else " " * 22)
            + "".join(_marked(c, "green") if here else c for c, here in cells)
        )
    target = state.target[row].tolist()
    output = "  " + "".join(letter(config, target[i]) for i in range(max(0, min(written, letters) - (write == 1))))
    if write == 1 and written:
        right = written <= letters and symbol == target[written - 1]
        output += _marked(letter(config, symbol), "green" if right else "red")
    lines += [
        f"Output Tape         : {output}",
        f"Targets             :   {''.join(letter(config, s) for s in target[:letters])}",
        "",
    ]
    if move >= 0:
        lines += [
            f"Current reward      :   {float(state.reward[row]):.3f}",
            f"Cumulative reward   :   {float(state.total[row]):.3f}",
            f"Action              :   Tuple(move over input: {MOVES[move]},",
            f"                              write to the output tape: {write == 1},",
            f"                              prediction: {letter(config, symbol)})",
        ]
    return "\n".join(lines) + "\n"


def picture(config: TapeConfig, state: State, row: int) -> UInt8[np.ndarray, "y x 3"]:
    """One episode of a batch: the input around the head (framed), the output (green and red), and the target around the place to write."""
    letters, written = int(state.letters[row]), int(state.written[row])
    _, write, symbol = state.action[row].tolist()
    x, y = state.head[row].tolist()
    image = _canvas(2 * GAP + (config.rows + 2 + 2) * CELL + 3 * 28)  # two rows more: the head may leave the grid
    pen = Pen(image)
    first = x - SHOWN // 2
    pen.text(GAP, GAP, f"input, step {int(state.time[row])} of {int(state.limit[row])}")
    top = GAP + 22
    for j in range(-1, config.rows + 1):
        inside = range(int(state.columns[row])) if 0 <= j < config.rows else range(0)
        cells = [(_at(config, state, row, i, j) if i in inside else "", i in inside, TEXT) for i in range(first, first + SHOWN)]
        _strip(pen, top + (j + 1) * CELL, cells)
    at = min(max(y, -1), config.rows) + 1
    pen.box(GAP + SHOWN // 2 * CELL, top + at * CELL, CELL, CELL, line=SCALES[0], thick=2)
    target = state.target[row].tolist()
    first = written - SHOWN // 2
    top += (config.rows + 2) * CELL + 8
    pen.text(GAP, top, f"output, return {float(state.total[row]):g}")
    cells = []
    for i in range(first, first + SHOWN):
        there = 0 <= i < written
        missed = there and i == written - 1 and write == 1 and (i >= letters or symbol != target[i])
        name = letter(config, symbol if missed else target[i]) if there and (missed or i < letters) else ""
        cells.append((name, there, WRONG if missed else RIGHT))
    _strip(pen, top + 22, cells)
    pen.box(GAP + SHOWN // 2 * CELL, top + 22, CELL, CELL, line=PATH, thick=2)
    top += 22 + CELL + 8
    pen.text(GAP, top, "target", colour=FAINT)
    shown = range(first, first + SHOWN)
    _strip(pen, top + 22, [(letter(config, target[i]) if 0 <= i < letters else "", 0 <= i < letters, FAINT) for i in shown])
    return np.asarray(image.reduce(SMOOTH)).copy()


def names(config: three_tapes.ThreeTapesConfig) -> list[str]:
    """Of the symbols of three tapes: A to Z, a to z, and then numbers; and a full stop for the end."""
    letters = string.ascii_uppercase + string.ascii_lowercase
    return [*(letters[i] if i < len(letters) else f"{i}" for i in range(config.symbols)), "."]


def spelt(config: three_tapes.ThreeTapesConfig, state: three_tapes.State, row: int) -> list[str]:
    """The names of the input's symbols; of repeat-copy's first one, how often."""
    tape, called = state.tape[row, : int(state.columns[row])].tolist(), names(config)
    first = [f"x{tape[0]}"] if config.task == "repeat-copy" else []
    return first + [called[symbol] for symbol in tape[len(first) :]]


def machine_text(
    config: three_tapes.ThreeTapesConfig, state: three_tapes.State, row: int, said: Sequence[int], right: Sequence[bool]
) -> str:
    """The same as `machine_picture` in letters: of the memory, which cell its head is on."""
    called = names(config)
    tape, head = spelt(config, state, row), int(state.head[row])
    target = state.target[row, : int(state.letters[row])].tolist()
    between = " " if max(map(len, called)) > 1 else ""
    return "\n".join(
        [
            _when(config, state, row),
            "input   " + between.join(_marked(name, "green") if i == head else name for i, name in enumerate(tape)),
            f"memory  cell {int(state.finger[row])} of {config.cells}",
            "output  " + between.join(_marked(called[symbol], "green" if good else "red") for symbol, good in zip(said, right)),
            "target  " + between.join(called[symbol] for symbol in target),
            "",
        ]
    )


def _when(config: three_tapes.ThreeTapesConfig, state: three_tapes.State, row: int) -> str:
    deadline = int(state.deadline[row])
    return f"step {int(state.time[row])} of {config.steps}" + (f", output due by {deadline}" if deadline < config.steps else "")


def machine_picture(
    config: three_tapes.ThreeTapesConfig, state: three_tapes.State, row: int, said: Sequence[int], right: Sequence[bool]
) -> UInt8[np.ndarray, "y x 3"]:
    """One episode of a machine with three tapes: input and memory around their heads (framed), and what was said so far (green and red).

    Args:
        config: of the tapes.
        state: of a batch.
        row: the episode.
        said: symbols of the output so far.
        right: which of them are.
    """
    image, called = _canvas(2 * GAP + 3 * (CELL + 30)), names(config)
    pen = Pen(image)
    head, finger = int(state.head[row]), int(state.finger[row])
    tape = [(name, TEXT) for name in spelt(config, state, row)]
    output = [(called[symbol], RIGHT if good else WRONG) for symbol, good in zip(said, right)]
    strips = (
        (f"input, {_when(config, state, row)}", tape, head, SCALES[0]),
        ("memory", [("", TEXT)] * config.cells, finger, SCALES[1]),
        ("output", output, len(said), PATH),
    )
    for i, (title, cells, at, colour) in enumerate(strips):
        top = GAP + i * (CELL + 30)
        pen.text(GAP, top, title)
        shown = range(at - SHOWN // 2, at - SHOWN // 2 + SHOWN)
        _strip(pen, top + 22, [(cells[j][0], True, cells[j][1]) if 0 <= j < len(cells) else ("", False, TEXT) for j in shown])
        pen.box(GAP + SHOWN // 2 * CELL, top + 22, CELL, CELL, line=colour, thick=2)
    return np.asarray(image.reduce(SMOOTH)).copy()


def _canvas(height: int) -> Image.Image:
    """As wide as the cells shown, with an even number of pixels a side, as films want it."""
    width = 2 * GAP + SHOWN * CELL
    return Image.new("RGB", ((width + width % 2) * SMOOTH, (height + height % 2) * SMOOTH), BACKGROUND)


def _strip(pen: Pen, top: int, cells: Sequence[tuple[str, bool, tuple[int, int, int]]]) -> None:
    """A row of cells: what stands there, whether there is a cell, and the colour."""
    for i, (name, there, colour) in enumerate(cells):
        if there:
            pen.box(GAP + i * CELL + 1, top + 1, CELL - 2, CELL - 2, fill=OUTSIDE)
            pen.text(GAP + (i + 0.5) * CELL, top + CELL / 2, "·" if name == " " else name, colour=colour, anchor="mm")


def _at(config: TapeConfig, state: State, row: int, column: int, line: int) -> str:
    inside = 0 <= column < config.columns and 0 <= line < config.rows
    return letter(config, int(state.tape[row, column, line]) if inside else config.blank)


def _marked(name: str, colour: str) -> str:
    return colorize(name, colour, highlight=True)
