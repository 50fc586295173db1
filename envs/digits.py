"""The digit tasks of the RAM paper: name the digit on a canvas that is seen in glimpses (Mnih et al. 2014, Section 4.1).

The small task for every day uses scikit-learn's handwritten digits and needs no download; the published tasks use MNIST.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from envs import data
from envs.glimpse import Eye, Rules, ask
from envs.numbered import classification_error, in_order
from envs.scenes import Canvas
from hardattn.checks import above_zero, at_least_one
from hardattn.contract import Answer, Batch, GlimpseSpec
from hardattn.noise import fork, keys, permutation, uniform


@dataclass(frozen=True)
class DigitsConfig:
    """A digit task. The defaults are the small task on scikit-learn's digits."""

    source: Literal["digits", "mnist"] = "digits"
    """Where the digits come from: scikit-learn (enlarged to 24 x 24 pixels) or MNIST (28 x 28)."""
    height: int = 40
    """Height of the canvas in pixels."""
    width: int = 40
    """Width of the canvas in pixels."""
    pieces: int = 0
    """Pieces of other digits strewn over the canvas, 8 x 8 pixels each."""
    positions: int = 10
    """Frozen scenes for every validation and test image."""
    glimpses: int = 6
    """How often the eye looks."""
    side: int = 8
    """Pixels a side of every patch that the retina delivers."""
    scales: int = 2
    """Windows of the retina; each is twice as wide as the last."""
    pool: Literal["mean", "max"] = "mean"
    """How the wider windows are reduced."""
    reach: float | None = None
    """Pixels from the middle of the canvas to a gaze of 1. Default: as far as the finest window stays on the canvas."""

    def __post_init__(self) -> None:
        at_least_one(self, "height", "width", "positions", "glimpses", "side", "scales")
        if self.pieces < 0:
            raise ValueError(f"pieces must be at least 0, found {self.pieces}")
        digit = 24 if self.source == "digits" else 28
        if min(self.height, self.width) < digit:
            raise ValueError(f"a digit has {digit} x {digit} pixels: it does not fit a canvas of {self.height} x {self.width}")
        if self.reach is not None:
            above_zero(self, "reach")

    @property
    def eye(self) -> Eye:
        if self.reach is not None:
            reach = (self.reach, self.reach)
        else:
            reach = (max(1.0, (self.height - self.side) / 2), max(1.0, (self.width - self.side) / 2))
        return Eye(self.side, self.scales, 2, reach, self.pool)

    @property
    def rules(self) -> Rules:
        return Rules(glimpses=self.glimpses, classes=10)

    def build(self, data_dir: Path = Path("data")) -> "Digits":
        return Digits(self, data_dir)


class Digits:
    """A task (see `hardattn.contract.Task`) whose questions are `envs.glimpse.Question`s and whose targets are the digits' classes.

    Args:
        config: what the scenes look like and how they are looked at.
        data_dir: the folder that holds MNIST/raw; scikit-learn's digits need none.
    """

    def __init__(self, config: DigitsConfig, data_dir: Path = Path("data")) -> None:
        self.config = config
        self.data_dir = Path(data_dir)
        self.canvas = Canvas(config.height, config.width, config.pieces)
        self.views = config.positions
        """Frozen scenes that show the same digit; they follow one another."""
        self.spec = GlimpseSpec(1, config.height, config.width, 10, config.scales, config.side, config.glimpses)

    def images(self, split: str) -> data.Images:
        """The digits of a split: "train", "validation" or "test".

        Raises:
            ValueError: if there is no such split, or if the files are missing or damaged.
        """
        splits = data.digits() if self.config.source == "digits" else data.mnist(self.data_dir)
        if split not in splits:
            raise ValueError(f'split must be "train", "validation" or "test", found {split!r}')
        return splits[split]

    def size(self, split: str) -> int:
        """Scenes in a pass: all frozen ones, or as many training scenes as there are training images."""
        count = len(self.images(split).labels)
        return count if split == "train" else count * self.config.positions

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Scenes by number. Training scenes go on for ever: every image once per pass, in another order and another place each time.

        Validation and test scenes do not depend on the seed.
        """
        images = self.images(split)
        count = len(images.labels)
        if split == "train":
            passes = index // count
            chosen = torch.empty_like(index)
            for number in passes.unique().tolist():  # one or two passes, not examples
                here = passes == number
                chosen[here] = _order(seed, number, count)[index[here] % count]
            key = keys(seed, "train scenes", index)
        else:
            chosen = index // self.config.positions
            key = keys(0, f"{split} scenes", index)
        pixels = self.canvas.draw(images.pixels, chosen, key)
        gaze = 2 * uniform(fork(key, "first gaze"), 2) - 1
        return Batch(ask(pixels, gaze, fork(key, "agent"), self.config.eye), images.labels[chosen])

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """`error`, in percent; see `envs.numbered.classification_error`."""
        return {"error": classification_error(answer, batch)}


@lru_cache(maxsize=64)
def _order(seed: int, number: int, count: int) -> Int[Tensor, " count"]:
    return permutation(seed, f"train order {number}", count)
