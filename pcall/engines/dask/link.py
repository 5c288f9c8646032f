"""The caller's connection to a cluster: its client, the workers, and the ways to and from them.

Dask's client has a thread with an event loop. What arrives there is put into the *inbox* of the run
that it is for, and the run is woken: everything else happens in the thread that waits for the run.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed.worker import get_data_from_worker

from pcall._errors import ClusterError, NoWorkers
from pcall._profiles.cluster_profiling import ProfiledPeriods
from pcall._version import __version__
from pcall.engines.dask.plugin import (
    PLUGIN,
    NodePlugin,
    control,
    open_run,
    run_chunk,
    topic_of,
)
from pcall.engines.dask.wire_records import ChunkOrder, ChunkReport, RunSpec

__all__ = ["Inbox", "Link", "Worker"]

# A worker may die while it is asked for something.
_TRIES = 10

#: Takes what arrives for a run: a kind, and what belongs to it. It is called in dask's thread.
Inbox = Callable[[str, tuple[Any, ...]], None]


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker of a cluster.

    Attributes:
        name: its name, as text.
        address: where it listens.
        host: the address of its machine.
        threads: the number of calls that it runs at once, unless ``concurrency`` says otherwise.
        memory_limit: in bytes; None: there is none.
    """

    name: str
    address: str
    host: str
    threads: int
    memory_limit: int | None = None


class Link:
    """The connection to a cluster.

    Args:
        client: of the cluster. It stays open.
        connect_timeout: seconds to wait for workers.
        path: folders that the workers import from beside their own.
        preload: modules that each worker imports.
        profiled: tells whether the calls of a run that begins are profiled.
    """

    def __init__(
        self,
        client: Any,
        connect_timeout: float,
        path: tuple[str, ...],
        preload: tuple[str, ...],
        profiled: ProfiledPeriods,
    ) -> None:
        self.client: Any = client
        self.connect_timeout = connect_timeout
        self.path = path
        self.preload = preload
        self.profiled = profiled
        self.id: str = uuid.uuid4().hex[:12]
        self._topic = topic_of(self.id)
        self._inboxes: dict[str, Inbox] = {}
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._checked: set[str] = set()
        self._reachable: set[str] = set()  # from this process, past the scheduler
        self._closed = False
        self._registered = False
        self._refreshing = False
        self.changed_at: float = time.monotonic()
        client.subscribe_topic(self._topic, self._on_event)
        client.subscribe_topic("all", self._on_change)
        self.refresh()

    # ------------------------------------------------------------ workers

    @property
    def workers(self) -> dict[str, Worker]:
        """By address, the workers that are known now."""
        return self._workers

    def refresh(self) -> dict[str, Worker]:
        """Ask the scheduler for its workers."""
        identity = self.client.sync(self._identity)
        self._take_workers(identity)
        return self._workers

    async def _identity(self) -> Any:
        return await asyncio.wait_for(self.client.scheduler.identity(), 30)

    def _take_workers(self, identity: Mapping[str, Any]) -> None:
        found = {
            address: Worker(
                str(each["name"]),
                address,
                each["host"],
                each["nthreads"],
                each["memory_limit"] or None,
            )
            for address, each in identity["workers"].items()
        }
        gone = self._workers.keys() - found.keys()
        if found.keys() != self._workers.keys():
            self.changed_at = time.monotonic()
        self._checked -= gone
        self._workers = found
        for address in gone:
            self._tell_all("gone", (address,))
        self._tell_all("workers", ())

    def _tell_all(self, kind: str, what: tuple[Any, ...]) -> None:
        with self._lock:
            inboxes = [*self._inboxes.values()]
        for inbox in inboxes:
            inbox(kind, what)

    def _on_change(self, event: Any) -> None:
        """In dask's thread: workers have come or gone."""
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action in ("add-worker", "remove-worker") and not self._refreshing:
            self._refreshing = True
            self._do(self._refresh_soon())

    async def _refresh_soon(self) -> None:
        self._refreshing = False
        try:
            self._take_workers(await self._identity())
        except Exception:
            self._tell_all("workers", ())

    def check(self) -> None:
        """Compare the versions of the workers that were not seen before, and start the plugin.

        Raises:
            ClusterError: one can't run calls of this process; the text says why.
        """
        new = [address for address in self._workers if address not in self._checked]
        if new:
            found = self.client.run(_probe, workers=new, on_error="return")
            asked = {
                address: versions
                for address, versions in found.items()
                if not isinstance(versions, OSError)  # it is gone: that will be noticed
            }
            for address, versions in asked.items():
                self._check_versions(self._workers.get(address), address, versions)
            self._checked.update(asked)
            self._do(self._reach(new))
        if not self._registered:
            self._register()

    def _register(self) -> None:
        """Have all workers, and those that come, start the plugin."""
        for number in range(_TRIES):
            try:
                self.client.register_plugin(NodePlugin(), name=PLUGIN)
                break
            except OSError:  # a worker has died meanwhile
                if number == _TRIES - 1 or self.is_lost:
                    raise
                time.sleep(0.1)
        self._registered = True

    async def _reach(self, addresses: list[str]) -> None:
        """Find out which workers this process can ask for results itself."""
        for address in addresses:
            with suppress(Exception):
                async with asyncio.timeout(3):
                    await self.client.rpc(address).identity()
                self._reachable.add(address)

    def _check_versions(self, worker: Worker | None, address: str, versions: Any) -> None:
        name = f"the worker {worker.name if worker else '?'} ({address})"
        if isinstance(versions, BaseException):
            raise ClusterError(f"{name} could not be asked for its versions: {versions}")
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if versions["python"] != here:
            raise ClusterError(
                f"{name} has Python {versions['python']}, and this process {here}: functions "
                f"can't travel between them. Start the workers with Python {here}"
            )
        for module, mine in (("pcall", __version__), ("cloudpickle", None)):
            theirs = versions[module]
            if theirs is None:
                raise ClusterError(
                    f"{name} can't import {module}: {versions['problem']}. "
                    f"Install pcall[cluster] there, in the version {__version__}"
                )
            if mine is not None and theirs != mine:
                raise ClusterError(
                    f"{name} has {module} {theirs}, and this process {mine}. "
                    f"Install the same version on all of them"
                )

    # ------------------------------------------------------------ runs

    def attach(self, run: str, inbox: Inbox) -> None:
        """Pass on what arrives for a run."""
        with self._lock:
            self._inboxes[run] = inbox

    def detach(self, run: str) -> None:
        """The run is over."""
        with self._lock:
            self._inboxes.pop(run, None)

    @property
    def is_lost(self) -> bool:
        """True if the scheduler is gone."""
        comm = getattr(self.client.scheduler_comm, "comm", None)
        return self.client.status not in ("running", "connecting") or comm is None or comm.closed()

    def open_run(self, spec: RunSpec, address: str) -> Any:
        """Have a worker open a run: its answer is ``opened`` with the address and an error or None.

        Returns:
            A future of dask's; as long as it lives, the run stays open there.
        """
        future = self.client.submit(
            open_run,
            spec,
            self._topic,
            key=f"pcall-run/{spec.run}/{uuid.uuid4().hex[:8]}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            priority=1,
        )
        self._do(self._await_opening(future, spec.run, address))
        return future

    async def _await_opening(self, future: Any, run: str, address: str) -> None:
        await future._state.wait()
        error: BaseException | None = None
        if future.status == "error":
            error = future._state.exception
        elif future.status != "finished":
            return  # it was cancelled: its worker is gone, or the run is over
        self._tell(run, "opened", (address, error))

    def submit(self, order: ChunkOrder, address: str) -> Any:
        """Send a chunk to a worker. Its last report arrives as ``report``; or ``failed``."""
        future = self.client.submit(
            run_chunk,
            tuple(order),
            key=f"pcall-chunk/{order.chunk}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._do(self._await_chunk(future, order.run, order.chunk, address))
        return future

    async def _await_chunk(self, future: Any, run: str, chunk: str, address: str) -> None:
        try:
            await future._state.wait()
            if future.status == "finished":
                result = await self._result(future, address)
                self._tell(run, "report", (ChunkReport(*result),))
                return
            error = future._state.exception
        except Exception as problem:
            error = problem
        self._tell(run, "failed", (chunk, error))

    async def _result(self, future: Any, address: str) -> Any:
        """The result of a task that has ended on this worker."""
        if address in self._reachable:
            # Not by the client's gather(): it draws from the caller's random numbers.
            with suppress(Exception):  # the worker is gone, or the result
                answer: Any = await get_data_from_worker(self.client.rpc, [future.key], address)
                return answer["data"][future.key]
        (result,) = await self.client._gather([future], direct=False)
        return result

    def _tell(self, run: str, kind: str, what: tuple[Any, ...]) -> None:
        with self._lock:
            inbox = self._inboxes.get(run)
        if inbox is not None:
            inbox(kind, what)

    def control(self, address: str, action: str, *args: Any, answer: str = "") -> None:
        """Have the plugin of a worker do something soon.

        Args:
            address: of the worker.
            action: the name of a method of the plugin.
            args: for the method.
            answer: the kind of the message that tells the run the answer; then the first of
                ``args`` is a pair of the run and the method's argument.
        """
        self._do(self._control(address, action, args, answer))

    async def _control(self, address: str, action: str, args: tuple[Any, ...], answer: str) -> None:
        run = ""
        if answer:
            run, *args_list = args
            args = tuple(args_list)
        try:
            results = await self.client._run(
                control, action, *args, workers=[address], on_error="return"
            )
            result = results.get(address)
        except Exception as error:
            result = error
        if answer:
            self._tell(run, answer, (address, args, result))

    def _on_event(self, event: Any) -> None:
        """In dask's thread: a report of a chunk that is not over."""
        report = ChunkReport(*pickle.loads(event[1]["report"]))
        self._tell(report.run, "report", (report,))

    def _do(self, coroutine: Any) -> None:
        """Run a coroutine in dask's thread."""
        loop = self.client.loop.asyncio_loop
        try:
            asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()

    def close(self) -> None:
        """Leave the cluster as it is, and forget it."""
        if self._closed:
            return
        self._closed = True
        for topic in (self._topic, "all"):
            with suppress(Exception):
                self.client.unsubscribe_topic(topic)
        with suppress(Exception):
            # A scheduler that is gone would be waited for, 30 seconds by dask's configuration.
            self.client.sync(
                self.client._run_on_scheduler, _forget_topic, self._topic, callback_timeout=3
            )

    def wait_for_workers(self) -> None:
        """Wait until there is a worker.

        Raises:
            NoWorkers: there was none for ``connect_timeout`` seconds.
        """
        end = time.monotonic() + self.connect_timeout
        while not self.refresh():
            if time.monotonic() > end:
                raise NoWorkers(
                    f"the cluster {self.client.scheduler.address} had no worker for "
                    f"{self.connect_timeout:g} s"
                )
            time.sleep(0.05)


def _probe() -> dict[str, Any]:
    """On a worker: the versions that matter. It is sent by value, so that it needs nothing."""
    import sys

    found: dict[str, Any] = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    found["problem"] = None
    for name in ("cloudpickle", "pcall"):
        try:
            found[name] = __import__(name).__version__
        except Exception as error:
            found[name], found["problem"] = None, f"{type(error).__name__}: {error}"
    return found


def _forget_topic(topic: str, dask_scheduler: Any = None) -> None:
    """On the scheduler: drop the events of a caller. Sent by value, too."""
    dask_scheduler._broker._topics.pop(topic, None)


# So cloudpickle sends them by value: the scheduler need not have this package, and a worker may
# have another version of it.
_probe.__module__ = _forget_topic.__module__ = "__main__"
