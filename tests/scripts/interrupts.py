"""Signals at any moment of a run; cases of tests/stress/test_interrupts.py.

Each case gets how its calls are made (fresh, reused, plan), and whether there are threads beside
the main one (threads, alone).
"""

from __future__ import annotations

import asyncio
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
        os.close(goes)
        os.read(waits, 1)
        time.sleep(after)
        os.kill(me, number)
        os._exit(0)
    os.close(waits)
    os.close(goes)  # the last line before the signal
    return pid


def state() -> tuple[object, ...]:
    """Return what a run must leave as it was."""
    return len(descriptors()), children(), signal.getsignal(signal.SIGINT)


def interrupted(how: str, threads: str) -> None:
    with beside(threads):
        before = state()
        for _ in range(6):
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
        for moment in range(6):
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


def pickled(x: int) -> object:
    """Return a value that is unpickled in the parent, and that may come in a file of its own."""
    time.sleep(0.001)
    return [x] * 3 if x % 7 else bytearray(2_000_000)


def run_of(how: str, count: int) -> Pcall:
    return Pcall.options(max_workers=3, max_tasks_per_child=lives(how), grace_period=2)(
        pickled, x=range(count)
    )


def used_by_a_handler(how: str, use: str) -> None:
    """A handler terminates, kills, polls or joins the very run that this thread joins."""
    me, clean, end = os.getpid(), state(), time.monotonic() + 1
    rounds = 0
    while time.monotonic() < end or rounds < 4:
        rounds += 1
        made, used = run_of(how, 60), []

        def handler(number: int, frame: FrameType | None, made: Pcall = made) -> None:
            used.append(1)
            if use == "poll":
                made.livings
                made.outcomes
            elif use == "join":
                made.terminate()
                made.join()
            else:
                getattr(made, use)()

        signal.signal(signal.SIGUSR1, handler)
        made.start()
        helper = signal_me(signal.SIGUSR1, random.uniform(0, 0.04))
        made.join()
        os.waitpid(helper, 0)
        assert used
        ended = [o for o in made.outcomes if o is not None]
        assert len(ended) == 60, len(ended)
        for o in ended:
            assert o.ok or use != "poll", o.error
            if o.ok:
                expected: object = [o.index] * 3 if o.index % 7 else bytearray(2_000_000)
                assert o.value == expected
        assert (made.results is not None) or use != "poll"
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        assert until(lambda: state() == clean), (state(), clean)
    assert os.getpid() == me


def in_two_threads(how: str, threads: str) -> None:
    """Two threads make calls at once; each child has the handlers of its parent."""
    told: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
    original = signal.getsignal(signal.SIGUSR1)

    def handlers(x: int) -> bool:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0.002)
        return signal.getsignal(signal.SIGUSR1) is original and told == [signal.SIGUSR1]

    policy = Pcall.options(max_workers=4, max_tasks_per_child=lives(how), return_outcomes=True)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(6):
            found = Pcall.options(max_workers=4, return_outcomes=True).pcall(handlers, x=range(12))
            wrong.extend(o for o in found if o.value is not True)

    other = threading.Thread(target=work)
    other.start()
    for _ in range(6):
        if how == "fresh":
            wrong.extend(o for o in policy.pcall(handlers, x=range(12)) if o.value is not True)
        else:
            policy.pcall(nap, x=range(12))
    other.join()
    assert not wrong, wrong[:3]


def in_the_clean_up(how: str, threads: str) -> None:
    """Ctrl-C while the block of a run is left for an exception goes on when that is done."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    clean = state()

    def resist(x: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    for _ in range(2):
        helper = 0
        try:
            policy = Pcall.options(grace_period=1.0, max_tasks_per_child=lives(how))
            with policy(resist, x=range(2)) as made:
                assert until(lambda: len(made.livings) == 2)
                time.sleep(0.2)
                helper = signal_me(signal.SIGINT, 0.3)
                raise LookupError("of the block")
        except KeyboardInterrupt as error:
            assert isinstance(error.__context__, LookupError)
        else:
            raise AssertionError("the interrupt was swallowed")
        os.waitpid(helper, 0)
        assert until(lambda: state() == clean), (state(), clean)


def told_once_to_a_loop(how: str, threads: str) -> None:
    """A callback of an event loop for a signal runs once for each signal."""

    async def busy() -> int:
        loop, count = asyncio.get_running_loop(), 0

        def callback() -> None:
            nonlocal count
            count += 1

        loop.add_signal_handler(signal.SIGUSR1, callback)
        sent = 0
        for _ in range(15):
            helper = signal_me(signal.SIGUSR1, random.uniform(0, 0.02))
            sent += 1
            await asyncio.get_running_loop().run_in_executor(None, int)
            calls(how, 8)
            os.waitpid(helper, 0)
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert count <= sent, (count, sent)
        return count

    with beside(threads):
        assert asyncio.run(busy()) > 0


if __name__ == "__main__":
    main(globals())
