"""The same calls on many machines: the workers of a ``dask.distributed`` cluster.

.. code-block:: python

    from pcall import Pcall
    from pcall.cluster import Cluster

    with Cluster() as cluster:  # no address: workers of its own on this machine
        Pcall.options(engine=cluster).pcall(ping, host=hosts)

It needs the extra ``pcall[cluster]``.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from pcall._core.records import Outcome, show
from pcall._core.run_state import RunState
from pcall._core.seconds import check_seconds
from pcall._errors import ClusterError, NoWorkers, WorkerLost
from pcall._executing import execute
from pcall._pcall import Pcall
from pcall._profiles.cluster_profiling import CpuProfiling, MemoryProfiling, ProfiledPeriods
from pcall.plan.plan import Plan

try:
    from distributed import Client

    from pcall.engines.dask.cluster_engine import ClusterEngine
    from pcall.engines.dask.link import Link, Worker
    from pcall.engines.dask.local_workers import LocalWorkers
except ModuleNotFoundError as _problem:
    if _problem.name is not None and _problem.name.startswith("pcall"):
        raise
    raise ModuleNotFoundError(
        f"a cluster needs {_problem.name}, which is not installed: pip install 'pcall[cluster]'",
        name=_problem.name,
    ) from _problem

__all__ = ["Cluster", "ClusterError", "NoWorkers", "Worker", "WorkerLost"]

__tracebackhide__ = True  # pytest shows the frames of its user

_log = logging.getLogger("pcall")
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


class Cluster:
    """A cluster, for the option ``engine``.

    Args:
        address: of a scheduler, for example ``"tls://head:8786"``; or a ``distributed.Client``,
            which stays open. None: a scheduler and workers of its own on this machine, one worker
            a core.
        scheduler_file: the path of the file with which dask's own tools pass on an address.
        security: a ``distributed.Security``, for TLS.
        preload: the names of modules that each worker imports once, so that calls find them.
        insecure: True: accept an address off this machine without TLS. Whoever reaches the port of
            such a cluster runs code there.
        connect_timeout: seconds to wait for the scheduler, and for a first worker. Default 5.

    Raises:
        ValueError: the address is off this machine, and there is no TLS.
        ClusterError: the scheduler can't be reached.
    """

    def __init__(
        self,
        address: Any = None,
        *,
        scheduler_file: str | os.PathLike[str] | None = None,
        security: Any = None,
        preload: Iterable[str] = (),
        insecure: bool = False,
        connect_timeout: float = 5,
    ) -> None:
        if address is not None and not isinstance(address, str | Client):
            raise TypeError(
                f"address must be a URL, a distributed.Client or None, not {show(address)}"
            )
        named = isinstance(preload, Iterable) and not isinstance(preload, str)
        if not named or not all(isinstance(each, str) for each in preload):
            raise TypeError(f"preload must be names of modules, not {show(preload)}")
        self._local: LocalWorkers | None = None
        self._client: Any = None
        self._owns_client = not isinstance(address, Client)
        timeout = check_seconds("connect_timeout", connect_timeout)
        path: tuple[str, ...] = ()
        try:
            if isinstance(address, Client):
                self._client = address
            elif address is None and scheduler_file is None:
                self._local = LocalWorkers(_cores())
                self._client = _connect(self._local.address, None, None, 30)
                path = tuple(each or os.getcwd() for each in sys.path)
            else:
                if isinstance(address, str):
                    _check_address(address, security, insecure)
                self._client = _connect(address, scheduler_file, security, timeout)
                security = security or self._client.security
                _check_address(self._client.scheduler.address, security, insecure)
            profiled = ProfiledPeriods()
            self._cpu_profiling = CpuProfiling(profiled)
            self._memory_profiling = MemoryProfiling(profiled)
            self._link = Link(self._client, timeout, path, tuple(preload), profiled)
            if self._local is not None:
                self._client.wait_for_workers(_cores(), timeout=60)
            atexit.register(self.close)  # if nobody does
        except BaseException:
            self._end()
            raise

    # ------------------------------------------------------------ the workers

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that there are now."""
        return tuple(self._link.refresh().values())

    @property
    def worker_count(self) -> int:
        """Their number."""
        return len(self.workers)

    def await_workers(
        self,
        worker_count: int | None = None,
        connect_timeout: float = 5,
        stable_timeout: float = 60,
    ) -> int:
        """Wait until workers are there and their number is settled.

        It is settled once it has not changed for a second, or for twice the longest time between
        two changes, whichever is longer.

        Args:
            worker_count: return at once when there are exactly so many. None: wait until their
                number is settled.
            connect_timeout: seconds to wait for a first worker.
            stable_timeout: seconds after which the number counts, with a warning in the log,
                although it still changes.

        Returns:
            The number of workers.

        Raises:
            RuntimeError: no worker has come in ``connect_timeout`` seconds.
        """
        if worker_count is not None and (
            isinstance(worker_count, bool) or not isinstance(worker_count, int) or worker_count < 1
        ):
            raise ValueError(f"worker_count must be an int of 1 or more, not {show(worker_count)}")
        first = time.monotonic() + check_seconds("connect_timeout", connect_timeout)
        end = time.monotonic() + check_seconds("stable_timeout", stable_timeout)
        changed, longest, count = self._link.changed_at, 0.0, -1
        while True:
            now, found = time.monotonic(), self.worker_count
            if found != count:
                if count > 0:
                    longest = max(longest, now - changed)
                count, changed = found, now if count >= 0 else self._link.changed_at
            if count == worker_count:
                return count
            if not count and now >= first:
                raise RuntimeError(f"no worker has come to {self!r} in {connect_timeout:g} s")
            if count and now - changed >= max(1.0, 2 * longest) and worker_count is None:
                return count
            if now >= end:
                _log.warning(
                    "the number of workers is not settled after %g s: there are %d",
                    stable_timeout,
                    count,
                )
                return count
            time.sleep(0.05)

    # ------------------------------------------------------------ running

    def execute(
        self,
        job: Plan | Pcall,
        *,
        workers: Iterable[str | Worker] | None = None,
        order_results: bool = True,
        concurrency: int | None = None,
        attempts: int | None = None,
    ) -> Iterator[Outcome]:
        """Run a plan, or a ``Pcall`` that was not started, and yield the outcomes of its calls.

        Args:
            job: the plan or the ``Pcall``.
            workers: use these alone: names, addresses or ``Worker`` objects. None: all.
            order_results: True: yield in call order. False: yield as calls end.
            concurrency: the calls that run at once on each worker. None: as many as it has
                threads.
            attempts: how often a call that raises is tried in all. None: once, or as the options of
                the ``Pcall`` say.

        Yields:
            The outcome of each call, once; of a settled one, too, with 0 attempts.

        Raises:
            CallError, ChildProcessException: a call has failed for good. All others were ended.
            TypeError, ValueError, NoWorkers: an argument is wrong. Nothing was run.
        """
        for name, value in (("concurrency", concurrency), ("attempts", attempts)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
                raise ValueError(f"{name} must be an int of 1 or more, or None, not {show(value)}")
        if not isinstance(order_results, bool):
            raise TypeError(f"order_results must be True or False, not {show(order_results)}")
        engine = _Part(self, self._addresses(workers), concurrency)
        return execute(job, engine, order_results, attempts)

    def _addresses(self, workers: Iterable[str | Worker] | None) -> frozenset[str] | None:
        if workers is None:
            return None
        known = self._link.refresh()
        names = {name: each.address for each in known.values() for name in (each.name,)}
        found = set()
        for each in [workers] if isinstance(workers, str | Worker) else workers:
            wanted = each.address if isinstance(each, Worker) else str(each)
            address = wanted if wanted in known else names.get(wanted)
            if address is None:
                there = ", ".join(sorted(names)) or "none"
                raise NoWorkers(f"there is no worker {wanted!r}; there are: {there}")
            found.add(address)
        if not found:
            raise ValueError("workers must name at least one worker, or be None")
        return frozenset(found)

    # ------------------------------------------------------------ profiles

    @property
    def cpu_profiling(self) -> CpuProfiling:
        """Takes the processor profiles of all calls between its ``start()`` and ``stop()``."""
        return self._cpu_profiling

    @property
    def memory_profiling(self) -> MemoryProfiling:
        """Takes the memory profiles of all calls between its ``start()`` and ``stop()``."""
        return self._memory_profiling

    # ------------------------------------------------------------ for the faces

    def make_engine(self, state: RunState, work: Any) -> ClusterEngine:
        """The engine of a run."""
        return ClusterEngine(state, self._opened(), work)

    def _opened(self) -> Link:
        if self._client is None:
            raise ClusterError("this cluster was closed; make another Cluster")
        return self._link

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End what this object has started itself: its connection, its own workers."""
        atexit.unregister(self.close)
        self._link.close()
        self._end()

    def _end(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._owns_client:
            client.close(timeout=5)
        local, self._local = self._local, None
        if local is not None:
            local.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cluster {self._client.scheduler.address if self._client else 'closed'}>"


class _Part:
    """A part of a cluster, as the engine of one run."""

    def __init__(
        self, cluster: Cluster, workers: frozenset[str] | None, concurrency: int | None
    ) -> None:
        self._cluster = cluster
        self._workers = workers
        self._concurrency = concurrency

    def make_engine(self, state: RunState, work: Any) -> ClusterEngine:
        """The engine of a run."""
        link = self._cluster._opened()
        return ClusterEngine(state, link, work, self._workers, self._concurrency)


def _connect(address: str | None, file: Any, security: Any, timeout: float) -> Any:
    try:
        return Client(
            address,
            scheduler_file=None if file is None else os.fspath(file),
            security=security,
            timeout=timeout,
            set_as_default=False,
        )
    except (OSError, TimeoutError, ValueError) as error:
        where = address if address is not None else f"named in {file}"
        raise ClusterError(
            f"the scheduler {where} can't be reached: {type(error).__name__}: {error}"
        ) from error


def _check_address(address: str, security: Any, insecure: bool) -> None:
    protocol, _, host = address.rpartition("://")
    if protocol == "tls" and security is None:
        raise ValueError(f"address {address!r} needs security=, a distributed.Security with TLS")
    local = host.startswith(_LOOPBACK) or protocol in ("inproc", "unix")
    if not local and protocol != "tls" and not insecure:
        raise ValueError(
            f"address {address!r} is off this machine, and its connection has no TLS: whoever "
            f"reaches that port can run code on the cluster. Use tls://... with security=, or say "
            f"insecure=True if the network is yours alone"
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
