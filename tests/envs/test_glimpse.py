"""The episode must keep its timeline, and nobody may know more than was looked at."""

import pytest
import torch

from envs.glimpse import Eye, Rules, ask, observe, reset, step
from hardattn.glimpse import direct_retina, retina, summed_area_table
from hardattn.noise import keys

B, CLASSES = 4, 3
SIZES = {"side": 2, "scales": 2, "zoom": 2, "reach": (2.0, 3.0)}
EYE = Eye(**SIZES)
WAIT = torch.full((B,), CLASSES)
TARGET = torch.tensor([0, 1, 2, 0])


def question(image=None, gaze=None, eye=EYE):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(B, 1, 6, 8, generator=generator) if image is None else image
    gaze = 2 * torch.rand(B, 2, generator=generator) - 1 if gaze is None else gaze
    return ask(image, gaze, keys(0, "q", torch.arange(B)), eye)


def moves(count):
    return 2 * torch.rand(count, B, 2, generator=torch.Generator().manual_seed(1)) - 1


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_look_is_the_retina_that_the_eye_describes(pool):
    asked = question(eye=EYE._replace(pool=pool))
    gaze = moves(3)
    expected = (
        retina(summed_area_table(asked.image, block=2), gaze, **SIZES)
        if pool == "mean"
        else direct_retina(asked.image, gaze, **SIZES)
    )
    assert torch.equal(asked.look(gaze), expected)


def test_a_large_image_gets_no_table_and_looks_the_same():
    """Its table would cost more than all looks, and hard attention's cost must not grow with the image."""
    image, gaze, key = torch.rand(1, 1, 300, 300), torch.rand(1, 2), keys(0, "q", torch.arange(1))
    eye = EYE._replace(reach=(140.0, 140.0))
    large = ask(image, gaze, key, eye)
    assert large.table is None and question().table is not None
    table = summed_area_table(image, block=eye.coarsest)
    expected = retina(table, gaze, side=eye.side, scales=eye.scales, zoom=eye.zoom, reach=eye.reach)
    torch.testing.assert_close(large.look(gaze), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("glimpses", [1, 2, 5])
def test_t_glimpses_are_t_minus_one_moves_and_an_answer(glimpses):
    rules = Rules(glimpses, CLASSES, glimpse_cost=0.25)
    asked = question()
    state, seen = reset(asked, TARGET, rules)
    assert torch.equal(seen.gaze, asked.gaze) and torch.equal(seen.glimpse, asked.look(asked.gaze))
    for i, move in enumerate(moves(glimpses - 1)):
        assert (seen.time == (i + 1) / glimpses).all()
        state, seen, outcome = step(state, move, TARGET, rules)  # the answers are not read yet
        assert torch.equal(seen.gaze, move) and torch.equal(seen.glimpse, asked.look(move))
        assert (outcome.reward == -0.25).all() and not outcome.terminated.any() and not outcome.truncated.any()
    assert (seen.time == 1).all()
    answer = torch.tensor([0, 1, 0, CLASSES])
    state, after, outcome = step(state, -seen.gaze, answer, rules)
    assert same(after, seen), "the move after the last glimpse was made"
    assert outcome.reward.tolist() == [1, 1, 0, 0]
    assert outcome.terminated.tolist() == [True, True, True, False]
    assert outcome.truncated.tolist() == [False, False, False, True]


def test_an_early_answer_ends_its_own_episode_only():
    rules = Rules(3, CLASSES, early_answer=True, glimpse_cost=0.5)
    state, seen = reset(question(), TARGET, rules)
    answer = torch.tensor([0, 0, CLASSES, CLASSES])
    move = moves(1)[0]
    after, then, outcome = step(state, move, answer, rules)
    assert outcome.reward.tolist() == [1, 0, -0.5, -0.5]
    assert outcome.terminated.tolist() == [True, True, False, False] and not outcome.truncated.any()
    assert same([x[:2] for x in then], [x[:2] for x in seen])
    assert torch.equal(then.gaze[2:], move[2:]) and after.seen.tolist() == [1, 1, 2, 2]


def test_relative_moves_add_up_and_are_no_longer_than_allowed():
    rules = Rules(9, CLASSES, gaze_mode="relative", max_move=0.3)
    start = torch.tensor([[0.0, 0.0], [0.5, -0.5], [0.9, 0.9], [-1.0, 1.0]])
    state, _ = reset(question(gaze=start), TARGET, rules)
    move = torch.tensor([[0.5, 0.0], [30.0, 40.0], [1.0, 0.0], [0.0, 0.0]])
    expected = torch.tensor([[0.15, 0.0], [0.5 + 0.18, -0.5 + 0.24], [1.0, 0.9], [-1.0, 1.0]])
    state, seen, _ = step(state, move, WAIT, rules)
    torch.testing.assert_close(seen.gaze, expected)
    state, seen, _ = step(state, -move, WAIT, rules)
    torch.testing.assert_close(seen.gaze[:2], start[:2])


def test_places_outside_are_brought_to_the_border():
    rules = Rules(3, CLASSES)
    far = torch.tensor([[3.0, 0.5], [-9.0, 9.0], [0.0, -1.5], [1.0, 1.0]])
    state, seen = reset(question(gaze=far), TARGET, rules)
    border = torch.tensor([[1.0, 0.5], [-1.0, 1.0], [0.0, -1.0], [1.0, 1.0]])
    assert torch.equal(seen.gaze, border)
    _, seen, _ = step(state, far, WAIT, rules)
    assert torch.equal(seen.gaze, border) and torch.equal(seen.glimpse, state.question.look(border))


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pixels_never_looked_at_change_nothing(pool):
    """Everything outside the widest window of 4 x 4 around the path is set to noise."""
    rules, path = Rules(3, CLASSES), moves(3)
    plain = question(gaze=path[0], eye=EYE._replace(pool=pool))
    image = 100 * torch.randn(B, 1, 6, 8)
    for i in range(B):
        for x, y in path[:, i].tolist():
            left, top = int((4 + 3 * x - 2 + 0.5) // 1), int((3 + 2 * y - 2 + 0.5) // 1)
            rows, columns = slice(max(top, 0), top + 4), slice(max(left, 0), left + 4)
            image[i, :, rows, columns] = plain.image[i, :, rows, columns]
    assert not torch.equal(image, plain.image)
    for asked in (plain, question(image, path[0], EYE._replace(pool=pool))):
        state, seen = reset(asked, TARGET, rules)
        history = [seen]
        for move in path[1:]:
            state, seen, _ = step(state, move, WAIT, rules)
            history.append(seen)
        if asked is plain:
            expected = history
    for one, other in zip(history, expected):
        torch.testing.assert_close(
            one.glimpse, other.glimpse, rtol=0, atol=400 * 2.0**-24
        )  # the table's unit is that of the noise
        assert same(one[1:], other[1:])


def test_observations_are_blind_to_targets():
    rules = Rules(2, CLASSES, early_answer=True)
    seen = []
    for target in (TARGET, TARGET.flip(0)):
        state, first = reset(question(), target, rules)
        _, second, _ = step(state, moves(1)[0], WAIT, rules)
        seen.append((*first, *second))
    assert same(*seen)


def test_a_state_can_be_stepped_from_again():
    rules = Rules(4, CLASSES)
    state, _ = reset(question(), TARGET, rules)
    one, other = moves(2)
    first = step(state, one, WAIT, rules)
    step(state, other, WAIT, rules)
    again = step(state, one, WAIT, rules)
    assert same(first[1], again[1]) and same(first[2], again[2])
    assert same(observe(first[0], rules), first[1])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"glimpses": 0}, "at least 1 glimpse, found glimpses=0"),
        ({"classes": 0}, "at least 1 class, found classes=0"),
        ({"max_move": 0.0}, "max_move must be above 0 and finite, found 0.0"),
        ({"gaze_mode": "polar"}, "polar"),
    ],
)
def test_rules_that_make_no_game_are_refused(settings, complaint):
    with pytest.raises(Exception, match=complaint):
        Rules(**settings)


@pytest.mark.parametrize("culprit", ["side", "scales", "zoom"])
def test_an_eye_that_makes_no_retina_is_refused(culprit):
    for pool in ("mean", "max"):
        with pytest.raises(ValueError, match=culprit):
            question(eye=EYE._replace(pool=pool, **{culprit: 0}))
