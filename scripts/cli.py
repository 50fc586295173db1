"""What the scripts share on the command line: how it is read, how they end, and how they write their rows."""

import ctypes
import io
import json
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import tyro

from hardattn.evaluation import Row


def read_arguments(kind: Any, program: str, **given: Any) -> Any:
    """The command line as a `kind`; `given` are options of `tyro.cli`. `--help` ends the process here.

    Raises:
        ValueError: in one line, if something is wrong with it.
    """
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return tyro.cli(kind, prog=program, console_outputs=first_here(), **given)
    except SystemExit as end:
        if not end.code:
            raise
        raise ValueError(f"{_in_one_line(told.getvalue())}. {program} --help says what there is") from None


def _in_one_line(box: str) -> str:
    """What a box says that tyro draws around an error: what is wrong, and what may have been meant. Rules part its title, these, and more."""
    lines = [line.strip("│╭╰╮╯ ") for line in box.splitlines()]
    text = " ".join("\n" if not line.strip("─-") or line.startswith("─ ") else line for line in lines)
    _, problem, *more = [*(part.strip(" .") for part in text.split("\n")), ""]  # nothing is drawn where another process talks
    meant = re.findall(r"(?<!\S)--[\w.-]+", more[0]) if more and more[0].startswith("Perhaps you meant") else []
    problem = re.sub(r"^Error parsing \w+: ", "", problem)  # the name of a class says nothing to who typed options
    return problem + (f". Perhaps you meant {' or '.join(dict.fromkeys(meant))}" if meant else "")


def main(work: Callable[[], int | None]) -> None:
    """Run a script and leave with its exit code: 2 with one clear message for a bad request, 1 for a run that failed, 130 after Ctrl-C."""
    threading.excepthook = _thread_failed
    try:
        code = work() or 0
        sys.stdout.flush()
    except ValueError as problem:
        code = _say("error", problem, 2)
    except BrokenPipeError:  # the reader of `evaluate.py ... | head` has gone; Python would complain once more on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (FloatingPointError, OSError) as problem:
        code = _say("failed", problem, 1)
    except RuntimeError as problem:
        if "allocate" not in str(problem) and "out of memory" not in str(problem).lower():
            raise
        code = _say("failed", "out of memory: try less at a time, such as a smaller --batch-size", 1)
    except MemoryError:
        code = _say("failed", "out of memory: try less at a time, such as a smaller --batch-size", 1)
    except KeyboardInterrupt:
        code = _say("stopped", "interrupted", 130)
    sys.exit(code)


def first_here() -> bool:
    """Whether this is the only process, or of several on this machine the one that talks. (The processes need not have met yet.)"""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def again(*arguments: str) -> str:
    """The command that runs this script again with other arguments, as the user would type it."""
    typed = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if "LT_CLI_USED" in os.environ:
        device = os.environ.get("LT_ACCELERATOR", "auto")
        typed = ["fabric", "run", "--accelerator", device, "--devices", processes, sys.argv[0], "--"]
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        typed = ["torchrun", "--nproc_per_node", processes, sys.argv[0]]
    return shlex.join([*typed, *arguments])


def tune_for_cpu() -> None:
    """Settings of a process that trains on the CPU: worth a tenth of a step, and nothing else changes."""
    # Looking for a GPU that is not wanted takes half a millisecond, and the optimiser looks at every step.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    # glibc gives memory back to the system and takes it again, page by page, at every step. These are M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 2**30)
        mallopt(-3, 2**25)
    except (OSError, AttributeError):
        pass  # another C library: nothing to tune


def _say(what: str, problem: BaseException | str, code: int) -> int:
    # All processes find the same fault in a request; what fails on the way may fail in one of them.
    if first_here() or code == 1:
        print(f"{what}: {problem}", file=sys.stderr)
    return code


def _thread_failed(arguments: threading.ExceptHookArgs) -> None:
    # TensorBoard writes in a thread of its own. When the disk is full it raises there, and again where we can say what to do.
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)


def write_rows(rows: Sequence[Row] | Sequence[dict[str, Any]], target: str) -> None:
    """Rows as JSON to a file, or to standard output for "-"."""
    text = json.dumps(list(rows), indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    from hardattn.runs import write_whole

    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_text(text)  # a device or a pipe
        else:
            write_whole(path, text.encode())
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
