"""The protocol of an engine, which runs calls somewhere and knows no policy.

An engine is made with the :class:`~pcall._core.run_state.RunState` of one run. It asks the state
for calls to start, and reports how they ended. :class:`~pcall._run.Run` drives it:

.. code-block:: text

    open()                 acquire descriptors and memory
    repeat until over:
        start()            start the calls that the state lets start now
        poll(seconds)      wait until something has happened; the run's lock is not held
        collect(ready)     report calls that have ended; kill those that outlive their grace period
        cancel(index)      end a call that exceeds its timeout
    stop(signal)           end everything on request
    close()                release everything

Every method except :meth:`Engine.poll` is called with the run's lock held. A signal handler of the
user may run between any two lines, and call :meth:`Engine.stop` through the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

__all__ = ["Engine"]


class Engine(Protocol):
    """Runs the calls of one run.

    Attributes:
        synchronous: True if :meth:`poll` itself executes calls, one at a time. Then the run is over
            when its ``start()`` returns.
    """

    synchronous: bool

    @property
    def capacity(self) -> int | None:
        """The number of calls that it runs at once; None if it knows no limit."""

    @property
    def is_open(self) -> bool:
        """True between :meth:`open` and :meth:`close`."""

    @property
    def busy(self) -> bool:
        """True while a process lives that it started, or that such a process left behind."""

    @property
    def children(self) -> tuple[Any, ...]:
        """The process object of each call, in call order, started or not."""

    @property
    def living(self) -> tuple[Any, ...]:
        """The process objects that are alive."""

    def open(self) -> None:
        """Acquire the resources of the run.

        Raises:
            OSError: the machine has no room for them.
        """

    def start(self) -> None:
        """Start the calls that the state lets start, as long as there is room.

        Raises:
            OSError: a process could not be made, and waiting for another to end would not help.
        """

    def poll(self, timeout: float) -> Sequence[int]:
        """Wait until something has happened, or for so many seconds.

        Returns:
            Numbers for :meth:`collect`; their meaning is up to the engine.
        """

    def wake(self) -> None:
        """Have :meth:`poll`, which another thread may be in, return soon."""

    def collect(self, ready: Iterable[int]) -> None:
        """Report calls that have ended; kill processes that have outlived their grace period."""

    def refresh(self) -> None:
        """Report all calls that have ended by now, so that no timeout is misjudged."""

    def pid(self, index: int) -> int | None:
        """The id of the process that runs a call; None if none does."""

    def cancel(self, index: int) -> None:
        """End a running call: SIGTERM, the grace period, SIGKILL. Do not wait."""

    def withdraw(self, index: int) -> None:
        """Nobody wants a call any more: end it if it runs. Do not wait."""

    def lingers(self, pid: int) -> bool:
        """True while processes live that this process, which has ended, has left behind."""

    def cancel_all(self) -> None:
        """End all running calls, since the timeout of one has failed the run. Do not wait."""

    def stop(self, signal: int) -> None:
        """End everything at the caller's request, with this signal. Do not wait."""

    def pause(self) -> float:
        """Seconds after which :meth:`collect` is due although nothing has happened."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when something has happened; None if there is none."""

    def close(self) -> None:
        """Release everything. Harmless if that was done before."""
