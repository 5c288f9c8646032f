"""Work that needs the processor alone, on 2 cores, against one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import peers
from measure import Row, main, ratio_row, take_turns

from pcall import Pcall

WORKERS = 2
ONE = "one process"


def work(steps: int, index: int) -> int:
    """A loop of the interpreter's."""
    total = index
    for step in range(steps):
        total = (total * 31 + step) % 1_000_003
    return total


def measure(quick: bool) -> Iterator[Row]:
    """8 calls of some tenths of a second."""
    if len(os.sched_getaffinity(0)) < WORKERS:
        raise SystemExit(f"this needs {WORKERS} cores")
    count, steps, repeats = (4, 1_000_000, 3) if quick else (8, 3_000_000, 5)
    function = partial(work, steps)
    bounded = Pcall.options(max_workers=WORKERS)
    contenders: dict[str, Callable[[], object]] = {
        "pcall": lambda: bounded.pcall(function, index=range(count)),
        ONE: lambda: [function(index) for index in range(count)],
        # What two cores of this machine can do at best.
        "bare fork, window of 2": lambda: peers.bare_window(function, count, WORKERS),
        "Process": lambda: peers.processes(function, count, WORKERS),
    }
    for name, peer in peers.POOLS.items():
        contenders[name] = partial(peer, function, count, WORKERS)
    times = take_turns(contenders, repeats)
    name = f"{count} calls on {WORKERS} cores"
    yield ratio_row(name, times, "pcall", ONE, round(1 / 1.9, 3))
    for peer in contenders:
        if peer not in ("pcall", ONE):
            yield ratio_row(name, times, "pcall", peer)


if __name__ == "__main__":
    main(measure)
