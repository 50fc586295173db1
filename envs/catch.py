"""Catch: a ball falls, a paddle waits below, and the player sees both through a retina only.

The dynamic environment of Mnih et al. 2014 (Section 4.2). `Catch` is the batched core in torch; `CatchEnv` and `CatchVectorEnv` are
Gymnasium's interfaces over it.

Timeline: `reset` shows the first frame at a gaze that the environment chose. Every step moves the paddle, the ball and the gaze, in this order,
and shows the new frame. The ball falls one row in a step, so an episode on a screen of height h has h - 1 steps; the last one brings the ball to the
paddle's row, and pays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, final

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from envs.games import Game, GameEnv, GameVectorEnv
from envs.glimpse import Eye
from envs.render import BACKGROUND, GAP, OUTSIDE, PANEL, PATCHES, SMOOTH, WRONG, Canvas, Pen, colours, patches
from envs.render import RIGHT as DONE
from envs.views import MultiDiscreteView, View, cells, reals, wholes
from hardattn.checks import above_zero, at_least_one, at_least_zero, literals
from hardattn.glimpse import direct_retina
from hardattn.noise import fork, integers, uniform

LEFT, STAY, RIGHT = 0, 1, 2
"""The paddle's moves."""


@dataclass(frozen=True)
class CatchConfig:
    """The game and the eye. Defaults: Mnih et al. 2014, Section 4.2, where it says."""

    height: int = 24
    """Rows of the screen."""
    width: int = 24
    """Columns of the screen."""
    paddle: int = 2
    """Pixels of the paddle."""
    drift: int = 1
    """The ball moves sideways by -drift to drift columns in a step, always the same number until it bounces off a wall. (The paper does not say how fast.)"""
    side: int = 6
    """Side of the delivered patches, and of the finest window, in pixels."""
    scales: int = 3
    """Windows of the retina; each is twice as wide as the last."""
    pool: Literal["mean", "max"] = "max"
    """How a window is reduced. A mean over 4 x 4 pixels dims a ball of one pixel sixteenfold."""
    reach: float | None = None
    """Pixels from the middle to a gaze of 1. None puts the finest window of a gaze of (1, 1) into the corner."""
    sight: Literal["glimpse", "full"] = "glimpse"
    """Whether a player sees glimpses, or, as a control, the whole screen."""

    def __post_init__(self) -> None:
        literals(self)
        at_least_one(self, "height", "width", "paddle", "side", "scales")
        at_least_zero(self, "drift")
        if self.height < 2:
            raise ValueError(f"height must be at least 2, so that the ball can fall; found {self.height}")
        if self.paddle > self.width:
            raise ValueError(f"the paddle must fit the screen, found paddle={self.paddle} and width={self.width}")
        if self.drift >= self.width:
            raise ValueError(f"the ball may not cross the screen in a step, found drift={self.drift} and width={self.width}")
        if self.reach is not None:
            above_zero(self, "reach")

    @property
    def eye(self) -> Eye:
        """The retina, as `hardattn.glimpse` wants it."""
        if self.reach is not None:
            reach = (self.reach, self.reach)
        else:
            reach = (max(1.0, (self.height - self.side) / 2), max(1.0, (self.width - self.side) / 2))
        return Eye(self.side, self.scales, 2, reach, self.pool)


class State(NamedTuple):
    """All that the next step needs."""

    ball: Int[Tensor, "b 2"]
    """(column, row)."""
    drift: Int[Tensor, " b"]
    """Columns that the ball moves in a step; positive to the right."""
    paddle: Int[Tensor, " b"]
    """The column of the paddle's left end."""
    gaze: Float[Tensor, "b 2"]
    """(x, y) in [-1, 1]."""


class Observation(NamedTuple):
    """What a player gets to know."""

    glimpse: Float[Tensor, "b kc g g"]
    """What the retina delivers, finest scale first; the whole screen [b, 1, h, w] with full sight."""
    gaze: Float[Tensor, "b 2"]
    time: Float[Tensor, "b 1"]
    """The part of the steps that is over."""


class Catch:
    """The batched core (Mnih et al. 2014, Section 4.2)."""

    def __init__(self, config: CatchConfig) -> None:
        self.config = config

    def reset(self, key: Int[Tensor, " b"]) -> State:
        """Begin episodes: a ball in the top row, a paddle in the bottom row and a gaze, all anywhere; the keys decide."""
        c = self.config
        column = integers(fork(key, "ball"), 1, c.width)
        drift = integers(fork(key, "drift"), 1, 2 * c.drift + 1)[:, 0] - c.drift
        paddle = integers(fork(key, "paddle"), 1, c.width - c.paddle + 1)[:, 0]
        return State(torch.cat([column, torch.zeros_like(column)], 1), drift, paddle, 2 * uniform(fork(key, "gaze"), 2) - 1)

    def step(
        self, state: State, gaze: Float[Tensor, "b 2"], move: Int[Tensor, " b"]
    ) -> tuple[State, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        """One frame.

        Args:
            state: where the episodes stand. Those that have ended stand still and pay nothing.
            gaze: where to look next, (x, y); places outside [-1, 1] are brought to the border.
            move: of the paddle, `LEFT`, `STAY` or `RIGHT`. Walls stop it.

        Returns:
            The next state, rewards (1 when the ball comes down on the paddle, else 0), who has terminated (the ball is down), and
            who was truncated (nobody).
        """
        c = self.config
        bottom, wall = c.height - 1, c.width - 1
        over = state.ball[:, 1] >= bottom
        column = state.ball[:, 0] + state.drift
        bounced = (column < 0) | (column > wall)
        column = torch.where(column > wall, 2 * wall - column, column).abs()
        ball = torch.stack([column, state.ball[:, 1] + 1], dim=1)
        paddle = (state.paddle + move - STAY).clamp(0, c.width - c.paddle)
        moved = State(ball, torch.where(bounced, -state.drift, state.drift), paddle, gaze.clamp(-1, 1))
        state = State(*(torch.where(over.view(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(state, moved)))
        down = state.ball[:, 1] >= bottom
        caught = (state.ball[:, 0] >= state.paddle) & (state.ball[:, 0] < state.paddle + c.paddle)
        return state, (caught & down & ~over).float(), down, torch.zeros_like(down)

    def screen(self, state: State) -> Float[Tensor, "b 1 h w"]:
        """The binary screen that nobody sees as a whole."""
        c = self.config
        columns = torch.arange(c.width, device=state.paddle.device)
        rows = torch.arange(c.height, device=state.paddle.device)
        ball = (rows == state.ball[:, 1:])[:, :, None] & (columns == state.ball[:, :1])[:, None]
        below = (columns >= state.paddle[:, None]) & (columns < state.paddle[:, None] + c.paddle)
        paddle = (rows == c.height - 1)[:, None] & below[:, None]
        return (ball | paddle).float()[:, None]

    def look(self, state: State, gaze: Float[Tensor, "*r b 2"]) -> Float[Tensor, "*r b kc g g"]:
        """What the retina would deliver of the present frame at `gaze`."""
        side, scales, zoom, reach, pool = self.config.eye
        return direct_retina(self.screen(state), gaze, side=side, scales=scales, zoom=zoom, reach=reach, pool=pool)

    def observe(self, state: State) -> Observation:
        """The frame at the present gaze, or all of it if sight is full."""
        full = self.config.sight == "full"
        seen = self.screen(state) if full else self.look(state, state.gaze)
        return Observation(seen, state.gaze, state.ball[:, 1:] / (self.config.height - 1))


@final
class DictView(View):
    """Dict(gaze, paddle): for libraries with structured actions."""

    def __init__(self, grid: int) -> None:
        gaze = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.space = gym.spaces.Dict({"gaze": gaze, "paddle": gym.spaces.Discrete(3)})

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(action, Mapping):
            raise ValueError(f"a {type(action).__name__}")
        if set(action) != {"gaze", "paddle"}:
            raise ValueError(f"the keys {sorted(map(str, action))}")
        return reals("gaze", action["gaze"], (*lead, 2)), wholes("paddle", action["paddle"], lead, 3)


@final
class DiscreteView(View):
    """Discrete(3 G G): number 3 * cell + move looks at a cell and moves the paddle, for DQN and its kin."""

    def __init__(self, grid: int) -> None:
        self.places = cells(grid)
        self.space = gym.spaces.Discrete(3 * len(self.places))

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        cell, move = np.divmod(wholes("action", action, lead, 3 * len(self.places)), 3)
        return self.places[cell], np.asarray(move)


@final
class PaddleView(View):
    """Discrete(3): the paddle only; the eye rests in the middle. For the control that sees the whole screen."""

    def __init__(self, grid: int) -> None:
        self.space = gym.spaces.Discrete(3)

    def _read(self, action: Any, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((*lead, 2), np.float32), wholes("action", action, lead, 3)


def _multidiscrete(grid: int) -> MultiDiscreteView:
    """MultiDiscrete([G * G, 3]): cell and move, for PPO and A2C of most libraries."""
    return MultiDiscreteView(2, grid)


VIEWS: dict[str, Any] = {"dict": DictView, "multidiscrete": _multidiscrete, "discrete": DiscreteView, "paddle": PaddleView}


def picture(core: Catch, state: State, row: int) -> UInt8[np.ndarray, "y x 3"]:
    """One game of a batch. Left: the screen with the retina's windows, the ball white and the paddle blue. Right: the glimpse as it is delivered."""
    state = State(*(part[row : row + 1] for part in state))
    eye, screen = core.config.eye, core.screen(state)[0]
    bottom = torch.zeros_like(screen)
    bottom[:, -1, int(state.paddle) : int(state.paddle) + core.config.paddle] = 1.0
    canvas = Canvas((screen.shape[-2], screen.shape[-1]), eye)
    height = 2 * GAP + max(canvas.height, PATCHES + 40)
    size = (3 * GAP + canvas.width + PANEL, height + height % 2)  # films want even sizes
    size = (size[0] + size[0] % 2, size[1])
    picture = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), BACKGROUND)
    pen = Pen(picture)
    pen.box(GAP, GAP, canvas.width, canvas.height, fill=OUTSIDE)
    corner = (GAP + canvas.margin * canvas.zoom, GAP + canvas.margin * canvas.zoom)
    coloured = torch.cat([screen * (1 - 0.7 * bottom), screen * (1 - 0.3 * bottom), screen])
    pen.pixels(*corner, colours(coloured), (canvas.size[1] * canvas.zoom, canvas.size[0] * canvas.zoom))
    canvas.windows(pen, GAP, GAP, corner, state.gaze[0])
    left = 2 * GAP + canvas.width
    pen.text(left, GAP, f"step {int(state.ball[0, 1])} of {core.config.height - 1}")
    patches(pen, left, GAP + 24, core.look(state, state.gaze)[0], eye)
    if int(state.ball[0, 1]) == core.config.height - 1:
        caught = 0 <= int(state.ball[0, 0] - state.paddle) < core.config.paddle
        pen.text(left, GAP + 24 + PATCHES, "caught" if caught else "missed", colour=DONE if caught else WRONG)
    return np.asarray(picture.reduce(SMOOTH)).copy()


class CatchGame(Game):
    """Catch for Gymnasium.

    Args:
        config: of the game; a dictionary of `CatchConfig`'s fields is what a JSON file can hold. Default: as published.
        view: a name in `VIEWS`.
        grid: places along one side of the grid, for views whose gaze is a cell. 4 tiles the default screen with finest windows.
        **changes: fields of the configuration that are to differ.

    Raises:
        ValueError: if an argument is none of these.
    """

    name = "catch"
    render_modes = ("rgb_array",)

    def __init__(
        self, config: CatchConfig | dict[str, Any] | None = None, *, view: str = "dict", grid: int = 4, **changes: Any
    ) -> None:
        settings = (
            {f.name: getattr(config, f.name) for f in fields(config)} if isinstance(config, CatchConfig) else config or {}
        )
        try:
            config = CatchConfig(**{**settings, **changes})
        except TypeError as problem:
            raise ValueError(f"expected fields of CatchConfig: {problem}") from None
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, found {view!r}")
        if grid < 1:
            raise ValueError(f"the grid must have at least 1 cell, found grid={grid}")
        self.core = Catch(config)
        self.view: View = VIEWS[view](grid)
        self.action_space = self.view.space
        shape = (1, config.height, config.width) if config.sight == "full" else (config.scales, config.side, config.side)
        self.observation_space = gym.spaces.Dict(
            {
                "glimpse": gym.spaces.Box(0.0, 1.0, shape, np.float32),
                "gaze": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
                "t": gym.spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )

    def reset(self, key: Int[Tensor, " b"], before: State | None) -> State:
        return self.core.reset(key)

    def decode(self, action: Any, count: int | None = None) -> tuple[Float[Tensor, "b 2"], Int[Tensor, " b"]]:
        return self.view.decode(action, count)

    def step(
        self, state: State, action: tuple[Tensor, Tensor]
    ) -> tuple[State, Float[Tensor, " b"], Bool[Tensor, " b"], Bool[Tensor, " b"]]:
        return self.core.step(state, *action)

    def observe(self, state: State) -> dict[str, Tensor]:
        return dict(zip(("glimpse", "gaze", "t"), self.core.observe(state)))

    def info(self, state: State) -> dict[str, Tensor]:
        return {"ball": state.ball, "paddle": state.paddle}

    def draw(self, state: State, row: int, mode: str) -> UInt8[np.ndarray, "y x 3"]:
        return picture(self.core, state, row)


class CatchEnv(GameEnv):
    """One game of Catch (see `CatchGame`, which also names the other arguments).

    Observations, for k scales and windows of side g: "glimpse" [k, g, g] in {0, 1} (with full sight the screen [1, h, w]); "gaze" [2] in [-1, 1];
    "t" [1], the part of the steps that is over. Infos carry the "ball" (column, row) and the "paddle"'s left end.

    Args:
        config: see `CatchGame`.
        render_mode: None or "rgb_array".
        **game: see `CatchGame`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(self, config: Any = None, *, render_mode: str | None = None, **game: Any) -> None:
        super().__init__(CatchGame(config, **game), render_mode)


class CatchVectorEnv(GameVectorEnv):
    """`num_envs` games of Catch that step together (see `CatchEnv`, `CatchGame` and `envs.games.GameVectorEnv`)."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 8,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        config: Any = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        return_torch: bool = False,
        **game: Any,
    ) -> None:
        super().__init__(
            CatchGame(config, **game),
            num_envs,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            return_torch=return_torch,
        )
