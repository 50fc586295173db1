"""Pictures of an episode for people: where the eye looked, what it sees, and what the agent believes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from envs.glimpse import Eye, Rules, State
from hardattn.glimpse import window_corners

Number = int | float

CANVAS = 400
"""Pixels that the longer side of the canvas gets at most, its margin included (larger images are drawn pixel by pixel)."""
PANEL = 208
"""Width of the panel beside it."""
GAP = 16
SMOOTH = 2
"""Everything is drawn so many times larger and averaged: Pillow draws no smooth lines."""

BACKGROUND, OUTSIDE, FAINT, TEXT = (18, 20, 26), (34, 37, 46), (128, 136, 156), (222, 226, 234)
PATH, BAR, RIGHT, WRONG = (84, 196, 255), (120, 138, 178), (94, 214, 132), (255, 107, 107)
SCALES = ((255, 204, 64), (255, 132, 72), (232, 92, 160), (160, 112, 240))
"""Colours of the retina's windows, finest first."""


def frame(
    image: Float[Tensor, "c h w"],
    glimpse: Float[Tensor, "kc g g"],
    path: Float[Tensor, "t 2"],
    *,
    eye: Eye,
    rules: Rules,
    target: int,
    answer: int | None = None,
    belief: Shaped[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "y x 3"]:
    """One picture of one episode. Its size depends on the task only, so that pictures make a film.

    Left: the canvas with the retina's windows at the present gaze, and numbered fixations. Right: the glimpse as it is
    delivered, the belief as bars (the target's label is green, the answer's is boxed), and the outcome once there is one.

    Args:
        image: the scene, in [0, 1]; one channel is grey, three are red, green and blue, others are averaged.
        glimpse: what the retina delivers at the end of the path.
        path: every gaze so far.
        eye: the retina.
        rules: of the game.
        target: the right answer.
        answer: the one that was given.
        belief: probabilities of the classes.
    """
    left = Canvas((image.shape[-2], image.shape[-1]), eye)
    panel_left = 2 * GAP + left.width
    height = 2 * GAP + max(left.height, _PANEL_HEIGHT)
    size = (panel_left + PANEL + GAP, height + height % 2)  # films want even sizes
    picture = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), BACKGROUND)
    pen = Pen(picture)
    top = (size[1] - left.height) // 2
    left.draw(pen, GAP, top, image, path)
    x, y = panel_left, (size[1] - _PANEL_HEIGHT) // 2
    pen.text(x, y, f"glimpse {len(path)} of {rules.glimpses}")
    patches(pen, x, y + 22, glimpse, eye)
    y += 22 + PATCHES + 36
    pen.text(x, y, "belief")
    _bars(pen, x, y + 18, rules.classes, target, answer, belief)
    y += 18 + _BARS + 30
    pen.text(x, y, f"target {target}", colour=RIGHT)
    if answer is not None:
        colour, verdict = (RIGHT, "right") if answer == target else (WRONG, "wrong")
        pen.text(x + PANEL, y, f"answer {answer}: {verdict}", colour=colour, anchor="ra")
    return np.asarray(picture.reduce(SMOOTH)).copy()


class Frames:
    """What pictures show of the past: paths and answers. Without a render mode nothing is kept.

    Raises:
        ValueError: if there is no such render mode.
    """

    def __init__(self, render_mode: str | None, count: int, rules: Rules) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode must be None or "rgb_array", found {render_mode!r}')
        self.rules = rules
        self.wanted = render_mode is not None
        self.path = torch.zeros(count, rules.glimpses, 2)
        self.answer = torch.full((count,), rules.classes)

    def begin(self, rows: Int[Tensor, " rows"], state: State) -> None:
        """Episodes `rows` begin at `state`, which holds them only."""
        if self.wanted:
            self.path[rows, 0] = state.gaze
            self.answer[rows] = self.rules.classes

    def record(self, state: State, answer: Int[Tensor, " n"], read: Bool[Tensor, " n"]) -> None:
        """All episodes stand at `state`; answers were `read` of some."""
        if self.wanted:
            self.path[torch.arange(len(self.path)), state.seen - 1] = state.gaze
            self.answer = torch.where(read, answer, self.answer)

    def draw(self, env: Any, state: State, belief: Any) -> tuple[UInt8[np.ndarray, "y x 3"], ...] | None:
        """A picture per episode of `env`, or, if that was made without a render mode, a warning and None.

        Raises:
            ValueError: if `belief` is neither None nor a row of class probabilities for every episode.
        """
        if not self.wanted:
            gym.logger.warn(f'{env} draws nothing: it was made without render_mode. Use gym.make(..., render_mode="rgb_array")')
            return None
        beliefs = self._beliefs(belief)
        glimpse = state.question.look(state.gaze)
        return tuple(
            frame(
                state.question.image[i],
                glimpse[i],
                self.path[i, : int(state.seen[i])],
                eye=state.question.eye,
                rules=self.rules,
                target=int(state.target[i]),
                answer=int(self.answer[i]) if self.answer[i] < self.rules.classes else None,
                belief=beliefs[i],
            )
            for i in range(len(self.path))
        )

    def _beliefs(self, belief: Any) -> Sequence[np.ndarray | None]:
        count, classes = len(self.path), self.rules.classes
        if belief is None:
            return [None] * count
        rows = [x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in belief]
        for row in rows:
            if row.shape != (classes,) or not np.all((row >= 0) & (row <= 1.001)):
                raise ValueError(f"a belief must hold {classes} probabilities, found {row}")
        if len(rows) != count:
            raise ValueError(f"expected a belief for each of {count} environments, found {len(rows)}")
        return rows


class Pen:
    """Draws in units of finished pixels."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture, self.to = picture, ImageDraw.Draw(picture)

    def box(self, x: Number, y: Number, w: Number, h: Number, *, fill: Any = None, line: Any = None, thick: Number = 1) -> None:
        corners = (x * SMOOTH, y * SMOOTH, (x + w) * SMOOTH - 1, (y + h) * SMOOTH - 1)
        self.to.rectangle(corners, fill=fill, outline=line, width=round(thick * SMOOTH))

    def line(self, points: Sequence[tuple[Number, Number]], colour: Any, thick: Number) -> None:
        self.to.line([(x * SMOOTH, y * SMOOTH) for x, y in points], fill=colour, width=round(thick * SMOOTH), joint="curve")

    def disc(self, x: Number, y: Number, radius: Number, *, fill: Any, line: Any) -> None:
        corners = tuple(v * SMOOTH for v in (x - radius, y - radius, x + radius, y + radius))
        self.to.ellipse(corners, fill=fill, outline=line, width=round(1.5 * SMOOTH))

    def text(self, x: Number, y: Number, words: str, *, colour: Any = TEXT, size: int = 13, anchor: str = "la") -> None:
        self.to.text((x * SMOOTH, y * SMOOTH), words, fill=colour, font=_font(size * SMOOTH), anchor=anchor)

    def pixels(self, x: Number, y: Number, pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> None:
        """An image enlarged to `size` (width, height), every pixel a sharp square."""
        enlarged = Image.fromarray(pixels).resize((size[0] * SMOOTH, size[1] * SMOOTH), Image.Resampling.NEAREST)
        self.picture.paste(enlarged, (round(x * SMOOTH), round(y * SMOOTH)))


class Canvas:
    """Where things are on the left: pixels enlarged by a whole number, with room for windows that hang over the border."""

    def __init__(self, size: tuple[int, int], eye: Eye) -> None:
        self.size, self.eye = size, eye
        widest = eye.side * eye.coarsest
        over = [reach + widest / 2 - side / 2 for reach, side in zip(eye.reach, size)]
        self.margin = min(max(0, round(max(over))), max(size) // 10) + 1
        self.zoom = max(1, CANVAS // (max(size) + 2 * self.margin))
        self.height, self.width = ((side + 2 * self.margin) * self.zoom for side in size)

    def draw(self, pen: Pen, x: int, y: int, image: Float[Tensor, "c h w"], path: Float[Tensor, "t 2"]) -> None:
        h, w = self.size
        pen.box(x, y, self.width, self.height, fill=OUTSIDE)
        inner = x + self.margin * self.zoom, y + self.margin * self.zoom
        pen.pixels(*inner, colours(image), (w * self.zoom, h * self.zoom))
        places = [
            (inner[0] + (w / 2 + gx * self.eye.reach[1]) * self.zoom, inner[1] + (h / 2 + gy * self.eye.reach[0]) * self.zoom)
            for gx, gy in path.tolist()
        ]
        self.windows(pen, x, y, inner, path[-1])
        if len(places) > 1:
            pen.line(places, BACKGROUND, 4)
            pen.line(places, PATH, 2)
        for number, place in enumerate(places, start=1):
            last = number == len(places)
            pen.disc(*place, 9 if last else 8, fill=SCALES[0] if last else PATH, line=BACKGROUND)
            pen.text(*place, str(number), colour=BACKGROUND, size=11 if number < 10 else 9, anchor="mm")

    def windows(self, pen: Pen, x: int, y: int, inner: tuple[int, int], gaze: Float[Tensor, " 2"]) -> None:
        """Outlines of the retina's windows, the parts beyond the margin cut off."""
        widths = tuple(self.eye.side * self.eye.zoom**i for i in range(self.eye.scales))
        corners = window_corners(gaze, size=self.size, reach=self.eye.reach, widths=widths).tolist()
        for i in reversed(range(self.eye.scales)):  # the finest on top
            left, top = (inner[axis] + corners[i][axis] * self.zoom for axis in (0, 1))
            right, bottom = left + widths[i] * self.zoom, top + widths[i] * self.zoom
            left, top = max(left, x), max(top, y)
            right, bottom = min(right, x + self.width), min(bottom, y + self.height)
            if left < right and top < bottom:
                pen.box(left - 1, top - 1, right - left + 2, bottom - top + 2, line=BACKGROUND, thick=4)
                pen.box(left, top, right - left, bottom - top, line=SCALES[i % len(SCALES)], thick=2)


_BARS = 96
PATCHES = 96
_PANEL_HEIGHT = 22 + PATCHES + 36 + 18 + _BARS + 48


def patches(pen: Pen, x: int, y: int, glimpse: Tensor, eye: Eye) -> None:
    """What the retina delivers, one patch per scale, framed in the colour of its window."""
    side = min(PATCHES, (PANEL - 8 * (eye.scales - 1)) // eye.scales)
    for i, patch in enumerate(glimpse.unflatten(0, (eye.scales, -1))):
        left = x + i * (side + 8)
        pen.pixels(left, y, colours(patch), (side, side))
        pen.box(left - 2, y - 2, side + 4, side + 4, line=SCALES[i % len(SCALES)], thick=2)
        pen.text(left + side / 2, y + side + 12, f"{eye.side * eye.zoom**i} px", colour=FAINT, size=11, anchor="mm")


def _bars(pen: Pen, x: int, y: int, classes: int, target: int, answer: int | None, belief: np.ndarray | None) -> None:
    step = PANEL / classes
    gap = 2 if step > 8 else 0
    for i in range(classes):
        left, width = x + i * step, step - gap
        if belief is not None:
            height = float(belief[i]) * _BARS
            pen.box(left, y, width, _BARS, fill=OUTSIDE)
            if height >= 1:
                pen.box(left, y + _BARS - height, width, height, fill=RIGHT if i == target else BAR)
        if step > 12:
            middle = left + width / 2
            if i == answer:
                pen.box(left, y + _BARS + 3, width, 17, line=RIGHT if answer == target else WRONG)
            pen.text(middle, y + _BARS + 11.5, str(i), colour=RIGHT if i == target else TEXT, size=12, anchor="mm")
    if belief is None:
        pen.box(x, y, PANEL - gap, _BARS, fill=OUTSIDE)
        pen.text(x + PANEL / 2, y + _BARS / 2, "none given", colour=FAINT, anchor="mm")


def colours(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    if len(image) != 3:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


@lru_cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
