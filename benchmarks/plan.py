"""Plans of 10 000 trivial calls, against uberjob's threads; and one that is bound by the CPU."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import peers
from cpu import ONE, WORKERS, work
from measure import Row, main, ratio_row, take_turns

import pcall

PEER = "uberjob"
BARE = "bare fork, window of 2"


def trivial(*values: Any) -> int:
    """A call that does nothing."""
    return 1


def wide(plan: Any, count: int) -> Any:
    """Calls that need nothing."""
    return [plan.call(trivial) for _ in range(count)]


def chain(plan: Any, count: int) -> Any:
    """Calls that each need the one before."""
    call = plan.call(trivial)
    for _ in range(count - 1):
        call = plan.call(trivial, call)
    return call


def fan_in(plan: Any, count: int) -> Any:
    """One call that needs all others."""
    return plan.call(trivial, [plan.call(trivial) for _ in range(count - 1)])


def diamonds(plan: Any, count: int) -> Any:
    """Many times: one call, two that need it, and one that needs both."""
    ends = []
    for _ in range(count // 4):
        first = plan.call(trivial)
        sides = plan.call(trivial, first), plan.call(trivial, first)
        ends.append(plan.call(trivial, *sides))
    return ends


def _ours(build: Callable[[Any, int], Any], count: int) -> None:
    plan = pcall.Plan()
    pcall.run(plan, output=build(plan, count))


def _theirs(build: Callable[[Any, int], Any], count: int) -> None:
    import uberjob

    plan = uberjob.Plan()
    uberjob.run(plan, output=build(plan, count), progress=None)


def _tree(count: int, steps: int) -> None:
    plan = pcall.Plan()
    parts = [plan.call(work, steps, index) for index in range(count)]
    pcall.run(plan, output=plan.call(sum, parts), max_workers=WORKERS)


def measure(quick: bool) -> Iterator[Row]:
    """Built and run, each time."""
    count, repeats = (1000, 3) if quick else (10_000, 7)
    for build in (wide, chain, fan_in, diamonds):
        contenders: dict[str, Callable[[], object]] = {"pcall": partial(_ours, build, count)}
        if importlib.util.find_spec(PEER):
            contenders[PEER] = partial(_theirs, build, count)
        times = take_turns(contenders, repeats)
        name = f"plan of {count} trivial calls, {build.__name__}"
        if PEER in contenders:
            yield ratio_row(name, times, "pcall", PEER, 1.0)
    if len(os.sched_getaffinity(0)) >= WORKERS:
        calls, steps, repeats = (4, 1_000_000, 3) if quick else (8, 3_000_000, 5)
        times = take_turns(
            {
                "pcall": partial(_tree, calls, steps),
                ONE: lambda: sum(work(steps, index) for index in range(calls)),
                # The best that two cores of this machine can do.
                BARE: lambda: peers.bare_window(partial(work, steps), calls, WORKERS),
            },
            repeats,
        )
        name = f"plan of {calls} calls on {WORKERS} cores"
        yield ratio_row(name, times, "pcall", ONE, round(1 / 1.9, 3))
        yield ratio_row(name, times, "pcall", BARE)


if __name__ == "__main__":
    main(measure)
