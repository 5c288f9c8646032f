"""How the time of a call grows with the size of its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy
import peers
from measure import Point, main, point, take_turns

from pcall import Pcall

WORKERS = 2
HERE = "made and copied here"
COUNTS = {
    1_000: 64,
    10_000: 64,
    100_000: 64,
    1_000_000: 32,
    10_000_000: 8,
    100_000_000: 4,
    500_000_000: 2,
}
PEERS = ("Pool", "ProcessPoolExecutor", "joblib")
Fresh = Pcall.options(max_workers=WORKERS)
Reused = Pcall.options(max_workers=WORKERS, max_tasks_per_child=None)


def make(size: int, index: int) -> numpy.ndarray:
    """An array whose every page is written to."""
    return numpy.full(size // 8, float(index))


def make_and_copy(function: Callable[[int], numpy.ndarray], count: int) -> list[numpy.ndarray]:
    """The same in this process: the least time that it takes to make and copy such arrays."""
    return [function(index).copy() for index in range(count)]


def read(run: Callable[[], object]) -> None:
    """Read all of each array, since an array that is mapped but not read has cost little yet."""
    for array in run():  # type: ignore[attr-defined]
        array.sum()


def measure(quick: bool) -> Iterator[Point]:
    """Arrays made by a call, brought home, and read once."""
    for size, count in list(COUNTS.items())[: -2 if quick else None]:
        function = partial(make, size)
        contenders: dict[str, Callable[[], object]] = {
            "pcall": partial(Fresh.pcall, function, index=range(count)),
            "pcall, reused children": partial(Reused.pcall, function, index=range(count)),
            HERE: partial(make_and_copy, function, count),
        }
        for name in PEERS:
            if name in peers.POOLS:
                contenders[name] = partial(peers.POOLS[name], function, count, WORKERS)
        turns = {name: partial(read, run) for name, run in contenders.items()}
        take_turns(turns, 1)  # imports, caches
        repeats = 2 if quick or size > 100_000_000 else 5
        for name, seconds in take_turns(turns, repeats).items():
            yield point("results", name, "", size, [value / count for value in seconds])


if __name__ == "__main__":
    main(measure)
