"""Lines that children run count under coverage, whatever its settings.

A child inherits the measurement, but its data would end with it: it leaves by ``os._exit``, and
the exit handlers of its parent do not run in it. With ``concurrency = multiprocessing`` coverage
replaces the start of a process, and with ``patch = _exit`` its end. Without these settings, or
where a SIGTERM ends the child, the child saves the data itself, as its last exit handler.
"""

from __future__ import annotations

import multiprocessing
import sys
from atexit import register
from contextlib import suppress
from typing import Any

from pcall._os.system import Steps

__all__ = ["coverage_steps"]


def coverage_steps() -> Steps:
    """The steps by which children save their data; none if nothing is measured.

    Without ``parallel = true`` a child has no file of its own to save to: the parent erases what it
    has written.
    """
    measuring = _current()
    if measuring is None or hasattr(multiprocessing, "_coverage$patched"):
        return ()
    with suppress(Exception):  # another version, perhaps
        if measuring.get_option("run:parallel"):
            return ((register, _save),)
    return ()


def _current() -> Any:
    current = getattr(getattr(sys.modules.get("coverage"), "Coverage", None), "current", None)
    return None if current is None else current()


def _save() -> None:
    # With `patch = fork` the measurement of this child is another one than that of its parent.
    with suppress(Exception):
        measuring = _current()
        if measuring is not None:
            measuring.stop()
            measuring.save()
