"""The protocol of an engine: it runs calls somewhere, and knows no policy.

An engine is made with the :class:`~pcall._core.run_state.RunState` of one run. It asks the state
for the calls to start, and reports what became of them. :class:`~pcall._run.Run` drives it:

.. code-block:: text

    open()                 acquire descriptors and memory
    repeat until over:
        start()            start the calls that the state lets start now
        poll(seconds)      wait until something has happened; the run's lock is not held
        collect(ready)     report calls that have ended, see to what is being ended
        cancel(index)      end a call for its timeout
    stop(signal)           end everything on request
    close()                give everything back

Every method but :meth:`Engine.poll` is called with the run's lock held. A signal handler of the
user's may run between any two lines and call :meth:`Engine.stop` through the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

__all__ = ["Engine"]


class Engine(Protocol):
    """Runs the calls of one run.

    Attributes:
        synchronous: True when :meth:`poll` itself executes calls, one each time, so that a run is
            over once it has been started.
    """

    synchronous: bool

    @property
    def capacity(self) -> int | None:
        """How many calls it runs at once; None: no limit is known."""

    @property
    def is_open(self) -> bool:
        """True between :meth:`open` and :meth:`close`."""

    @property
    def busy(self) -> bool:
        """True while a process lives that it started, or something that such a process left."""

    @property
    def children(self) -> tuple[Any, ...]:
        """The process object of each call, in call order, started or not."""

    @property
    def living(self) -> tuple[Any, ...]:
        """The process objects that are alive."""

    def open(self) -> None:
        """Acquire what the run needs.

        Raises:
            OSError: there is no room for it.
        """

    def start(self) -> None:
        """Start the calls that the state lets start, as far as there is room.

        Raises:
            OSError: a process could not be made, and no end of another would help.
        """

    def poll(self, timeout: float) -> Sequence[int]:
        """Wait until something has happened, or for so many seconds.

        Returns:
            Numbers that mean something to :meth:`collect`.
        """

    def wake(self) -> None:
        """Have :meth:`poll`, which another thread may be in, return soon."""

    def collect(self, ready: Iterable[int]) -> None:
        """Report the calls that have ended, and kill what has outlived its grace period."""

    def refresh(self) -> None:
        """Report all that has ended until now, before a timeout is judged."""

    def pid(self, index: int) -> int | None:
        """The process that runs a call; None where none does."""

    def cancel(self, index: int) -> None:
        """End a running call: SIGTERM, the grace period, SIGKILL."""

    def cancel_all(self) -> None:
        """End all running calls, since one of them has failed the run."""

    def stop(self, signal: int) -> None:
        """End everything on request of the caller. Does not wait."""

    def pause(self) -> float:
        """Seconds after which :meth:`collect` is due although nothing has happened."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when something has happened; None where there is none."""

    def close(self) -> None:
        """Give everything back. Harmless when that was done."""
