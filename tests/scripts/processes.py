"""Runs the scripts as processes of their own, so that they can be killed. A server forks them from a process that has imported everything."""

import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TINY = (
    *("--hidden", "16", "--features", "8", "--positions", "1", "--height", "24", "--width", "24", "--glimpses", "3"),
    *(
        "--scales",
        "1",
        "--learning-rate",
        "0.01",
        "--batch-size",
        "16",
        "--log-every",
        "10",
        "--evaluate-every",
        "20",
        "--save-every",
        "10",
    ),
)
"""A run that takes a moment."""
BLIND = (*TINY, "--no-pictures")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Running:
    """A script at work, `python scripts/NAME.py ARGUMENTS`. What it prints goes to files in `folder`, or to a terminal."""

    def __init__(
        self,
        name: str,
        arguments: tuple[Any, ...],
        folder: Path,
        *,
        limit: int | None = None,
        environment: Mapping[str, str] | None = None,
        terminal: str | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.scripts.preload"])
        os.environ["OMP_NUM_THREADS"] = "1"  # the server keeps the environment it is started with
        self._files = (
            [Path(terminal)] * 2 if terminal else [folder / f"{name}-{time.monotonic_ns()}.{kind}" for kind in ("out", "err")]
        )
        words = [str(x) for x in arguments]
        self.process = context.Process(
            target=_work, args=(name, words, folder, self._files, limit, dict(environment or {})), daemon=True
        )
        self.process.start()

    @property
    def err(self) -> str:
        return self._files[1].read_text() if self._files[1].exists() else ""

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 240) -> None:
        """Until something is true, or the process has ended."""
        began = time.monotonic()
        while not condition() and self.process.is_alive():
            assert time.monotonic() - began < seconds, f"waited for {seconds} seconds:\n{self.err}"
            time.sleep(0.01)

    def end(self, seconds: float = 240) -> Ended:
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"no end after {seconds} seconds:\n{self.err}")
        code = self.process.exitcode
        assert code is not None
        return Ended(code, *(path.read_text() if path.is_file() else "" for path in self._files))


def run(name: str, *arguments: Any, folder: Path, **settings: Any) -> Ended:
    return Running(name, arguments, folder, **settings).end()


def _work(name: str, arguments: list[str], folder: Path, files: list[Path], limit: int | None, environment: dict) -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job, and all its children, would ignore Ctrl-C
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.chdir(folder)
    os.environ.update(environment)
    if limit is not None:  # no file may become larger: a full disk, without one
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    script = str(ROOT / "scripts" / f"{name}.py")
    sys.argv = [script, *arguments]
    sys.orig_argv = [sys.executable, *sys.argv]
    try:
        runpy.run_path(script, run_name="__main__")
    except Exception:
        traceback.print_exc()
        code = 70
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def refused(ended: Ended, *expected: str, code: int = 2) -> None:
    """A message that helps, and nothing else: on stderr, one line that matches every pattern."""
    assert ended.code == code, ended.text
    assert "Traceback" not in ended.text
    assert ended.out == ""
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    for pattern in expected:
        assert re.search(pattern, ended.err), f"expected {pattern}, found:\n{ended.err}"
