import numpy as np
import pytest
import torch

from envs.views import VIEWS, cells

CLASSES, GRID = 10, 3


@pytest.fixture(params=VIEWS)
def view(request):
    return VIEWS[request.param](CLASSES, GRID)


def test_every_sample_is_read(view):
    view.space.seed(0)
    for _ in range(50):
        move, answer = view.decode(view.space.sample())
        assert move.shape == (1, 2) and move.abs().max() <= 1
        assert answer.shape == (1,) and 0 <= answer <= CLASSES


def test_cells_lie_row_by_row_from_border_to_border():
    assert cells(3).tolist() == [[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert cells(1).tolist() == [[0, 0]]


def test_cells_tile_the_canvas_where_side_divides_it():
    """5 x 5 windows of 8 pixels cover 40 x 40 pixels once each, because a gaze of 1 puts the window into the corner."""
    from envs.digits import DigitsConfig
    from hardattn.glimpse import window_corners

    eye = DigitsConfig(scales=1).eye
    corners = window_corners(torch.from_numpy(cells(5)), size=(40, 40), reach=eye.reach, widths=(eye.side,))
    assert sorted(map(tuple, corners[:, 0].tolist())) == [(x, y) for x in range(0, 40, 8) for y in range(0, 40, 8)]


def test_what_actions_mean():
    move, answer = VIEWS["dict"](CLASSES, GRID).decode({"gaze": np.array([0.5, -2.0], np.float32), "label": 3})
    assert move.tolist() == [[0.5, -2.0]] and answer.tolist() == [3]
    move, answer = VIEWS["box"](CLASSES, GRID).decode(np.array([0.5, -0.25]))
    assert move.tolist() == [[0.5, -0.25]] and answer.tolist() == [CLASSES]
    move, answer = VIEWS["multidiscrete"](CLASSES, GRID).decode(np.array([[0, 10], [5, 2]]), 2)
    assert move.tolist() == [[-1, -1], [1, 0]] and answer.tolist() == [10, 2]
    move, answer = VIEWS["discrete"](CLASSES, GRID).decode(np.array([2, 8, 9, 18]), 4)
    assert move[:2].tolist() == [[1, -1], [1, 1]] and answer.tolist() == [10, 10, 0, 9]


def test_tensors_and_lists_mean_the_same_as_arrays(view):
    view.space.seed(1)
    action = view.space.sample()
    as_tensor = {k: torch.as_tensor(v) for k, v in action.items()} if isinstance(action, dict) else torch.as_tensor(action)
    as_list = {k: v.tolist() for k, v in action.items()} if isinstance(action, dict) else action.tolist()
    for other in (as_tensor, as_list):
        for ours, theirs in zip(view.decode(action), view.decode(other)):
            assert torch.equal(ours, theirs)


def test_what_is_read_is_a_copy():
    action = np.zeros((2, 2), np.float32)
    move, _ = VIEWS["box"](CLASSES, GRID).decode(action, 2)
    action[:] = 1
    assert move.tolist() == [[0, 0], [0, 0]]


GAZE = np.zeros(2, np.float32)
WRONG = {
    "dict": [
        (GAZE, "a ndarray"),
        ({"gaze": GAZE}, "the keys ['gaze']"),
        ({"gaze": np.zeros(3, np.float32), "label": 0}, r"gaze of shape (3,) instead of (2,)"),
        ({"gaze": np.zeros(2, np.int64), "label": 0}, "gaze of dtype int64"),
        ({"gaze": np.array([0, np.nan]), "label": 0}, "gaze that is not finite: nan at [1]"),
        ({"gaze": np.array([np.inf, 0]), "label": 0}, "gaze that is not finite: inf at [0]"),
        ({"gaze": [[0.0], [0.0, 1.0]], "label": 0}, "gaze that makes no array"),
        ({"gaze": GAZE, "label": 11}, "label outside 0 to 10: 11"),
        ({"gaze": GAZE, "label": -1}, "label outside 0 to 10: -1"),
        ({"gaze": GAZE, "label": 1.0}, "label of dtype float64"),
        ({"gaze": GAZE, "label": True}, "label of dtype bool"),
        ({"gaze": GAZE, "label": np.array([1])}, "label of shape (1,) instead of ()"),
    ],
    "box": [
        (np.zeros((1, 2), np.float32), "gaze of shape (1, 2)"),
        ({"gaze": GAZE}, "gaze of shape ()"),
        (np.array([1e300, 0]), "not finite"),
    ],
    "multidiscrete": [
        (np.array([9, 0]), "action outside 0 to 8: 9 at [0]"),
        (np.array([0, 11]), "action outside 0 to 10: 11 at [1]"),
        (np.zeros(2), "dtype float64"),
    ],
    "discrete": [
        (19, "action outside 0 to 18: 19"),
        (np.array([1, 2]), "shape (2,)"),
        (0.0, "dtype float64"),
        ("a", "dtype <U1"),
    ],
}


@pytest.mark.parametrize(("name", "action", "found"), [(name, *case) for name, cases in WRONG.items() for case in cases])
def test_a_wrong_action_is_named_beside_its_space(name, action, found):
    view = VIEWS[name](CLASSES, GRID)
    with pytest.raises(ValueError) as problem:
        view.decode(action)
    assert str(view.space) in str(problem.value)
    assert found in str(problem.value)


def test_in_a_batch_the_environment_is_named():
    with pytest.raises(ValueError, match=r"expected 3 actions in Discrete\(19\), found action outside 0 to 18: 20 at \[1\]"):
        VIEWS["discrete"](CLASSES, GRID).decode(np.array([0, 20, 0]), 3)
    with pytest.raises(ValueError, match=r"shape \(2,\) instead of \(3,\)"):
        VIEWS["discrete"](CLASSES, GRID).decode(np.array([0, 0]), 3)
