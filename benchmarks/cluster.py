"""Calls on a cluster, beside bare dask on the same workers, which isolates no call."""

from __future__ import annotations

import importlib.util
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

with suppress(ModuleNotFoundError):
    import numpy  # here, so that nodes import it once

from cluster_peers import DASK, Bare, both, chain, installed, trivial
from measure import Row, main, ratio_row, take_turns

from pcall import Pcall, Plan, run

MANY = 100_000


def make(size: int) -> Any:
    """An array whose every page is written to."""
    return numpy.full(size // 8, 1.0)


def change(array: Any) -> Any:
    """As large an array, in the same memory."""
    array += 1.0
    return array


def total(array: Any) -> float:
    return float(array.sum())


def arrays(cluster: Any, bare: Bare, size: int, rounds: int) -> Iterator[Row]:
    """An array from call to call: in a chain, on one worker, and to another."""
    here, there = (worker.address for worker in cluster.workers[:2])

    def handed(links: int) -> None:
        plan = Plan()
        call = plan.call(make, size)
        for _ in range(links - 2):
            call = plan.call(change, call)
        run(plan, output=plan.call(total, call), engine=cluster)

    def handed_bare(links: int) -> None:
        future = bare.client.submit(make, size, pure=False)
        for _ in range(links - 2):
            future = bare.client.submit(change, future, pure=False)
        bare.client.submit(total, future, pure=False).result()

    def placed(places: tuple[str, str]) -> None:
        plan = Plan()
        first = plan.call(make, size)
        last = plan.call(total, first)
        for call, place in zip((first, last), places, strict=True):
            call.locality = {each.address: -1 for each in cluster.workers if each.address != place}
        run(plan, output=last, engine=cluster)

    megabytes = f"an array of {size // 1_000_000} MB"
    contest: dict[str, tuple[Callable[[], object], Callable[[], object], float]] = {
        f"cluster, {megabytes} handed on in a chain of 6": (
            partial(handed, 6),
            partial(handed_bare, 6),
            1.0,
        )
    }
    for where, places, target in (
        ("on one worker", (here, here), 1.5),
        ("to another worker", (here, there), 1.2),
    ):
        contest[f"cluster, {megabytes} from call to call {where}"] = (
            partial(placed, places),
            partial(bare.pair, make, total, size, places),
            target,
        )
    for work, (ours, theirs, target) in contest.items():
        ours(), theirs()
        times = take_turns({"pcall": ours, DASK: theirs}, rounds)
        yield ratio_row(work, times, "pcall", DASK, target)


def grown(count: int) -> float:
    """MB that the peak of a caller grows by so many calls, in a process of its own."""
    out = subprocess.run(
        [sys.executable, __file__, "--grown", str(count)], capture_output=True, text=True
    )
    return float(out.stdout)


def report_growth(count: int) -> None:
    """Print by how many MB the peak of this process grows by so many calls."""
    with both() as (cluster, _):
        make_calls = Pcall.options(engine=cluster, max_tasks_per_child=None)
        make_calls.pcall(trivial, x=range(1000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for outcome in cluster.execute(make_calls(trivial, x=range(count)), order_results=False):
            assert outcome.ok
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) / 1024)


def measure(quick: bool) -> Iterator[Row]:
    """Independent calls, reused and fresh; a chain; large arrays; the memory of the caller."""
    if not installed():
        return
    many, some, rounds = (1000, 100, 3) if quick else (10_000, 1000, 5)
    with both() as (cluster, bare):
        reused = Pcall.options(engine=cluster, max_tasks_per_child=None)
        fresh = Pcall.options(engine=cluster)

        def linear() -> None:
            plan, last = chain(some)
            run(plan, output=last, engine=cluster)

        contest: dict[str, tuple[Callable[[], object], Callable[[], object], float]] = {
            f"cluster, {many} trivial calls, reused": (
                lambda: reused.pcall(trivial, x=range(many)),
                lambda: bare.map(trivial, many),
                0.05,
            ),
            f"cluster, {some} trivial calls, a fresh process each": (
                lambda: fresh.pcall(trivial, x=range(some)),
                lambda: bare.map(trivial, some),
                1.1,
            ),
            f"cluster, a chain of {some} trivial calls": (
                linear,
                lambda: bare.chain(trivial, some),
                0.05,
            ),
        }
        for work, (ours, theirs, target) in contest.items():
            ours(), theirs()
            times = take_turns({"pcall": ours, DASK: theirs}, 3 if str(many) in work else rounds)
            yield ratio_row(work, times, "pcall", DASK, target)
        if len(cluster.workers) > 1 and importlib.util.find_spec("numpy"):
            yield from arrays(cluster, bare, 10_000_000 if quick else 100_000_000, rounds)
    grew = [grown(many if quick else MANY) for _ in range(1 if quick else 3)]
    work = f"cluster, the peak memory of the caller: added by {many if quick else MANY} calls"
    yield Row(work, "pcall", "", statistics.median(grew), min(grew), max(grew), None, "MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--grown"]:
        report_growth(int(sys.argv[2]))
    else:
        main(measure)
