"""What executors do when the interpreter exits: they finish the calls that they were given."""

from __future__ import annotations

import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["exiting", "register_crew"]


class Closable(Protocol):
    """A crew, which can be shut down."""

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None: ...


_crews: WeakSet[Closable] = WeakSet()
_state = {"registered": False, "exiting": False}


def exiting() -> bool:
    """True once the interpreter is about to exit."""
    return _state["exiting"]


def register_crew(crew: Closable) -> None:
    """Have this crew finish its calls before the interpreter exits.

    Raises:
        RuntimeError: the interpreter is about to exit.
    """
    if not _state["registered"]:
        # As concurrent.futures does: later than this, no thread can be started.
        threading._register_atexit(_finish)  # type: ignore[attr-defined]
        _state["registered"] = True
    _crews.add(crew)


def _finish() -> None:
    _state["exiting"] = True
    for crew in list(_crews):
        crew.shutdown(wait=False)
    for crew in list(_crews):
        crew.shutdown(wait=True)
