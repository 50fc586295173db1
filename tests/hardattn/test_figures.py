"""A picture is a claim about what was looked at: these tests read the claims back from tensors, boxes, pixels and files."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from hardattn import figures
from hardattn.figures import Bar, Curve, Dot, Looks, style
from hardattn.figures.animation import _timetable
from hardattn.figures.charts import _side_by_side
from hardattn.figures.maps import _check
from hardattn.figures.seen import widths
from hardattn.figures.sheets import spread
from hardattn.glimpse import direct_retina, retina, summed_area_table


class Eye:
    def __init__(self, side=4, scales=2, zoom=2, reach=(8.0, 8.0)):
        self.side, self.scales, self.zoom, self.reach = side, scales, zoom, reach


def look(images, gaze, eye, belief=None, target=None, sensor=None):
    """What the library's own retina delivers, as an environment would have it."""
    sizes = {"side": eye.side, "scales": eye.scales, "zoom": eye.zoom, "reach": eye.reach}
    if sensor is direct_retina:
        glimpses = direct_retina(images, gaze.transpose(0, 1), **sizes)
    else:
        glimpses = retina(summed_area_table(images, block=eye.zoom ** (eye.scales - 1)), gaze.transpose(0, 1), **sizes)
    return Looks(images, glimpses.transpose(0, 1), gaze, eye, belief, target)


def scenes(b=2, c=1, h=20, w=20, t=3, n=5, eye=None, bare=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    eye = eye or Eye()
    images, gaze = torch.rand(b, c, h, w, generator=g), 2 * torch.rand(b, t, 2, generator=g) - 1
    belief = torch.randn(b, t, n, generator=g).softmax(-1)
    target = torch.arange(b) % n
    return look(images, gaze, eye) if bare else look(images, gaze, eye, belief, target)


# What has been seen


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 17), (24, 5), (24, 30), (11, 16)])
@pytest.mark.parametrize("zoom", [2, 3])
def test_a_bright_pixel_is_put_back_where_it_was(row, column, zoom):
    h, w = 25, 31
    eye = Eye(side=5, scales=2, zoom=zoom, reach=(h / 2, w / 2))
    images = torch.zeros(1, 1, h, w)
    images[0, 0, row, column] = 1.0
    gaze = torch.tensor([[[(column + 0.5) / w, (row + 0.5) / h]]]) * 2 - 1
    seen = figures.reconstruct(look(images, gaze, eye))
    assert seen.canvas[0, 0, 0].argmax() == row * w + column
    assert seen.canvas[0, 0, 0, row, column] == 1 and seen.scale[0, 0, row, column] == 0


def test_a_window_over_the_whole_image_gives_the_image():
    images = torch.rand(3, 3, 16, 16)
    seen = figures.reconstruct(look(images, torch.zeros(3, 2, 2), Eye(side=16, scales=1)))
    assert torch.allclose(seen.canvas, images[:, None].expand(-1, 2, -1, -1, -1), atol=1e-6)
    assert (seen.scale == 0).all()


def test_every_pixel_holds_the_block_that_covered_it_finest_and_latest():
    looks = scenes(b=2, c=2, h=9, w=14, t=3, eye=Eye(side=3, scales=3, zoom=2, reach=(4.0, 6.0)))
    seen = figures.reconstruct(looks)
    expected = torch.zeros(2, 3, 2, 9, 14)
    best = torch.full((2, 3, 9, 14), 3)
    corners, patches = looks.corners.tolist(), looks.patches
    for b, t, y, x in np.ndindex(2, 3, 9, 14):
        for before in range(t + 1):
            for k in range(3):
                left, top = corners[b][before][k]
                j, i = (y - top) // 2**k, (x - left) // 2**k
                if 0 <= j < 3 and 0 <= i < 3 and k <= best[b, t, y, x]:
                    best[b, t, y, x] = k
                    expected[b, t, :, y, x] = patches[b, before, k, :, j, i]
    assert torch.equal(seen.scale, best)
    assert torch.equal(seen.canvas, expected)


def test_nothing_is_known_of_what_was_never_looked_at():
    looks = scenes(b=1, h=40, w=40, t=2, eye=Eye(side=4, scales=2, reach=(10.0, 10.0)))
    unseen = figures.reconstruct(looks).scale[0, -1] == 2
    assert 0 < unseen.sum() < 1600
    images = torch.where(unseen, 1 - looks.images, looks.images)
    assert torch.equal(look(images, looks.gaze, looks.eye).glimpses, looks.glimpses)


def test_pooling_by_maximum_is_put_back_alike():
    images = torch.zeros(1, 1, 16, 16)
    images[0, 0, 2, 3] = 1.0
    seen = figures.reconstruct(look(images, torch.zeros(1, 1, 2), Eye(side=4, scales=3), sensor=direct_retina))
    assert seen.canvas[0, 0, 0, 0:4, 0:4].eq(1).all() and seen.canvas.sum() == 16


# What is drawn


def test_a_box_encloses_exactly_the_pixels_that_were_read():
    eye = Eye(side=3, scales=2, zoom=2, reach=(4.0, 6.0))
    images = torch.ones(1, 1, 11, 13)
    gaze = torch.tensor([[[0.13, -0.4]]])
    looks = look(images, gaze, eye)
    page = style.Page(2.0, 2.0, 100)
    coarse, fine = style.outline(page.picture(0.0, 0.0, 2.0, (11, 13)), looks.corners[0, 0].numpy(), widths(eye), "red")
    for k, box in enumerate((fine, coarse)):
        for y, x in np.ndindex(11, 13):
            darker = images.clone()
            darker[0, 0, y, x] = 0
            read = not torch.equal(look(darker, gaze, eye).patches[0, 0, k], looks.patches[0, 0, k])
            inside = 0 < x + 0.5 - box.get_x() < box.get_width() and 0 < y + 0.5 - box.get_y() < box.get_height()
            assert read == inside, (k, y, x)


def test_an_image_is_drawn_upright_and_pixel_for_pixel():
    image = torch.zeros(1, 1, 10, 20)
    image[0, 0, 2, 15] = 1.0
    page = style.Page(2.0, 1.0, 100)
    style.show(page.picture(0.0, 0.0, 2.0, (10, 20)), style.Display(image)(image[0]))
    bright = np.argwhere(page.pixels().min(-1) > 200)
    assert bright.min(0).tolist() == [20, 150] and bright.max(0).tolist() == [29, 159]


CASES = {
    "two scales": {},
    "colour, wide": {"c": 3, "h": 17, "w": 41},
    "tall, one scale, one glimpse, one scene": {"b": 1, "h": 33, "w": 9, "t": 1, "eye": Eye(scales=1)},
    "two channels, many glimpses": {"b": 1, "c": 2, "t": 12, "n": 2},
    "windows larger than the image": {"eye": Eye(side=30, scales=2)},
    "no belief, no target": {"bare": True},
    "a hundred classes": {"n": 100},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("draw", [figures.glimpse_paths, figures.reconstructions])
def test_sheets_draw_whatever_was_seen(draw, case):
    looks = scenes(**CASES[case])
    picture = draw(looks, dpi=40)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
    assert picture.std() > 10
    assert (
        draw(looks, title="A title that is longer than a narrow page of pictures would be", dpi=50).shape[1] >= picture.shape[1]
    )


@pytest.mark.parametrize("draw", [figures.glimpse_paths, figures.reconstructions])
def test_right_is_green_and_wrong_is_red(draw):
    looks = scenes(b=1, n=4)
    said = looks.belief[:, -1].argmax(-1)
    looks = looks._replace(belief=looks.belief[:, -1:].expand(-1, 3, -1))

    def holds(picture, colour):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        return bool((np.abs(picture.astype(int) - rgb).max(-1) < 4).any())

    right, wrong, open_ = (draw(looks._replace(target=target), dpi=80) for target in (said, (said + 1) % 4, None))
    assert holds(right, style.RIGHT) and not holds(right, style.WRONG)
    assert holds(wrong, style.WRONG) and not holds(wrong, style.RIGHT)
    assert not holds(open_, style.RIGHT) and not holds(open_, style.WRONG)


def test_parts_that_do_not_fit_are_named():
    looks = scenes()
    with pytest.raises(ValueError, match=r"need glimpses \(2, 3, 2, 4, 4\), found \(2, 3, 1, 4, 4\)"):
        figures.glimpse_paths(looks._replace(glimpses=looks.glimpses[:, :, :1]))
    with pytest.raises(ValueError, match="target"):
        figures.animate(looks._replace(target=torch.zeros(3, dtype=torch.long)))


def test_labels_keep_their_distance():
    points = np.array([[5.0, 5.0]] * 4 + [[5.1, 5.0], [0.0, 0.0], [0.0, 0.0]])
    apart = spread(points, 1.0, (10.0, 10.0), 0.5)
    between = np.linalg.norm(apart[:, None] - apart, axis=-1)[np.triu_indices(7, 1)]
    assert between.min() > 0.95 and apart.min() >= 0.5
    assert np.allclose(spread(np.array([[2.0, 2.0], [7.0, 8.0]]), 1.0, (10.0, 10.0), 0.5), [[2, 2], [7, 8]], atol=0.01)


def test_time_runs_from_dark_to_bright():
    brightness = style.time_colours(12) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > 0).all() and brightness[0] > 0.3


# Fixations over many scenes


@pytest.mark.parametrize("blur", [None, 0.0, 1.5])
def test_density_peaks_where_the_gaze_was(blur):
    gaze = torch.tensor([0.5, -0.25]).expand(30, 4, 2)
    density = figures.density(gaze, size=(20, 30), reach=(8.0, 12.0), blur=blur)
    assert divmod(int(density.argmax()), 30) == (8, 21)  # row 10 - 0.25 * 8, column 15 + 0.5 * 12
    assert density.mean().item() == pytest.approx(1.0, abs=1e-5)


def test_an_even_spread_has_density_one():
    y, x = torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij")
    gaze = torch.stack([(x + 0.5) / 6 - 1, (y + 0.5) / 4 - 1], -1)
    assert torch.allclose(figures.density(gaze, size=(8, 12), reach=(4.0, 6.0), blur=0.0), torch.ones(8, 12))


def test_the_heat_map_is_brightest_where_the_gaze_was():
    gaze = torch.tensor([-0.5, 0.5]).expand(50, 3, 2)
    picture = figures.heat_map(torch.zeros(50, 1, 40, 40), gaze, reach=(16.0, 16.0), dpi=100)
    panel = picture[55:395, 30:370].astype(float)  # 3.4 inches from (0.3, 0.55)
    row, column = np.argwhere(panel.sum(-1) == panel.sum(-1).max()).mean(0) / 8.5
    assert (row, column) == (pytest.approx(28.5, abs=0.7), pytest.approx(12.5, abs=0.7))


@pytest.mark.parametrize(("h", "w", "c", "t"), [(20, 50, 3, 6), (50, 20, 1, 1), (28, 28, 1, 4)])
def test_heat_maps_of_all_shapes(h, w, c, t):
    looks = scenes(b=5, c=c, h=h, w=w, t=t)
    alone, each = (figures.heat_map(looks.images, looks.gaze, reach=(9.0, 9.0), per_glimpse=p, dpi=50) for p in (False, True))
    assert (each.shape[1] > alone.shape[1]) == (t > 1)


# Animations


@pytest.mark.parametrize("case", CASES)
def test_an_animation_has_a_frame_for_every_moment(case):
    looks = scenes(**CASES[case])
    t = looks.gaze.shape[1]
    frames = figures.animate(looks, move=1, hold=2, end=3, dpi=40)
    assert len(frames) == len(_timetable(t, 1, 2, 3)) == 2 * t + (t - 1) + 3
    assert len({frame.shape for frame in frames}) == 1
    assert t == 1 or not np.array_equal(frames[0], frames[2])


def test_frames_do_not_depend_on_those_before():
    """What moves is drawn over a still ground: nothing of the last frame may shine through."""
    looks = scenes(b=1, t=2)
    back = looks._replace(gaze=looks.gaze.flip(1), glimpses=looks.glimpses.flip(1), belief=looks.belief.flip(1))
    there = figures.animate(looks, move=3, hold=1, end=0)
    again = figures.animate(looks, move=0, hold=1, end=0)
    assert np.array_equal(there[0], again[0]) and np.array_equal(there[-1], again[-1])
    assert not np.array_equal(figures.animate(back, move=0, hold=1, end=0)[0], again[0])


def test_long_names_of_classes():
    frames = figures.animate(scenes(n=3), names=["a hot dog", "no hot dog", "neither"], move=0, hold=1, end=1, dpi=50)
    assert len(frames) == 4


# Files


def frames_of_noise(count=7):
    g = np.random.default_rng(0)
    return [g.integers(0, 256, (24, 30, 3), dtype=np.uint8) for _ in range(count)]


def test_png_is_lossless(tmp_path):
    picture = frames_of_noise(1)[0]
    figures.save_png(tmp_path / "a.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_gif_has_all_frames_and_their_speed(tmp_path):
    figures.save_gif(tmp_path / "a.gif", frames_of_noise(), fps=10)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"], gif.info["loop"]) == (7, (30, 24), 100, 0)


def test_gif_shows_what_was_drawn():
    frames = figures.animate(scenes(), move=1, hold=2, end=2, dpi=60)
    with Image.open(io.BytesIO(figures.gif_bytes(frames))) as gif:
        total = 0
        for i in range(gif.n_frames):
            gif.seek(i)
            total += gif.info["duration"]
        last = np.asarray(gif.convert("RGB")).astype(int)
    assert total == pytest.approx(len(frames) * 80)
    assert np.abs(last - frames[-1]).mean() < 3
    assert ((last == 255).all(-1) == (frames[-1] == 255).all(-1)).mean() > 0.99


def test_frames_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        figures.gif_bytes([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)])
    with pytest.raises(ValueError, match="found 0 frames"):
        figures.gif_bytes([])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    old, new = frames_of_noise(2)
    figures.save_png(tmp_path / "a.png", old)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        figures.save_png(tmp_path / "a.png", new)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), old)


def test_tensorboard_gives_back_the_animation(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    frames = frames_of_noise(5)
    with SummaryWriter(str(tmp_path)) as writer:
        figures.add_animation(writer, "gaze", frames, step=30, fps=5)
        figures.add_figure(writer, "paths", frames[0], step=30)
    events = EventAccumulator(str(tmp_path)).Reload()
    (gif,), (png,) = events.Images("gaze"), events.Images("paths")
    assert (gif.step, gif.width, gif.height) == (30, 30, 24)
    with Image.open(io.BytesIO(gif.encoded_image_string)) as image:
        assert (image.format, image.n_frames) == ("GIF", 5)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.encoded_image_string))), frames[0])


# Charts


def test_learning_curves_of_all_kinds():
    steps = list(range(0, 1000, 100))
    falling = [90 * math.exp(-s / 300) + 2 for s in steps]
    curves = {
        "plain": Curve(steps, falling),
        "band": Curve(steps, falling, [v - 1 for v in falling], [v + 1 for v in falling]),
        "short": Curve(steps[:3], falling[:3]),
        "point": Curve([500], [50.0]),
        "broken": Curve(steps, [math.nan] * len(steps)),
        "empty": Curve([], []),
    }
    linear, log = (figures.learning_curves(curves, title="Error", log=log, dpi=60) for log in (False, True))
    assert linear.shape == log.shape and not np.array_equal(linear, log)
    assert figures.learning_curves({}, dpi=40).ndim == 3


def test_a_longer_bar_for_a_larger_error():
    picture = figures.error_bars([Bar("mean", 10.0, 10.0, 10.0), ("random", 40.0, 40.0, 40.0)], dpi=100)
    rgb = np.array([int(style.BAR[i : i + 2], 16) for i in (1, 3, 5)])
    lengths = sorted({int(n) for n in (np.abs(picture.astype(int) - rgb).max(-1) < 3).sum(1) if n > 20})
    assert lengths[-1] / lengths[0] == pytest.approx(4, rel=0.05)


def rgb_of(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def where(picture, colour):
    """(row, column) of all pixels of a colour."""
    return np.argwhere(np.abs(picture.astype(int) - rgb_of(colour)).max(-1) < 3)


def inside_of_dots(picture, count):
    """(row, column) of the middle of every dot in a chart of `count`; their numbers in the list have the same colours and are left out."""
    chart = picture[:, : int(6.3 * 100)]
    return [where(chart, style.SERIES[i]).mean(0) for i in range(count)]


def scatter_of(*dots):
    return figures.scatter([Dot(name, x, v, v, v) for name, x, v in dots], xlabel="cost", dpi=100)


def test_what_costs_more_stands_to_the_right_and_what_errs_more_stands_above():
    """On logarithmic scales: equal ratios are equal distances."""
    a, b, c = inside_of_dots(scatter_of(("a", 1.0, 1.0), ("b", 10.0, 4.0), ("c", 100.0, 16.0)), 3)
    assert a[0] > b[0] > c[0] and a[1] < b[1] < c[1]
    assert np.allclose(b - a, c - b, atol=1.5)


def test_an_error_of_zero_is_drawn_at_the_bottom():
    zero, one = inside_of_dots(scatter_of(("zero", 1.0, 0.0), ("one", 1.0, 5.0)), 2)
    assert zero[0] > one[0]
    assert figures.scatter([Dot("never", 3.0, 0.0, 0.0, 0.0)], xlabel="cost", dpi=50).std() > 5


def test_dots_that_would_cover_one_another_stand_side_by_side():
    pictures = [scatter_of(*[(str(i), 100.0, 2.0)] * n, ("far", 1.0, 9.0)) for i, n in ((0, 1), (1, 5))]
    alone = len(where(pictures[0][:, :630], style.SERIES[0]))
    five = [len(where(pictures[1][:, :630], style.SERIES[i])) for i in range(5)]
    assert alone > 50 and min(five) > 0.7 * alone
    moved = _side_by_side(np.array([[1.0, 1.0], [4.0, 1.0], [1.0, 1.1], [1.0, 1.0], [1.0, 2.0]]), 0.5)
    assert moved[0] == moved[1] == moved[4] == 0, "those that are free stay"
    assert 0.4 < abs(moved[2]) <= 0.5 and abs(moved[3] - moved[2]) > 0.4 and abs(moved[3]) <= 0.75


def test_scatter_draws_the_interval():
    """From low to high, in a lighter shade of the dot's colour."""
    lighter = (0.6 * rgb_of(style.SERIES[0]) + 0.4 * 255).round()
    tall = []
    for factor in (1.0, 2.0, 8.0):
        dots = [Dot("a", 1.0, 5.0, 5 / factor, 5 * factor), Dot("b", 2.0, 1.0, 0.5, 90.0)]
        chart = figures.scatter(dots, xlabel="cost", dpi=100)[:, :630].astype(int)
        rows = np.argwhere(np.abs(chart - lighter).max(-1) < 12)[:, 0]
        tall.append(np.ptp(rows) if len(rows) > 20 else 0)
    assert tall[0] == 0 and tall[2] / tall[1] == pytest.approx(3, rel=0.05)  # log 64 / log 4


@pytest.mark.parametrize("count", [0, 1, 7, 23])
def test_scatters_of_all_sizes(count):
    dots = [Dot(f"system number {i}", 10.0**i, 90.0 / (i + 1), 0.0, 95.0) for i in range(count)]
    picture = figures.scatter(dots, xlabel="cost", title="What is lost", dpi=50)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.std() > 5
    assert count < 23 or picture.shape[0] > figures.scatter(dots[:7], xlabel="cost", title="What is lost", dpi=50).shape[0]


SIDES = [28, 56, 112]


def growth_of(**values):
    return {name: Curve(SIDES, list(found)) for name, found in values.items()}


def test_growth_has_a_panel_for_every_measure():
    panels = {
        "time": growth_of(hard=(0.1, 0.1, 0.1), soft=(0.1, 0.4, 1.6)),
        "values": growth_of(hard=(5e6, 5e6, 5e6), soft=(1, 4, 16)),
    }
    one, two = (figures.growth(dict(list(panels.items())[:n]), xlabel="side", title="Cost", dpi=60) for n in (1, 2))
    assert two.shape[1] > 1.5 * one.shape[1] and two.std() > 10
    flat = where(figures.growth({"time": panels["time"]}, xlabel="side", dpi=100)[75:], style.SERIES[0])
    grown = where(figures.growth({"time": panels["time"]}, xlabel="side", dpi=100)[75:], style.SERIES[1])
    assert np.ptp(flat[:, 0]) < 10 and np.ptp(grown[:, 0]) > 200


def test_growth_names_what_is_always_zero():
    """A logarithmic scale has no place for it, and an absent line would say nothing."""
    below = slice(75, 120)  # the heading names the systems in the same colours
    nothing, little = (
        figures.growth({"places": growth_of(hard=v, soft=(1, 2, 4))}, xlabel="side", dpi=100)[below, 80:150]
        for v in ((0, 0, 0), (1, 1, 1))
    )
    assert len(where(nothing, style.SERIES[0])) > 10 and len(where(little, style.SERIES[0])) == 0
    assert figures.growth({"places": growth_of(hard=(0, 0, 0))}, xlabel="side", dpi=50).ndim == 3


# Maps of soft attention


def soft(b=2, c=1, h=20, w=30, t=3, rows=5, columns=6, n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    weights = torch.randn(b, t, rows * columns, generator=g).mul(2).softmax(-1).view(b, t, rows, columns)
    belief = torch.randn(b, t, n, generator=g).softmax(-1)
    return torch.rand(b, c, h, w, generator=g), weights, belief, torch.arange(b) % n


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"c": 3, "h": 17, "w": 60, "rows": 4, "columns": 15},
        {"b": 1, "h": 33, "w": 9, "t": 1, "rows": 1, "columns": 1},
        {"c": 2, "t": 14, "n": 100},
        {"h": 3, "w": 4, "rows": 9, "columns": 12},
    ],
)
def test_attention_maps_of_all_shapes(case):
    images, weights, belief, target = soft(**case)
    bare, full = (
        figures.attention_maps(images, weights, dpi=40, **more) for more in ({}, {"belief": belief, "target": target})
    )
    assert full.dtype == np.uint8 and full.shape[2:] == (3,) and full.std() > 10 and full.shape[1] > bare.shape[1]
    title = "A title that is longer than a narrow page of pictures would be"
    assert figures.attention_maps(images, weights, title=title, dpi=40).shape[0] > bare.shape[0]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 4), (3, 2)])
def test_a_map_is_brightest_over_the_place_that_has_the_weight(row, column):
    weights = torch.zeros(1, 1, 4, 5)
    weights[0, 0, row, column] = 1
    before, after = (figures.attention_maps(torch.zeros(1, 1, 40, 50), given, dpi=100) for given in (0 * weights, weights))
    changed = (after.astype(int) - before.astype(int)).sum(-1)
    changed[:60] = 0  # the heading
    y, x = np.argwhere(changed > 0.9 * changed.max()).mean(0)
    dark = np.argwhere(before.max(-1) == 0)
    dark = dark[(dark[:, 0] > 60) & (dark[:, 1] > 25 + 145)]  # the one read; left of it is the image
    top, left, side = *dark.min(0), 145 / 5
    assert ((y - top) / side, (x - left) / side) == (pytest.approx(row + 0.5, abs=0.3), pytest.approx(column + 0.5, abs=0.3))


def test_one_scale_serves_all_maps():
    """An even map is darker beside one with a peak: both are counted in equal shares."""
    weights = torch.full((1, 2, 4, 4), 1 / 16)
    weights[0, 1] = 0
    weights[0, 1, 1, 1] = 1
    images, middle = torch.zeros(1, 1, 16, 16), (154, 269)  # of the first map, in hundredths of an inch
    alone, both = (figures.attention_maps(images, weights[:, :t], dpi=100)[middle].sum(dtype=int) for t in (1, 2))
    assert 0 < both < alone


def test_maps_and_windows_that_do_not_fit_are_named():
    """By the function that both call: in these tests jaxtyping would complain before it."""
    images, weights, belief, target = soft()
    with pytest.raises(ValueError, match=r"2 scenes and 3 steps need belief \(2, 3\), found \(2, 2, 4\)"):
        _check(images, weights, belief[:, :2], target)
    with pytest.raises(ValueError, match=r"need target \(2,\), found \(1,\)"):
        _check(images, weights, belief, target[:1])
    with pytest.raises(ValueError, match="something to draw"):
        figures.attention_maps(images[:0], weights[:0])
    with pytest.raises(ValueError, match="something to draw"):
        figures.windows(images, torch.zeros(2, 0, 4))


# Windows of soft reads


BOXES = {
    "the whole image": (0, 0, 30, 20),
    "a part": (5, 4, 9.5, 9.5),
    "over the border": (-4, 12, 12, 12),
    "far larger than the image": (-400, -300, 900, 900),
    "outside": (50, 5, 6, 6),
    "far outside": (5000, -5000, 4, 4),
    "nothing": (5, 5, 0, 0),
}


@pytest.mark.parametrize("box", BOXES)
def test_windows_of_all_kinds(box):
    images, _, belief, target = soft()
    window = torch.tensor(BOXES[box], dtype=torch.float32).expand(2, 3, 4)
    bare, full = (figures.windows(images, window, dpi=40, **more) for more in ({}, {"belief": belief, "target": target}))
    assert full.dtype == np.uint8 and full.shape[2:] == (3,) and full.std() > 10 and full.shape[1] > bare.shape[1]


def test_what_is_in_the_window_is_lit():
    """And what is not is dim; the image itself, at the left, is as it was."""
    lit, window = torch.ones(1, 1, 20, 20), torch.tensor([[[5.0, 10.0, 10.0, 5.0]]])
    picture = figures.windows(lit, window, dpi=100)
    white = np.argwhere((picture == 255).all(-1))
    dim = np.argwhere((np.abs(picture.astype(int) - 153) < 2).all(-1))  # 0.6 of white
    top, left = dim.min(0)
    bottom, right = dim.max(0) + 1
    inside = white[(white > (top, left)).all(1) & (white < (bottom, right)).all(1)]
    pixel = (right - left) / 20
    assert np.allclose((inside.min(0) - (top, left)) / pixel, (10, 5), atol=0.4)
    assert np.allclose((inside.max(0) - (top, left)) / pixel, (15, 15), atol=0.4)


@pytest.mark.parametrize("box", [(-25, -25, 70, 70), (24, 5, 6, 6), (-12, 5, 6, 6), (5, 26, 6, 6)])
def test_a_window_does_not_draw_over_its_neighbours(box):
    """Only pixels of its own image, and a narrow edge around it, may change."""
    images, *_ = soft(b=2, h=20, w=20, t=3)
    before = torch.tensor([0.0, 0.0, 20.0, 20.0]).expand(2, 3, 4).clone()
    after = before.clone()
    after[0, 1] = torch.tensor(box)
    changed = np.argwhere((figures.windows(images, before, dpi=100) != figures.windows(images, after, dpi=100)).any(-1))
    assert len(changed)
    assert (np.ptp(changed, axis=0) <= 1.12 * 145 + 3).all()


# Who stops


def test_what_comes_after_it_has_stopped_is_not_drawn():
    looks = scenes()._replace(taken=torch.tensor([1, 3]))
    other = scenes(seed=1)
    after = torch.arange(3) >= looks.taken[:, None]
    elsewhere = look(looks.images, looks.gaze.where(~after[..., None], other.gaze), looks.eye)
    spoilt = looks._replace(
        glimpses=elsewhere.glimpses, gaze=elsewhere.gaze, belief=looks.belief.where(~after[..., None], other.belief)
    )
    assert not torch.equal(spoilt.gaze, looks.gaze)
    for picture in (figures.glimpse_paths, figures.reconstructions, figures.animate):
        assert np.array_equal(picture(looks), picture(spoilt))
        assert not np.array_equal(picture(looks), picture(looks._replace(taken=None)))

    def heat(some):
        return figures.heat_map(some.images, some.gaze, reach=some.eye.reach, taken=some.taken, per_glimpse=True)

    assert np.array_equal(heat(looks), heat(spoilt)) and not np.array_equal(heat(looks), heat(looks._replace(taken=None)))


def test_nobody_stops_before_the_first_glimpse():
    with pytest.raises(ValueError, match=r"taken must be from 1 to 3 glimpses, found \[0, 3\]"):
        figures.glimpse_paths(scenes()._replace(taken=torch.tensor([0, 3])))
