"""How a long run looks from outside: one line that stays in place on a terminal, a plain line now and then in a log file."""

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

PAUSE = 30.0
"""Seconds between two plain lines, so that a log file of a long run stays readable."""


def say(console: Console, text: str) -> None:
    """A line as it is: never broken, so that paths and commands can be copied."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


class Ticker:
    """Tells how far a run is.

    Args:
        console: where it is told.
        steps: of the whole run.
        start: steps that were done before.
        silent: say nothing; of several processes, one speaks.
    """

    def __init__(self, console: Console, steps: int, start: int = 0, *, silent: bool = False) -> None:
        self._console, self._steps, self._start, self._silent = console, steps, start, silent
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rest]}")
        self._bar = Progress(*columns, console=console, disable=silent or not console.is_terminal)
        self._line = self._bar.add_task("", total=steps, completed=start, rest="")
        self._began, self._last = time.monotonic(), float("-inf")

    def __enter__(self) -> "Ticker":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, step: int, rate: float, result: str) -> None:
        """`step` steps are done, at `rate` examples per second, with this result."""
        now = time.monotonic()
        # Over the whole session, not the last moment: evaluations take their share of what is left, too.
        left = timedelta(seconds=round((now - self._began) / max(1, step - self._start) * (self._steps - step)))
        rest = f"{rate:,.0f} examples/s  {result}  {left} left"
        self._bar.update(self._line, completed=step, rest=rest)
        if not self._console.is_terminal and now - self._last >= PAUSE:
            self._last = now
            self.say(f"step {step:,} of {self._steps:,}: {rest}")

    def say(self, text: str) -> None:
        """A line that stays, above the one that moves."""
        if not self._silent:
            say(self._console, text)
