"""The retina must deliver what a slow and obvious one delivers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardattn import glimpse
from hardattn.glimpse import direct_retina, retina, summed_area_table, window_corners


def slow_retina(image, gaze, *, side, scales, zoom, reach, reduce):
    """One example, one gaze, pixel by pixel: [c][h][w] numbers and (x, y) to [k * c][side][side] numbers."""
    h, w = len(image[0]), len(image[0][0])
    patches = []
    for zoomed in (zoom**i for i in range(scales)):
        width = side * zoomed
        left = math.floor(w / 2 + gaze[0] * reach[1] - width / 2 + 0.5)
        top = math.floor(h / 2 + gaze[1] * reach[0] - width / 2 + 0.5)
        for channel in image:
            patch = []
            for row in range(side):
                patch.append([])
                for column in range(side):
                    block = []
                    for y in range(top + row * zoomed, top + (row + 1) * zoomed):
                        for x in range(left + column * zoomed, left + (column + 1) * zoomed):
                            block.append(channel[y][x] if 0 <= y < h and 0 <= x < w else 0.0)
                    patch[-1].append(reduce(block))
            patches.append(patch)
    return patches


def mean(block):
    return math.fsum(block) / len(block)


@st.composite
def looks(draw):
    """Images, gazes and retinas of all sorts. Gazes and reaches are such that the corner of a window is computed without rounding."""
    b, c, h, w = (draw(st.integers(1, n)) for n in (3, 3, 9, 9))
    lead = tuple(draw(st.lists(st.integers(1, 2), max_size=2)))
    retina_sizes = {"side": draw(st.integers(1, 4)), "scales": draw(st.integers(1, 3)), "zoom": draw(st.integers(1, 3))}
    reach = tuple(draw(st.integers(1, 40)) / 4 for _ in "yx")
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    image = torch.randn(b, c, h, w, generator=generator) * draw(st.sampled_from([1.0, 1e-30, 1e-3, 255.0, 1e30]))
    image = draw(st.sampled_from([lambda x: x, torch.abs, torch.neg, torch.zeros_like, lambda x: x + 1000 * x.abs().max()]))(
        image
    )
    widest = draw(st.sampled_from([1, 2, 20]))  # of 1: on the image, of 20: often wholly outside
    gaze = torch.randint(-64 * widest, 64 * widest + 1, (*lead, b, 2), generator=generator) / 64
    return image, gaze, {**retina_sizes, "reach": reach}


def check_against_slow(seen, image, gaze, sizes, reduce, tolerance):
    flat = gaze.reshape(-1, *gaze.shape[-2:]).tolist()
    expected = [[slow_retina(x, at, **sizes, reduce=reduce) for x, at in zip(image.tolist(), gazes)] for gazes in flat]
    expected = torch.tensor(expected, dtype=torch.float64).view(seen.shape)
    assert (seen.double() - expected).abs().max() <= tolerance


@given(looks())
def test_retina_equals_a_slow_one(look):
    image, gaze, sizes = look
    block = sizes["zoom"] ** (sizes["scales"] - 1)
    seen = retina(summed_area_table(image, block=block), gaze, **sizes)
    # A unit of the table, and float32's own rounding of the result.
    unit = 2.0 ** (math.ceil(2 * math.log2(block)) - 29)
    check_against_slow(seen, image, gaze, sizes, mean, (unit + 2.0**-23) * image.abs().max().item())


@given(looks())
def test_compiled_loops_and_tensors_agree_to_the_bit(look):
    """What runs on the CPU and what runs elsewhere."""
    image, gaze, sizes = look
    table = summed_area_table(image, block=sizes["zoom"] ** (sizes["scales"] - 1))
    assert torch.equal(table.sums, glimpse._sum_areas(image, 1 / table.unit))
    for pool in ("mean", "max"):
        by_index = glimpse._look_directly(image, gaze, *sizes.values(), pool)
        tolerance = 2.0**-22 * image.abs().max().item() if pool == "mean" else 0
        torch.testing.assert_close(direct_retina(image, gaze, **sizes, pool=pool), by_index, rtol=0, atol=tolerance)
    seen = glimpse._look(table, gaze, sizes["side"], sizes["scales"], sizes["zoom"], sizes["reach"])
    assert torch.equal(retina(table, gaze, **sizes), seen.flatten(-4, -3))


@given(looks())
def test_direct_retina_equals_a_slow_one(look):
    image, gaze, sizes = look
    check_against_slow(direct_retina(image, gaze, **sizes), image, gaze, sizes, max, 0)
    tolerance = 2.0**-20 * image.abs().max().item()
    check_against_slow(direct_retina(image, gaze, **sizes, pool="mean"), image, gaze, sizes, mean, tolerance)


def every_sensor(image, gaze, *, block=4, **sizes):
    yield retina(summed_area_table(image, block=block), gaze, **sizes)
    yield direct_retina(image, gaze, **sizes)
    yield direct_retina(image, gaze, **sizes, pool="mean")


@given(st.integers(1, 12), st.integers(1, 4), st.floats(0.5, 50))
def test_a_window_as_large_as_the_image_delivers_the_image(side, channels, reach):
    image = torch.rand(2, channels, side, side)
    for seen in every_sensor(image, torch.zeros(2, 2), side=side, reach=(reach, reach)):
        torch.testing.assert_close(seen, image, rtol=0, atol=2**-23)


def test_gaze_of_one_looks_at_the_end_of_the_reach():
    """The window of 2 x 2 hugs the right border at x = 1 and the lower border at y = 1; x goes across and y down."""
    image = torch.arange(35.0).view(1, 1, 5, 7)
    for x, y, corner in ((-1, -1, (0, 0)), (1, -1, (0, 5)), (-1, 1, (3, 0)), (1, 1, (3, 5))):
        for seen in every_sensor(image, torch.tensor([[x, y]]).float(), side=2, reach=(1.5, 2.5)):
            assert torch.equal(seen, image[..., corner[0] : corner[0] + 2, corner[1] : corner[1] + 2])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_corners_are_those_of_the_nearest_window(h, w, width):
    corner = window_corners(torch.zeros(1, 2), size=(h, w), reach=(3.0, 3.0), widths=(width,))
    for left, size in zip(corner[0, 0].tolist(), (w, h)):
        assert abs((left + width / 2) - size / 2) <= 0.5


def test_scales_come_finest_first_and_channels_fastest():
    image = torch.zeros(1, 2, 8, 8)
    image[0, 1, 3:5, 3:5] = 1.0
    for seen, coarse in zip(every_sensor(image, torch.zeros(1, 2), side=2, scales=2, reach=(1.0, 1.0)), (0.25, 1.0, 0.25)):
        assert torch.equal(seen[0].amax((-1, -2)), torch.tensor([0.0, 1.0, 0.0, coarse]))


@pytest.mark.parametrize("far", [3.0, 1e6, 1e18, 1e30, math.inf])
@pytest.mark.parametrize("direction", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1)])
def test_there_is_nothing_outside_the_image(far, direction):
    gaze = torch.tensor([[far * d if d else 0.0 for d in direction]])
    for seen in every_sensor(torch.ones(1, 1, 6, 8), gaze, side=2, scales=3, reach=(6.0, 8.0)):
        assert not seen.any()


@given(looks(), st.integers(0, 2))
def test_a_batch_of_one_is_a_row_of_the_batch(look, row):
    image, gaze, sizes = look
    row %= len(image)
    block = sizes["zoom"] ** (sizes["scales"] - 1)
    alone = every_sensor(image[row : row + 1], gaze[..., row : row + 1, :], block=block, **sizes)
    for together, single in zip(every_sensor(image, gaze, block=block, **sizes), alone):
        assert torch.equal(together[..., row : row + 1, :, :, :], single)


def test_rollouts_look_at_the_same_images():
    image, gaze = torch.rand(3, 1, 6, 6), 2 * torch.rand(5, 2, 3, 2) - 1
    one_by_one = [list(every_sensor(image, g, side=2, scales=2, reach=(2.0, 2.0))) for g in gaze.flatten(0, 1)]
    for i, seen in enumerate(every_sensor(image, gaze, side=2, scales=2, reach=(2.0, 2.0))):
        assert torch.equal(seen.flatten(0, 1), torch.stack([single[i] for single in one_by_one]))


def test_an_average_does_not_depend_on_where_in_the_image_it_lies():
    """A summed-area table of floating-point numbers fails here: far from the corner its sums are large."""
    patch = torch.rand(1, 1, 8, 8)
    image = torch.ones(1, 1, 800, 800)
    image[..., :8, :8] = image[..., -8:, -8:] = patch
    table = summed_area_table(image, block=4)
    near, far = (retina(table, torch.full((1, 2), x), side=2, scales=3, reach=(396.0, 396.0)) for x in (-1.0, 1.0))
    assert torch.equal(near[:, :3], far[:, :3])
    torch.testing.assert_close(near[0, 2], torch.nn.functional.avg_pool2d(patch, 4)[0, 0], rtol=0, atol=2e-7)


def test_a_bright_image_does_not_coarsen_its_neighbours():
    image = torch.rand(2, 1, 5, 5)
    together = summed_area_table(torch.stack([image[0], 1e6 * image[1]]), block=2)
    seen = retina(together, torch.zeros(2, 2), side=2, scales=2, reach=(1.0, 1.0))
    alone = retina(summed_area_table(image[:1], block=2), torch.zeros(1, 2), side=2, scales=2, reach=(1.0, 1.0))
    assert torch.equal(seen[:1], alone)


@pytest.mark.parametrize("value", [1e-38, 1e-44, -3e38, 3e38, 2.0**31, -(2.0**31)])
def test_a_flat_image_of_any_size_keeps_its_value(value):
    image = torch.full((1, 1, 8, 8), value)
    seen = retina(summed_area_table(image, block=4), torch.zeros(1, 2), side=2, scales=3, reach=(1.0, 1.0))
    torch.testing.assert_close(seen, torch.full_like(seen, image[0, 0, 0, 0].item()), rtol=1e-6, atol=2.0**-126)


def test_images_may_lie_in_memory_in_any_order():
    """Channels last, as pictures come from files; a window of a larger image; one image expanded to many."""
    image = torch.rand(2, 5, 7, 3).permute(0, 3, 1, 2)
    for strange in (image, image.contiguous()[..., 1:], image[:1].expand(4, -1, -1, -1), image.transpose(-1, -2)):
        gaze = torch.zeros(len(strange), 2)
        plain = every_sensor(strange.clone(memory_format=torch.contiguous_format), gaze, side=3, scales=2, reach=(1.0, 1.0))
        for seen, expected in zip(every_sensor(strange, gaze, side=3, scales=2, reach=(1.0, 1.0)), plain):
            assert torch.equal(seen, expected)


def test_gazes_may_lie_in_memory_in_any_order():
    """A path [b, t, 2] turned to time first; every other example."""
    image, gaze = torch.rand(3, 2, 6, 6), torch.rand(3, 5, 2).transpose(0, 1)
    for strange in (
        gaze,
        torch.rand(5, 6, 2)[:, ::2],
        torch.rand(1, 3, 2).expand(4, -1, -1),
        torch.rand(2, 4, 3).permute(1, 2, 0),
    ):
        plain = every_sensor(image, strange.contiguous(), side=2, scales=2, reach=(1.0, 1.0))
        for seen, expected in zip(every_sensor(image, strange, side=2, scales=2, reach=(1.0, 1.0)), plain):
            assert torch.equal(seen, expected)


def test_images_and_gazes_are_left_as_they_were():
    image, gaze = torch.rand(2, 1, 6, 6), torch.rand(2, 2)
    before = image.clone(), gaze.clone()
    table = summed_area_table(image, block=4)
    first = retina(table, gaze, side=2, scales=3, reach=(2.0, 2.0))
    list(every_sensor(image, -gaze, side=2, scales=3, reach=(2.0, 2.0)))
    assert torch.equal(retina(table, gaze, side=2, scales=3, reach=(2.0, 2.0)), first)
    assert torch.equal(image, before[0]) and torch.equal(gaze, before[1])


def test_gaze_gets_no_gradient():
    gaze = torch.zeros(1, 2, requires_grad=True)
    assert not any(seen.requires_grad for seen in every_sensor(torch.rand(1, 1, 4, 4), gaze, side=2, reach=(1.0, 1.0)))


@pytest.mark.parametrize("culprit", ["side", "scales", "zoom"])
def test_sizes_below_one_are_refused_by_name(culprit):
    sizes = {"side": 2, "scales": 1, "zoom": 2, "reach": (1.0, 1.0)} | {culprit: 0}
    image, gaze = torch.zeros(1, 1, 4, 4), torch.zeros(1, 2)
    for look in (lambda: retina(summed_area_table(image, block=1), gaze, **sizes), lambda: direct_retina(image, gaze, **sizes)):
        with pytest.raises(ValueError, match=f"the retina's {culprit} .* at least 1, found 0"):
            look()


def test_a_batch_whose_table_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"1048576 images of 63 x 63 pixels .* make the batch smaller"):
        glimpse._blocks(4, 1, 2, (2**20, 1, 64, 64), torch.device("cpu"))
