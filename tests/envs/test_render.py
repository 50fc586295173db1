from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from envs.render import PATH, RIGHT, SCALES, WRONG
from envs.single import GlimpseEnv
from envs.vector import GlimpseVectorEnv


def act(x: float = 0.0, y: float = 0.0, label: int = 10) -> dict:
    return {"gaze": np.array([x, y], np.float32), "label": label}


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of the pixels that have exactly this colour."""
    return np.argwhere((picture == colour).all(-1))


@pytest.mark.parametrize(
    "task", [{}, {"height": 60, "width": 28, "scales": 3, "side": 6}, {"height": 28, "width": 28, "scales": 1}]
)
def test_pictures_of_a_task_make_a_film(task):
    env = GlimpseEnv({"glimpses": 12, **task}, render_mode="rgb_array")
    env.action_space.seed(0)
    env.reset(seed=0)
    pictures = [env.render()]
    for _ in range(11):
        env.step({**env.action_space.sample(), "label": 10})
        env.belief = np.full(10, 0.1)
        pictures.append(env.render())
    assert all(picture.dtype == np.uint8 and picture.shape == pictures[0].shape for picture in pictures)
    height, width, channels = pictures[0].shape
    assert channels == 3 and 300 <= height <= 600 and 400 <= width <= 800 and height % 2 == width % 2 == 0
    assert all((one != other).any() for one, other in pairwise(pictures))


def test_the_fovea_is_drawn_where_the_eye_looks():
    env = GlimpseEnv({"scales": 1}, render_mode="rgb_array")  # a canvas of 40 x 40 pixels, a window of 8 x 8, reach 16
    env.reset(seed=0)

    def window():
        picture = env.render()
        rows, columns = where(picture[:, : picture.shape[1] - 240], SCALES[0]).T  # without the panel
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1

    env.step(act(-1.0, -1.0))
    left, top, right, bottom = window()
    size = right - left
    assert size == bottom - top and size % 8 == 0  # pixels enlarged by a whole number
    for x, y in ((1.0, 1.0), (0.0, 0.5)):
        env.step(act(x, y))
        assert window() == tuple(v + 2 * size * (1 + g) for v, g in zip((left, top, right, bottom), (x, y, x, y)))


def test_fixations_are_drawn_where_the_eye_was():
    env = GlimpseEnv({"scales": 1}, render_mode="rgb_array")
    for seed in (0, 1):  # the second episode begins elsewhere
        gazes = [env.reset(seed=seed)[0]["gaze"], (-1.0, 1.0), (0.75, -1.0), (1.0, 0.5)]
        for gaze in gazes[1:]:
            env.step(act(*gaze))
        picture = env.render()
        # 40 pixels and a margin of 1 on either side, enlarged 9 times; a gaze of 1 lies 16 pixels from the middle.
        middle, unit = np.array([picture.shape[0] / 2, 16 + 42 * 9 / 2]), 16 * 9
        for i, (x, y) in enumerate(gazes):
            row, column = np.rint(middle + unit * np.array([y, x])).astype(int)
            disc = picture[row - 8 : row + 9, column - 8 : column + 9]
            assert len(where(disc, PATH if i < 3 else SCALES[0])) > 80, (seed, i)


def test_every_scale_is_drawn():
    env = GlimpseEnv({"scales": 3}, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(act(0.3, 0.3))
    sizes = [np.ptp(where(env.render()[:, :416], colour)[:, 1]) for colour in SCALES[:3]]
    assert sizes[0] < sizes[1] < sizes[2]
    assert not len(where(env.render(), SCALES[3]))


def test_the_path_grows_and_reset_clears_it():
    env = GlimpseEnv(render_mode="rgb_array")
    env.reset(seed=0)
    blue = [len(where(env.render(), PATH))]
    for gaze in ((-1, -1), (1, -1), (1, 1)):
        env.step(act(*gaze))
        blue.append(len(where(env.render(), PATH)))
    assert blue[0] == 0 and all(one < other for one, other in pairwise(blue))
    env.reset()
    assert len(where(env.render(), PATH)) == 0


@pytest.mark.parametrize("right", [True, False])
def test_belief_and_answer_are_drawn(right):
    env = GlimpseEnv({"glimpses": 1}, render_mode="rgb_array")
    _, info = env.reset(seed=0)
    target = info["target"]
    without = len(where(env.render(), RIGHT))
    areas = []
    for probability in (0.2, 0.8):
        env.belief = np.where(np.arange(10) == target, probability, (1 - probability) / 9)
        areas.append(len(where(env.render(), RIGHT)) - without)
    assert areas[1] == pytest.approx(4 * areas[0], rel=0.1)
    red = len(where(env.render(), WRONG))
    env.step(act(label=target if right else (target + 1) % 10))
    assert (len(where(env.render(), WRONG)) > red) is not right
    env.reset()
    assert env.belief is None
    assert len(where(env.render(), WRONG)) == red


def test_vectors_draw_every_environment_as_a_single_one_would():
    many = GlimpseVectorEnv(3, render_mode="rgb_array")
    many.reset(seed=0)
    belief = np.random.default_rng(0).dirichlet(np.ones(10), 3)
    pictures = []
    for i in range(3):
        env = GlimpseEnv(render_mode="rgb_array")
        env.reset(seed=i)
        env.step(act(0.5, -0.5))
        env.belief = belief[i]
        pictures.append(env.render())
    many.step({"gaze": np.tile(np.array([0.5, -0.5], np.float32), (3, 1)), "label": np.full(3, 10)})
    many.belief = belief
    drawn = many.render()
    assert isinstance(drawn, tuple) and len(drawn) == 3
    assert all(np.array_equal(one, other) for one, other in zip(drawn, pictures))


def test_autoreset_clears_paths_of_its_episodes_only():
    env = GlimpseVectorEnv(2, early_answer=True, render_mode="rgb_array")
    env.reset(seed=0)
    gaze = np.array([[-1, -1], [1, 1]], np.float32)
    env.step({"gaze": gaze, "label": np.array([10, 10])})
    env.step({"gaze": -gaze, "label": np.array([10, 0])})
    first, second = env.render()
    assert len(where(first, PATH)) and not len(where(second, PATH))


@pytest.mark.parametrize("belief", [np.ones(9) / 9, np.full(10, 2.0), np.full(10, np.nan)], ids=["shape", "large", "nan"])
def test_a_wrong_belief_is_refused(belief):
    env = GlimpseEnv(render_mode="rgb_array")
    env.reset(seed=0)
    env.belief = belief
    with pytest.raises(ValueError, match="a belief must hold 10 probabilities, found"):
        env.render()


def test_without_a_mode_it_says_how_to_get_one():
    env = gym.make("hardattn/Glimpse-v0").unwrapped
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
