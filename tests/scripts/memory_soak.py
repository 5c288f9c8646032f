"""Random mixed runs in one process for as long as one likes: how its memory grows.

It prints a line every so many runs: the memory that is the process's own, Python's allocated
blocks, the objects that the garbage collector knows, descriptors, threads. The last line has the
growth over the second half::

    nice python -m tests.scripts.memory_soak 600 > curve.txt
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
from array import array
from io import StringIO
from pathlib import Path
from typing import Any

from pcall import ChildProcessException, Pcall, PcallTimeout, Plan, Retry, run, run_iter
from pcall.progress import ConsoleProgress, HtmlProgress
from tests.helpers.processes import descriptors, resident_memory

LINES = 200  # at most, beside the last


def work(x: int) -> Any:
    kind = x % 5
    if kind == 0:
        return x
    if kind == 1:
        return {"text": "x" * x * 20, "list": list(range(x))}
    if kind == 2:
        return bytearray(x * 3000)
    if kind == 3:
        logging.getLogger("soak").warning("call %d", x)
        return None
    print("call", x)
    return str(x)


def fail(x: int) -> int:
    if x % 3 == 1:
        raise ValueError(f"call {x}")
    return x


def die(x: int) -> int:
    if x == 2:
        os._exit(3)
    return x


def policy() -> dict[str, Any]:
    return {
        "max_workers": random.choice([2, 3]),
        "max_tasks_per_child": random.choice([1, None, 3]),
        "capture_output": random.choice([True, True, "group"]),
    }


def values(folder: Path) -> None:
    observers = [None, ConsoleProgress(StringIO()), HtmlProgress(folder / "page.html")]
    Pcall.options(progress=random.choice(observers), **policy()).pcall(work, x=range(12))


def failures(folder: Path) -> None:
    retry = random.choice([None, Retry(2, on=ValueError)])
    try:
        Pcall.options(retry=retry, fail_fast=random.random() < 0.5, **policy()).pcall(
            random.choice([fail, die]), x=range(5)
        )
        raise AssertionError("it did not fail")
    except ChildProcessException:
        pass


def timeouts(folder: Path) -> None:
    try:
        Pcall.options(**policy()).pcall(time.sleep, 0.02, iargs=[(0,), (60,)])
        raise AssertionError("it was not ended")
    except PcallTimeout:
        pass


def inline(folder: Path) -> None:
    Pcall.options(max_workers=0, capture_output=True).pcall(work, x=range(12))


def ended(folder: Path) -> None:
    made = Pcall.options(**policy())(time.sleep, iargs=[(60,)] * 4)
    made.start()
    random.choice([made.terminate, made.kill])()
    made.join()


def plans(folder: Path) -> None:
    plan = Plan()
    parts = [plan.call(work, x) for x in range(8)]
    whole = plan.call(len, [plan.call(repr, part) for part in parts])
    chosen = policy()
    if random.random() < 0.5:
        assert run(plan, output=whole, **chosen) == 8
    else:
        assert len(list(run_iter(plan, order_results=random.random() < 0.5, **chosen))) == 17


KINDS = (values, failures, timeouts, inline, ended, plans)


class Log:
    """The main log, which is begun again now and then."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "main.log"
        logging.basicConfig(filename=self._path, level=logging.INFO, force=True)

    def empty(self) -> None:
        os.truncate(self._path, 0)


def figures() -> list[float]:
    gc.collect()
    return [
        resident_memory() / 1e6,
        sys.getallocatedblocks(),
        len(gc.get_objects()),
        len(descriptors()),
        threading.active_count(),
    ]


def main(seconds: float, names: list[str], folder: Path) -> None:
    kinds = [kind for kind in KINDS if not names or kind.__name__ in names]
    log = Log(folder)
    sys.stdout, out = StringIO(), sys.stdout
    began, count = time.monotonic(), 0
    points = array("d", bytes(16 * LINES + 64))  # made once: it is not to grow itself
    lines = 0
    print("  runs  seconds  MB       blocks  objects  descriptors  threads", file=out)
    next_line = 0.0
    while (now := time.monotonic() - began) < seconds or not lines:
        if now >= next_line:
            next_line = now + seconds / LINES
            log.empty()
            sys.stdout.seek(0)
            sys.stdout.truncate()
            found = figures()
            points[2 * lines : 2 * lines + 2] = array("d", (count, found[0]))
            lines += 1
            line = "{:7.3f} {:10.0f} {:8.0f} {:12.0f} {:8.0f}".format(*found)
            print(f"{count:6} {now:8.0f}  {line}", file=out, flush=True)
        random.choice(kinds)(folder)
        count += 1
    sys.stdout = out
    middle, last = 2 * (lines // 2), 2 * (lines - 1)
    runs = (points[last] - points[middle]) or 1
    grown = points[last + 1] - points[middle + 1]
    print(f"{count} runs; the second half: {1000 * grown / runs:.4f} MB per 1,000 runs")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pcall-soak") as folder:
        main(float(sys.argv[1]), sys.argv[2:], Path(folder))
