"""What calls say about the workers that they should run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pcall._core.calls import Calls
from pcall._core.records import show
from pcall._errors import NoWorkers
from pcall.engines.dask.link import Worker

__all__ = ["Preferences"]

__tracebackhide__ = True  # pytest shows the frames of its user


class _Work(Protocol):
    def locality(self, index: int, workers: tuple[Any, ...]) -> Any: ...


class Preferences:
    """Numbers of calls for workers: -1 forbidden, 0 indifferent, 1 and more preferred.

    Args:
        work: knows the locality of each call.
        calls: of the run.
    """

    def __init__(self, work: _Work, calls: Calls) -> None:
        self._work = work
        self._calls = calls
        self._workers: tuple[Worker, ...] = ()
        self._addresses: dict[str, str] = {}
        self._known: dict[int, Mapping[str, float]] = {}

    def take_workers(self, workers: tuple[Worker, ...]) -> None:
        """These are the workers from now on."""
        if workers == self._workers:
            return
        self._workers = workers
        self._known.clear()
        self._addresses = {each.name: each.address for each in workers}
        self._addresses.update((each.address, each.address) for each in workers)

    def numbers(self, index: int) -> Mapping[str, float]:
        """By address, the number of a call; 0 for workers that are missing.

        Raises:
            NoWorkers: the call forbids all workers.
            TypeError: its locality is no mapping, and no pairs of worker and number.
        """
        known = self._known.get(index)
        if known is None:
            known = self._known[index] = self._ask(index)
        return known

    def _ask(self, index: int) -> Mapping[str, float]:
        said = self._work.locality(index, self._workers)
        found: dict[str, float] = {}
        try:
            pairs = said.items() if isinstance(said, Mapping) else (said or ())
            for worker, number in pairs:
                name = worker.address if isinstance(worker, Worker) else str(worker)
                address = self._addresses.get(name)
                if address is not None:
                    found[address] = float(number)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"the locality of {self._calls[index]} (call {index}) must be a mapping of workers "
                f"to numbers, or pairs of both, not {show(said)}"
            ) from error
        allowed = [each for each in self._workers if found.get(each.address, 0) >= 0]
        if self._workers and not allowed:
            names = ", ".join(f"{each.name} ({each.address})" for each in self._workers)
            raise NoWorkers(
                f"{self._calls[index]} (call {index}) may run on none of the workers there are: "
                f"its locality forbids {names}"
            )
        return found
