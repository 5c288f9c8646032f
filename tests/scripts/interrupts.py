"""Signals at any moment of a run; cases of tests/stress/test_interrupts.py.

Each case gets how its calls are made (fresh, reused, plan), and whether there are threads beside
the main one (threads, alone).
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pcall import Pcall, Plan, run
from tests.helpers.cases import main
from tests.helpers.processes import children, descriptors
from tests.helpers.waiting import until


@contextmanager
def beside(threads: str) -> Iterator[None]:
    """Have threads, to which the kernel gives signals when the main thread blocks them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop = threading.Event()
    if threads == "threads":
        for _ in range(3):
            threading.Thread(target=stop.wait).start()
    yield
    stop.set()


def lives(how: str) -> int | None:
    """Return the option max_tasks_per_child for this way of making calls."""
    return None if how == "reused" else 1


def nap(x: int) -> int:
    time.sleep(0.01)
    return x


def calls(how: str, count: int) -> Sequence[int]:
    """Make so many short calls."""
    if how == "plan":
        plan = Plan()
        made = [plan.call(nap, x) for x in range(count)]
        found: list[int] = run(plan, output=made)
        return found
    return Pcall.options(max_tasks_per_child=lives(how)).pcall(nap, x=range(count))


def signal_me(number: int, after: float) -> int:
    """Fork a process that sends this one a signal so many seconds later; return its number."""
    # Not before the fork is over: what a handler raises in its hooks is lost.
    me, (waits, goes) = os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(waits, 1)
        time.sleep(after)
        os.kill(me, number)
        os._exit(0)
    os.write(goes, b"!")
    os.close(waits)
    os.close(goes)
    return pid


def state() -> tuple[object, ...]:
    """Return what a run must leave as it was."""
    return len(descriptors()), children(), signal.getsignal(signal.SIGINT)


def interrupted(how: str, threads: str) -> None:
    with beside(threads):
        before = state()
        for _ in range(15):
            try:
                signal_me(signal.SIGINT, random.uniform(0.005, 0.15))
                calls(how, 60)
                time.sleep(60)
                sys.exit("no interrupt came")
            except KeyboardInterrupt:
                pass
            os.wait()  # for the sender
            assert state() == before, (state(), before)


def counted(how: str, threads: str) -> None:
    seen = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(threading.current_thread() is threading.main_thread())

    with beside(threads):
        before = state()
        signal.signal(signal.SIGUSR1, note)
        for moment in range(15):
            sender = signal_me(signal.SIGUSR1, random.uniform(0.005, 0.1))
            assert list(calls(how, 40)) == list(range(40))
            os.waitpid(sender, 0)
            until(lambda sent=moment + 1: len(seen) >= sent, 60, 0.001)  # type: ignore[misc]
            assert seen == [True] * (moment + 1), seen
            assert state() == before, (state(), before)
        assert signal.getsignal(signal.SIGUSR1) is note


class Alarm(Exception):
    """The handlers below raise it."""


class Rings:
    """Handlers of several kinds."""

    def ring(self, number: int, frame: FrameType | None) -> None:
        raise Alarm("too long")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.ring(number, frame)


parent = os.getpid()
to_come: list[int] = []


def load(pid: int) -> int:
    """Unpickle a value, in the parent with a signal just then."""
    if os.getpid() == parent and to_come:
        to_come.clear()
        signal.raise_signal(signal.SIGUSR1)
    return pid


class Slow:
    """Its pickle calls load()."""

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (os.getpid(),)


def while_reading(how: str, threads: str) -> None:
    with beside(threads):
        before = state()
        for handler in (Rings().ring, Rings(), functools.partial(Rings.ring, Rings())):
            signal.signal(signal.SIGUSR1, handler)
            plan = Plan()
            to_come[:] = [1]
            try:
                if how == "plan":
                    run(plan, output=plan.call(Slow), max_errors=None)
                else:
                    options = Pcall.options(max_tasks_per_child=lives(how), return_outcomes=True)
                    options.pcall(Slow)
                sys.exit("the alarm was swallowed")
            except Alarm:
                pass
            assert state() == before, (state(), before)


def in_children(how: str, threads: str) -> None:
    def mine(number: int, frame: FrameType | None) -> None:
        raise LookupError("mine")

    def handlers(x: int) -> None:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGUSR1) is mine
        signal.raise_signal(signal.SIGINT if x else signal.SIGUSR1)

    with beside(threads):
        before = state()
        signal.signal(signal.SIGUSR1, mine)
        tolerant = Pcall.options(
            max_errors=None, return_outcomes=True, max_tasks_per_child=lives(how)
        )
        found = [type(outcome.error) for outcome in tolerant.pcall(handlers, x=(0, 1))]
        assert found == [LookupError, KeyboardInterrupt], found
        assert state() == before, (state(), before)


if __name__ == "__main__":
    main(globals())
