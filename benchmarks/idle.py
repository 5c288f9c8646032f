"""The cost of waiting: 100 children that sleep for 5 seconds."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import peers
from measure import Row, main

from pcall import Pcall

COUNT = 100


def nap(seconds: float) -> float:
    """Sleep, and return the time of the end."""
    time.sleep(seconds)
    return time.monotonic()


def cpu_time() -> float:
    """Seconds of processor time that this process has taken, without its children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def with_pcall(seconds: float) -> tuple[float, float]:
    """The share of a core taken while all sleep, and the delay of the results at the end."""
    run = Pcall(nap, seconds=[seconds] * COUNT)
    first_end = time.monotonic() + seconds
    run.start()
    before = cpu_time(), time.monotonic()
    all_sleep = first_end - before[1] - 0.1
    if all_sleep < seconds / 4:
        raise SystemExit("the machine is too busy: the first had nearly ended as the last began")
    run.wait(all_sleep)
    share = (cpu_time() - before[0]) / (time.monotonic() - before[1])
    run.join()
    delay = time.monotonic() - max(run.results or ())
    return share, delay


def with_processes(seconds: float) -> tuple[float, float]:
    """The same with ``multiprocessing.Process``; the share is that of the whole time."""
    return _whole(lambda: peers.processes(lambda index: nap(seconds), COUNT, COUNT))


def with_executor(seconds: float) -> tuple[float, float]:
    """The same with an executor of 100 workers."""

    def run() -> list[float]:
        with ProcessPoolExecutor(COUNT, mp_context=peers.FORK) as executor:
            futures = [executor.submit(nap, seconds) for _ in range(COUNT)]
            return [future.result() for future in futures]

    return _whole(run)


def with_pool(seconds: float) -> tuple[float, float]:
    """The same with a pool of 100 workers."""

    def run() -> list[float]:
        with peers.FORK.Pool(COUNT) as pool:
            return pool.map(nap, [seconds] * COUNT, 1)

    return _whole(run)


def with_pcall_whole(seconds: float) -> tuple[float, float]:
    """The same with pcall, measured as the peers are."""
    return _whole(lambda: list(Pcall.pcall(nap, seconds=[seconds] * COUNT)))


def _whole(run: Callable[[], list[float]]) -> tuple[float, float]:
    cpu, begin = cpu_time(), time.monotonic()
    ends = run()
    delay = time.monotonic() - max(ends)
    return (cpu_time() - cpu) / (time.monotonic() - begin), delay


def figures(values: list[float], scale: float) -> tuple[float, float, float]:
    """Median, least and most."""
    return statistics.median(values) * scale, min(values) * scale, max(values) * scale


def measure(quick: bool) -> Iterator[Row]:
    """The two targets, and the figures of the peers from the first fork to the last result."""
    seconds, repeats = (2.0, 1) if quick else (5.0, 3)
    work = f"{COUNT} children that sleep {seconds:g} s"
    taken = [with_pcall(seconds) for _ in range(repeats)]
    share = figures([share for share, _ in taken], 100)
    delay = figures([delay for _, delay in taken], 1e3)
    yield Row(f"{work}: while they do", "pcall", "", *share, 0.5, "% of a core")
    yield Row(f"{work}: after the last end", "pcall", "", *delay, 5, "ms")
    for name, peer in {
        "pcall": with_pcall_whole,
        "Process": with_processes,
        "Pool": with_pool,
        "ProcessPoolExecutor": with_executor,
    }.items():
        cpu, late = peer(seconds)
        yield Row(f"{work}: start to end", name, "", *figures([cpu], 100), None, "% of a core")
        yield Row(f"{work}: after the last end", name, "", *figures([late], 1e3), None, "ms")


if __name__ == "__main__":
    main(measure)
