"""The cost of an idle log file: trivial calls that log nothing, with a file handler and without."""

from __future__ import annotations

import logging
import resource
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import Row, main, ratio_row, take_turns

from pcall import Pcall, pcall

COUNT = 1000


def trivial(x: int) -> int:
    return x


def tell(x: int) -> None:
    """A call that logs ten lines."""
    for number in range(10):
        logging.warning("line %d of call %d", number, x)


def faults() -> int:
    """Pages that were copied or made, by this process and by children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(each).ru_minflt for each in who)


def cpu_time() -> float:
    """Seconds of processor time of this process and of children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(each) for each in who]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(quick: bool) -> Iterator[Row]:
    """The time, the processor time and the pages of a run, with over without."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    rounds = 5 if quick else 15
    count = 200 if quick else COUNT
    with tempfile.TemporaryDirectory() as folder:
        handler = logging.FileHandler(Path(folder, "main.log"))
        cpu: dict[str, list[float]] = {"with": [], "without": []}
        pages: dict[str, list[float]] = {"with": [], "without": []}

        def run(which: str) -> None:
            if which == "with":
                root.addHandler(handler)
            before = cpu_time(), faults()
            pcall(trivial, x=range(count))
            cpu[which].append(cpu_time() - before[0])
            pages[which].append(faults() - before[1])
            root.removeHandler(handler)

        pcall(trivial, x=range(100))  # imports, caches
        work = f"{count} trivial calls, a log file that is idle"
        contenders = {"with": lambda: run("with"), "without": lambda: run("without")}
        times = take_turns(contenders, rounds)
        yield ratio_row(f"{work}: time", times, "with", "without")
        yield ratio_row(f"{work}: processor time", cpu, "with", "without", 1.02)
        more = [(a - b) / count for a, b in zip(pages["with"], pages["without"], strict=True)]
        yield Row(
            f"{work}: pages a call", "with", "", statistics.median(more), min(more), max(more),
            unit="more",
        )  # fmt: skip

        root.addHandler(handler)
        ways = {
            "tasklog": lambda: pcall(tell, x=range(count)),
            "left alone": lambda: Pcall.options(tasklog=False).pcall(tell, x=range(count)),
        }
        times = take_turns(ways, max(3, rounds // 5))
        yield ratio_row(f"{count} calls that log 10 lines each", times, "tasklog", "left alone")
        root.removeHandler(handler)
        handler.close()


if __name__ == "__main__":
    main(measure)
