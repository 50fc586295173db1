"""The loop must call what it was given, when it should, and stop between two steps only."""

import itertools
import os
import signal
import threading
import time

import pytest
import torch

from hardattn.contract import Batch
from hardattn.training import Interrupted, fit


@pytest.fixture(autouse=True)
def usual_handler():
    """A process started in the background ignores Ctrl-C; these tests want Python's own answer to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Counter:
    """Learns nothing; remembers the calls."""

    def __init__(self, at=None, action=lambda: None):
        self.steps, self.at, self.action = [], at, action

    def update(self, batch, step):
        if step == self.at:
            self.action()
        self.steps.append((step, int(batch.question)))
        return {"loss": torch.tensor(float(step))}


def batches(start=0):
    for number in itertools.count(start):
        yield Batch(torch.tensor(number), torch.zeros(4))


def test_every_step_gets_its_batch_and_no_batch_is_drawn_in_vain():
    learner, stream = Counter(), batches(3)
    fit(learner, stream, start=3, steps=8)
    assert learner.steps == [(i, i) for i in range(3, 8)]
    assert next(stream).question == 8


def test_numbers_are_means_since_the_last_log_and_the_last_step_is_logged():
    logged = []
    fit(Counter(), batches(), steps=8, log=lambda done, numbers: logged.append((done, numbers["loss"])), log_every=3)
    assert logged == [(3, 1.0), (6, 4.0), (8, 6.5)]


def test_logs_fall_on_the_same_steps_after_a_resume():
    logged = []
    fit(Counter(), batches(4), start=4, steps=8, log=lambda done, numbers: logged.append((done, numbers["loss"])), log_every=3)
    assert logged == [(6, 4.5), (8, 6.5)]


def test_speed_is_logged_and_is_positive():
    logged = []
    fit(Counter(), batches(), steps=2, log=lambda done, numbers: logged.append(numbers))
    assert logged[0]["speed/examples"] > 0


def test_hooks_are_called_in_order_after_the_log_and_after_the_last_step():
    calls = []
    hooks = [(2, lambda done: calls.append(("a", done))), (3, lambda done: calls.append(("b", done)))]
    fit(Counter(), batches(), steps=7, hooks=iter(hooks), log=lambda done, _: calls.append(("log", done)), log_every=6)
    assert calls == [("a", 2), ("b", 3), ("a", 4), ("log", 6), ("a", 6), ("b", 6), ("log", 7), ("a", 7), ("b", 7)]


def test_a_run_that_is_done_does_nothing():
    learner = Counter()
    fit(learner, batches(), start=5, steps=5, hooks=[(1, lambda done: pytest.fail("a hook was called"))])
    assert not learner.steps


def interrupt(*numbers):
    """Send signals to this process, each when the one before was dealt with: the handler may run a little later."""

    def send():
        for number in numbers:
            handler, deadline = signal.getsignal(number), time.monotonic() + 10
            os.kill(os.getpid(), number)
            while signal.getsignal(number) == handler and time.monotonic() < deadline:
                time.sleep(0.001)

    return send


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_step_and_its_hooks(number):
    handler = signal.getsignal(number)
    learner, saved = Counter(at=2, action=interrupt(number)), []
    with pytest.raises(Interrupted):
        fit(learner, batches(), steps=9, hooks=[(3, saved.append)])
    assert [step for step, _ in learner.steps] == [0, 1, 2] and saved == [3]
    assert signal.getsignal(number) == handler


def test_a_second_interrupt_stops_at_once():
    learner = Counter(at=1, action=interrupt(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(learner, batches(), steps=9)
    assert len(learner.steps) == 1


def test_one_interrupt_of_each_kind_is_still_a_question():
    """A launcher of several processes may pass Ctrl-C on as a SIGTERM."""
    learner = Counter(at=1, action=interrupt(signal.SIGINT, signal.SIGTERM))
    with pytest.raises(Interrupted):
        fit(learner, batches(), steps=9)
    assert len(learner.steps) == 2


def test_means_after_a_resume_are_those_of_a_run_without_a_pause():
    """Whoever saves between two logs hands back the records that were not logged yet."""
    whole, parts, records = [], [], []
    fit(Counter(), batches(), steps=6, log=lambda done, numbers: whole.append((done, numbers["loss"])), log_every=3)
    learner, log = Counter(at=3, action=interrupt(signal.SIGINT)), lambda done, numbers: parts.append((done, numbers["loss"]))
    with pytest.raises(Interrupted):
        fit(learner, batches(), steps=6, log=log, log_every=3, records=records)
    assert [record["loss"].item() for record in records] == [3.0]
    fit(Counter(), batches(4), start=4, steps=6, log=log, log_every=3, records=records)
    assert parts == whole and not records


def test_an_error_puts_the_handlers_back():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def fail():
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        fit(Counter(at=0, action=fail), batches(), steps=2)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_it_runs_in_a_thread():
    learner = Counter()
    thread = threading.Thread(target=lambda: fit(learner, batches(), steps=3))
    thread.start()
    thread.join()
    assert len(learner.steps) == 3
