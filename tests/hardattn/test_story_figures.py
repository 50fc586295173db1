"""A sheet of stories must show which sentence was read, by which hop, and whether the answer was right."""

import numpy as np
import pytest
import torch

from hardattn.figures import style
from hardattn.figures.stories import LEAST, _check, _lines, story_hops

TOLD = ["john went to the garden", "mary moved to the hallway", "daniel took the milk"]
"""The most recent first."""


def weights_of(b=1, hops=2, n=5, slot=0, weight=1.0):
    weights = torch.full((b, hops, n), (1 - weight) / (n - 1))
    weights[:, :, slot] = weight
    return weights


def colours(picture):
    return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def dark_rows(picture):
    """Heights at which there is the darkest cell."""
    darkest = np.array(style.BELIEF(1.0)[:3]) * 255
    return np.flatnonzero((np.abs(picture.astype(float) - darkest).max(-1) < 2).any(1))


def test_it_is_a_picture_of_bytes():
    picture = story_hops([TOLD], ["where is mary?"], weights_of())
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_the_sentence_that_is_read_is_dark_and_the_oldest_stands_on_top():
    rows = [dark_rows(story_hops([TOLD], ["where is mary?"], weights_of(slot=slot))).mean() for slot in (2, 1, 0)]
    assert rows[0] < rows[1] < rows[2]


def test_lines_are_the_sentences_in_the_order_they_were_told():
    weights = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    lines = _lines(TOLD, weights, torch.tensor([False, True, False]), 12)
    assert [text for text, *_ in lines] == TOLD[::-1]
    assert [supporting for _, _, supporting, _ in lines] == [False, True, False]
    assert torch.tensor([read for *_, read in lines]).flip(0).allclose(weights.T)


def test_what_is_read_where_no_sentence_is_has_a_line():
    *told, nothing = _lines(TOLD, torch.tensor([[0.4, 0.1, 0.1, 0.2, 0.2]]), None, 12)
    assert len(told) == 3 and nothing[:3] == ("no sentence", False, False) and nothing[3] == [pytest.approx(0.4)]
    assert len(_lines(TOLD, torch.tensor([[0.5, 0.25, 0.25, 0.6 * LEAST, 0.0]]), None, 12)) == 3
    assert [text for text, *_ in _lines([], torch.tensor([[0.0, 0.0]]), None, 12)] == ["no sentence"]


def test_of_a_long_story_the_sentences_that_count_are_shown():
    told = [f"sentence {i}" for i in range(40)]
    weights = torch.zeros(2, 50)
    weights[0, 3], weights[0, 20], weights[1, 30], weights[1, 5] = 0.7, 0.3, 0.8, 0.2
    supports = torch.zeros(50, dtype=torch.bool)
    supports[10] = True
    lines = _lines(told, weights, supports, 10)
    assert [text for text, *_ in lines] == [
        "… 9 sentences",
        "sentence 30",
        "… 9 sentences",
        "sentence 20",
        "… 9 sentences",
        "sentence 10",
        "… 4 sentences",
        "sentence 5",
        "sentence 4",  # a line that says that one is left out would be as long
        "sentence 3",
        "… 3 sentences",
    ]
    assert torch.tensor([read for *_, read in lines]).sum(0).tolist() == pytest.approx([1.0, 1.0])
    assert sum(told for _, told, *_ in _lines(told, torch.full((1, 50), 0.1), None, 4)) <= 4 + 3


def test_right_and_wrong_answers_differ_and_facts_are_marked():
    some = {"sentences": [TOLD], "questions": ["where is mary?"], "weights": weights_of()}
    supports = torch.tensor([[False, True, False, False, False]])
    bare, right, wrong = (
        colours(story_hops(**some, **more))
        for more in ({}, {"given": ["hallway"], "right": ["hallway"]}, {"given": ["garden"], "right": ["hallway"]})
    )
    assert rgb(style.RIGHT) in right - bare and rgb(style.WRONG) in wrong - bare and rgb(style.WRONG) not in right
    assert rgb(style.RIGHT) in colours(story_hops(**some, supports=supports)) - bare


def test_sheets_grow_with_stories_and_titles():
    one = story_hops([TOLD], ["q?"], weights_of())
    two = story_hops([TOLD, TOLD[:1]], ["q?", "q?"], weights_of(b=2), title="Hops")
    assert two.shape[0] > one.shape[0] + 50 and two.shape[1] >= one.shape[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": torch.zeros(0, 2, 5), "sentences": [], "questions": []}, "there must be something to draw"),
        ({"weights": torch.zeros(1, 0, 5)}, "there must be something to draw"),
        ({"questions": []}, "weights of 1 stories need as many questions, found 0"),
        ({"given": ["a", "b"]}, "need as many given, found 2"),
        ({"supports": torch.zeros(1, 4, dtype=torch.bool)}, r"need supports \(1, 5\), found \(1, 4\)"),
        ({"sentences": [["a"] * 6]}, "weights of 5 slots cannot be those of a story of 6 sentences"),
        ({"lines": 0}, "lines must be at least 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, words):
    """Asked of the check itself: the annotations refuse some of this before it does, but only in tests."""
    some = {"sentences": [TOLD], "questions": ["where is mary?"], "weights": weights_of()}
    with pytest.raises(ValueError, match=words):
        _check(**some | {"given": None, "right": None, "supports": None, "lines": 12} | change)
