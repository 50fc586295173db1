"""A probe: a task that is solved in seconds by looking in the right order, and by nothing else.

The image is three panels in a row. One of the outer two has a colour, which is the answer; the other is blank. The middle panel is white (1)
in the half that lies towards the colour and black (-1) in the other. The eye starts there, its window is one panel, and it has one move. So
what it sees first must say where it looks next: a gaze that moves at random, or always to the same place, fails nearly every other time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from envs.glimpse import Eye, Rules, ask
from envs.numbered import classification_error, frozen_size, in_order
from hardattn.checks import at_least_one
from hardattn.contract import Answer, Batch, GlimpseSpec
from hardattn.noise import fork, integers, keys


@dataclass(frozen=True)
class CueConfig:
    """The probe's sizes."""

    side: int = 4
    """Height and width of a panel in pixels."""
    classes: int = 6
    """Colours; each is a channel of its own."""
    glimpses: int = 2
    """How often the eye looks."""
    frozen: int = 1000
    """Scenes for validation, and as many for testing."""

    def __post_init__(self) -> None:
        at_least_one(self, "side", "classes", "glimpses", "frozen")
        if self.side % 2:
            raise ValueError(f"side must be even, so that the middle panel has two halves; found {self.side}")

    @property
    def eye(self) -> Eye:
        return Eye(self.side, scales=1, zoom=2, reach=(1.0, float(self.side)))

    @property
    def rules(self) -> Rules:
        return Rules(glimpses=self.glimpses, classes=self.classes)

    def build(self, data_dir: Path = Path("data")) -> "Cue":
        return Cue(self)


class Cue:
    """A task (see `hardattn.contract.Task`) of `envs.glimpse.Question`s; the targets are the colours."""

    def __init__(self, config: CueConfig) -> None:
        self.config = config
        classes, side = config.classes, config.side
        self.spec = GlimpseSpec(classes, side, 3 * side, classes, scales=1, side=side, glimpses=config.glimpses)

    def size(self, split: str) -> int:
        """Scenes in a pass. Training scenes are all new; a pass is only a way of counting them."""
        return frozen_size(split, self.config.frozen)

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Scenes by number. Validation and test scenes do not depend on the seed."""
        self.size(split)
        key = keys(seed if split == "train" else 0, f"cue {split}", index)
        right = integers(fork(key, "side"), 1, 2)[:, 0]
        colour = integers(fork(key, "colour"), 1, self.config.classes)[:, 0]
        panels = torch.zeros(len(index), self.config.classes, self.config.side, 3, self.config.side)
        panels[torch.arange(len(index)), colour, :, 2 * right] = 1.0
        black, white = panels[..., 1, :].chunk(2, dim=-1)  # for an answer on the right
        white += (2.0 * right - 1.0)[:, None, None, None]
        black -= (2.0 * right - 1.0)[:, None, None, None]
        gaze = torch.zeros(len(index), 2)
        return Batch(ask(panels.flatten(-2), gaze, fork(key, "agent"), self.config.eye), colour)

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """`error`, in percent; see `envs.numbered.classification_error`."""
        return {"error": classification_error(answer, batch)}
