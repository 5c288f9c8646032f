"""Calls beside threads that hold locks; cases of tests/local/test_locks.py."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from pcall import ChildProcessException, Pcall, PcallTimeout, pcall
from tests.helpers.cases import main


@contextlib.contextmanager
def threads(*targets: Callable[[], object]) -> Iterator[None]:
    """Call each target over and over in a thread of its own."""
    over = threading.Event()
    begun = threading.Barrier(len(targets) + 1)

    def repeat(target: Callable[[], object]) -> None:
        begun.wait()
        while not over.is_set():
            target()

    running = [threading.Thread(target=repeat, args=(target,)) for target in targets]
    for thread in running:
        thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()


def run_all(target: Callable[[int], int], runs: str) -> None:
    """Make so many runs of three calls."""
    for n in range(int(runs)):
        assert pcall(target, 20, n=[n, n + 1, n + 2]) == (n, n + 1, n + 2)


def of_logging(runs: str) -> None:
    logging.basicConfig(filename="log", level=logging.INFO)

    def hold() -> None:
        with logging._lock:  # type: ignore[attr-defined]
            time.sleep(0.001)
        time.sleep(0.0005)  # the fork itself waits for this lock: let it

    def target(n: int) -> int:
        logging.getLogger(f"new.{n}").warning("in the child")
        logging.getLogger("new").setLevel(logging.INFO)
        return n

    with threads(hold):
        run_all(target, runs)


def of_a_handler(runs: str) -> None:
    handlers = [logging.FileHandler("log"), logging.StreamHandler(open("stream", "w"))]
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    over = threading.Event()
    held = threading.Barrier(len(handlers) + 1)

    def hold(handler: logging.Handler) -> None:
        assert handler.lock is not None
        with handler.lock:
            held.wait()
            over.wait()

    def target(n: int) -> int:
        logging.error("in the child")
        return n

    holders = [threading.Thread(target=hold, args=(handler,)) for handler in handlers]
    for holder in holders:
        holder.start()
    held.wait()
    made = []
    try:
        for n in range(int(runs)):
            made.append(Pcall(target, 20, n=[n, n + 1, n + 2]))
            made[-1].start()
            assert made[-1].wait(20)
    finally:
        over.set()
        for holder in holders:
            holder.join()
    for this in made:
        this.join()  # here, since it is the parent that needs the lock now
    assert Path("log").read_text().count("in the child") == 3 * int(runs)


def while_logging(runs: str) -> None:
    logging.basicConfig(handlers=[logging.FileHandler("log"), logging.StreamHandler()])

    def log() -> None:
        logging.error("in the parent")
        time.sleep(0.0002)

    def target(n: int) -> int:
        logging.error("in the child")
        return n

    with threads(log, log):
        run_all(target, runs)


def of_an_import(runs: str) -> None:
    sys.path.insert(0, os.getcwd())
    names = ["slow_one", "slow_two", "package", "package.inner"]

    def load() -> None:
        for name in names:
            importlib.import_module(name)
            time.sleep(0)
        for name in names:
            sys.modules.pop(name, None)

    def target(n: int) -> int:
        for name in names:
            assert importlib.import_module(name).whole
        import slow_one  # type: ignore[import-not-found]  # noqa: F401
        import slow_two  # type: ignore[import-not-found]  # noqa: F401

        return n

    with threads(load):
        run_all(target, runs)


def of_stdout(runs: str) -> None:
    def write() -> None:
        print("parent", "x" * 5000)
        time.sleep(0.0002)

    def target(n: int) -> int:
        print("child", n, flush=n % 2 == 0)
        return n

    with threads(write, write):
        run_all(target, runs)


def of_numpy(runs: str) -> None:
    import numpy.random  # whole, before the threads use it

    # Long enough for several forks, since numpy lets other threads run meanwhile; then a pause,
    # since a run draws from the generator when it starts.
    def draw() -> None:
        numpy.random.standard_normal(200_000)
        time.sleep(0.0005)

    def target(n: int) -> int:
        numpy.random.random()
        return n

    with threads(draw, draw):
        run_all(target, runs)


def of_the_user_not_needed(runs: str) -> None:
    lock, condition = threading.RLock(), threading.Condition()
    waiting: queue.Queue[int] = queue.Queue(1)

    def hold() -> None:
        with lock, condition, waiting.mutex:
            time.sleep(0.005)

    with threads(hold):
        run_all(lambda n: n, runs)


def of_the_user_needed(runs: str) -> None:
    lock = threading.Lock()

    def target(n: int) -> int:
        if n == 1:
            with lock:
                pass
        return n

    with lock:
        start = time.monotonic()
        try:
            pcall(target, 1, n=[0, 1, 2])
        except PcallTimeout as error:
            assert [o.index for o in error.running] == [1], error.running
            assert [o and o.ok for o in error.outcomes] == [True, False, True]
        else:
            raise AssertionError("no timeout")
        assert time.monotonic() - start < 10


def threads_come_and_go(runs: str) -> None:
    def come_and_go() -> None:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    def target(n: int) -> int:
        found: list[int] = []
        thread = threading.Thread(target=found.append, args=(n,))
        thread.start()
        thread.join()
        assert threading.active_count() <= 2, threading.enumerate()
        return found[0]

    with threads(come_and_go, come_and_go):
        run_all(target, runs)


def without_a_warning(runs: str) -> None:
    with threads(lambda: time.sleep(0.001)):
        run_all(lambda n: n, runs)
        thread = threading.Thread(target=run_all, args=(lambda n: n, runs))
        thread.start()
        run_all(lambda n: n, runs)
        thread.join()


def filters_of_warnings(runs: str) -> None:
    def target(n: int) -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    before = list(warnings.filters)
    with threads(lambda: time.sleep(0.001)):
        for _ in range(int(runs)):
            try:
                pcall(target, n=[1, 2])
            except ChildProcessException as error:
                assert type(error.__cause__) is DeprecationWarning, error
            else:
                raise AssertionError("the child had other filters")
    assert users_filters() == before


def users_filters() -> list[object]:
    """The filters of warnings, without the one for this library's own modules."""
    return [each for each in warnings.filters if "pcall" not in getattr(each[3], "pattern", "")]


def filters_beside_catch_warnings(runs: str) -> None:
    """In the middle of a fork another thread enters ``catch_warnings``; it leaves it later."""
    before = users_filters()
    forking, entered, leave = threading.Event(), threading.Event(), threading.Event()

    def change() -> None:
        forking.wait(10)
        with warnings.catch_warnings():
            entered.set()
            leave.wait(10)

    def in_the_middle() -> None:
        forking.set()
        entered.wait(10)

    os.register_at_fork(before=in_the_middle)
    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(int(runs)):
        pcall(abs, iargs=[(-1,)])
    leave.set()
    thread.join()
    assert users_filters() == before, users_filters()


if __name__ == "__main__":
    main(globals())
