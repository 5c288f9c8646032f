"""How a run on a cluster grows with its calls, its edges and its bytes, beside bare dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from cluster_peers import DASK, both, installed, linked, trivial
from measure import Point, main, point, take_turns

from pcall import Pcall, run

CALLS = (10, 100, 1000, 10_000, 100_000)
GROUPS = (10, 30, 100, 300, 1000)  # calls in each of two groups: the edges are their square
BYTES = (1_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
FRESH, REUSED = "pcall", "pcall, reused children"
# Beyond these sizes a contender takes too long.
MOST = {FRESH: 1000, DASK: 10_000}
MOST_GROUP = {DASK: 300}
LONG = 10_000  # calls from which on one measurement does


def hold(size: int) -> bytes:
    return bytes(size)


def measure(quick: bool) -> Iterator[Point]:
    """Calls that need nothing; groups of calls that need each other; values of some size."""
    if not installed():
        return
    last = 3 if quick else None
    with both() as (cluster, bare):
        fresh = Pcall.options(engine=cluster)
        reused = Pcall.options(engine=cluster, max_tasks_per_child=None)

        def pcall_linked(count: int) -> None:
            plan, output = linked(count)
            run(plan, output=output, engine=cluster)

        by_calls: dict[str, Callable[[int], object]] = {
            FRESH: lambda count: fresh.pcall(trivial, x=range(count)),
            REUSED: lambda count: reused.pcall(trivial, x=range(count)),
            DASK: lambda count: bare.map(trivial, count),
        }
        by_group: dict[str, Callable[[int], object]] = {
            REUSED: pcall_linked,
            DASK: lambda count: bare.linked(trivial, count),
        }
        by_bytes: dict[str, Callable[[int], object]] = {
            FRESH: lambda size: fresh.pcall(hold, size=[size] * 4),
            DASK: lambda size: bare.client.gather(
                bare.client.map(hold, [size] * 4, pure=False), direct=True
            ),
        }
        for each in (*by_calls.values(), *by_group.values()):
            each(10)
        for count in CALLS[:last]:
            yield from _points("cluster calls", by_calls, count, count, count, MOST)
        for count in GROUPS[:last]:
            edges = count * count
            yield from _points("cluster edges", by_group, count, edges, 2 * count, MOST_GROUP)
        for size in BYTES[:last]:
            yield from _points("cluster bytes", by_bytes, size, size, 4, {})


def _points(
    panel: str,
    contenders: dict[str, Callable[[int], object]],
    size: int,
    x: int,
    calls: int,
    most: dict[str, int],
) -> Iterator[Point]:
    part = {
        name: partial(each, size)
        for name, each in contenders.items()
        if size <= most.get(name, size)
    }
    for name, seconds in take_turns(part, 1 if calls >= LONG else 3).items():
        yield point(panel, name, "", x, [value / calls for value in seconds])


if __name__ == "__main__":
    main(measure)
