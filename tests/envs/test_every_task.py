"""What must hold of every task. A file of envs/ that defines a task and is not named here fails."""

import dataclasses
import importlib
import inspect
import itertools
from pathlib import Path

import pytest
import torch

import envs
from envs.algorithms import Copy, Ngrams, Recall, RepeatCopy, Sort
from envs.babi import Babi, BabiConfig
from envs.catch import CatchConfig
from envs.cue import Cue, CueConfig
from envs.digits import Digits, DigitsConfig
from envs.foreign import CircleSquare
from envs.play import PlayCatch, PlayCatchConfig
from envs.tapes.exercises import Exercises
from envs.tapes.play import PlayTape, PlayTapeConfig
from envs.tapes.sequences import TapeSequences
from hardattn.contract import Answer, Batch, GlimpseSpec, StorySpec, Trace

SMALL = {
    Digits: [
        DigitsConfig(positions=1, glimpses=3),
        DigitsConfig(height=30, width=44, pieces=3, positions=1, scales=3, pool="max", reach=9.0),
    ],
    Cue: [CueConfig(frozen=50)],
    Babi: [BabiConfig(source="generated", tasks=(1, 2, 6), generated=300)],
    PlayTape: [PlayTapeConfig("RepeatCopy", top=4, exploring_starts=0.5, levels=(2, 3), frozen=40)],
    PlayCatch: [PlayCatchConfig(CatchConfig(height=6, width=9, side=3, scales=2), frozen=40)],
}
"""Every task, with settings that are quick to draw."""
ELSEWHERE = {Copy, RepeatCopy, Recall, Ngrams, Sort, CircleSquare, Exercises, TapeSequences}
"""A training batch of the first has one length, so a sequence is not a function of its own number alone: tests/envs/test_algorithms.py. CircleSquare
needs another project: tests/envs/test_foreign.py. Exercises leave their complexity to the player: tests/envs/test_exercises.py, where their
sequences are, too."""
SPLITS = ("train", "validation", "test")


def tasks_of_the_folder():
    folder = Path(envs.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        parts = ("envs", *path.relative_to(folder).with_suffix("").parts)
        module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__ and hasattr(found, "batches") and not inspect.isabstract(found):
                yield found


def test_every_task_is_tested():
    assert set(tasks_of_the_folder()) == set(SMALL) | ELSEWHERE, "add the new task, with quick settings, to SMALL"


@pytest.fixture(
    params=[config for configs in SMALL.values() for config in configs], ids=lambda c: type(c).__name__, scope="module"
)
def task(request):
    return request.param.build()


def tensors(thing):
    """Every tensor of a batch, however deep."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, tuple):
        for part in thing:
            yield from tensors(part)  # what is neither, such as a game's rules, is the same for all


def same(one, other):
    return all(torch.equal(a, b) for a, b in itertools.zip_longest(tensors(one), tensors(other), fillvalue=torch.tensor(())))


def row(batch, i):
    return [x[i : i + 1] for x in tensors(batch)]


def test_its_settings_are_frozen_and_build_it():
    for kind, configs in SMALL.items():
        for config in configs:
            assert isinstance(config.build(), kind)
            with pytest.raises(dataclasses.FrozenInstanceError):
                config.anything = 9


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_is_a_function_of_its_number_whatever_its_batch(task, split):
    """One by one, seven by seven, and from a later start."""
    single = [next(task.batches(split, batch_size=1, seed=5, start=i)) for i in range(14)]
    sevens = list(itertools.islice(task.batches(split, batch_size=7, seed=5), 2))
    later = next(task.batches(split, batch_size=7, seed=5, start=1))
    assert same(sevens[1], later)
    for i in range(14):
        for x, y in zip(row(sevens[i // 7], i % 7), tensors(single[i])):
            assert torch.equal(x, y), f"scene {i}"


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_call_gives_the_same_batch_and_batches_differ(task, split):
    one, other = (list(itertools.islice(task.batches(split, batch_size=8, seed=2), 2)) for _ in range(2))
    assert same(one[0], other[0]) and same(one[1], other[1])
    assert not same(one[0], one[1])


def test_training_depends_on_the_seed_and_the_frozen_splits_do_not(task):
    for split in SPLITS:
        one, other = (next(task.batches(split, batch_size=8, seed=seed)) for seed in (0, 1))
        assert same(one, other) == (split != "train")
        one, other = (task.scenes(split, torch.arange(8), seed=seed) for seed in (0, 1))
        assert same(one, other) == (split != "train")


def test_no_split_repeats_another(task):
    first = [next(task.batches(split, batch_size=16)) for split in SPLITS]
    for one, other in itertools.combinations(first, 2):
        assert not same(one, other)
        assert not torch.equal(one.question.key, other.question.key)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_frozen_splits_end_when_every_scene_was_shown_once(task, split):
    sizes = [len(batch.target) for batch in task.batches(split, batch_size=100)]
    assert sum(sizes) == task.size(split)
    assert all(size == 100 for size in sizes[:-1])
    assert not list(task.batches(split, batch_size=100, start=len(sizes)))


def test_training_goes_on_after_a_pass(task):
    far = 3 * task.size("train")
    assert len(next(task.batches("train", batch_size=4, start=far)).target) == 4


def test_the_spec_describes_the_questions(task):
    batch = next(task.batches("train", batch_size=5))
    spec, question = task.spec, batch.question
    if isinstance(spec, GlimpseSpec):
        assert question.image.shape == (5, spec.channels, spec.height, spec.width)
        assert question.image[0].numel() == spec.image_size
        assert question.look(question.gaze)[0].numel() == spec.glimpse_size
        assert batch.target.min() >= 0 and batch.target.max() < spec.classes
    elif isinstance(spec, StorySpec):
        assert question.sentences.shape == (5, spec.sentences, spec.words) and question.query.shape == (5, spec.words)
        assert batch.target.min() >= 1 and max(x.max() for x in (*question[:2], batch.target)) < len(spec.vocabulary)
        assert batch.notes.shape == (5, spec.sentences)
    else:
        state = question.reset()
        assert question.observe(state).shape == (5, spec.seen)
        action = torch.zeros(5, 2 * spec.gaze + len(spec.choices))
        for _ in range(question.limit):
            state, reward, terminated, truncated = question.step(state, action)
            assert reward.shape == terminated.shape == truncated.shape == (5,)
        assert (terminated | truncated).all()


def test_the_score_is_one_number_per_example_and_best_for_the_truth(task):
    batch = next(task.batches("test", batch_size=20))
    if hasattr(batch.question, "limit"):  # a game: what is best is the greatest return
        right, wrong = (task.score(Answer(torch.full((20,), value), Trace()), batch) for value in (100.0, 0.0))
    else:
        classes = task.spec.classes if isinstance(task.spec, GlimpseSpec) else len(task.spec.vocabulary)
        truth = torch.nn.functional.one_hot(batch.target, classes).float()
        right, wrong = (task.score(Answer(sign * truth, Trace()), batch) for sign in (1, -1))
    assert right.keys() == wrong.keys() and right
    for name in right:
        assert right[name].shape == wrong[name].shape == (20,)
        better, worse = (wrong, right) if name in ("caught", "solved", "return") else (right, wrong)
        assert (better[name] < worse[name]).all()


def test_the_parts_of_a_test_set_are_splits_of_their_own(task):
    parts = getattr(task, "parts", ())
    for part in parts:
        assert isinstance(next(task.batches(part, batch_size=2)), Batch) and 0 < task.size(part) <= task.size("test")
    assert len(set(parts)) == len(parts)


def test_targets_are_not_in_the_question(task):
    """A question must hold no tensor that equals the answer key (an early mistake of many a benchmark)."""
    batch = next(task.batches("train", batch_size=50))
    for x in tensors(batch.question):
        assert x.shape != batch.target.shape or not torch.equal(x.long(), batch.target)


def test_bad_calls_are_refused(task):
    with pytest.raises(ValueError, match='"train", "validation" or "test", found \'trian\''):
        next(task.batches("trian", batch_size=2))
    with pytest.raises(ValueError, match="batch_size must be at least 1, found 0"):
        next(task.batches("train", batch_size=0))
