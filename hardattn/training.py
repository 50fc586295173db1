"""The one training loop."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from hardattn.contract import Batch
from hardattn.learner import means
from hardattn.parallel import global_sum, world


@runtime_checkable
class Updates(Protocol):
    """Anything that learns from batches: `hardattn.learner.Learner`, or a system with a rule of its own."""

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]: ...


class Interrupted(Exception):
    """The user pressed Ctrl-C; the step under way was finished first, and `done` steps are done in all."""

    def __init__(self, done: int) -> None:
        super().__init__(f"interrupted after {done} steps")
        self.done = done


Hook = tuple[int, Callable[[int], Any]]
"""(n, f): after every n steps, and after the last one, f is called with the number of steps done."""


def fit(
    learner: Updates,
    batches: Iterable[Batch],
    *,
    steps: int,
    start: int = 0,
    log: Callable[[int, dict[str, float]], Any] = lambda step, numbers: None,
    log_every: int = 50,
    hooks: Iterable[Hook] = (),
    records: list[dict[str, Tensor]] | None = None,
) -> None:
    """Update from step `start` to step `steps`, one batch each.

    Args:
        learner: is called with every batch and the number of the step, from 0.
        batches: those of steps `start`, `start` + 1, ...
        steps: where to stop.
        start: steps that were done before.
        log: receives the number of steps done and the means since the last call, and "speed/examples", examples per second.
        log_every: steps between two calls of `log`.
        hooks: work between steps: saving, evaluating. In order.
        records: the terms of the steps since the last call of `log`. Who saves between two calls gives a list, saves what is in it, and gives
            it again: then the next means are over the same steps as without a pause.

    Raises:
        Interrupted: after Ctrl-C, between two steps.
    """
    hooks = list(hooks)
    records = [] if records is None else records
    seen, since = 0, time.perf_counter()
    with _polite_interrupt() as asked_to_stop:
        for step, batch in zip(range(start, steps), batches):
            records.append(terms := learner.update(batch, step))
            seen += len(batch.target)
            done = step + 1
            if done % log_every == 0 or done == steps:
                log(done, means(records) | {"speed/examples": seen / (time.perf_counter() - since)})
                records.clear()
                seen, since = 0, time.perf_counter()
            for every, hook in hooks:
                if done % every == 0 or done == steps:
                    paused = time.perf_counter()
                    hook(done)
                    since += time.perf_counter() - paused
            if _anywhere(asked_to_stop(), next(iter(terms.values()), batch.target)):
                raise Interrupted(done)


def _anywhere(asked: bool, like: Tensor) -> bool:
    """Whether any process was asked to stop: those that train one model stop after the same step, or the others would wait for ever."""
    return asked if world()[1] == 1 else bool(global_sum(torch.full((), float(asked), device=like.device)) > 0)


@contextmanager
def _polite_interrupt() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a question that the loop may ask, so that no step is left half done; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        # One signal of the other kind is still a question: a launcher of several processes may pass Ctrl-C on as a SIGTERM.
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield asked.is_set
    finally:
        restore()
