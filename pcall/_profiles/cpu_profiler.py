"""Takes the processor profile of one call with ``cProfile``, with the threads that it starts."""

from __future__ import annotations

import gc
import sys
import threading
import time
from _lsprof import Profiler
from collections.abc import Callable
from os import getpid
from types import FrameType
from typing import Any

from pcall._profiles.cpu_rows import CpuRows, as_rows, merge_rows, without_own
from pcall._profiles.current_profiles import ProfileKind, running
from pcall._profiles.packing import pack_cpu, unpack_cpu
from pcall._profiles.processor_time import in_processor_time
from pcall._profiles.snapshot_thread import Steps
from pcall._profiles.thread_clocks import cpu_time_of, target_frames
from pcall._profiles.thread_starts import remove_wrap, wrap_starts
from pcall._profiles.unfinished import Unfinished

__all__ = ["CpuProfiler"]

# From Python 3.12 on one profiler sees all threads as if they were one. There each event is
# handed on to the profiler of its thread, from the moment on that there is more than one.
_monitoring: Any = getattr(sys, "monitoring", None)
_METHODS: tuple[tuple[int, str], ...] = ()
if _monitoring is not None:
    _METHODS = tuple(
        (getattr(_monitoring.events, event), f"_{method}_callback")
        for method, events in {
            "pystart": ("PY_START", "PY_RESUME", "PY_THROW"),
            "pyreturn": ("PY_RETURN", "PY_YIELD", "PY_UNWIND"),
            "ccall": ("CALL",),
            "creturn": ("C_RETURN", "C_RAISE"),
        }.items()
        for event in events
    )


class _ThreadProfile:
    """The profile of one thread. It is made, started and stopped in that thread."""

    def __init__(self) -> None:
        self.profiler = Profiler()
        self.thread = threading.get_ident()
        self.began = self.cpu_began = 0.0
        self.cpu: float | None = None  # once it has ended
        self.unfinished: Unfinished | None = None

    def begin(self) -> None:
        self.cpu_began = time.thread_time()
        self.began = time.perf_counter()

    def end(self) -> None:
        self.cpu = time.thread_time() - self.cpu_began

    def rows(self, frame: FrameType | None) -> CpuRows:
        """Its rows, in processor time; of the thread as it is now, if it has not ended."""
        collects = gc.isenabled()
        gc.disable()  # a finalizer, which is profiled, would change the profile while it is read
        try:
            rows = as_rows(self.profiler.getstats())
        finally:
            if collects:
                gc.enable()
        cpu = self.cpu
        if cpu is None:
            now = time.perf_counter()
            if self.unfinished is None:
                self.unfinished = Unfinished(self.began)
            merge_rows(rows, self.unfinished.rows(rows, target_frames(frame), now))
            used = cpu_time_of(self.thread)
            cpu = now - self.began if used is None else used - self.cpu_began
        return without_own(in_processor_time(rows, cpu))


class CpuProfiler:
    """The profile of one call, in the process that makes it.

    Use: :meth:`start`, the call, :meth:`stop`, in one thread.

    Attributes:
        kind: ``"cpu"``.
        pid: the process.
        on_dispatch: called when :attr:`going_back` becomes empty.
    """

    kind: ProfileKind = "cpu"

    def __init__(self) -> None:
        self.pid = getpid()
        self._main = _ThreadProfile()
        self._threads = [self._main]
        self._ended: CpuRows = {}  # of threads that have ended
        self._nested: CpuRows = {}
        self._outer: Any = None
        self._by_thread: list[tuple[int, str, dict[int, Callable[..., Any]]]] = []
        self._dispatches = False
        self.on_dispatch: Callable[[], object] = _nothing
        self._lock = threading.Lock()
        self._over = False

    def start(self) -> None:
        """Begin.

        Raises:
            ValueError: another profiler is active in this process (from Python 3.12 on).
        """
        if _monitoring is None:
            self._outer = sys.getprofile()
        running.append(self)
        wrap_starts(self._wrapped)
        self._main.begin()
        try:
            self._main.profiler.enable()
        except BaseException:
            self._let_go()
            raise
        if _monitoring is not None and threading.active_count() > 1:
            self._dispatch()

    def stop(self) -> bytes:
        """End, and return the profile."""
        self._main.profiler.disable()
        self._main.end()
        self._let_go()
        return self._packed()

    def _let_go(self) -> None:
        self._over = True
        remove_wrap(self._wrapped)
        if self in running:
            running.remove(self)
        outer, self._outer = self._outer, None
        if isinstance(outer, Profiler):
            outer.enable()
        elif outer is not None:
            sys.setprofile(outer)

    def abandon(self) -> None:
        """Stop it, in a process that was forked meanwhile."""
        self._main.profiler.disable()
        remove_wrap(self._wrapped)
        running.remove(self)

    def add(self, content: bytes) -> None:
        """Add the profile of a call that this call has made in a child of its own."""
        merge_rows(self._nested, unpack_cpu(content))

    def snapshot(self) -> bytes:
        """The profile so far, with the functions that have not returned.

        Call it in another thread, between :attr:`dispatching` and :attr:`going_back`.
        """
        return self._packed()

    def _packed(self) -> bytes:
        rows: CpuRows = {}
        with self._lock:
            merge_rows(rows, self._ended)
            threads = list(self._threads)
        frames = sys._current_frames() if not self._over or len(threads) > 1 else {}
        for each in threads:
            merge_rows(rows, each.rows(frames.get(each.thread)))
        frames.clear()
        merge_rows(rows, self._nested)
        return pack_cpu(rows)

    # ------------------------------------------------------------ threads of the call

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._over or getpid() != self.pid:
            return function
        if threading.get_ident() not in [each.thread for each in self._threads]:
            return function  # a thread that is not the call's starts another one
        if _monitoring is not None:
            self._dispatch()

        def run_profiled(*args: Any, **kwargs: Any) -> Any:
            mine = _ThreadProfile()
            with self._lock:
                self._threads.append(mine)
            mine.begin()
            self._enable(mine)
            try:
                return function(*args, **kwargs)
            finally:
                self._disable(mine)
                mine.end()
                if not self._over:  # else it has been counted as it was at the end of the call
                    rows = mine.rows(None)
                    with self._lock:
                        self._threads.remove(mine)
                        merge_rows(self._ended, rows)

        return run_profiled

    def _enable(self, mine: _ThreadProfile) -> None:
        if _monitoring is None:
            mine.profiler.enable()
            return
        for _, name, methods in self._by_thread:
            methods[mine.thread] = getattr(mine.profiler, name)

    def _disable(self, mine: _ThreadProfile) -> None:
        if _monitoring is None:
            mine.profiler.disable()
            return
        for _, _, methods in self._by_thread:
            methods.pop(mine.thread, None)

    def _dispatch(self) -> None:
        """Have each thread's events go to its own profiler, from now on."""
        if not self._dispatches:
            self._dispatches = True
            self.on_dispatch()  # no step of snapshots leads back from now on
            for function, *args in self.dispatching:
                function(*args)

    @property
    def dispatching(self) -> Steps:
        """The steps by which each thread's events go to its own profiler."""
        if _monitoring is None:
            return ()
        if not self._by_thread:
            self._by_thread = [
                (event, name, {self._main.thread: getattr(self._main.profiler, name)})
                for event, name in _METHODS
            ]
        return tuple(
            (_monitoring.register_callback, _monitoring.PROFILER_ID, event, _by_thread(methods))
            for event, _, methods in self._by_thread
        )

    @property
    def going_back(self) -> Steps:
        """The steps by which all events go to the profiler of the call's thread."""
        if _monitoring is None or self._dispatches:
            return ()
        return tuple(
            (
                _monitoring.register_callback,
                _monitoring.PROFILER_ID,
                event,
                methods[self._main.thread],
            )
            for event, _, methods in self._by_thread
        )


def _nothing() -> None:
    pass


def _by_thread(methods: dict[int, Callable[..., Any]]) -> Callable[..., Any]:
    get_ident = threading.get_ident

    def pass_on(*event: Any) -> Any:
        method = methods.get(get_ident())
        return None if method is None else method(*event)

    return pass_on
