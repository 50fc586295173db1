"""Games as tasks: an episode is a question, and the reward for playing it is all that is known of the answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from envs.catch import Catch, CatchConfig, picture
from envs.numbered import frozen_size, in_order
from hardattn.checks import at_least_one
from hardattn.contract import Answer, Batch, PlaySpec
from hardattn.noise import keys


class CatchEpisodes(NamedTuple):
    """Games of Catch that wait to be played (see `hardattn.contract.Played`).

    An observation is the glimpse, its gaze, and the part of the time that is over.
    """

    game: Catch
    key: Int[Tensor, " b"]

    @property
    def limit(self) -> int:
        return self.game.config.height - 1

    def reset(self) -> Any:
        return self.game.reset(self.key)

    def observe(self, state: Any) -> Float[Tensor, "b o"]:
        seen = self.game.observe(state)
        return torch.cat([seen.glimpse.flatten(1), seen.gaze, seen.time], 1)

    def step(
        self, state: Any, action: Float[Tensor, "b a"]
    ) -> tuple[Any, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        gaze = action[:, :2] if self.game.config.sight == "glimpse" else torch.zeros_like(state.gaze)
        return self.game.step(state, gaze, action[:, -1].long())

    def draw(self, state: Any, row: int) -> UInt8[np.ndarray, "y x 3"]:
        """One game, for people."""
        return picture(self.game, state, row)


@dataclass(frozen=True)
class PlayCatchConfig:
    """Catch as a task."""

    game: CatchConfig = field(default_factory=CatchConfig)
    frozen: int = 2000
    """Episodes for validation, and as many for testing."""

    def __post_init__(self) -> None:
        at_least_one(self, "frozen")

    def build(self, data_dir: Path = Path("data")) -> "PlayCatch":
        return PlayCatch(self)


class PlayCatch:
    """A task (see `hardattn.contract.Task`) of `CatchEpisodes`. Targets are zeros: nobody knows what is right."""

    def __init__(self, config: PlayCatchConfig) -> None:
        self.config = config
        self.game = Catch(config.game)
        full = config.game.sight == "full"
        seen = config.game.height * config.game.width if full else config.game.scales * config.game.side**2
        self.spec = PlaySpec(seen + 3, (3,), gaze=not full)

    def size(self, split: str) -> int:
        """Episodes in a pass. Training episodes are all new; a pass is only a way of counting them."""
        return frozen_size(split, self.config.frozen)

    def scenes(self, split: str, index: Int[Tensor, " b"], seed: int = 0) -> Batch:
        """Episodes by number. Validation and test episodes do not depend on the seed."""
        self.size(split)
        key = keys(seed if split == "train" else 0, f"catch {split}", index)
        return Batch(CatchEpisodes(self.game, key), torch.zeros_like(index))

    def batches(self, split: str, *, batch_size: int, seed: int = 0, start: int = 0) -> Iterator[Batch]:
        """See `envs.numbered.in_order`."""
        return in_order(self, split, batch_size=batch_size, seed=seed, start=start)

    def score(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """In percent: `error`, balls missed, and `caught`, the others."""
        return {"error": 100 * (1 - answer.output), "caught": 100 * answer.output}
