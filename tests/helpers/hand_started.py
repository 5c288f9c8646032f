"""Clusters that are started by hand, of dask's own programs: with nannies, or without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.helpers.waiting import until

__all__ = ["HandStarted"]

_QUIET = {
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "DASK_DISTRIBUTED__WORKER__PRELOAD": "[]",
}


class HandStarted:
    """A scheduler and workers that dask's programs run on this machine.

    Args:
        count: the number of workers.
        threads: the number of calls that each runs at once.
        nanny: True: each worker has a nanny, which starts it again when it dies.

    Attributes:
        scheduler: the process of the scheduler.
        workers: those of the workers, or of their nannies.
        address: of the scheduler.
    """

    def __init__(self, count: int, threads: int = 1, nanny: bool = False) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        file = self.folder / "scheduler.json"
        self._places = ("--host", "127.0.0.1", "--scheduler-file", str(file))
        try:
            self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard")
            until(file.exists, 60)
            kind = "--nanny" if nanny else "--no-nanny"
            self.workers = [
                self._start(
                    "worker", kind, "--no-dashboard", f"--nthreads={threads}", f"--name=h{number}"
                )
                for number in range(count)
            ]
        except BaseException:
            self.close()
            raise
        self.scheduler_file = file

    def _start(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{role}", *self._places, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env={**os.environ, **_QUIET, "PYTHONPATH": os.pathsep.join(_folders())},
            start_new_session=True,
        )
        self._stack.callback(_end, process)
        return process

    def close(self) -> None:
        """End all of it, the processes that it started included."""
        self._stack.close()


def _folders() -> Sequence[str]:
    return [each or os.getcwd() for each in sys.path]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)  # a nanny that was killed leaves its worker
    except ProcessLookupError:
        pass
    process.wait()
