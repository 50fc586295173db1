"""RL-NTM's tasks as exercises (see also test_three_tapes.py and test_every_task.py)."""

import dataclasses
import itertools

import pytest
import torch

from envs.tapes.exercises import ExercisesConfig
from envs.tapes.sequences import TapeSequencesConfig
from envs.tapes.three_tapes import ThreeTapesConfig
from hardattn.contract import Answer, Task, Trace

SMALL = ExercisesConfig(ThreeTapesConfig("repeat-copy", symbols=5, longest=3, steps=15), times=(1, 4), frozen=12)


def test_it_is_a_task_whose_settings_can_be_compared():
    assert isinstance(SMALL.build(), Task) and SMALL.build().spec == SMALL.build().spec
    assert dataclasses.replace(SMALL, times=[1, 4]) == SMALL


def test_parts_are_longer_and_have_the_steps_and_cells_for_it():
    task = SMALL.build()
    assert task.parts == ("length-3", "length-12")
    for part, n in (("length-3", 1), ("test", 1), ("length-12", 4)):
        (batch,) = task.batches(part, batch_size=100)
        core = batch.question.core.config
        assert (core.longest, core.steps, core.cells) == (3 * n, 15 * n, 30 * n) and batch.question.limit == 15 * n
        state = batch.question.reset(batch.question.complexity)
        assert torch.equal(state.columns, torch.full((12,), 3 * n + 2))
        assert state.tape[:, 0].tolist() == [2, 3] * 6


def test_validation_has_every_complexity_and_training_leaves_it_open():
    task = SMALL.build()
    (batch,) = task.batches("validation", batch_size=12)
    assert batch.question.complexity.tolist() == [1, 2, 3, 4, 5, 6] * 2
    train = next(task.batches("train", batch_size=4))
    assert train.question.complexity is None and len(train.target) == 4


def test_an_episode_is_a_function_of_its_number():
    task = SMALL.build()
    for split in ("train", "validation", "length-12"):
        fours = list(itertools.islice(task.batches(split, batch_size=4, seed=3), 2))
        (later,) = itertools.islice(task.batches(split, batch_size=1, seed=3, start=5), 1)
        assert torch.equal(fours[1].question.key[1:2], later.question.key)
    assert len({int(next(task.batches(s, batch_size=1)).question.key[0]) for s in ("train", "validation", *task.parts)}) == 4


def test_the_score_is_of_whole_outputs_and_of_symbols():
    scores = SMALL.build().score(Answer(torch.tensor([1.0, 0.75]), Trace()), next(SMALL.build().batches("test", batch_size=2)))
    assert scores["error"].tolist() == [0, 100] and scores["solved"].tolist() == [100, 0]
    assert scores["wrong-symbols"].tolist() == [0, 25]


@pytest.mark.parametrize(
    ("task", "columns", "answer"),
    [
        ("copy", 1, lambda x: x),
        ("reverse", 1, lambda x: x.flip(1)),
        ("duplicated-input", 3, lambda x: x[:, ::3]),
    ],
)
def test_a_machine_without_tapes_hears_the_input_and_is_asked_for_the_output(task, columns, answer):
    tapes = ThreeTapesConfig(task, symbols=5, longest=4, steps=15)
    sequences = TapeSequencesConfig(tapes, times=(1, 3), frozen=20).build()
    for part, n in (("length-4", 4), ("length-12", 12)):
        batch = next(sequences.batches(part, batch_size=20))
        assert batch.question.input.shape == (20, columns * n + 1 + n + 1, 6)
        heard = batch.question.input[:, : columns * n].argmax(-1)
        assert (batch.question.input[:, columns * n].argmax(-1) == 5).all()
        assert (batch.question.input[:, columns * n + 1 :] == 0).all() and batch.notes.sum(1).tolist() == [n + 1] * 20
        asked = batch.target[batch.notes].view(20, n + 1, 6)
        assert (asked.sum(-1) == 1).all() and (asked[:, -1].argmax(-1) == 5).all()
        assert torch.equal(asked[:, :-1].argmax(-1), answer(heard))


def test_repeating_is_asked_for_by_number():
    sequences = TapeSequencesConfig(ThreeTapesConfig("repeat-copy", symbols=5, longest=3, steps=15), frozen=12).build()
    batch = sequences.scenes("validation", torch.arange(12))
    for input, target, notes, times, n in zip(
        *(batch.question.input, batch.target, batch.notes), [2, 2, 2, 3, 3, 3], [1, 2, 3] * 2
    ):
        heard = input[: n + 1].argmax(-1)
        assert heard[0] == times and torch.equal(target[notes].argmax(-1), torch.cat([*[heard[1:]] * times, torch.tensor([5])]))


def test_an_output_is_wrong_if_its_likeliest_symbol_is_wrong_anywhere():
    sequences = TapeSequencesConfig(ThreeTapesConfig("copy", symbols=5, longest=4, steps=15), frozen=8).build()
    batch = sequences.scenes("test", torch.arange(4))
    logits = batch.target * 2.0 - 3.0  # no symbol is likely by itself, the right ones are the likeliest
    logits[1, batch.notes[1].nonzero()[-1], 2] = 0.0  # instead of the end
    logits[2, ~batch.notes[2]] = torch.randn(6)  # nobody asks what is said before the output is asked for
    found = sequences.score(Answer(logits, Trace()), batch)
    assert found["error"].tolist() == [0.0, 100.0, 0.0, 0.0]


def test_settings_that_make_no_sense_are_refused():
    for options, message in (
        ({"times": ()}, "times must name"),
        ({"frozen": 0}, "frozen must be at least 1"),
        ({"start": 10}, "start must be at most top=9"),
    ):
        with pytest.raises(ValueError, match=message):
            ExercisesConfig(**options)
    with pytest.raises(ValueError, match="one of the parts length-3, length-12, found 'length-4'"):
        next(SMALL.build().batches("length-4", batch_size=1))
