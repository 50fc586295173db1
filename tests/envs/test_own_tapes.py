"""Inputs of one's own, from a text file."""

from pathlib import Path

import pytest
import torch

from envs.tapes import EXERCISES, Tape, TapeConfig, ThreeTapes, ThreeTapesConfig
from envs.tapes.own import own_exercises, own_tapes
from envs.tapes.pictures import letter, names
from hardattn.noise import keys


def told(folder: Path, text: str) -> Path:
    path = folder / "tapes.txt"
    path.write_text(text)
    return path


def spelt(called: list[str], symbols: list[int]) -> str:
    return "".join(called[symbol] for symbol in symbols)


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_drawn_and_then_written_down_is_the_same_tape(name, tmp_path):
    config = EXERCISES[name].config
    drawn = Tape(config).reset(keys(0, "test", torch.arange(6)), torch.arange(1, 7))
    called = [letter(config, i) for i in range(config.readable)]
    lines = []
    for tape, n in zip(drawn.tape.tolist(), drawn.columns.tolist()):
        rows = [spelt(called, row) for row in zip(*tape[:n])]
        counted = config.fixed and config.task == "repeat-copy"
        lines.append(f"{rows[0][:2]} {rows[0][2:]}" if counted else "+".join(rows))
    given, game = own_tapes(told(tmp_path, "\n".join(lines)), config)
    state = game.reset()
    for field in ("tape", "columns", "target", "letters", "limit", "head", "over"):
        assert torch.equal(getattr(state, field), getattr(drawn, field)), field
    assert [one.text for one in given] == lines and game.observe(state).shape[0] == 6


@pytest.mark.parametrize("task", ["copy", "duplicated-input", "reverse", "repeat-copy", "forward-reverse"])
def test_the_same_for_three_tapes(task, tmp_path):
    config = ThreeTapesConfig(task, marked=True)
    complexity = torch.arange(1, config.top + 1)
    drawn = ThreeTapes(config).reset(keys(0, "test", complexity), complexity)
    called, lines = names(config), []
    for tape, n in zip(drawn.tape.tolist(), drawn.columns.tolist()):
        times, symbols = (f"x{tape[0]} ", tape[1 : n - 1]) if task == "repeat-copy" else ("", tape[: n - 1])
        lines.append(times + spelt(called, symbols))
    [(_, exercise)] = own_exercises(told(tmp_path, "\n\n".join(lines)), config)
    state = exercise.reset(complexity)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, drawn)) and exercise.limit == config.steps


def test_longer_inputs_than_in_training_get_steps_enough_and_others_as_many_as_there(tmp_path):
    config = ThreeTapesConfig("copy", symbols=10, longest=5, steps=12, cells=10)
    text = "ABCDEFGHIJ" * 4 + "\n A B\tC \nABCDE\n"
    (short, few), (long, many) = own_exercises(told(tmp_path, text), config)
    assert (few.limit, few.core.config.cells, [one.line for one in short]) == (12, 10, [2, 3])
    assert (many.limit, many.core.config.cells, [one.line for one in long]) == (96, 80, [1])
    assert few.reset(torch.tensor([1, 1])).columns.tolist() == [4, 6] and many.reset(torch.tensor([1])).columns.tolist() == [41]


def test_a_shorter_number_goes_on_with_zeros(tmp_path):
    _, game = own_tapes(told(tmp_path, "021+11\n"), EXERCISES["ReversedAddition"].config)
    state = game.reset()
    assert state.tape[0, :3].tolist() == [[0, 1], [2, 1], [1, 0]] and state.target[0, :3].tolist() == [1, 0, 2]


COPY, ADD = TapeConfig("copy"), TapeConfig("reversed-addition", base=3, rows=2)
TWICE, REPEAT = TapeConfig("duplicated-input"), TapeConfig("repeat-copy", fixed=True)


@pytest.mark.parametrize(
    ("config", "text", "found"),
    [
        (COPY, "\nAXB\n", r"tapes\.txt, line 2: unknown symbol 'X': expected A to E"),
        (COPY, "A" * 33, "line 1: at most 32 symbols fit on the tape, found 33"),
        (COPY, " \n", r"tapes\.txt is empty: expected an input on every line"),
        (TWICE, "AABB\nAAB\n", "line 2: expected every symbol 2 times in a row"),
        (TWICE, "ABBA\n", "line 1: expected every symbol 2 times in a row"),
        (TWICE, "A" * 34, "line 1: at most 16 symbols fit on the tape, found 17"),
        (REPEAT, "ABC\n", "line 1: expected x2 or x3 and a space before the symbols, found 'ABC'"),
        (REPEAT, "x2\n", "line 1: expected at least one symbol, found none"),
        (REPEAT, "x4 AB\n", "line 1: expected x2 or x3 and a space before the symbols, found 'x4'"),
        (ADD, "012\n", r"line 1: expected 2 numbers with a \+ between them, found 1"),
        (ADD, "012+3\n", "line 1: unknown symbol '3': expected 0 to 2"),
    ],
)
def test_a_wrong_line_is_named(config, text, found, tmp_path):
    with pytest.raises(ValueError, match=found):
        own_tapes(told(tmp_path, text), config)


def test_symbols_with_longer_names_stand_apart(tmp_path):
    config = ThreeTapesConfig(symbols=60)
    [(_, exercise)] = own_exercises(told(tmp_path, "A 59 z 52\n"), config)
    assert exercise.reset(torch.tensor([1])).tape[0, :5].tolist() == [0, 59, 51, 52, 60]
    with pytest.raises(ValueError, match="unknown symbol 'AB': expected A to 59"):
        own_exercises(told(tmp_path, "AB\n"), config)


def test_a_line_for_rl_ntm_has_an_end(tmp_path):
    with pytest.raises(ValueError, match="line 2: at most 1000 symbols fit on the tape, found 1001"):
        own_exercises(told(tmp_path, "A\n" + "A" * 1001), ThreeTapesConfig())


def test_any_space_may_stand_behind_how_often(tmp_path):
    _, game = own_tapes(told(tmp_path, "  x3\tAB\n"), REPEAT)
    assert game.reset().tape[0, :4, 0].tolist() == [7, 0, 1, 5] and game.reset().letters.tolist() == [7]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected tapes at .*nothing, found no such file"):
        own_tapes(tmp_path / "nothing", COPY)
