"""How the time of a call grows: with the number of calls, and with the size of the parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import peers
from measure import Point, main, point, swell, take_turns

from pcall import Pcall, pcall

COUNTS = (10, 100, 1000, 10_000)
PARENTS = (0, 100_000_000, 1_000_000_000)  # bytes; the first is as small as it is
LONGEST = 15.0  # seconds that a run may be thought to take, or it is left out
ENOUGH = 3.0  # seconds after which a point is not measured again
REUSED = "pcall, reused children"
Reused = Pcall.options(max_tasks_per_child=None, max_workers=2)
CONTENDERS: dict[str, Callable[[int], object]] = {
    "pcall": lambda count: pcall(trivial, x=range(count)),
    "bare fork": lambda count: peers.bare_window(trivial, count),
    "Process": lambda count: peers.processes(trivial, count, count),
    REUSED: lambda count: Reused.pcall(trivial, x=range(count)),
}
# Each that is started looks at all that live.
MOST = {"Process": 1000}


def trivial(x: int) -> int:
    return x


def measure(quick: bool) -> Iterator[Point]:
    """Each number of calls under each parent, as far as it does not take too long."""
    counts = COUNTS[:2] if quick else COUNTS
    for run in CONTENDERS.values():
        run(3)  # imports, caches
    for size in PARENTS[: 2 if quick else None]:
        resident = swell(size)
        where = f"{round(resident / 1e6)} MB"
        each = dict.fromkeys(CONTENDERS, 0.0)
        for count in counts:
            taking_part = {
                name: partial(run, count)
                for name, run in CONTENDERS.items()
                if each[name] * count <= LONGEST and count <= MOST.get(name, count)
            }
            slowest = max((each[name] * count for name in taking_part), default=0.0)
            repeats = max(1, min(15, int(ENOUGH / slowest))) if slowest else 5
            for name, seconds in take_turns(taking_part, repeats).items():
                taken = [value / count for value in seconds]
                found = point("calls", name, where, count, taken)
                each[name] = found.y
                yield found
                if count == 100:
                    yield point("parent", name, "", resident, taken)


if __name__ == "__main__":
    main(measure)
