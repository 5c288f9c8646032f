"""Calls with profiles, against the same under the profilers themselves in one process."""

from __future__ import annotations

import cProfile
import resource
import tracemalloc
from collections.abc import Callable, Iterator

from measure import Row, main, ratio_row

from pcall import Pcall

PLAIN = "without a profile"


def fib(n: int) -> int:
    """Calls of functions, and nothing else: what a profiler slows down most."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def work(index: int) -> int:
    """A call of some hundredths of a second."""
    return fib(23) + sum(len(str(number)) for number in range(20_000))


def hold(index: int) -> list[str]:
    """A call that keeps some memory."""
    return [str(number) for number in range(50_000)]


def cpu_time() -> float:
    """Seconds of processor time of this process, and of its children that have ended."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def under_cprofile(count: int) -> None:
    """All calls in this process, one profile for each."""
    for index in range(count):
        profile = cProfile.Profile()
        profile.runcall(work, index)
        profile.create_stats()


def under_tracemalloc(count: int) -> None:
    """All calls in this process, one snapshot for each."""
    for index in range(count):
        tracemalloc.start()
        kept = hold(index)
        tracemalloc.take_snapshot().statistics("lineno")
        tracemalloc.stop()
        del kept


def turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """The processor time of each, in each of so many rounds: the cores are shared otherwise."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            before = cpu_time()
            contender()
            times[name].append(cpu_time() - before)
    return times


def measure(quick: bool) -> Iterator[Row]:
    """Processor time, per call, in fresh and reused children."""
    count, repeats = (4, 3) if quick else (20, 7)
    for kind, target, peer, name in (
        ("cpu", work, under_cprofile, "cProfile"),
        ("memory", hold, under_tracemalloc, "tracemalloc"),
    ):
        peer_name = f"{name} in one process"
        contenders: dict[str, Callable[[], object]] = {peer_name: lambda p=peer: p(count)}
        for how, policy in (("fresh", {}), ("reused", {"max_tasks_per_child": None})):
            off = Pcall.options(max_workers=2, **policy)
            on = off.options(profile=kind)
            contenders[how] = lambda run=on, f=target: run.pcall(f, index=range(count))
            contenders[f"{how}, {PLAIN}"] = lambda run=off, f=target: run.pcall(
                f, index=range(count)
            )
        times = turns(contenders, repeats)
        label = f"{count} calls, profile={kind!r}: processor time"
        for how in ("fresh", "reused"):
            yield ratio_row(label, times, how, peer_name, 1.1 if kind == "cpu" else None)
        for how in ("fresh", "reused"):
            yield ratio_row(label, times, how, f"{how}, {PLAIN}")


if __name__ == "__main__":
    main(measure)
