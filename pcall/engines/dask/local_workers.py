"""Starts a scheduler and workers of one's own on this machine, and ends them with their caller.

Each is a program of its own. It ends when its stdin does, so none outlives the caller, however that
ends.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from typing import IO, Any

__all__ = ["LocalWorkers"]

_PROGRAM = (
    "import sys; sys.path[:0] = {path!r}\nfrom pcall.engines.dask.serving import {name}\n{name}()"
)


class LocalWorkers:
    """A scheduler and workers on this machine.

    Args:
        count: the number of workers.
        threads: the number of calls that each runs at once.

    Attributes:
        address: of the scheduler.
    """

    def __init__(self, count: int, threads: int = 1) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pcall-cluster-")
        self._processes: list[subprocess.Popen[str]] = []
        atexit.register(self.close)  # of a cluster that nobody has closed
        self._threads = threads
        self._named = 0
        try:
            scheduler = self._start("scheduler")
            self._order(scheduler, folder=self._folder.name)
            workers = [self._start("worker") for _ in range(count)]
            self.address: Any = json.loads(_stream(scheduler.stdout).readline())["address"]
            for worker in workers:
                self._tell(worker)
        except BaseException:
            self.close()
            raise

    def add(self) -> int:
        """Start one more worker; returns its process id."""
        worker = self._start("worker")
        self._tell(worker)
        return worker.pid

    def _tell(self, worker: subprocess.Popen[str]) -> None:
        """Tell a worker where its scheduler is."""
        self._order(
            worker,
            address=self.address,
            name=str(self._named),
            threads=self._threads,
            folder=self._folder.name,
        )
        self._named += 1

    def _order(self, process: subprocess.Popen[str], **order: Any) -> None:
        _stream(process.stdin).write(json.dumps(order) + "\n")
        _stream(process.stdin).flush()

    def _start(self, name: str) -> subprocess.Popen[str]:
        path = [each or os.getcwd() for each in sys.path]
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=path, name=name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if name == "scheduler" else None,
            text=True,
            start_new_session=True,  # a Ctrl-C is the caller's
        )
        self._processes.append(process)
        return process

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes: the scheduler's, then the workers'."""
        return tuple(each.pid for each in self._processes)

    def close(self) -> None:
        """End them, and wait for that. Harmless if that was done before."""
        atexit.unregister(self.close)
        for process in self._processes[1:] + self._processes[:1]:
            _stream(process.stdin).close()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()
        self._folder.cleanup()


def _stream(stream: IO[Any] | None) -> IO[Any]:
    assert stream is not None
    return stream
