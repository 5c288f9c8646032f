"""Reused workers: many trivial calls, large arguments, and the cost of progress."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import peers
from measure import Row, main, ratio_row, take_turns

from pcall import Pcall
from pcall.progress import ConsoleProgress

WORKERS = 2
CHUNKS = (None, 250, 1000, 2500, 5000, 12500)
Reused = Pcall.options(max_tasks_per_child=None, max_workers=WORKERS)


def add(x: int, y: int) -> int:
    return x + y


def size(data: bytes) -> int:
    return len(data)


def starmap(function: Callable[..., int], arguments: list[tuple[object, ...]], chunk: int | None):
    """``multiprocessing.Pool``, started for this work and ended after it."""
    with peers.FORK.Pool(WORKERS) as pool:
        return pool.starmap(function, arguments, chunk)


def contest(
    work: str,
    function: Callable[..., int],
    arguments: list[tuple[object, ...]],
    rounds: int,
    target: float,
) -> Iterator[Row]:
    """pcall against the pool, with the chunk size that suits it best."""
    chunks = {
        f"Pool.starmap, chunks of {chunk or 'its choice'}": partial(
            starmap, function, arguments, chunk
        )
        for chunk in CHUNKS
        if chunk is None or chunk <= len(arguments)
    }
    trial = take_turns(chunks, 3)
    best = min(chunks, key=lambda name: statistics.median(trial[name]))
    expected = tuple(function(*each) for each in arguments)

    def run() -> None:
        assert Reused.pcall(function, iargs=arguments) == expected

    def run_pool() -> None:
        assert tuple(chunks[best]()) == expected

    run()
    yield ratio_row(work, take_turns({"pcall": run, best: run_pool}, rounds), "pcall", best, target)


def double(x: int) -> int:
    return 2 * x


def against_all(count: int, rounds: int) -> Iterator[Row]:
    """pcall against each pool, which has its own choice of chunks."""
    contenders: dict[str, Callable[[], object]] = {
        "pcall": lambda: Reused.pcall(double, x=range(count))
    }
    for name, peer in peers.POOLS.items():
        contenders[name] = partial(peer, double, count, WORKERS)
    for name, run in contenders.items():
        assert list(run()) == [2 * x for x in range(count)], name  # type: ignore[call-overload]
    times = take_turns(contenders, rounds)
    for name in peers.POOLS:
        yield ratio_row(f"{count} trivial calls, reused children", times, "pcall", name)


def measure(quick: bool) -> Iterator[Row]:
    """100 000 calls that take no time, and 1000 that are given a megabyte each."""
    count = 20_000 if quick else 100_000
    many: list[tuple[object, ...]] = [(index, index) for index in range(count)]
    yield from contest(
        f"{count} trivial calls, reused children", add, many, 5 if quick else 25, 1.0
    )

    large: list[tuple[object, ...]] = [
        (os.urandom(1 << 20),) for _ in range(200 if quick else 1000)
    ]
    yield from contest(
        f"{len(large)} calls with 1 MB each, reused children", size, large, 3 if quick else 7, 0.2
    )
    large.clear()

    yield from against_all(1000 if quick else 10_000, 3 if quick else 5)

    with open(os.devnull, "w") as nowhere:
        shown = Reused.options(progress=ConsoleProgress(nowhere))
        ways = {
            "progress": lambda: shown.pcall(add, iargs=many),
            "no progress": lambda: Reused.pcall(add, iargs=many),
        }
        times = take_turns(ways, 5 if quick else 25)
    yield ratio_row(
        f"{count} trivial calls, reused children", times, "progress", "no progress", 1.1
    )


if __name__ == "__main__":
    main(measure)
