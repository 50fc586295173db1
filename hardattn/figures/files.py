"""Pictures to files and to TensorBoard."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hardattn.figures.style import Picture
from hardattn.runs import write_whole


def png_bytes(picture: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def gif_bytes(frames: Sequence[Picture], fps: int = 12) -> bytes:
    """An endless GIF. All frames share one palette, so that still parts do not flicker; equal frames in a row become one.

    Raises:
        ValueError: if there are no frames, or if they differ in size.
    """
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise ValueError(f"an animation needs frames of one size, found {len(frames)} frames of sizes {sorted(sizes)}")
    sample = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, 6).round().astype(int))]
    palette = Image.fromarray(np.concatenate(sample)).quantize(256, Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    for extreme in (0, 255):  # averaging has taken the edge off black and white
        colours[np.abs(colours - extreme).max(1) <= 6] = extreme
    palette.putpalette(colours.ravel().tolist())
    first, *others = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    file = io.BytesIO()
    # A GIF counts hundredths of a second.
    duration = max(2, round(100 / fps)) * 10
    first.save(file, "GIF", save_all=True, append_images=others, duration=duration, loop=0, optimize=False)
    return file.getvalue()


def save_png(path: Path, picture: Picture) -> None:
    """Written whole or not at all."""
    write_whole(Path(path), png_bytes(picture))


def save_gif(path: Path, frames: Sequence[Picture], fps: int = 12) -> None:
    """Written whole or not at all."""
    write_whole(Path(path), gif_bytes(frames, fps))


def add_figure(writer: Any, tag: str, picture: Picture, step: int) -> None:
    """A picture for TensorBoard; `writer` is a `torch.utils.tensorboard.SummaryWriter`."""
    _add(writer, tag, png_bytes(picture), picture, step)


def add_animation(writer: Any, tag: str, frames: Sequence[Picture], step: int, fps: int = 12) -> None:
    """An animation for TensorBoard, which shows a GIF wherever it shows an image."""
    _add(writer, tag, gif_bytes(frames, fps), frames[0], step)


def _add(writer: Any, tag: str, encoded: bytes, picture: Picture, step: int) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    height, width = picture.shape[:2]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
    # The writer's own methods take pixels and encode them; for bytes that are encoded already there is no public way in.
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
