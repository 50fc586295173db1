"""A probe: a task that is solved in seconds by looking in the right order, and by nothing else.

A coloured stripe runs along the left or the right border of the image, and its colour is the answer. In the middle, a white
stripe (1) lies beside a black one (-1), on the side where the answer is. The eye starts there, sees neither border, and has one move. So what it sees first
must say where it looks next: a gaze that moves at random, or always to the same place, misses the stripe at least every other time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from envs.glimpse import Eye, Rules, ask
from hardattn.contract import Answer, Batch, GlimpseSpec
from hardattn.noise import fork, integers, keys
from hardattn.parallel import rank_slice


@dataclass(frozen=True)
class CueConfig:
    """The probe's sizes."""

    size: int = 8
    """Height and width of the image in pixels; a multiple of 4."""
    stripe: int = 2
    """Width of a stripe in pixels."""
    classes: int = 6
    """Colours; each is a channel of its own."""
    glimpses: int = 2
    """How often the eye looks."""
    frozen: int = 1000
    """Scenes for validation, and as many for testing."""

    def __post_init__(self) -> None:
        for name in ("stripe", "classes", "glimpses", "frozen"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.size < 8 or self.size % 4:
            raise ValueError(f"size must be a multiple of 4 and at least 8, found {self.size}")
        if self.stripe > self.size // 4:
            raise ValueError(f"a stripe of {self.stripe} pixels is seen from the middle of an image of size {self.size}")

    @property
    def eye(self) -> Eye:
        return Eye(side=self.size // 2, scales=1, zoom=2, reach=(self.size / 4, self.size / 4))

    @property
    def rules(self) -> Rules:
        return Rules(glimpses=self.glimpses, classes=self.classes)

    def build(self, data_dir: Path = Path("data")) -> "Cue":
        return Cue(self)


class Cue:
    """A task (see `hardattn.contract.Task`) of `envs.glimpse.Question`s; the targets are the colours of the stripes pointed to."""

    def __init__(self, config: CueConfig) -> None:
        self.config = config
        self.spec = GlimpseSpec(
            config.classes, config.size, config.size, config.classes, scales=1, side=config.size // 2, glimpses=config.glimpses
        )

    def size(self, split: str) -> int:
        """Scenes in a pass. Training scenes are all new; a pass is only a way of counting them."""
        if split not in ("train", "validation", "test"):
            raise ValueError(f'split must be "train", "validation" or "test", found {split!r}')
        return self.config.frozen

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Scenes by number. Validation and test scenes do not depend on the seed."""
        self.size(split)
        size, stripe, classes = self.config.size, self.config.stripe, self.config.classes
        key = keys(seed if split == "train" else 0, f"cue {split}", index)
        right = integers(fork(key, "side"), 1, 2)
        colour = integers(fork(key, "colour"), 1, classes)[:, 0]
        image = torch.zeros(len(index), classes, size, size)
        columns = torch.arange(stripe)
        image[torch.arange(len(index))[:, None], colour[:, None], :, columns + right * (size - stripe)] = 1.0
        white = (2.0 * right - 1.0)[:, :, None, None]
        image[..., size // 2 - stripe : size // 2] = -white
        image[..., size // 2 : size // 2 + stripe] = white
        gaze = torch.zeros(len(index), 2)
        return Batch(ask(image, gaze, fork(key, "agent"), self.config.eye), colour)

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `hardattn.contract.Task.batches`."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        if split == "train":
            share = rank_slice(batch_size)
            while True:
                yield self.scenes(split, torch.arange(share.start, share.stop) + start * batch_size, seed)
                start += 1
        for first in range(start * batch_size, self.size(split), batch_size):
            yield self.scenes(split, torch.arange(first, min(first + batch_size, self.size(split))))

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """`error`: 100 where the likeliest class is not the target, else 0, so that its mean is in percent."""
        return {"error": (answer.output.argmax(-1) != batch.target).float() * 100}
