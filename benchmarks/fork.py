"""Trivial calls, a fresh process for each, against bare ``os.fork`` and a pipe."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import peers
from measure import Row, fastest, main, ratio_row, take_turns

from pcall import pcall

BARE = ("bare fork, all first", "bare fork, window of 8")


def trivial(x: int) -> int:
    return x


def contest(count: int, repeats: int) -> dict[str, list[float]]:
    """pcall, and both ways to do it bare."""

    def checked(results: object) -> None:
        assert list(results) == list(range(count))  # type: ignore[call-overload]

    return dict(
        take_turns(
            {
                "pcall": lambda: checked(pcall(trivial, x=range(count))),
                BARE[0]: lambda: checked(peers.bare_all_first(trivial, count)),
                BARE[1]: lambda: checked(peers.bare_window(trivial, count)),
            },
            repeats,
        )
    )


def rows(sizes: tuple[int, ...], calls: int, target: float, where: str = "") -> Iterator[Row]:
    """A row for each size, of so many calls in all, and one for how the time of a call grows."""
    contest(3, 3)  # imports, caches
    per_call = {}
    for count in sizes:
        times = contest(count, max(3, min(300, calls // count)))
        per_call[count] = [seconds / count for seconds in times["pcall"]]
        peer = fastest(times, BARE)
        yield ratio_row(f"{count} trivial calls{where}", times, "pcall", peer, target)
    small, large = 100, max(sizes)
    if large > small:
        least = statistics.median(per_call[small])
        ratios = sorted(value / least for value in per_call[large])
        yield Row(
            f"pcall's time for each call{where}",
            f"of {large}",
            f"of {small}",
            statistics.median(ratios),
            ratios[0],
            ratios[-1],
            1.15,
            detail=f"{statistics.median(per_call[large]) * 1e3:.3f} / {least * 1e3:.3f} ms",
        )


def measure(quick: bool) -> Iterator[Row]:
    """From 3 to 5000 calls; then the times of other libraries with a fresh process each."""
    sizes = (3, 100, 1000) if quick else (3, 100, 1000, 5000)
    yield from rows(sizes, 500 if quick else 6000, 1.15)

    count, repeats = 100, 3 if quick else 7
    contenders = {
        "pcall": lambda: pcall(trivial, x=range(count)),
        "Process": lambda: peers.processes(trivial, count, count),
    }
    if "pebble" in peers.POOLS:
        from pebble import ProcessPool

        def pebble() -> object:
            with ProcessPool(max_workers=2, max_tasks=1, context=peers.FORK) as pool:
                return list(pool.map(trivial, range(count)).result())

        contenders["pebble, max_tasks=1"] = pebble

    def pool() -> object:
        with peers.FORK.Pool(2, maxtasksperchild=1) as pool:
            return pool.map(trivial, range(count), 1)

    contenders["Pool, maxtasksperchild=1"] = pool
    times = take_turns(contenders, repeats)
    for name in contenders:
        if name != "pcall":
            yield ratio_row(f"{count} trivial calls", times, "pcall", name)


if __name__ == "__main__":
    main(measure)
