"""A scene must be what the published generator draws, and a function of its key alone."""

import math

import pytest
import torch

from envs.scenes import Canvas
from hardattn.noise import integers, keys


def key_of(count: int, start: int = 0) -> torch.Tensor:
    return keys(0, "test scenes", torch.arange(start, start + count))


def slow_scene(canvas: Canvas, pixels, chosen: int, key: int):
    """One scene, pixel by pixel, from the same integers: clutter is added, clipped; the image is added, clipped."""
    n, c, h, w = pixels.shape
    p, side = canvas.pieces, canvas.piece
    raw = iter(integers(torch.tensor(key), 2 + 5 * p, 2**31).tolist())

    def number(below):
        return next(raw) * below // 2**31

    top, left = number(canvas.height - h + 1), number(canvas.width - w + 1)
    other = [(chosen + 1 + number(n - 1)) % n for _ in range(p)]
    row, column = [number(h - side + 1) for _ in range(p)], [number(w - side + 1) for _ in range(p)]
    y, x = [number(canvas.height - side + 1) for _ in range(p)], [number(canvas.width - side + 1) for _ in range(p)]
    scene = torch.zeros(c, canvas.height, canvas.width)
    for i in range(p):
        for dy in range(side):
            for dx in range(side):
                scene[:, y[i] + dy, x[i] + dx] += pixels[other[i], :, row[i] + dy, column[i] + dx]
    scene = scene.clamp(max=1.0)
    for dy in range(h):
        for dx in range(w):
            scene[:, top + dy, left + dx] += pixels[chosen, :, dy, dx]
    return scene.clamp(max=1.0)


@pytest.mark.parametrize("canvas", [Canvas(9, 14, 0), Canvas(9, 14, 5, 3), Canvas(6, 7, 3, 6), Canvas(6, 7, 9, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_scenes_equal_slow_ones(canvas, channels):
    """Pixels below zero tell clipping twice from clipping once."""
    pixels = 2 * torch.rand(4, channels, 6, 7, generator=torch.Generator().manual_seed(0)) - 1
    chosen, key = torch.arange(20) % 4, key_of(20)
    scenes = canvas.draw(pixels, chosen, key)
    for scene, i, k in zip(scenes, chosen.tolist(), key.tolist()):
        torch.testing.assert_close(scene, slow_scene(canvas, pixels, i, k), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pieces", [0, 4])
def test_a_scene_does_not_depend_on_its_batch(pieces):
    pixels, chosen, key = torch.rand(5, 1, 6, 6), torch.arange(12) % 5, key_of(12)
    canvas = Canvas(15, 17, pieces, 3)
    together = canvas.draw(pixels, chosen, key)
    for i in range(12):
        assert torch.equal(together[i : i + 1], canvas.draw(pixels, chosen[i : i + 1], key[i : i + 1]))


def test_the_image_lands_everywhere_equally_often_also_in_the_last_place():
    count = 12_000
    scenes = Canvas(4, 5).draw(torch.ones(1, 1, 2, 2), torch.zeros(count, dtype=torch.long), key_of(count))
    corner = scenes.flatten(1).argmax(1)
    places = corner.bincount(minlength=20).view(4, 5)
    assert not places[3].any() and not places[:, 4].any()
    expected = count / 12
    assert ((places[:3, :4] - expected).square() / expected).sum() < 11 + 5 * math.sqrt(2 * 11)


def test_pieces_land_everywhere_equally_often_and_are_cut_from_everywhere():
    """The scene's own image is black, the other says in every pixel where the pixel is."""
    count = 12_000
    pixels = torch.stack([torch.zeros(9), torch.arange(1, 10) / 10]).view(2, 1, 3, 3)
    scenes = Canvas(4, 5, 1, 2).draw(pixels, torch.zeros(count, dtype=torch.long), key_of(count))
    lit = (scenes.flatten(1) > 0).int()
    assert (lit.sum(1) == 4).all()
    corner, value = lit.argmax(1), scenes.flatten(1).gather(1, lit.argmax(1, keepdim=True))[:, 0]
    for counts, cells in ((corner.bincount(minlength=20), 12), ((value * 10).round().long().bincount(), 4)):
        expected = count / cells
        assert (counts > 0).sum() == cells
        assert ((counts[counts > 0] - expected).square() / expected).sum() < cells - 1 + 5 * math.sqrt(2 * (cells - 1))


def test_pieces_come_from_every_other_image_and_never_from_the_scene_s_own():
    """Image i is flat and of brightness (i + 1) / 16, so that nothing is clipped: the sum over a scene says whose the piece is."""
    count = 3000
    pixels = ((torch.arange(5) + 1) / 16).view(5, 1, 1, 1).expand(5, 1, 2, 2).contiguous()
    chosen = torch.arange(count) % 5
    scenes = Canvas(8, 8, 1, 1).draw(pixels, chosen, key_of(count))
    own = (chosen + 1) / 16
    piece = scenes.flatten(1).sum(1) - 4 * own
    owner = (piece * 16).round().long() - 1
    assert not (owner == chosen).any()
    distance = ((owner - chosen) % 5).bincount(minlength=5)
    assert distance[0] == 0 and (distance[1:] - count / 4).abs().max() < 5 * math.sqrt(count * 3 / 16)


def test_scenes_stay_in_the_range_of_their_pixels():
    scenes = Canvas(10, 10, 30, 4).draw(torch.rand(3, 1, 6, 6), torch.arange(3), key_of(3))
    assert scenes.min() >= 0 and scenes.max() == 1


def test_an_image_as_large_as_the_canvas_is_the_scene():
    pixels = torch.rand(3, 2, 5, 4)
    for chosen in (torch.tensor([2, 0]), torch.tensor([1, 1])):
        assert torch.equal(Canvas(5, 4).draw(pixels, chosen, key_of(2)), pixels[chosen])


def test_images_are_left_as_they_were():
    pixels = torch.rand(3, 1, 5, 5)
    before = pixels.clone()
    for canvas in (Canvas(5, 5), Canvas(8, 8, 3, 2)):
        canvas.draw(pixels, torch.arange(3), key_of(3)).mul_(0)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("canvas", "complaint"),
    [
        (Canvas(4, 9), "6 x 6 does not fit on a canvas of 4 x 9"),
        (Canvas(9, 4), "6 x 6 does not fit on a canvas of 9 x 4"),
        (Canvas(9, 9, 1, 7), "pieces of 7 x 7 cannot be cut from images of 6 x 6"),
    ],
)
def test_what_does_not_fit_is_refused(canvas, complaint):
    with pytest.raises(ValueError, match=complaint):
        canvas.draw(torch.rand(2, 1, 6, 6), torch.arange(2), key_of(2))
