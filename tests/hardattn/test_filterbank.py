"""The banks must read what their formulas say, at the borders too, and their gradients must be those of what they read."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hardattn import filterbank
from hardattn.filterbank import box_bank, gaussian_bank, read
from hardattn.glimpse import retina, summed_area_table

D = torch.float64


def banks(kind, centre, stride, sigma, *, side, size):
    if kind == "gaussian":
        return gaussian_bank(centre, stride, sigma, side=side, size=size)
    return box_bank(centre, stride, side=side, size=size)


def look(kind, image, x, y, stride, sigma, side):
    h, w = image.shape[-2:]
    return read(image, banks(kind, y, stride, sigma, side=side, size=h), banks(kind, x, stride, sigma, side=side, size=w))


def test_boxes_by_hand():
    """Blocks two pixels wide from 0.5 on; the last hangs over the border by a half."""
    bank = box_bank(torch.tensor([2.5]), torch.tensor([2.0]), side=2, size=4)
    assert torch.equal(bank, torch.tensor([[[0.25, 0.5, 0.25, 0.0], [0.0, 0.0, 0.25, 0.5]]]))
    narrow = box_bank(torch.tensor([1.25]), torch.tensor([0.5]), side=2, size=3)  # middles 1 and 1.5, widened to a pixel
    assert torch.equal(narrow, torch.tensor([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]]))


def test_gaussians_by_hand():
    """Three filters, 1 apart, around the middle of five pixels: they stand on the middles of pixels 1, 2 and 3."""
    bank = gaussian_bank(torch.tensor([2.5], dtype=D), torch.ones(1, dtype=D), torch.ones(1, dtype=D), side=3, size=5)
    for i in range(3):
        row = [math.exp(-((a - (i + 1)) ** 2) / 2) for a in range(5)]
        torch.testing.assert_close(bank[0, i], torch.tensor(row, dtype=D) / sum(row), rtol=1e-7, atol=0)


def test_filters_stand_as_in_the_paper():
    """Equation 19 counts filters and pixels from 1, and its pixel a lies at a: centre g there is g - 0.5 here."""
    side, stride, g = 4, 1.5, 6.2
    bank = gaussian_bank(torch.tensor([g - 0.5]), torch.tensor([stride]), torch.tensor([0.8]), side=side, size=12)[0]
    pixels = torch.arange(1, 13)
    for i in range(1, side + 1):
        row = (-((pixels - (g + (i - side / 2 - 0.5) * stride)) ** 2) / (2 * 0.8**2)).exp()
        torch.testing.assert_close(bank[i - 1], row / row.sum())


@given(st.floats(0, 9), st.floats(0.001, 3), st.floats(0.01, 20))
def test_gaussian_rows_sum_to_one_inside(centre, stride, sigma):
    bank = gaussian_bank(torch.tensor([centre]), torch.tensor([stride / 9]), torch.tensor([sigma]), side=3, size=9)
    torch.testing.assert_close(bank.sum(-1), torch.ones(1, 3), rtol=0, atol=1e-5)


@given(st.integers(0, 99), st.integers(1, 120), st.floats(-1.0, 2.0), st.sampled_from([0.2, 0.5, 2.0, 30.0, 500.0]))
def test_compiled_gaussians_are_those_of_the_tensors(seed, size, centre, sigma):
    """And so are their gradients: on the image, over its borders, far beside it, narrow and wide."""
    generator = torch.Generator().manual_seed(seed)
    places = [torch.full((2, 3), v, dtype=D) for v in (centre * size, 1.0, sigma)]
    places = [v + n * torch.rand(2, 3, generator=generator, dtype=D) for v, n in zip(places, (3, 2, 1))]
    gradient = torch.randn(2, 3, 4, size, generator=generator, dtype=D)
    inputs = [v.requires_grad_() for v in places]
    fast = gaussian_bank(*inputs, side=4, size=size)
    with torch.no_grad():
        slow = filterbank._gaussians(*places, 4, size)
        expected = filterbank._gaussians_back(*places, slow, gradient)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.stack(torch.autograd.grad(fast, inputs, gradient)), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("centre, sigma", [(math.nan, 1.0), (3.0, math.nan)])
def test_what_is_not_a_number_is_not_hidden(centre, sigma):
    assert gaussian_bank(*torch.tensor([[centre], [1.0], [sigma]]), side=3, size=9).isnan().any()


@pytest.mark.parametrize("kind", ["gaussian", "box"])
@pytest.mark.parametrize("centre", [-40.0, 60.0, 1e6, -1e20, math.inf])
def test_a_bank_outside_the_image_sees_nothing(kind, centre):
    place, stride, sigma = (torch.tensor([v], requires_grad=True) for v in (centre, 1.0, 0.5))
    bank = banks(kind, place, stride, sigma, side=3, size=9)
    assert bank.isfinite().all() and bank.abs().max() < 1e-9
    if math.isfinite(centre):
        gradients = torch.autograd.grad((bank * torch.rand(9)).sum(), [place, stride])
        assert all(g.isfinite().all() and g.abs().max() < 1e-10 for g in gradients)


@st.composite
def whole_windows(draw):
    """Images, and windows whose pixels are whole blocks of theirs: on the image, over its borders and beyond."""
    b, c, h, w = (draw(st.integers(1, n)) for n in (3, 3, 12, 12))
    side, scales, zoom = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    corner = torch.randint(-side * zoom**2 - 2, 14, (draw(st.integers(1, 3)), b, 2), generator=generator)
    return torch.randn(b, c, h, w, generator=generator), corner, side, scales, zoom


@given(whole_windows())
def test_boxes_read_what_the_retina_does(case):
    image, corner, side, scales, zoom = case
    h, w = image.shape[-2:]
    table = summed_area_table(image, block=zoom ** (scales - 1))
    for i in range(scales):
        stride = zoom**i
        centre = corner + side * stride / 2
        gaze = (centre - torch.tensor([w, h]) / 2) / 64  # exact: a reach of 64 pixels
        hard = retina(table, gaze, side=side, scales=scales, zoom=zoom, reach=(64.0, 64.0))
        hard = hard.unflatten(2, (scales, -1))[:, :, i]
        width = torch.full(centre.shape[:-1], float(stride))
        soft = look("box", image, centre[..., 0], centre[..., 1], width, None, side)
        torch.testing.assert_close(soft, hard, rtol=1e-5, atol=3e-6)


@given(st.integers(0, 99), st.integers(1, 4), st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_narrow_gaussians_a_pixel_apart_read_what_the_retina_does(seed, side, corner):
    """Each filter stands on the middle of a pixel and sees hardly anything of the next: five sigmas away."""
    image = torch.randn(1, 2, 9, 10, generator=torch.Generator().manual_seed(seed))
    centre = torch.tensor(corner) + side / 2
    gaze = (centre - torch.tensor([10, 9]) / 2) / 64
    hard = retina(summed_area_table(image, block=1), gaze[None, None], side=side, scales=1, zoom=2, reach=(64.0, 64.0))
    x, y = (value.view(1, 1) for value in centre)
    soft = look("gaussian", image, x, y, torch.ones(1, 1), torch.full((1, 1), 0.2), side)
    torch.testing.assert_close(soft, hard, rtol=1e-4, atol=1e-4)


@given(st.integers(0, 99), st.integers(1, 5), st.integers(2, 9), st.integers(2, 9), st.floats(0.1, 1.0))
def test_boxes_of_a_pixel_or_less_are_bilinear_sampling(seed, side, h, w, stride):
    """`grid_sample` with zeros outside is the spatial transformer's sampler, for windows of any place and zoom."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, h, w, generator=generator, dtype=D)
    x, y = (n * (1.6 * torch.rand(2, generator=generator, dtype=D) - 0.3) for n in (w, h))
    steps = (torch.arange(side, dtype=D) - (side - 1) / 2) * stride
    gx, gy = (2 * (at[:, None] + steps) / n - 1 for at, n in ((x, w), (y, h)))
    grid = torch.stack([gx[:, None].expand(-1, side, -1), gy[..., None].expand(-1, -1, side)], -1)
    expected = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    soft = look("box", image, x, y, torch.full((2,), stride, dtype=D), None, side)
    torch.testing.assert_close(soft, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "box"])
@pytest.mark.parametrize("stride", [0.4, 1.3, 2.6])
def test_gradients_are_those_of_what_is_read(kind, stride):
    """On the image, and for the second example over its border; with an axis of rollouts."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 2, 5, 6, generator=generator, dtype=D)
    x = torch.tensor([[2.63, -0.31], [4.17, 6.09]], dtype=D)
    y = torch.tensor([[2.21, 5.12], [1.77, -0.43]], dtype=D)
    width = torch.tensor([[stride, stride + 0.07], [stride + 0.03, stride - 0.05]], dtype=D)
    inputs = [v.requires_grad_() for v in (image, x, y, width)]
    inputs.append((0.6 * width.detach()).requires_grad_(kind == "gaussian"))  # boxes have no sigma
    assert torch.autograd.gradcheck(lambda *v: look(kind, *v, 3), inputs)


def test_on_the_edge_of_a_pixel_the_two_derivatives_are_averaged():
    """One block of a pixel on pixel 1 of [0, 1, 5]: moving right reads 4 more per pixel, moving left 1 less."""
    image = torch.tensor([0.0, 1.0, 5.0])
    centre = torch.tensor([1.5], requires_grad=True)
    (found,) = torch.autograd.grad((box_bank(centre, torch.ones(1), side=1, size=3) * image).sum(), centre)
    assert found.item() == pytest.approx((4 + 1) / 2)


@pytest.mark.parametrize("kind", ["gaussian", "box"])
@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.3, 2.0))
def test_moving_image_and_centre_together_changes_nothing(kind, right, down, stride):
    generator = torch.Generator().manual_seed(0)
    patch = torch.rand(1, 2, 6, 7, generator=generator, dtype=D)
    x, y, width = torch.tensor([[3.3], [2.8], [stride]], dtype=D)
    near, far = (F.pad(patch, (20 + i, 26 - i, 20 + j, 26 - j)) for i, j in ((0, 0), (right, down)))
    seen = look(kind, near, x + 20, y + 20, width, width / 2, 3)
    moved = look(kind, far, x + 20 + right, y + 20 + down, width, width / 2, 3)
    torch.testing.assert_close(seen, moved, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lead", [(), (1,), (4,), (2, 3)])
def test_read_is_two_matrix_products(lead):
    image, rows, columns = torch.rand(2, 3, 5, 7), torch.rand(*lead, 2, 4, 5), torch.rand(*lead, 2, 4, 7)
    expected = torch.einsum("...bih,bchw,...bjw->...bcij", rows, image, columns)
    torch.testing.assert_close(read(image, rows, columns), expected)


@pytest.mark.parametrize("culprit", ["side", "size"])
def test_sizes_below_one_are_refused_by_name(culprit):
    sizes = {"side": 2, "size": 2} | {culprit: 0}
    one = torch.ones(1)
    for bank in (lambda: gaussian_bank(one, one, one, **sizes), lambda: box_bank(one, one, **sizes)):
        with pytest.raises(ValueError, match=f"a filter bank's {culprit} must be at least 1, found 0"):
            bank()
