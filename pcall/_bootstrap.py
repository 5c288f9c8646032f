"""How a forked process becomes a multiprocessing child, and how it ends as one.

``BaseProcess._bootstrap`` does it, and is what is called wherever somebody has put another in
its place (coverage does) or the interpreter is newer than those known here. Else the same
steps are taken one by one, without those that have nothing to do: each page that a child
touches has to be copied first, and that is most of what a short call costs.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import process, util
from threading import get_native_id
from typing import Any, NamedTuple

__all__ = ["Bootstrap", "make_bootstrap"]

_process: Any = process
_util: Any = util
_threading: Any = threading
_KNOWN = (3, 11) <= sys.version_info < (3, 15)
_MULTIPROCESSING = ("multiprocessing.process", "multiprocessing.util")


class Bootstrap(NamedTuple):
    """Made in the parent, for all children of a run.

    Attributes:
        begin: to be called with the child's process object in order to be that child; None
            where ``whole`` is to be called.
        end: runs what was registered to run at the end of a process.
        whole: all in one, as multiprocessing has it: returns the status to exit with.
        kept: what is replaced by ``begin``. To free it would touch what lies around it.
    """

    begin: Callable[[process.BaseProcess], None] | None
    end: Callable[[], None]
    whole: Callable[[process.BaseProcess], int]
    kept: tuple[Any, ...]


def make_bootstrap(sentinel: int) -> Bootstrap:
    """What the children of the calling thread begin and end with.

    Args:
        sentinel: descriptor that tells of the parent's end.
    """
    # Looked up here, all of it: what a child finds in a closure it need not look up, and
    # looking up writes to the interpreter's caches.
    names = vars(process)
    news = {
        "_parent_process": _process._ParentProcess(
            names["_current_process"].name, os.getpid(), sentinel
        ),
        "_process_counter": itertools.count(1),
        "_children": set(),
    }
    kept = (names["_current_process"], *map(names.get, news))
    children = news["_children"]
    main_thread = vars(threading.current_thread())
    after_forkers = _util._afterfork_registry.data
    finalizers = _util._finalizer_registry
    threads, thread_exits = _threading._active, _threading._threading_atexits

    def begin(child: process.BaseProcess) -> None:
        names.update(news)
        names["_current_process"] = child
        main_thread["_native_id"] = get_native_id()
        finalizers.clear()
        if after_forkers:
            _util._run_after_forkers()

    def end() -> None:
        if finalizers or children:
            _util._exit_function()
        if len(threads) > 1 or thread_exits:
            _threading._shutdown()

    def whole(child: process.BaseProcess) -> int:
        status: int = child._bootstrap(parent_sentinel=sentinel)  # type: ignore[attr-defined]
        _util._exit_function()  # Python 3.13 leaves it to the exit handlers
        return status

    base: Any = process.BaseProcess
    steps = (base._bootstrap, base._after_fork, _util._exit_function)
    known = _KNOWN and _util._logger is None
    known = known and all(step.__module__ in _MULTIPROCESSING for step in steps)
    return Bootstrap(begin if known else None, end, whole, kept)
