"""Episodes of a game, many at once: whatever is played, and whoever plays."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hardattn.contract import Played

Act = Callable[[int, Float[Tensor, "b o"]], Float[Tensor, "b a"]]
"""Is told the number of the move (0 is the first) and what is seen; returns the action. What it remembers is its own affair."""


class Episodes(NamedTuple):
    """What happened, time first. Episodes that are over are carried along until the longest is."""

    seen: Float[Tensor, "states b o"]
    """Before every move, and after the last."""
    action: Float[Tensor, "t b a"]
    reward: Float[Tensor, "t b"]
    """0 after the end."""
    terminated: Bool[Tensor, "t b"]
    """Where the episode ended by itself: at this move."""
    over: Bool[Tensor, "t b"]
    """Where it ended, at this move or before, by itself or by a limit."""

    @property
    def alive(self) -> Bool[Tensor, "t b"]:
        """Moves that were really made."""
        return ~torch.cat([torch.zeros_like(self.over[:1]), self.over[:-1]])


@torch.no_grad()
def play(game: Played, act: Act) -> Episodes:
    """Play all episodes to their ends, or to the game's limit, which is then a truncation."""
    state = game.reset()
    seen, actions, rewards, terminations, ends = [game.observe(state)], [], [], [], []
    over = torch.zeros(len(game.key), dtype=torch.bool, device=game.key.device)
    for i in range(game.limit):
        action = act(i, seen[-1])
        state, reward, terminated, truncated = game.step(state, action)
        actions.append(action)
        rewards.append(reward.masked_fill(over, 0.0))
        terminations.append(terminated & ~over)
        over = over | terminated | truncated
        ends.append(over)
        seen.append(game.observe(state))
        if over.all():
            break
    ends[-1] = torch.ones_like(over)
    return Episodes(*(torch.stack(x) for x in (seen, actions, rewards, terminations, ends)))
