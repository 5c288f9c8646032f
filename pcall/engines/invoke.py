"""Calls a target and logs its failure, in a child or in this process."""

from __future__ import annotations

import logging
from types import CoroutineType
from typing import Any

from pcall._core.records import Call
from pcall._wire.traceback_codec import users_part

__all__ = ["invoke", "log_failure", "run_if_coroutine"]

__tracebackhide__ = True  # pytest shows the frames of its user

_log = logging.getLogger("pcall")


def invoke(call: Call) -> Any:
    """Call the target; if it returns a coroutine, run that in an event loop of its own."""
    return run_if_coroutine(call.target(*call.args, **call.kwargs))


def run_if_coroutine(value: Any) -> Any:
    """Return the value of a target; if it is a coroutine, run it and return its result."""
    if type(value) is not CoroutineType:
        return value
    # asyncio takes longer to import than all of this library. The code that made the coroutine has
    # usually imported it.
    import asyncio

    try:
        return asyncio.run(value)
    finally:
        value.close()  # if it could not be run, for example inside a running loop


def log_failure(call: Call, failure: BaseException) -> None:
    """Log the failure of a call, with its traceback."""
    exc_info = (type(failure), failure, users_part(failure.__traceback__))
    _log.error("call %d failed: %s", call.index, call, exc_info=exc_info)
