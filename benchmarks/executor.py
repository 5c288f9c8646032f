"""Calls that come one by one: executors, with a fresh process for each call and with workers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

import peers
from measure import Row, main, ratio_row, take_turns

import pcall

WORKERS = 2


class Submits(Protocol):
    """The part of an executor that is measured."""

    def __call__(self, function: Callable[[int], int], number: int, /) -> Future[int]: ...


def trivial(x: int) -> int:
    return x


def one_by_one(submit: Submits, count: int) -> None:
    """Wait for each call before the next one is submitted."""
    for number in range(count):
        assert submit(trivial, number).result() == number


def all_at_once(submit: Submits, count: int) -> None:
    """Submit all, then wait."""
    futures = [submit(trivial, number) for number in range(count)]
    assert [future.result() for future in futures] == list(range(count))


def pebble_submits(stack: ExitStack, **settings: Any) -> Submits:
    from pebble import ProcessPool

    pool = stack.enter_context(ProcessPool(WORKERS, context=peers.FORK, **settings))
    stack.callback(pool.stop)
    return lambda function, number: pool.schedule(function, args=(number,))


def loky_submits(stack: ExitStack) -> Submits:
    from loky import get_reusable_executor

    executor = get_reusable_executor(WORKERS, timeout=60)
    stack.callback(executor.shutdown, kill_workers=True)
    return executor.submit  # type: ignore[no-any-return]


def submitted(
    contenders: dict[str, Submits], way: Callable[[Submits, int], None], count: int
) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    return {name: partial(way, submit, count) for name, submit in contenders.items()}


def measure(quick: bool) -> Iterator[Row]:
    """Fresh processes, then reused ones; one by one, then all at once; then ``map``."""
    count, rounds = (100, 3) if quick else (1000, 5)
    with ExitStack() as stack:

        def enter(executor: Executor) -> Submits:
            return stack.enter_context(executor).submit

        fresh = {"pcall": enter(pcall.Executor(WORKERS))}
        if "pebble" in peers.POOLS:
            fresh["pebble, max_tasks=1"] = pebble_submits(stack, max_tasks=1)
        reused = {
            "pcall": enter(pcall.Executor(WORKERS, max_tasks_per_child=None)),
            "ProcessPoolExecutor": enter(ProcessPoolExecutor(WORKERS, mp_context=peers.FORK)),
        }
        if "pebble" in peers.POOLS:
            reused["pebble"] = pebble_submits(stack)
        if importlib.util.find_spec("loky"):
            reused["loky"] = loky_submits(stack)
        for submit in (*fresh.values(), *reused.values()):
            one_by_one(submit, 10)

        for work, way in (("one by one", one_by_one), ("all at once", all_at_once)):
            single = way is one_by_one
            window = 1 if single else WORKERS
            bare = f"bare fork, window of {window}"
            runs = submitted(fresh, way, count)
            runs[bare] = partial(peers.bare_window, trivial, count, window)
            times = take_turns(runs, rounds)
            for name in runs:
                if name != "pcall":
                    target = 1.15 if name == bare and single else None
                    title = f"{count} trivial calls submitted {work}, fresh"
                    yield ratio_row(title, times, "pcall", name, target)
            runs = submitted(reused, way, count)
            times = take_turns(runs, rounds)
            targets = {"ProcessPoolExecutor": 1.0, "pebble": 0.3} if single else {}
            for name in runs:
                if name != "pcall":
                    title = f"{count} trivial calls submitted {work}, reused"
                    yield ratio_row(title, times, "pcall", name, targets.get(name))

    def mapped(make: Callable[[], Executor]) -> object:
        with make() as executor:
            return list(executor.map(trivial, range(10 * count)))

    runs = {
        "pcall": lambda: mapped(lambda: pcall.Executor(WORKERS, max_tasks_per_child=None)),
        "ProcessPoolExecutor": lambda: mapped(
            lambda: ProcessPoolExecutor(WORKERS, mp_context=peers.FORK)
        ),
    }
    times = take_turns(runs, rounds)
    title = f"map of {10 * count} trivial calls, reused"
    yield ratio_row(title, times, "pcall", "ProcessPoolExecutor")


if __name__ == "__main__":
    main(measure)
