"""Large results: 8 arrays of 100 MB, against making and copying them in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy
import peers
from measure import Row, main, ratio_row, take_turns

from pcall import Pcall

WORKERS = 2
HERE = "made and copied here"


def make(size: int, index: int) -> numpy.ndarray:
    """An array whose every page is written to."""
    return numpy.full(size // 8, float(index))


def measure(quick: bool) -> Iterator[Row]:
    """Until the arrays are there; and until the parent has read all of each."""
    count, megabytes, repeats = (4, 100, 3) if quick else (8, 100, 7)
    function = partial(make, megabytes * 1_000_000)
    bounded = Pcall.options(max_workers=WORKERS)
    contenders: dict[str, Callable[[], object]] = {
        "pcall": lambda: bounded.pcall(function, index=range(count)),
        HERE: lambda: [function(index).copy() for index in range(count)],
    }
    for name, peer in peers.POOLS.items():
        contenders[name] = partial(peer, function, count, WORKERS)
    work = f"{count} results of {megabytes} MB"
    times = take_turns(contenders, repeats)
    yield ratio_row(work, times, "pcall", HERE, 0.8)
    for name in peers.POOLS:
        yield ratio_row(work, times, name, HERE)
    for name in peers.POOLS:
        yield ratio_row(work, times, "pcall", name)

    def summed(contender: Callable[[], object]) -> object:
        return [float(array.sum()) for array in contender()]  # type: ignore[attr-defined]

    read = {name: partial(summed, contender) for name, contender in contenders.items()}
    times = take_turns({name: read[name] for name in ("pcall", HERE, "Pool")}, repeats)
    yield ratio_row(f"{work}, and summed", times, "pcall", HERE)
    yield ratio_row(f"{work}, and summed", times, "pcall", "Pool")


if __name__ == "__main__":
    main(measure)
