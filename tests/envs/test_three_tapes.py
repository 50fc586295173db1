"""RL-NTM's tasks (Zaremba and Sutskever 2015, arXiv:1505.00521)."""

from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.tapes import Moves, ThreeTapes, ThreeTapesConfig, Write
from hardattn.noise import integers, keys

TASKS = get_args(get_type_hints(ThreeTapesConfig)["task"])
BACK, STAY, FORWARD = range(3)


def specified(config: ThreeTapesConfig, tape: list[int]) -> list[int]:
    """Input and output end with the end symbol."""
    *x, end = tape
    assert end == config.end
    output = {
        "copy": x,
        "duplicated-input": x[::3],
        "reverse": x[::-1],
        "forward-reverse": x[::-1],
        "repeat-copy": x[1:] * x[0] if x else [],
    }[config.task]
    return [*output, config.end]


@pytest.mark.parametrize("task", TASKS)
@given(st.integers(0, 2**40))
@settings(deadline=None, max_examples=8)
def test_every_tape_is_as_specified(task, seed):
    config = ThreeTapesConfig(task)
    complexity = torch.arange(1, config.top + 1)
    state = ThreeTapes(config).reset(keys(seed, "test", complexity), complexity)
    for i in range(config.top):
        tape = state.tape[i, : state.columns[i]].tolist()
        assert state.target[i, : state.letters[i]].tolist() == specified(config, tape) and config.end not in tape[:-1]
        length = {"duplicated-input": len(tape[:-1]) // 3, "repeat-copy": len(tape[:-1]) - 1}.get(task, len(tape[:-1]))
        assert length == i % config.longest + 1
        if task == "repeat-copy":
            assert tape[0] == (2 if i < config.longest else 3)
        if task == "duplicated-input":
            assert tape[:-1:3] == tape[1:-1:3] == tape[2:-1:3]


def log_prob(symbol: torch.Tensor, size: int) -> torch.Tensor:
    """Half on one symbol, the rest on all equally."""
    return (0.5 * torch.nn.functional.one_hot(symbol, size) + 0.5 / size).log()


def solve(config: ThreeTapesConfig, complexity: torch.Tensor):
    """Plays a batch with what is read only, except that the complexity is known: when to turn round, and which way to go."""
    core = ThreeTapes(config)
    state = core.reset(keys(0, "test", complexity), complexity)
    length, times = (complexity - 1) % config.longest + 1, 2 + (complexity - 1) // config.longest
    middle = config.around
    total, window = torch.zeros(len(complexity)), 2 * middle + 1
    for t in range(config.steps):
        tape, memory = core.observe(state)
        seen, there = tape[:, middle], state.emitted
        advance, move, finger, predicted = torch.zeros_like(there), torch.ones_like(there), torch.ones_like(there), seen
        write = Write(torch.ones(len(there), window, core.depth), torch.zeros(len(there), window, core.depth))
        if config.task == "copy":
            advance, move = torch.ones_like(there), torch.full_like(there, FORWARD)
        elif config.task == "duplicated-input":
            advance = ((t % 3 == 0) | (t >= 3 * length)).long() * torch.ones_like(there)
            move = torch.full_like(there, FORWARD)
        elif config.task == "repeat-copy":
            # The tape is circular: after the end comes the number, and then the first symbol again.
            step = t - 1 - there.new_zeros(len(there))
            turn, place = step // (length + 2), step % (length + 2)
            last = (turn == times - 1) & (place == length)
            advance = ((t > 0) & ((place < length) | last) & (turn < times)).long()
            move = torch.full_like(there, FORWARD)
        else:
            reading = t < length
            if config.task == "reverse":
                # Off the beginning of the tape lies its end, so that the last prediction reads what it says.
                advance = (t > length).long()
                move = torch.where(reading, FORWARD, BACK)
            else:
                advance = (t >= length).long()
                move = torch.where(state.head < state.columns - 1, FORWARD, STAY)
                finger = torch.where(reading, FORWARD, BACK)
                write.add[:, middle] = torch.nn.functional.one_hot(seen, config.size) * reading[:, None]
                # The finger stands one past the last symbol: what is said is what lies behind it, and the end where nothing does.
                behind = memory[:, middle - 1]
                predicted = torch.where(behind.sum(1) > 0, behind.argmax(1), config.end)
        allowed = core.allowed(state)
        advance = torch.where(allowed.output[:, 1], advance, 0)
        assert allowed.output.gather(1, advance[:, None]).all()
        state, gain, terminated, truncated = core.step(
            state, Moves(move, finger, advance), log_prob(predicted, config.size), write
        )
        assert bool(terminated.all()) == (t == config.steps - 1) and not truncated.any()
        total += gain
    return state, total


@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_solved_with_the_heads_it_has(task):
    config = ThreeTapesConfig(task, steps=44 if task == "repeat-copy" else 30, longest=9)
    state, total = solve(config, torch.arange(1, config.top + 1))
    assert torch.equal(state.emitted, state.letters) and not state.wrong.any()
    best = torch.tensor(0.5 + 0.5 / config.size).log()
    assert torch.allclose(total, state.letters * best)


@pytest.mark.parametrize("task", TASKS)
def test_any_allowed_moves_write_the_whole_output_in_time(task):
    """Chance predicts, too: the reward is then that of chance."""
    config = ThreeTapesConfig(task, symbols=5, longest=4, steps=14)
    core, count = ThreeTapes(config), 200
    key = keys(1, "test", torch.arange(count))
    state = core.reset(key, 1 + integers(key, 1, config.top)[:, 0])
    letters, total, uniform = state.letters, torch.zeros(count), torch.full((count, config.size), 1 / config.size).log()
    for t in range(config.steps):
        chance = integers(key + t + 1, 3, 2**20)
        choices = [
            (mask * (chance[:, i : i + 1] * (1 + torch.arange(mask.shape[1])) % 1009 + 1)).argmax(1)
            for i, mask in enumerate(core.allowed(state))
        ]
        state, gain, *_ = core.step(state, Moves(*choices), uniform)
        total += gain
    assert torch.equal(state.emitted, letters) and (state.head < state.columns).all() and (state.head >= 0).all()
    assert torch.allclose(total, letters * uniform[0, 0])
    assert state.wrong.float().mean() > 0.5 * letters.float().mean()


@pytest.mark.parametrize("task", TASKS)
def test_who_waits_must_write_in_time_and_sooner_if_hurried(task):
    for hurried in (False, True):
        core = ThreeTapes(ThreeTapesConfig(task, symbols=5, longest=4, steps=26, hurried=hurried))
        complexity = torch.arange(1, core.config.top + 1)
        state, stay = core.reset(complexity, complexity), torch.ones_like(complexity)
        deadline = torch.full_like(complexity, 26)
        if hurried:
            deadline = (26 * state.letters.double() / core.config.letters - 1e-9).ceil().long()
        uniform = torch.full((len(complexity), 6), 1 / 6).log()
        for step in range(26):
            must = ~core.allowed(state).output[:, 0]
            assert torch.equal(must, (step >= deadline - state.letters) & (step < deadline))
            state, *_ = core.step(state, Moves(stay, stay, must.long()), uniform)
        assert torch.equal(state.emitted, state.letters) and not core.allowed(state).output.any()


def test_windows_wrap_around():
    core = ThreeTapes(ThreeTapesConfig(symbols=10, longest=3, cells=5))
    state = core.reset(keys(0, "test", torch.arange(1)), torch.tensor([3]))
    a, b, c, end = state.tape[0].tolist()
    assert core.observe(state).tape.tolist() == [[c, end, a, b, c]]
    state = state._replace(memory=torch.arange(5.0)[None, :, None].expand(1, 5, 11), finger=torch.tensor([4]))
    assert core.observe(state).memory[0, :, 0].tolist() == [2, 3, 4, 0, 1]


def test_a_write_keeps_and_adds_and_a_later_read_sends_its_gradient_back():
    core = ThreeTapes(ThreeTapesConfig(symbols=4, cells=6, depth=2, around=1, marked=True))
    first = core.reset(keys(0, "test", torch.arange(1)), torch.tensor([2]))
    assert first.memory[0].tolist() == [[1, 1]] + [[0, 0]] * 5
    keep, add = torch.full((1, 3, 2), 0.5, requires_grad=True), torch.full((1, 3, 2), 0.25, requires_grad=True)
    prediction = torch.zeros(1, 5, requires_grad=True)
    one = torch.ones(1, dtype=torch.int64)
    state, reward, *_ = core.step(first, Moves(one, 0 * one, one), prediction.log_softmax(1), Write(keep, add))
    assert state.memory[0, :, 0].tolist() == [0.75, 0.25, 0, 0, 0, 0.25] and int(state.finger) == 5
    assert not first.memory[0, 1:].any()  # state in, state out
    (core.observe(state).memory.sum() + reward.sum()).backward()
    # The window around cell 5 holds cells 4, 5 and 0, but not 1.
    assert add.grad[0, :, 0].tolist() == [1, 1, 0] and keep.grad[0, :, 0].tolist() == [0, 1, 0]
    assert prediction.grad[0].argmax() == first.target[0, 0]


def test_forbidden_moves_are_refused():
    core = ThreeTapes(ThreeTapesConfig("forward-reverse", symbols=4, steps=4, longest=3))
    state = core.reset(keys(0, "test", torch.arange(2)), torch.tensor([1, 3]))
    assert core.allowed(state).output.tolist() == [[True, True], [False, True]]
    assert core.allowed(state).tape.tolist() == [[False, True, True]] * 2
    prediction = torch.zeros(2, 5).log_softmax(1)

    def moves(tape, output):
        return Moves(torch.tensor(tape), torch.ones(2, dtype=torch.int64), torch.tensor(output))

    for tape, found in (([1.0, 1.0], "float32"), ([1], r"shape \(1,\)"), ([1, 3], "from 1 to 3"), ([-1, 1], "from -1 to 1")):
        with pytest.raises(ValueError, match=f"expected 2 whole numbers from 0 to 2 for the tape head, found .*{found}"):
            core.step(state, moves(tape, [1, 1]), prediction)
    with pytest.raises(ValueError, match="episode 1 may not make move 0 of the output head"):
        core.step(state, moves([1, 1], [0, 0]), prediction)
    with pytest.raises(ValueError, match="episode 0 may not make move 0 of the tape head"):
        core.step(state, moves([0, 1], [1, 1]), prediction)
    for output in ([1, 1], [1, 1], [0, 1], [0, 1]):
        assert core.allowed(state).tape[0, 2] == (state.head[0] < 1)
        state, *_ = core.step(state, moves([2 if state.head[0] < 1 else 1, 1], output), prediction)
    with pytest.raises(ValueError, match="have ended after 4 steps"):
        core.step(state, moves([1, 1], [0, 0]), prediction)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"symbols": 0}, "symbols must be at least 1"),
        ({"task": "repeat-copy", "symbols": 3}, "at least 4"),
        ({"cells": 4}, "a window must fit"),
        ({"steps": 9, "longest": 9}, "10 symbols, and there are only 9 steps"),
        ({"depth": 0}, "depth must be at least 1"),
    ],
)
def test_a_wrong_configuration_is_named(wrong, found):
    with pytest.raises(ValueError, match=found):
        ThreeTapesConfig(**wrong)


def test_a_wrong_complexity_is_named():
    core = ThreeTapes(ThreeTapesConfig())
    with pytest.raises(ValueError, match=r"complexity must be from 1 to 9, found \[0\]"):
        core.reset(torch.tensor([1]), torch.tensor([0]))
