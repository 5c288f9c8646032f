"""The same calls on many machines: the workers of a ``dask.distributed`` cluster.

.. code-block:: python

    from pcall import Pcall
    from pcall.cluster import Cluster

    with Cluster() as cluster:  # no address: workers of its own on this machine
        Pcall.options(engine=cluster).pcall(ping, host=hosts)

It needs the extra ``pcall[cluster]``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from pcall._core.records import show
from pcall._core.run_state import RunState
from pcall._core.seconds import check_seconds
from pcall._errors import ClusterError, NoWorkers, WorkerLost

try:
    from distributed import Client

    from pcall.engines.dask.cluster_engine import ClusterEngine
    from pcall.engines.dask.cluster_work import ClusterWork
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
        if isinstance(preload, str) or not all(isinstance(each, str) for each in preload):
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
                _check_address(self._client.scheduler.address, security, insecure)
            self._link = Link(self._client, timeout, path, tuple(preload))
            if self._local is not None:
                self._client.wait_for_workers(_cores(), timeout=60)
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

    # ------------------------------------------------------------ for the faces

    def make_engine(self, state: RunState, work: ClusterWork) -> ClusterEngine:
        """The engine of a run."""
        return ClusterEngine(state, self._link, work)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End what this object has started itself: its connection, its own workers."""
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
