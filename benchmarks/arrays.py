"""Large results: 8 arrays of 100 MB, against making and copying them in one process; and others."""

from __future__ import annotations

import importlib.util
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


def make_bytes(size: int, index: int) -> bytes:
    return bytes([index + 1]) * size


def make_frame(size: int, index: int) -> object:
    """Ten columns of numbers."""
    import pandas

    return pandas.DataFrame(numpy.full((size // 80, 10), float(index)))


def measure(quick: bool) -> Iterator[Row]:
    """Until the arrays are there; and until the parent has read all of each."""
    count, megabytes, repeats = (4, 100, 3) if quick else (8, 100, 5)
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
        yield ratio_row(work, times, "pcall", name)

    def summed(contender: Callable[[], object]) -> object:
        return [float(array.sum()) for array in contender()]  # type: ignore[attr-defined]

    read = {name: partial(summed, contender) for name, contender in contenders.items()}
    times = take_turns({name: read[name] for name in ("pcall", HERE, "Pool")}, repeats)
    yield ratio_row(f"{work}, and summed", times, "pcall", HERE)
    yield ratio_row(f"{work}, and summed", times, "pcall", "Pool")

    kinds: dict[str, Callable[[int], object]] = {"bytes": partial(make_bytes, 100_000_000)}
    if importlib.util.find_spec("pandas"):
        kinds["pandas frames"] = partial(make_frame, 100_000_000)
    for kind, make_one in kinds.items():
        turns: dict[str, Callable[[], object]] = {
            "pcall": partial(bounded.pcall, make_one, index=range(count)),
            "Pool": partial(peers.POOLS["Pool"], make_one, count, WORKERS),
        }
        times = take_turns(turns, 3)
        yield ratio_row(f"{count} results of 100 MB, {kind}", times, "pcall", "Pool")


if __name__ == "__main__":
    main(measure)
