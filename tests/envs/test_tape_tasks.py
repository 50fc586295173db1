"""The tapes as tasks: episodes are numbered, levels are mixed as announced, and the scores are the environments' own."""

import pytest
import torch

from envs.tapes import EXERCISES
from envs.tapes.algorithmic import LONGEST
from envs.tapes.play import PlayTapeConfig
from hardattn.contract import Answer, Played, Trace
from hardattn.rollout import play

ALL = sorted(EXERCISES)


def perfect(question):
    """Someone who knows the target, and writes it while the head goes anywhere."""
    state = question.reset()

    def act(i, seen):
        symbol = state.target[:, min(i, state.target.shape[1] - 1)].clamp(min=0)
        return torch.stack([torch.ones_like(symbol), torch.ones_like(symbol), symbol], 1).float()

    return play(question, act)


def answer_of(episodes):
    return Answer(episodes.reward.sum(0), Trace(rewards=episodes.reward.T))


@pytest.mark.parametrize("exercise", ALL)
def test_who_knows_the_target_makes_no_error_and_reaches_the_threshold(exercise):
    task = PlayTapeConfig(exercise, frozen=100).build()
    for split in ("validation", "test", *task.parts):
        (batch,) = task.batches(split, batch_size=200)
        assert isinstance(batch.question, Played)
        score = task.score(answer_of(perfect(batch.question)), batch)
        assert (score["error"] == 0).all() and score["error"].shape == (100,)
        if split == "test":
            assert score["return"].mean() > task.solved_at - 0.3  # of a sample of levels
            assert task.threshold == LONGEST or score["return"].mean() < task.solved_at + 4


@pytest.mark.parametrize("exercise", ALL)
def test_nobody_plays_longer_than_the_limit(exercise):
    task = PlayTapeConfig(exercise, frozen=64, levels=(LONGEST,)).build()
    (batch,) = task.batches(task.parts[0], batch_size=64)
    idle = play(batch.question, lambda i, seen: torch.zeros(64, 3))
    assert idle.terminated.any(0).all() and len(idle.reward) <= batch.question.limit
    score = task.score(answer_of(idle), batch)
    assert (score["return"] == -1).all() and (score["error"] == 100).all()


def test_one_fault_is_an_error():
    task = PlayTapeConfig("Copy", frozen=10).build()
    (batch,) = task.batches("level-5", batch_size=10)
    target = batch.question.reset().target

    def act(i, seen):
        symbol = (target[:, i].clamp(min=0) + (torch.arange(10) < 4) * (i == 3)) % 5
        return torch.stack([torch.ones(10), torch.ones(10), symbol.float()], 1)

    score = task.score(answer_of(play(batch.question, act)), batch)
    assert (score["return"][:4] == 2.5).all() and (score["return"][4:] >= 5).all()
    assert (score["error"] == 100.0 * (torch.arange(10) < 4)).all()


def test_levels_are_mixed_as_announced():
    task = PlayTapeConfig("Copy", skew=2.0).build()
    train = next(task.batches("train", batch_size=20000)).question.level
    assert train.min() == 2 and train.max() == LONGEST and 0.48 < (train < 2 + 29 / 4).float().mean() < 0.54
    even = task.scenes("validation", torch.arange(20000)).question.level
    assert torch.bincount(even)[2:].float().std() < 60 and len(torch.bincount(even)) == LONGEST + 1
    (test,) = task.batches("test", batch_size=500)
    assert (test.question.level == task.threshold).all() and task.threshold == 24
    (part,) = task.batches("level-10", batch_size=500)
    length = part.question.reset().columns
    assert set(length.tolist()) == {10, 11, 12}
    assert PlayTapeConfig("DuplicatedInput").build().threshold == 18


def test_levels_rise_with_the_number_of_the_episode():
    task = PlayTapeConfig("Copy", top=11, ramp=1000).build()
    level = torch.cat([b.question.level for b, _ in zip(task.batches("train", batch_size=100), range(15))])
    highest = level.view(15, 100).amax(1)
    assert (highest[:10] == torch.arange(2, 12)).all() and (highest[10:] == 11).all() and level[-500:].min() == 2
    assert task.scenes("validation", torch.arange(500)).question.level.max() == 11
    assert torch.equal(task.scenes("train", torch.arange(700, 800)).question.level, level[700:800])


def test_exploring_starts_are_near_the_end_of_the_tape_and_in_training_only():
    task = PlayTapeConfig("Reverse", top=3, exploring_starts=0.5).build()
    state = task.scenes("train", torch.arange(20000)).question.reset()
    column, row = state.head.unbind(1)
    assert (row == 0).all() and (column >= 0).all() and (column <= state.columns).all()
    for columns in (4, 5):  # half at the beginning, a quarter on the blank, an eighth two cells before it, and so on
        found = torch.bincount(column[state.columns == columns], minlength=columns + 1).float()
        near = torch.tensor([0.25, 0, 0.125, 0.0625, 0.03125])[:columns]
        expected = torch.cat([torch.zeros(columns + 1 - len(near)), near.flip(0)])
        expected[0] += 1 - expected.sum()
        torch.testing.assert_close(found / found.sum(), expected, atol=0.03, rtol=0)
    assert (state.written == 0).all() and (state.action[column == 0] == -1).all()
    assert (state.action[column > 0] == torch.tensor([1, 0, 0])).all()  # it came from the left and wrote nothing
    assert (task.scenes("validation", torch.arange(100)).question.reset().head == 0).all()
    usual = PlayTapeConfig("Reverse", top=3).build().scenes("train", torch.arange(100)).question.reset()
    assert (usual.head == 0).all() and torch.equal(usual.tape, state.tape[:100])


def test_exploring_starts_of_repeat_copy_begin_any_copy_where_it_begins():
    task = PlayTapeConfig("RepeatCopy", top=4, exploring_starts=0.6).build()
    question = task.scenes("train", torch.arange(3000)).question
    state = question.reset()
    n, copy = state.columns, state.written // state.columns
    assert torch.equal(state.written, copy * n)
    assert torch.equal(state.head[:, 0], torch.stack([torch.zeros_like(n), n, -torch.ones_like(n)])[copy, torch.arange(3000)])
    torch.testing.assert_close(torch.bincount(copy) / 3000, torch.tensor([0.6, 0.2, 0.2]), atol=0.03, rtol=0)
    before = torch.where(copy > 0, state.target.gather(1, (copy * n - 1).clamp(min=0)[:, None])[:, 0], -1)
    assert torch.equal(state.action, torch.stack([torch.tensor([-1, 1, 0])[copy], torch.tensor([-1, 1, 1])[copy], before], 1))
    way = torch.tensor([1, -1, 1])[copy]
    for step in range(int(n.max())):  # who walks on and writes what is seen makes no mistake until the copy is complete
        there = step < n
        place = (
            state.head + torch.stack([way * (copy > 0), torch.zeros_like(way)], 1)
            if step == 0
            else place + torch.stack([way, torch.zeros_like(way)], 1)
        )
        wanted = state.target.gather(1, (copy * n + step).clamp(max=state.target.shape[1] - 1)[:, None])[:, 0]
        assert (task.tape.cell(state, place) == wanted)[there].all()


def test_what_is_seen_is_the_symbol_and_the_last_move():
    task = PlayTapeConfig("Copy").build()
    question = task.scenes("train", torch.arange(4)).question
    state = question.reset()
    first = question.observe(state)
    assert first.shape == (4, task.spec.seen) and task.spec.seen == 6 + 2 + 2 + 5 and task.spec.choices == (2, 2, 5)
    assert torch.equal(first[:, :6].argmax(1), state.tape[:, 0, 0]) and (first.sum(1) == 1).all()
    state, *_ = question.step(state, torch.tensor([[1.0, 0, 3], [0, 1, 3], [1, 1, 0], [0, 0, 4]]))
    seen = question.observe(state)
    assert seen[:, 6:8].tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]
    assert seen[:, 8:10].tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert seen[:, 10:].tolist() == [[0] * 5, [0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [0] * 5]
    blind = PlayTapeConfig("Copy", last=False).build()
    assert blind.spec.seen == 6 and blind.scenes("train", torch.arange(4)).question.observe(state).shape == (4, 6)


def test_an_episode_is_a_function_of_its_number():
    task = PlayTapeConfig("RepeatCopyFixed", frozen=30).build()
    whole = task.scenes("train", torch.arange(8), seed=3).question.reset()
    part = task.scenes("train", torch.arange(2, 5), seed=3).question.reset()
    assert torch.equal(whole.tape[2:5], part.tape) and torch.equal(whole.target[2:5], part.target)
    assert not torch.equal(task.scenes("train", torch.arange(8), seed=4).question.reset().tape, whole.tape)
    assert [len(b.target) for b in task.batches("validation", batch_size=20)] == [20, 10]
    repeated = task.scenes("train", torch.arange(8), seed=3).question
    again = repeated._replace(key=repeated.key.repeat(2)).reset()
    assert torch.equal(again.tape[:8], again.tape[8:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exercise": "Cpy"}, "exercise must be one of Copy"),
        ({"top": 1}, "top must be from 2 to 30"),
        ({"top": 31}, "top must be from 2 to 30"),
        ({"levels": (2, 40)}, "levels must be from 1 to 30"),
        ({"skew": 0.0}, "skew must be above 0"),
        ({"frozen": 0}, "frozen must be at least 1"),
        ({"ramp": 0}, "ramp must be at least 1"),
        ({"exploring_starts": 1.5}, "exploring_starts is a share"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PlayTapeConfig(**options)


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match=r"parts level-2, .*found 'level-3'"):
        PlayTapeConfig().build().size("level-3")
