"""The digit tasks must hand out the scenes they promise."""

import itertools
import os
from pathlib import Path

import pytest
import torch

from envs.digits import DigitsConfig
from hardattn import parallel
from hardattn.contract import Answer, Trace

REAL = Path(os.environ.get("HARDATTN_DATA", "data"))
SMALL = DigitsConfig(height=26, width=30, pieces=2, positions=3)


def numbered(task, split, count, **where):
    """Which image of the split every scene shows, found by its label and pixels."""
    images = task.images(split)
    place = {row.tobytes(): i for i, row in enumerate(images.pixels.flatten(1).numpy())}
    batch = task.scenes(split, torch.arange(count), **where)
    scenes = batch.question.image
    assert scenes.shape[-2:] == images.pixels.shape[-2:], "this works on a canvas without a border only"
    return [place[row.tobytes()] for row in scenes.flatten(1).numpy()]


def test_training_shows_every_image_once_per_pass_in_another_order_each_time():
    task = DigitsConfig(height=24, width=24).build()
    count = task.size("train")
    assert count == 1078
    for seed in (0, 1):
        shown = numbered(task, "train", 3 * count, seed=seed)
        passes = [shown[i * count : (i + 1) * count] for i in range(3)]
        assert all(sorted(one) == list(range(count)) for one in passes)
        assert all(one != other for one, other in itertools.combinations(passes, 2))
    assert shown != numbered(task, "train", 3 * count, seed=0)


def test_frozen_splits_show_every_image_equally_often_at_as_many_places():
    task = SMALL.build()
    for split, images in (("validation", 359), ("test", 360)):
        assert task.size(split) == 3 * images
    batch = task.scenes("test", torch.arange(9))
    assert torch.equal(batch.target, task.images("test").labels[:3].repeat_interleave(3))
    assert len(batch.question.image.flatten(1).unique(dim=0)) == 9


def test_the_first_gaze_is_anywhere_and_tells_nothing():
    batch = SMALL.build().scenes("train", torch.arange(4000))
    gaze = batch.question.gaze
    assert gaze.abs().max() < 1 and (gaze.mean(0).abs() < 5 * 0.577 / 4000**0.5).all()
    by_class = torch.stack([gaze[batch.target == digit].mean(0) for digit in range(10)])
    assert by_class.abs().max() < 5 * 0.577 / 350**0.5


def test_training_passes_meet_other_places_and_streams():
    task = DigitsConfig().build()
    one, other = (task.scenes("train", torch.arange(50) + task.size("train") * i) for i in range(2))
    assert not torch.equal(one.question.gaze, other.question.gaze)
    assert len(torch.cat([one.question.key, other.question.key]).unique()) == 100


def test_processes_share_a_training_batch(monkeypatch):
    task = SMALL.build()
    whole = next(task.batches("train", batch_size=6, seed=3, start=4))
    parts = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "world", lambda rank=rank: (rank, 2))
        parts.append(next(task.batches("train", batch_size=6, seed=3, start=4)))
    assert torch.equal(torch.cat([part.question.image for part in parts]), whole.question.image)
    assert torch.equal(torch.cat([part.question.key for part in parts]), whole.question.key)


def test_score_counts_errors_in_percent():
    task = SMALL.build()
    batch = task.scenes("test", torch.arange(4))
    wrong = torch.tensor([0.0, 1.0, 0.0, 1.0])
    named = (batch.target + wrong.long()) % 10
    output = torch.nn.functional.one_hot(named, 10).float().log_softmax(-1)
    assert task.score(Answer(output, Trace()), batch)["error"].tolist() == (100 * wrong).tolist()


def test_a_gaze_of_one_keeps_the_finest_window_on_the_canvas():
    """By default; at its end the window ends with the canvas."""
    task = DigitsConfig(height=26, width=34, side=8, scales=1).build()
    question = task.scenes("test", torch.arange(2)).question
    for sign, rows, columns in ((-1.0, slice(0, 8), slice(0, 8)), (1.0, slice(18, 26), slice(26, 34))):
        seen = question.look(torch.full((2, 2), sign))
        torch.testing.assert_close(seen, question.image[..., rows, columns], rtol=0, atol=1e-6)
    assert DigitsConfig(reach=5.0).eye.reach == (5.0, 5.0)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"height": 23}, "24 x 24 pixels: it does not fit a canvas of 23 x 40"),
        ({"source": "mnist", "width": 27}, "28 x 28 pixels: it does not fit a canvas of 40 x 27"),
        ({"pieces": -1}, "pieces must be at least 0, found -1"),
        ({"reach": 0.0}, "reach must be above 0 and finite, found 0.0"),
        *(({name: 0}, f"{name} must be at least 1, found 0") for name in ("positions", "glimpses", "side", "scales")),
    ],
)
def test_settings_that_make_no_task_are_refused_by_name(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        DigitsConfig(**settings)


def test_without_its_files_mnist_is_refused_with_advice(tmp_path):
    with pytest.raises(ValueError, match=r"expected MNIST at .*--data-dir"):
        DigitsConfig(source="mnist").build(tmp_path).size("train")


@pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="no MNIST: say where it is in HARDATTN_DATA")
def test_the_published_tasks_on_the_real_mnist():
    task = DigitsConfig(source="mnist", height=100, width=100, pieces=8, positions=1, side=12, scales=4).build(REAL)
    assert [task.size(split) for split in ("train", "validation", "test")] == [54_000, 6_000, 10_000]
    question = next(task.batches("test", batch_size=20)).question
    assert question.image.shape == (20, 1, 100, 100) and question.look(question.gaze).shape == (20, 4, 12, 12)
