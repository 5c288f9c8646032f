"""Has each thread that is started meanwhile run inside a function of ours."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Wrap", "remove_wrap", "wrap_starts"]

#: Gets the function that a new thread is to run, in the thread that starts it, and returns the one
#: that it runs instead.
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

# Where Python starts threads: by these names in these modules, as far as they are there.
_NAMES = ("start_new_thread", "start_new", "start_joinable_thread")
_PLACES: tuple[tuple[Any, str], ...] = tuple(
    (module, name)
    for module, prefix in ((_thread, ""), (threading, "_"))
    for name in (prefix + each for each in _NAMES)
    if hasattr(module, name)
)

# Several threads of one process may profile calls at once, without children.
_lock = threading.RLock()
_wraps: list[Wrap] = []
_replaced: list[tuple[Any, str, Any, Any]] = []


def wrap_starts(wrap: Wrap) -> None:
    """Begin: new threads are started through this wrapper."""
    with _lock:
        if not _wraps:
            for module, name in _PLACES:
                old = getattr(module, name)
                new = _starting(old)
                _replaced.append((module, name, old, new))
                setattr(module, name, new)
        _wraps.append(wrap)


def remove_wrap(wrap: Wrap) -> None:
    """End; what somebody else has put in these places since stays there."""
    with _lock:
        if wrap not in _wraps:
            return
        _wraps.remove(wrap)
        while _replaced and not _wraps:
            module, name, old, new = _replaced.pop()
            if getattr(module, name) is new:
                setattr(module, name, old)


def _starting(start: Callable[..., Any]) -> Callable[..., Any]:
    def start_profiled(function: Any, *args: Any, **kwargs: Any) -> Any:
        for wrap in list(_wraps) if callable(function) else ():
            function = wrap(function)
        return start(function, *args, **kwargs)

    return start_profiled
