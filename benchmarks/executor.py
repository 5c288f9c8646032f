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


WAYS = {"one by one": one_by_one, "all at once": all_at_once}
Contenders = dict[str, Submits]


def contest(
    kind: str, contenders: Contenders, count: int, rounds: int, targets: dict[str, float]
) -> Iterator[Row]:
    """pcall against all others, in both ways."""
    for submit in contenders.values():
        one_by_one(submit, 10)
    for name, way in WAYS.items():
        times = take_turns(
            {who: partial(way, submit, count) for who, submit in contenders.items()}, rounds
        )
        work = f"{count} trivial calls submitted {name}, {kind}"
        for who in contenders:
            if who != "pcall":
                target = targets.get(who) if way is one_by_one else None
                yield ratio_row(work, times, "pcall", who, target)


def against_bare(count: int, rounds: int) -> Iterator[Row]:
    """A fresh process for each call, against ``os.fork`` and a pipe.

    No other executor is there then: a bare fork beside threads may hang.
    """
    for name, way in WAYS.items():
        window = 1 if way is one_by_one else WORKERS

        def run(way: Callable[[Submits, int], None] = way) -> None:
            with pcall.Executor(WORKERS) as executor:
                way(executor.submit, count)

        bare = f"bare fork, window of {window}"
        run()
        times = take_turns(
            {"pcall": run, bare: partial(peers.bare_window, trivial, count, window)}, rounds
        )
        target = 1.15 if way is one_by_one else None
        work = f"{count} trivial calls submitted {name}, fresh"
        yield ratio_row(work, times, "pcall", bare, target)


def measure(quick: bool) -> Iterator[Row]:
    """Fresh processes, then reused ones; one by one, and all at once; then ``map``."""
    count, rounds = (100, 3) if quick else (1000, 5)
    yield from against_bare(count, rounds)
    with ExitStack() as stack:
        contenders: Contenders = {"pcall": stack.enter_context(pcall.Executor(WORKERS)).submit}
        if "pebble" in peers.POOLS:
            contenders["pebble, max_tasks=1"] = pebble_submits(stack, max_tasks=1)
            yield from contest("fresh", contenders, count // 5, 3, {})
    with ExitStack() as stack:

        def enter(executor: Executor) -> Submits:
            return stack.enter_context(executor).submit

        contenders = {
            "pcall": enter(pcall.Executor(WORKERS, max_tasks_per_child=None)),
            "ProcessPoolExecutor": enter(ProcessPoolExecutor(WORKERS, mp_context=peers.FORK)),
        }
        if "pebble" in peers.POOLS:
            contenders["pebble"] = pebble_submits(stack)
        if importlib.util.find_spec("loky"):
            contenders["loky"] = loky_submits(stack)
        targets = {"ProcessPoolExecutor": 1.0, "pebble": 0.3}
        yield from contest("reused", contenders, count, rounds, targets)

    def mapped(make: Callable[[], Executor]) -> object:
        with make() as executor:
            return list(executor.map(trivial, range(10 * count)))

    runs: dict[str, Callable[[], object]] = {
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
