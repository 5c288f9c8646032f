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
from multiprocessing import process, util
from threading import get_native_id
from typing import Any, NamedTuple

__all__ = ["Bootstrap", "begin", "end", "make_bootstrap", "whole"]

_process: Any = process
_util: Any = util
_threading: Any = threading
_KNOWN = (3, 11) <= sys.version_info < (3, 15)
_MULTIPROCESSING = ("multiprocessing.process", "multiprocessing.util")

# Found here, all of it: what a child need not look up writes to none of the interpreter's caches.
_names = vars(process)
_after_forkers = _util._afterfork_registry.data
_finalizers = _util._finalizer_registry
_threads, _thread_exits = _threading._active, _threading._threading_atexits


class Bootstrap(NamedTuple):
    """Made in the parent, for all children of a run.

    Attributes:
        known: True where :func:`begin` and :func:`end` do, False where :func:`whole` has to.
        news: what a child has in place of its parent's, in ``multiprocessing.process``.
        thread: the attributes of the thread that forks.
        sentinel: descriptor that tells of the parent's end.
        kept: what ``news`` replaces. To free it would touch what lies around it.
    """

    known: bool
    news: dict[str, Any]
    thread: dict[str, Any]
    sentinel: int
    kept: tuple[Any, ...]


def make_bootstrap(sentinel: int) -> Bootstrap:
    """What the children of the calling thread begin and end with.

    Args:
        sentinel: descriptor that tells of the parent's end.
    """
    name = _names["_current_process"].name
    news = {
        "_parent_process": _process._ParentProcess(name, os.getpid(), sentinel),
        "_process_counter": itertools.count(1),
        "_children": set(),
    }
    kept = (_names["_current_process"], *map(_names.get, news))
    base: Any = process.BaseProcess
    steps = (base._bootstrap, base._after_fork, _util._exit_function)
    known = _KNOWN and _util._logger is None
    known = known and all(step.__module__ in _MULTIPROCESSING for step in steps)
    return Bootstrap(known, news, vars(threading.current_thread()), sentinel, kept)


def begin(child: process.BaseProcess, bootstrap: Bootstrap) -> None:
    """In the child: be this process."""
    _, news, thread, _, _ = bootstrap
    _names.update(news)
    _names["_current_process"] = child
    thread["_native_id"] = get_native_id()
    _finalizers.clear()
    if _after_forkers:
        _util._run_after_forkers()


def end() -> None:
    """In the child: run what was registered to run at the end of a process."""
    if _finalizers or _names["_children"]:
        _util._exit_function()
    if len(_threads) > 1 or _thread_exits:
        _threading._shutdown()


def whole(child: process.BaseProcess, bootstrap: Bootstrap) -> int:
    """In the child: all in one, as multiprocessing has it; the status to exit with."""
    status: int = child._bootstrap(parent_sentinel=bootstrap.sentinel)  # type: ignore[attr-defined]
    _util._exit_function()  # Python 3.13 leaves it to the exit handlers
    return status
