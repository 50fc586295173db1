"""Digits must be what they are said to be, and a damaged file must be named."""

import gzip
import os
import struct
from pathlib import Path

import pytest
import torch

from envs.data import digits, mnist

SPLITS = ("train", "validation", "test")
REAL = Path(os.environ.get("HARDATTN_DATA", "data"))


def test_digits_are_all_of_them_split_by_class():
    splits = digits()
    assert [len(splits[name].labels) for name in SPLITS] == [1078, 359, 360]
    for name in SPLITS:
        pixels, labels = splits[name]
        assert pixels.shape == (len(labels), 1, 24, 24) and pixels.min() == 0 and pixels.max() == 1
        share = labels.bincount(minlength=10) / len(labels)
        assert (share - 0.1).abs().max() < 0.01
    unlike = torch.cat([splits[name].pixels for name in SPLITS]).flatten(1).unique(dim=0)
    assert len(unlike) == 1797, "an image is in two splits"


def test_digits_are_enlarged_by_repeating_pixels():
    small, large = digits(1)["test"].pixels, digits(3)["test"].pixels
    assert torch.equal(torch.nn.functional.interpolate(small, scale_factor=3, mode="nearest"), large)
    assert small.shape[-2:] == (8, 8) and torch.equal((small * 16).round(), small * 16)


def test_the_split_of_the_digits_is_as_it_was_published():
    assert digits()["test"].labels[:10].tolist() == [8, 8, 6, 3, 3, 2, 2, 2, 5, 5]


FILES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


def header(*shape: int) -> bytes:
    return struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)


def put(folder: Path, name: str, shape: tuple[int, ...], *, size: int | None = None, begin: bytes | None = None) -> Path:
    """A file of zeros with MNIST's header; most of it is a hole that takes no space."""
    path = folder / "MNIST" / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = header(*shape) if begin is None else begin
    path.write_bytes(begin)
    os.truncate(path, 4 + 4 * len(shape) + torch.Size(shape).numel() if size is None else size)
    return path


@pytest.fixture
def folder(tmp_path):
    for name, shape in FILES.items():
        put(tmp_path, name, shape)
    yield tmp_path
    mnist.cache_clear()


def test_mnist_is_shuffled_once_into_training_and_validation(folder):
    """Image i says i in its first two bytes, and has label i mod 10; the test files are gzipped."""
    number = torch.arange(60_000)
    pixels = torch.zeros(60_000, 784, dtype=torch.uint8)
    pixels[:, 0], pixels[:, 1] = number // 256, number % 256
    raw = folder / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").write_bytes(header(60_000, 28, 28) + pixels.numpy().tobytes())
    (raw / "train-labels-idx1-ubyte").write_bytes(header(60_000) + (number % 10).byte().numpy().tobytes())
    for name in list(FILES)[2:]:
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes(), 1))
        (raw / name).unlink()
    splits = mnist(folder)
    assert {name: tuple(splits[name].pixels.shape) for name in SPLITS} == {
        "train": (54_000, 1, 28, 28),
        "validation": (6_000, 1, 28, 28),
        "test": (10_000, 1, 28, 28),
    }
    first = torch.cat([splits[name].pixels[:, 0, 0, :2] for name in ("train", "validation")]) * 255
    found = (first @ torch.tensor([256.0, 1.0])).round().long()
    assert torch.equal(found.sort().values, number)
    assert torch.equal(found % 10, torch.cat([splits["train"].labels, splits["validation"].labels]))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_advice(folder, name):
    (folder / "MNIST" / "raw" / name).unlink()
    with pytest.raises(ValueError, match=rf"expected MNIST at .*{name} .*{name}\.gz.* no such file.*--data-dir"):
        mnist(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_the_wrong_size_is_named(folder, name, change):
    path = folder / "MNIST" / "raw" / name
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(ValueError, match=rf"{name} should have [\d,]+ bytes and has [\d,]+: .* Copy it again"):
        mnist(folder)


def test_an_empty_file_is_named(folder):
    put(folder, "train-images-idx3-ubyte", (60_000, 28, 28), size=0)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte should have"):
        mnist(folder)


@pytest.mark.parametrize("begin", [header(60_000, 28, 28)[:4] + b"....", header(60_000, 14, 56), header(60_000)[:4], b""])
def test_a_file_of_something_else_is_named(folder, begin):
    put(folder, "train-images-idx3-ubyte", (60_000, 28, 28), begin=begin)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte does not begin as .*\(60000, 28, 28\).* Copy it again"):
        mnist(folder)


DEFLATED = gzip.compress(os.urandom(1000))


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzipped", DEFLATED[:-300], DEFLATED[:12], DEFLATED[:10] + b"\xff" * 100, DEFLATED[:-8] + bytes(8)],
    ids=["empty", "not gzip", "cut", "cut early", "corrupt", "wrong checksum"],
)
def test_a_damaged_archive_is_named(folder, content):
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte(\.gz: .*| should have .*) Copy"):
        mnist(folder)


def test_a_folder_in_place_of_a_file_is_named(folder):
    path = folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.*Copy"):
        mnist(folder)


@pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="no MNIST: say where it is in HARDATTN_DATA")
def test_the_real_mnist():
    """Class counts of the published files."""
    splits = mnist(REAL)
    counts = splits["train"].labels.bincount() + splits["validation"].labels.bincount()
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert splits["test"].labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert splits["test"].pixels.mean().item() == pytest.approx(0.1325, abs=1e-3)
    mnist.cache_clear()
