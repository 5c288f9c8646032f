"""Reused children in bad surroundings; cases of tests/local/test_reuse_surroundings.py."""

from __future__ import annotations

import errno
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pcall import Pcall
from tests.helpers.cases import FINE, main
from tests.helpers.processes import children, descriptors

Reused = Pcall.options(max_tasks_per_child=None, max_workers=3, grace_period=20)
Tolerant = Reused.options(return_outcomes=True, max_errors=None)


def square(x: int) -> int:
    return x * x


def dies(x: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def all_of_it(count: int = 300) -> None:
    """Make calls whose results come home in different ways, and calls that die."""
    assert Reused.pcall(square, x=range(count)) == tuple(x * x for x in range(count))
    assert Reused.pcall(str, iargs=zip(range(count))) == tuple(map(str, range(count)))
    found = Tolerant.pcall(lambda x: dies(x) if x % 10 == 3 else "x" * x, x=range(60))
    for x, outcome in enumerate(found):
        assert outcome.ok == (x % 10 != 3), outcome
        assert not outcome.ok or outcome.value == "x" * x


# ------------------------------------------------------------ interrupts, and the parent's end


def interrupted_at_any_moment() -> None:
    last: Pcall | None = None

    def call(x: int) -> str | bytes:
        if x % 50 == 7:
            raise ValueError(x)
        return "x" * x if x % 3 else b"x" * 30_000

    class Kept(Tolerant):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            nonlocal last
            last = self

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    Tolerant.pcall(call, x=range(10))  # what is opened once is open now
    before = descriptors()
    interrupted = 0
    while interrupted < 100:
        last = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.06))
            Kept.options(max_tasks_per_child=random.choice([None, 50])).pcall(call, x=range(400))
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        left = {k: v for k, v in descriptors().items() if k not in before}
        assert not left, f"left after interrupt {interrupted}: {left}"
        assert not children(), children()
        check_that_none_is_lost(last)


def check_that_none_is_lost(run: Pcall | None) -> None:
    """Fail if a run that has begun has a call without an outcome."""
    if run is not None and run._started:
        run.join()
        assert run.done and all(run.outcomes), "a call was lost"


def terminate_from_a_handler() -> None:
    class Slow:
        def __reduce__(self) -> tuple[Any, ...]:
            return time.sleep, (0.0005,)

    def terminate(run: Pcall) -> Callable[..., None]:
        return lambda *_: run.terminate()

    for _ in range(60):
        run = Tolerant(lambda x: Slow() if x % 5 == 0 else str(x), x=range(300))
        signal.signal(signal.SIGALRM, terminate(run))
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.04))
        run.start()
        run.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for x, outcome in enumerate(run.outcomes):
            assert outcome is not None
            assert not outcome.ok or outcome.value == (None if x % 5 == 0 else str(x)), outcome
        assert not children()


def stay(what: str) -> None:
    """Make calls that do this until the process is killed: busy, idle, or ignores SIGTERM."""

    def call(x: int) -> None:
        Path(f"child-{os.getpid()}").touch()
        if what == "ignores":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if what != "idle" or x == 0:
            time.sleep(600)

    run = Reused.options(grace_period=1)(call, x=range(3))
    run.start()
    while len(list(Path().glob("child-*"))) < 3:
        run.wait(0.05)
    run.wait(1)
    Path("ready").touch()
    while True:
        run.wait(1)


# ------------------------------------------------------------ limits


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    all_of_it()
    many = Pcall.options(max_tasks_per_child=None, max_workers=40)
    assert many.pcall(square, x=range(500)) == tuple(x * x for x in range(500))
    large = [b"x" * (2 << 20)] * 12
    assert many.pcall(lambda x: large[x], x=range(12)) == tuple(large)


def descriptors_run_out() -> None:
    all_of_it()
    taken = len(os.listdir("/proc/self/fd"))
    for spare in (14, 20, 30):
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + spare, taken + 100))
        assert Reused.pcall(square, x=range(200)) == tuple(x * x for x in range(200))


def a_fork_fails(forks: str) -> None:
    made, fork = 0, os.fork

    def fails() -> int:
        nonlocal made
        if made == int(forks):
            raise OSError(errno.ENOMEM, "no memory")
        made += 1
        return fork()

    os.fork = fails
    before = descriptors()
    try:
        Reused.pcall(time.sleep, iargs=[(600,)] * 9)
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
    else:
        raise AssertionError("nothing was raised")
    assert not children(), children()
    assert descriptors().keys() == before.keys()


def a_full_disk() -> None:
    try:
        found = Tolerant.options(max_workers=1).pcall(
            lambda x: os.urandom(3000).hex(), x=range(100)
        )
        bad: list[BaseException | None] = [o.error for o in found if not o.ok]
    except OSError as error:  # there was no room for another child
        bad = [error]
    assert len(bad) < 100, len(bad)
    assert bool(bad) == (sys.argv[1] == "portable"), bad
    for each in bad:
        assert "No space left on device" in str(each), each


# ------------------------------------------------------------ streams, threads, output, options


def broken_streams() -> None:
    all_of_it()
    Reused.pcall(print, iargs=[("x",)] * 20)
    os._exit(FINE)  # what Python itself would do about such streams is not looked at


def beside_threads_that_print() -> None:
    logging.basicConfig(stream=open(os.devnull, "w"))
    over = False

    def talks() -> None:
        while not over:
            print("x" * 1000)
            logging.warning("y" * 1000)

    def call(x: int) -> int:
        print(x)
        logging.warning(x)
        return x

    threads = [threading.Thread(target=talks) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        found = Reused.options(max_tasks_per_child=20).pcall(call, 60, x=range(200))
        assert found == tuple(range(200))
    over = True


def calls_print() -> None:
    def call(x: int) -> None:
        print(f"out {x}")
        print(f"err {x}", file=sys.stderr)
        if x % 20 == 19:
            os._exit(1)

    print("the parent's", end=" ")
    Tolerant.pcall(call, x=range(200))
    sys.stdout.flush()


def large_and_small() -> None:
    all_of_it()
    Reused.pcall(lambda x: b"x" * (2 << 20), x=range(5))


if __name__ == "__main__":
    main(globals())
