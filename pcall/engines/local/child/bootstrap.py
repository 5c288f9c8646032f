"""Turns a forked process into a multiprocessing child, and ends it as one.

``BaseProcess._bootstrap`` does that. It is called if it has been replaced (coverage does so), or if
the interpreter is newer than those known here. Otherwise the same steps are taken one by one, and
those that have nothing to do are skipped: each page that a child touches has to be copied first,
and that is most of the cost of a short call. It saves 105 pages of 425 (CPython 3.11).
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from multiprocessing import process, util
from threading import get_native_id
from typing import Any, NamedTuple

__all__ = ["Bootstrap", "become_process", "bootstrap_process", "finish_process", "make_bootstrap"]

_process: Any = process
_util: Any = util
_threading: Any = threading
_KNOWN = (3, 11) <= sys.version_info < (3, 15)
_MULTIPROCESSING = ("multiprocessing.process", "multiprocessing.util")

# Looked up here, because a look-up in a child would write to the interpreter's caches.
_names = vars(process)
_after_forkers = _util._afterfork_registry.data
_finalizers = _util._finalizer_registry
_threads, _thread_exits = _threading._active, _threading._threading_atexits


class Bootstrap(NamedTuple):
    """The data for all children of a run, made in the parent.

    Attributes:
        known: True if :func:`become_process` and :func:`finish_process` suffice, False if
            :func:`bootstrap_process` is needed.
        replacements: values that replace the parent's in ``multiprocessing.process``.
        thread: the attributes of the thread that forks.
        sentinel: descriptor that becomes readable at the parent's end.
        replaced: the values that ``replacements`` replaces. Freeing them would touch the memory
            around them.
    """

    known: bool
    replacements: dict[str, Any]
    thread: dict[str, Any]
    sentinel: int
    replaced: tuple[Any, ...]


def make_bootstrap(sentinel: int) -> Bootstrap:
    """Make the data for the children of the calling thread.

    Args:
        sentinel: descriptor that becomes readable at the parent's end.
    """
    name = _names["_current_process"].name
    replacements = {
        "_parent_process": _process._ParentProcess(name, os.getpid(), sentinel),
        "_process_counter": itertools.count(1),
        "_children": set(),
    }
    replaced = (_names["_current_process"], *map(_names.get, replacements))
    base: Any = process.BaseProcess
    steps = (base._bootstrap, base._after_fork, _util._exit_function)
    known = _KNOWN and _util._logger is None
    known = known and all(step.__module__ in _MULTIPROCESSING for step in steps)
    return Bootstrap(known, replacements, vars(threading.current_thread()), sentinel, replaced)


def become_process(child: process.BaseProcess, bootstrap: Bootstrap) -> None:
    """In the child: make this process object the current process."""
    _, replacements, thread, _, _ = bootstrap
    _names.update(replacements)
    _names["_current_process"] = child
    thread["_native_id"] = get_native_id()
    _finalizers.clear()
    if _after_forkers:
        _util._run_after_forkers()


def finish_process() -> None:
    """In the child: run the functions that are registered for the end of a process."""
    if _finalizers or _names["_children"]:
        _util._exit_function()
    if len(_threads) > 1 or _thread_exits:
        _threading._shutdown()


def bootstrap_process(child: process.BaseProcess, bootstrap: Bootstrap) -> int:
    """In the child: let multiprocessing do all of this and run the child; returns its status."""
    status: int = child._bootstrap(parent_sentinel=bootstrap.sentinel)  # type: ignore[attr-defined]
    _util._exit_function()  # since Python 3.13 an exit handler calls it
    return status
