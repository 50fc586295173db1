"""The five tasks must be what the paper says they are, and a sequence must not depend on whom it is drawn with."""

import itertools
import math

import pytest
import torch

from envs.algorithms import CONTEXT, CopyConfig, NgramsConfig, RecallConfig, RepeatCopyConfig, SortConfig, optimal_bits
from envs.tapes.sequences import TapeSequencesConfig
from envs.tapes.three_tapes import ThreeTapesConfig
from hardattn.contract import Answer, Task, Trace

CONFIGS = [
    CopyConfig(length=4, lengths=(2, 7), frozen=30),
    RepeatCopyConfig(width=3, length=3, repeats=2, lengths=(3, 4), times=(5,), frozen=30),
    RecallConfig(width=4, vectors=2, items=3, counts=(2, 5), frozen=30),
    NgramsConfig(length=20, lengths=(15, 30), frozen=30),
    SortConfig(width=4, vectors=6, highest=4, counts=(3, 9), frozen=30),
    TapeSequencesConfig(ThreeTapesConfig("repeat-copy", symbols=5, longest=3, steps=15), times=(1, 4), frozen=30),
]


@pytest.fixture(params=CONFIGS, ids=lambda c: type(c).__name__)
def task(request):
    return request.param.build()


def first(task, split, batch_size=30, **given):
    return next(task.batches(split, batch_size=batch_size, **given))


def tensors(batch):
    return *batch.question, batch.target, batch.notes


def test_shapes_and_contract(task):
    assert isinstance(task, Task) and task.metric == "bits"
    for split in ("train", "validation", "test", *task.parts):
        batch = first(task, split)
        b, t, c = batch.question.input.shape
        assert (b, c) == (30, task.spec.inputs) and batch.question.key.shape == (30,)
        assert batch.target.shape == (30, t, task.spec.outputs) and batch.notes.shape == (30, t)
        assert batch.notes.any(1).all() and ((batch.target == 0) | (batch.target == 1)).all()
        assert not (batch.target * ~batch.notes[..., None]).any()  # nothing is hidden where nothing is asked


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_frozen_sequence_does_not_depend_on_its_batch_or_seed(task, split):
    whole = first(task, split)
    parts = list(task.batches(split, batch_size=7, seed=3))
    assert sum(len(part.target) for part in parts) == task.size(split) == 30
    for one, many in zip(tensors(whole), zip(*(tensors(part) for part in parts))):
        assert torch.equal(one, torch.cat(many))
    assert torch.equal(first(task, split, 7, start=2).target, parts[2].target)


def test_training_batches_resume_and_differ(task):
    run = list(itertools.islice(task.batches("train", batch_size=5, seed=2), 4))
    for one, other in zip(tensors(run[3]), tensors(first(task, "train", 5, seed=2, start=3))):
        assert torch.equal(one, other)
    other = first(task, "train", 5, seed=3)
    assert not torch.equal(run[0].question.key, other.question.key)
    keys = torch.cat([batch.question.key for batch in run])
    assert len(keys.unique()) == 20


def test_the_splits_share_no_sequence(task):
    keys = torch.cat([first(task, split).question.key for split in ("train", "validation", "test")])
    assert len(keys.unique()) == 90


def test_all_training_sizes_occur_in_training_and_in_validation():
    task = CONFIGS[0].build()
    lengths = {batch.notes[0].sum().item() for batch in itertools.islice(task.batches("train", batch_size=1), 60)}
    assert lengths == {1, 2, 3, 4} == set(first(task, "validation").notes.sum(1).tolist())


def test_copy_by_eye():
    batch = first(CONFIGS[0].build(), "length-7")
    x, y = batch.question.input, batch.target
    assert torch.equal(x[:, :7, :8], y[:, 8:]) and x.shape[1] == 15
    assert not x[:, 8:].any() and not x[:, 7, :8].any()
    assert torch.equal(x[..., 8], (torch.arange(15) == 7).float().expand(30, -1))
    assert torch.equal(batch.notes, (torch.arange(15) > 7).expand(30, -1))
    assert 0.45 < y[:, 8:].mean() < 0.55


def test_repeat_copy_by_eye():
    task = RepeatCopyConfig(width=3, length=4, repeats=2, times=(5,), frozen=30).build()
    batch = first(task, "repeats-5")
    x, y = batch.question.input, batch.target
    for i in range(5):
        assert torch.equal(y[:, 5 + 4 * i : 9 + 4 * i, :3], x[:, :4, :3])
    assert y[:, -1].tolist() == [[0, 0, 0, 1]] * 30 and not y[:, :-1, -1].any() and y.shape[1] == 4 + 1 + 20 + 1
    assert x[0, 4].tolist() == [0, 0, 0, 1, pytest.approx((5 - 1.5) / 0.5)] and not x[:, 5:].any() and not x[:, :4, 3:].any()
    told = torch.tensor([RepeatCopyConfig().build().normalised(repeats) for repeats in range(1, 11)])
    assert told.mean().item() == pytest.approx(0, abs=1e-6) and told.square().mean().item() == pytest.approx(1)
    assert RepeatCopyConfig(repeats=1).build().normalised(1) == 0


def test_recall_by_eye():
    batch = first(CONFIGS[2].build(), "items-5")
    x, y = batch.question.input, batch.target
    assert x.shape[1] == 5 * 3 + 3 + 1 + 2
    asked = set()
    for example, answer in zip(x, y):
        items = [example[3 * i + 1 : 3 * i + 3, :4] for i in range(5)]
        query, found = example[16:18, :4], answer[-2:]
        matches = [i for i in range(4) if torch.equal(items[i], query)]
        assert any(torch.equal(items[i + 1], found) for i in matches)
        asked |= {matches[0]} if len(matches) == 1 else set()
        assert example[:, 4].nonzero().flatten().tolist() == [0, 3, 6, 9, 12]
        assert example[:, 5].nonzero().flatten().tolist() == [15, 18]
        assert not example[19:].any()
    assert asked == {0, 1, 2, 3}


def test_ngrams_are_drawn_from_a_table_of_their_own():
    """With a long sequence the frequencies after a context must be one number, and over tables they must be those of Beta(1/2, 1/2)."""
    batch = first(NgramsConfig(length=6000, frozen=20).build(), "test", 20)
    bits = batch.target[..., 0].long()
    assert torch.equal(batch.question.input[:, 1:], batch.target[:, :-1]) and not batch.question.input[:, 0].any()
    assert batch.notes.all()
    context = bits.unfold(1, CONTEXT, 1)[:, :-1] @ (2 ** torch.arange(CONTEXT))
    frequencies = []
    for sequence, places in zip(bits, context):
        for c in range(2**CONTEXT):
            after = sequence[CONTEXT:][places == c].float()
            if len(after) > 100:
                early, late = after.chunk(2)
                assert (early.mean() - late.mean()).abs() < 5 * (0.25 / len(early) + 0.25 / len(late)) ** 0.5
                frequencies.append(after.mean())
    p = torch.stack(frequencies)
    assert (
        len(p) > 100 and (p < 0.1).float().mean() > 0.12 and (p > 0.9).float().mean() > 0.12
    )  # even numbers: 0.1 each; arcsine: 0.2


def test_the_best_predictor_of_ngrams_by_hand_and_the_number_of_the_paper():
    task = NgramsConfig(length=8, frozen=1).build()
    batch = first(task, "test", 1)
    zeros = batch._replace(target=torch.zeros(1, 8, 1))
    # The context is the same each time: 1/2, then 3/4, then 5/6 for a zero.
    assert optimal_bits(zeros).item() == pytest.approx(5 - math.log2(1 / 2 * 3 / 4 * 5 / 6))
    assert optimal_bits(first(NgramsConfig(frozen=4000).build(), "test", 4000)).mean().item() == pytest.approx(133, abs=1.5)


def test_sort_by_eye():
    batch = first(CONFIGS[4].build(), "test")
    x, y = batch.question.input, batch.target
    assert x.shape[1] == 10 and not x[:, 6:].any() and x[:, :6, 4].abs().max() <= 1
    for example, answer in zip(x, y):
        ranked = sorted(example[:6].tolist(), key=lambda vector: -vector[4])
        assert answer[6:].tolist() == [vector[:4] for vector in ranked[:4]]


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (CONFIGS[1], {"length-3": 3 + 1 + 3 * 2 + 1, "length-4": 4 + 1 + 4 * 2 + 1, "repeats-5": 3 + 1 + 3 * 5 + 1}),
        (CONFIGS[3], {"length-15": 15, "length-30": 30}),
        (CONFIGS[4], {"vectors-3": 3 + 2, "vectors-9": 9 + 6}),
    ],
)
def test_the_parts_are_as_long_as_they_say(config, sizes):
    """In steps. Two thirds of what is to be sorted come out."""
    task = config.build()
    assert set(task.parts) == set(sizes)
    for part, steps in sizes.items():
        assert first(task, part).target.shape[1] == steps, part


def test_the_best_predictor_stands_beside_the_agent():
    task = CONFIGS[3].build()
    batch = first(task, "test")
    found = task.score(Answer(torch.zeros_like(batch.target), Trace()), batch)
    assert torch.equal(found["optimal-bits"], optimal_bits(batch))
    assert found["bits"].tolist() == pytest.approx([20] * 30)


def test_score_by_hand():
    task = CONFIGS[0].build()
    batch = first(task, "length-2", 3)
    perfect = (2 * batch.target - 1) * 30
    one_wrong = perfect.clone()
    one_wrong[0, 3, 0] *= -1
    one_wrong[1, 0, 0] *= -1  # where nothing is asked
    found = task.score(Answer(one_wrong, Trace()), batch)
    assert found["wrong-bits"].tolist() == [100 / 16, 0, 0] and found["error"].tolist() == [100, 0, 0]
    assert found["bits"].tolist() == pytest.approx([30 / math.log(2), 0, 0], abs=1e-4)
    guess = task.score(Answer(torch.zeros_like(perfect), Trace()), batch)
    assert guess["bits"].tolist() == pytest.approx([16] * 3)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (CopyConfig, {"length": 0}, "length must be at least 1, found 0"),
        (CopyConfig, {"lengths": ()}, "lengths must name at least one size"),
        (RepeatCopyConfig, {"lengths": (0,)}, "lengths must name"),
        (RepeatCopyConfig, {"times": (1, 0)}, "times must name"),
        (RecallConfig, {"items": 1}, "there must be at least 2"),
        (RecallConfig, {"counts": (1, 2)}, "there must be at least 2"),
        (NgramsConfig, {"length": 5}, "length must be more than the 5 bits"),
        (NgramsConfig, {"lengths": (5,)}, "length must be more than the 5 bits"),
        (SortConfig, {"highest": 21}, "highest must be at most the 20 vectors"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, settings, words):
    with pytest.raises(ValueError, match=words):
        kind(**settings)


def test_bad_calls_are_refused(task):
    with pytest.raises(ValueError, match='"train", "validation" or "test", found \'trian\''):
        first(task, "trian")
    with pytest.raises(ValueError, match="batch_size must be at least 1, found 0"):
        first(task, "train", 0)
