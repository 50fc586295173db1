"""Text files that people write: their lines, and what is said of a line that is wrong."""

from pathlib import Path
from typing import NoReturn


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a file, without their ends.

    Args:
        path: of a text file, UTF-8.
        what: is expected in it, for the message.

    Raises:
        ValueError: if the file cannot be read or is not UTF-8; it names the file and the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"expected {what} at {path}, found no such file") from None
    except OSError as problem:
        raise ValueError(f"cannot read {path}: {problem.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        refuse(str(path), data[: problem.start].count(b"\n") + 1, f"byte 0x{data[problem.start]:02x} is not UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def refuse(source: str, line: int, what: str) -> NoReturn:
    """Raises: ValueError: always."""
    raise ValueError(f"{source}, line {line}: {what}")
