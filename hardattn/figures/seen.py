"""What was looked at, and what of the image is known after every glimpse. Tensors only; nothing is drawn here."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardattn.glimpse import window_corners


@runtime_checkable
class Retina(Protocol):
    """The sizes that say which pixels a glimpse is made of (see `hardattn.glimpse.retina`)."""

    @property
    def side(self) -> int: ...
    @property
    def scales(self) -> int: ...
    @property
    def zoom(self) -> int: ...
    @property
    def reach(self) -> tuple[float, float]: ...


class Looks(NamedTuple):
    """Scenes and how they were looked at."""

    images: Float[Tensor, "b c h w"]
    glimpses: Float[Tensor, "b t kc g g"]
    """What the retina delivered: scales (finest first) and channels on one axis, channel fastest."""
    gaze: Float[Tensor, "b t 2"]
    eye: Retina
    belief: Float[Tensor, "b t n"] | None = None
    """Class probabilities after every glimpse."""
    target: Int[Tensor, " b"] | None = None
    taken: Int[Tensor, " b"] | None = None
    """How many glimpses it took before it stopped, at least 1; those after them are not drawn. None: all."""

    def stop(self, i: int) -> int | None:
        """Before which glimpse scene i's are cut off. None: nowhere."""
        return None if self.taken is None else int(self.taken[i])

    @property
    def patches(self) -> Float[Tensor, "b t k c g g"]:
        return self.glimpses.unflatten(2, (self.eye.scales, -1))

    @property
    def corners(self) -> Int[Tensor, "b t k 2"]:
        """(left, top) of every window that was read, in pixels."""
        h, w = self.images.shape[-2:]
        return window_corners(self.gaze, size=(h, w), reach=self.eye.reach, widths=widths(self.eye))

    @property
    def places(self) -> Float[Tensor, "b t 2"]:
        """(x, y) of the middle of every finest window, in pixels from the image's top left corner."""
        return self.corners[:, :, 0].float() + self.eye.side / 2


class Seen(NamedTuple):
    """What is known after every glimpse."""

    canvas: Float[Tensor, "b t c h w"]
    """At every pixel what the finest window that covered it delivered, the latest one among equals; 0 where none did."""
    scale: Int[Tensor, "b t h w"]
    """Which window that was: 0 is the finest; the number of scales where the eye has seen nothing yet."""


def widths(eye: Retina) -> tuple[int, ...]:
    """Sides of the windows in pixels, finest first."""
    return tuple(eye.side * eye.zoom**i for i in range(eye.scales))


def checked(looks: Looks) -> Looks:
    """The same on the CPU, in float32 and without gradient.

    Raises:
        ValueError: if the parts do not fit one another.
    """
    b, c = looks.images.shape[:2]
    t = looks.gaze.shape[1]
    side = looks.eye.side
    expected = {
        "gaze": (b, t, 2),
        "glimpses": (b, t, looks.eye.scales * c, side, side),
        "belief": (b, t, *looks.belief.shape[2:]) if looks.belief is not None else None,
        "target": (b,),
        "taken": (b,),
    }
    for name, shape in expected.items():
        found = getattr(looks, name)
        if found is not None and tuple(found.shape) != shape:
            raise ValueError(
                f"{b} images of {c} channels, {t} gazes and this retina need {name} {shape}, found {tuple(found.shape)}"
            )
    if not b or not t:
        raise ValueError(f"there must be something to draw: found {b} scenes of {t} glimpses")
    images, glimpses, gaze = (x.detach().cpu().float() for x in (looks.images, looks.glimpses, looks.gaze))
    belief = looks.belief.detach().cpu().float() if looks.belief is not None else None
    target, taken = (x.cpu() if x is not None else None for x in (looks.target, looks.taken))
    if taken is not None and not ((taken >= 1) & (taken <= t)).all():
        raise ValueError(f"taken must be from 1 to {t} glimpses, found {taken.tolist()}")
    return Looks(images, glimpses, gaze, looks.eye, belief, target, taken)


def reconstruct(looks: Looks) -> Seen:
    """Put everything the retina delivered back where it came from, fine over coarse, after every glimpse."""
    b, c, h, w = looks.images.shape
    t, side, scales = looks.gaze.shape[1], looks.eye.side, looks.eye.scales
    patches, corners = looks.patches, looks.corners
    device = patches.device
    scene, time = torch.arange(b, device=device).view(b, 1, 1, 1, 1), torch.arange(t, device=device).view(t, 1, 1, 1)
    channel = torch.arange(c, device=device).view(c, 1, 1)
    canvas = patches.new_zeros((b, t, c, h, w))
    scale = torch.full((b, t, h, w), scales, device=device)
    for i in reversed(range(scales)):  # fine over coarse
        block = looks.eye.zoom**i
        column = (torch.arange(w, device=device) - corners[:, :, i, :1]).div(block, rounding_mode="floor")  # [b, t, w]
        row = (torch.arange(h, device=device) - corners[:, :, i, 1:]).div(block, rounding_mode="floor")
        inside = ((row >= 0) & (row < side))[..., :, None] & ((column >= 0) & (column < side))[..., None, :]
        row, column = row.clamp(0, side - 1)[:, :, None, :, None], column.clamp(0, side - 1)[:, :, None, None, :]
        canvas = torch.where(inside[:, :, None], patches[:, :, i][scene, time, channel, row, column], canvas)
        scale[inside] = i
    for i in range(1, t):  # what was seen finer before stays
        old = scale[:, i - 1] < scale[:, i]
        canvas[:, i] = torch.where(old[:, None], canvas[:, i - 1], canvas[:, i])
        scale[:, i] = torch.where(old, scale[:, i - 1], scale[:, i])
    return Seen(canvas, scale)
