"""Labelled images: scikit-learn's digits, which come with the installation, and MNIST, from files that the user has put in place."""

import gzip
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardattn.noise import permutation


class Images(NamedTuple):
    """One split of a data set."""

    pixels: Float[Tensor, "n c h w"]
    """In [0, 1]."""
    labels: Int[Tensor, " n"]


@lru_cache
def digits(magnify: int = 3) -> dict[str, Images]:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8, enlarged `magnify` times by repeating pixels; a fixed stratified 60/20/20 split."""
    from sklearn.datasets import load_digits  # takes a second: only when asked for
    from sklearn.model_selection import train_test_split

    source = load_digits()
    pixels = torch.tensor(source.images, dtype=torch.float32)[:, None] / 16
    pixels = pixels.repeat_interleave(magnify, -1).repeat_interleave(magnify, -2)
    labels = torch.tensor(source.target, dtype=torch.int64)
    everything = list(range(len(labels)))
    train, rest = train_test_split(everything, test_size=0.4, random_state=0, stratify=source.target)
    validation, test = train_test_split(rest, test_size=0.5, random_state=0, stratify=source.target[rest])
    return {name: Images(pixels[i], labels[i]) for name, i in {"train": train, "validation": validation, "test": test}.items()}


@lru_cache
def mnist(folder: Path) -> dict[str, Images]:
    """MNIST from `folder`/MNIST/raw, where torchvision keeps it; 10 % of the training images, fixed, are held out for validation.

    Raises:
        ValueError: if a file is missing, truncated or not what its name says.
    """
    raw = Path(folder) / "MNIST" / "raw"
    pixels, labels = _mnist_split(raw, "train", 60_000)
    order = permutation(0, "mnist validation", len(labels))
    held_out = len(labels) // 10
    return {
        "train": Images(pixels[order[held_out:]], labels[order[held_out:]]),
        "validation": Images(pixels[order[:held_out]], labels[order[:held_out]]),
        "test": Images(*_mnist_split(raw, "t10k", 10_000)),
    }


def _mnist_split(raw: Path, name: str, count: int) -> tuple[Tensor, Tensor]:
    pixels = _read_idx(raw / f"{name}-images-idx3-ubyte", (count, 28, 28))
    labels = _read_idx(raw / f"{name}-labels-idx1-ubyte", (count,))
    return pixels[:, None].float() / 255, labels.long()


def _read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """One of the four files, plain or gzipped. torchvision's reader fails on a truncated one without saying which."""
    zipped = path.with_name(path.name + ".gz")
    try:
        data = path.read_bytes() if path.exists() else gzip.decompress(zipped.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"expected MNIST at {path} (or {zipped.name}), found no such file. Put the four files of MNIST into "
            f"{path.parent}, or say where the folder that holds MNIST/raw is: --data-dir FOLDER"
        ) from None
    except (OSError, EOFError, zlib.error) as problem:
        found = path if path.exists() else zipped
        raise ValueError(f"cannot read {found}: {problem}. Copy the file again") from None
    header = 4 + 4 * len(shape)
    expected = header + torch.Size(shape).numel()
    if len(data) != expected:
        raise ValueError(
            f"{path} should have {expected:,} bytes and has {len(data):,}: it is truncated or not MNIST. Copy it again"
        )
    magic = struct.unpack(f">{1 + len(shape)}I", data[:header])
    if magic != (0x0800 + len(shape), *shape):
        raise ValueError(
            f"{path} does not begin as MNIST's {path.name} does: expected sizes {shape}, found {magic[1:]}. Copy it again"
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=header).view(shape)
