"""The peers of pcall: each calls a function on a range, with so many workers.

A workload imports this only after the measurements that need a small parent.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

__all__ = [
    "FORK",
    "MISSING",
    "POOLS",
    "bare_all_first",
    "bare_window",
    "processes",
    "pyats_python",
]

Function = Callable[[int], Any]
Peer = Callable[[Function, int, int], Sequence[Any]]

FORK = multiprocessing.get_context("fork")


def _bare(function: Function, count: int, window: int) -> list[Any]:
    """``os.fork`` and a pipe, read in the order of the calls: the least that a call can take."""
    results: list[Any] = []
    living: list[tuple[int, int]] = []

    def read_one() -> None:
        pid, fd = living.pop(0)
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        os.close(fd)
        os.waitpid(pid, 0)
        results.append(pickle.loads(b"".join(pieces)))

    for index in range(count):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.write(writer, pickle.dumps(function(index)))
            os._exit(0)
        os.close(writer)
        living.append((pid, reader))
        if len(living) >= window:
            read_one()
    while living:
        read_one()
    return results


def bare_all_first(function: Function, count: int) -> list[Any]:
    """Fork all children, then read all answers."""
    return _bare(function, count, count + 1)


def bare_window(function: Function, count: int, window: int = 8) -> list[Any]:
    """Run no more than so many children at once."""
    return _bare(function, count, window)


def _send(function: Function, index: int, connection: Connection) -> None:
    connection.send(function(index))
    connection.close()


def processes(function: Function, count: int, workers: int) -> list[Any]:
    """``multiprocessing.Process`` and a pipe for each call, as one would write it."""
    results: dict[int, Any] = {}
    living: dict[Connection, tuple[int, Any]] = {}
    waiting = list(range(count))[::-1]
    while waiting or living:
        while waiting and len(living) < workers:
            index = waiting.pop()
            reader, writer = FORK.Pipe(duplex=False)
            process = FORK.Process(target=_send, args=(function, index, writer))
            process.start()
            writer.close()
            living[reader] = index, process
        for reader in wait(list(living)):
            assert isinstance(reader, Connection)
            index, process = living.pop(reader)
            results[index] = reader.recv()
            reader.close()
            process.join()
    return [results[index] for index in range(count)]


def _pool(function: Function, count: int, workers: int) -> list[Any]:
    with FORK.Pool(workers) as pool:
        return pool.map(function, range(count))


def _executor(function: Function, count: int, workers: int) -> list[Any]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, mp_context=FORK) as executor:
        return list(executor.map(function, range(count)))


def _joblib(function: Function, count: int, workers: int) -> list[Any]:
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=workers)(delayed(function)(index) for index in range(count)))


def _pebble(function: Function, count: int, workers: int) -> list[Any]:
    from pebble import ProcessPool

    with ProcessPool(max_workers=workers, context=FORK) as pool:
        return list(pool.map(function, range(count)).result())


def _mpire(function: Function, count: int, workers: int) -> list[Any]:
    from mpire import WorkerPool

    with WorkerPool(n_jobs=workers, start_method="fork") as pool:
        return list(pool.map(function, range(count)))


_ALL: dict[str, tuple[str, Peer]] = {
    "Pool": ("multiprocessing", _pool),
    "ProcessPoolExecutor": ("concurrent.futures", _executor),
    "joblib": ("joblib", _joblib),
    "pebble": ("pebble", _pebble),
    "mpire": ("mpire", _mpire),
}
POOLS = {name: peer for name, (module, peer) in _ALL.items() if importlib.util.find_spec(module)}
MISSING = [name for name in _ALL if name not in POOLS]
if not importlib.util.find_spec("uberjob"):
    MISSING.append("uberjob")  # a peer of plans alone


def pyats_python() -> str | None:
    """A Python that has pyATS: this one, or that of an environment of its own; None: neither.

    pyATS needs versions of many packages that other peers may not work with.
    """
    python = os.environ.get("PCALL_PYATS_PYTHON", sys.executable)
    tried = subprocess.run([python, "-c", "import pyats.async_, tblib"], capture_output=True)
    return python if tried.returncode == 0 else None
