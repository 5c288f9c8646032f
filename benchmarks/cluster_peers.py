"""A cluster on this machine, for pcall and for bare dask: the same scheduler and workers."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pcall import Plan

__all__ = ["DASK", "Bare", "both", "chain", "installed", "linked", "trivial"]

DASK = "dask"


def installed() -> bool:
    """True if there is a cluster to measure; else a line on stderr says why not."""
    if importlib.util.find_spec("distributed") and importlib.util.find_spec("cloudpickle"):
        return True
    print("skipped: distributed is not installed (pip install pcall[cluster])", file=sys.stderr)
    return False


def trivial(x: Any = None) -> int:
    """A call that does nothing."""
    return 1


def chain(count: int) -> tuple[Plan, Any]:
    """A plan of calls that each need the one before, and the last of them."""
    plan = Plan()
    call = plan.call(trivial)
    for _ in range(count - 1):
        call = plan.call(trivial, call)
    return plan, call


def linked(count: int) -> tuple[Plan, Any]:
    """A plan of two groups of calls, each of the second needs all of the first; the second."""
    plan = Plan()
    first = [plan.call(trivial) for _ in range(count)]
    return plan, [plan.call(trivial, first) for _ in range(count)]


class Bare:
    """Dask as its users have it: tasks run in the workers' threads, without a process each.

    Args:
        client: of the scheduler.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def map(self, function: Callable[..., Any], count: int) -> list[Any]:
        """Independent calls."""
        futures = self.client.map(function, range(count), pure=False)
        found: list[Any] = self.client.gather(futures)
        return found

    def chain(self, function: Callable[..., Any], count: int) -> Any:
        """Calls that each need the one before, given to the scheduler as one graph."""
        graph: dict[str, Any] = {}
        name = self._name()
        for number in range(count):
            before = (f"{name}-{number - 1}",) if number else ()
            graph[f"{name}-{number}"] = (function, *before)
        return self.client.get(graph, f"{name}-{count - 1}")

    def linked(self, function: Callable[..., Any], count: int) -> Any:
        """Two groups of calls: each of the second needs all of the first."""
        name = self._name()
        first = [f"{name}-a{number}" for number in range(count)]
        second = [f"{name}-b{number}" for number in range(count)]
        graph: dict[str, Any] = dict.fromkeys(first, (function,))
        graph.update(dict.fromkeys(second, (function, first)))
        return self.client.get(graph, second)

    def pair(
        self,
        first: Callable[[int], Any],
        second: Callable[[Any], Any],
        size: int,
        workers: tuple[str, str],
    ) -> Any:
        """A call and one that needs its value, on these workers."""
        made = self.client.submit(first, size, workers=workers[0], pure=False)
        return self.client.submit(second, made, workers=workers[1], pure=False).result()

    def _name(self) -> str:
        return uuid.uuid4().hex


@contextmanager
def both() -> Iterator[tuple[Any, Bare]]:
    """A cluster for pcall, one worker a core, and a client of dask's own on the same."""
    from distributed import Client

    from pcall.cluster import Cluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = f"{folder}/scheduler.json"
        _start(stack, folder, "scheduler", "--port", "0", "--scheduler-file", file)
        while not os.path.exists(file):
            time.sleep(0.05)
        count = len(os.sched_getaffinity(0))
        for number in range(count):
            options = ("--name", f"w{number}", "--nthreads", "1", "--scheduler-file", file)
            _start(stack, folder, "worker", "--no-nanny", "--no-dashboard", *options)
        client = stack.enter_context(Client(scheduler_file=file, set_as_default=False))
        client.wait_for_workers(count, timeout=60)
        # A client each: what one asks of its connection does not disturb the other.
        cluster = stack.enter_context(Cluster(scheduler_file=file, insecure=True))
        yield cluster, Bare(client)


def _start(stack: ExitStack, folder: str, role: str, *options: str) -> None:
    place = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{role}", *place, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=folder,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
