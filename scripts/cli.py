"""What the scripts share on the command line: how they end, and how they write their rows."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hardattn.evaluation import Row


def main(work: Callable[[], int | None]) -> None:
    """Run a script and leave with its exit code: 2 with one clear message for a bad request, 1 for a run that failed, 130 after Ctrl-C."""
    # Several processes each print; one voice is enough for messages to the user.
    try:
        code = work() or 0
    except ValueError as problem:
        code = _say("error", problem, 2)
    except (FloatingPointError, OSError) as problem:
        code = _say("failed", problem, 1)
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.exit(code)


def _say(what: str, problem: BaseException, code: int) -> int:
    print(f"{what}: {problem}", file=sys.stderr)
    return code


def write_rows(rows: Sequence[Row] | Sequence[dict[str, Any]], target: str) -> None:
    """Rows as JSON to a file, or to standard output for "-"."""
    text = json.dumps(list(rows), indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_text(text)
    except OSError as problem:
        raise ValueError(f"cannot write {target}: {problem.strerror}") from None


def writable(folder: Path) -> Path:
    """`folder`, made if need be.

    Raises:
        ValueError: if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ValueError(f"cannot make the folder {folder}: {problem.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write into the folder {folder}: choose another")
    return folder
