"""How a target is called, and how its failure is logged, in a child or here."""

from __future__ import annotations

import logging
from types import CoroutineType
from typing import Any

from pcall._core.records import Call
from pcall._wire.traceback_codec import users_part

__all__ = ["invoke", "log_failure", "run_if_coroutine"]

_log = logging.getLogger("pcall")


def invoke(call: Call) -> Any:
    """Call the target; a coroutine runs to its end in an event loop of its own."""
    return run_if_coroutine(call.target(*call.args, **call.kwargs))


def run_if_coroutine(value: Any) -> Any:
    """What a target returned; of a coroutine what it returns, once it has run to its end."""
    if not isinstance(value, CoroutineType):
        return value
    # asyncio takes longer to import than all of this library, and only those who use it, and
    # have it imported, come here.
    import asyncio

    try:
        return asyncio.run(value)
    finally:
        value.close()  # where it was refused, as inside a running loop


def log_failure(call: Call, failure: BaseException) -> None:
    """Tell the log of a failed call, with its traceback."""
    told = (type(failure), failure, users_part(failure.__traceback__))
    _log.error("call %d failed: %s", call.index, call, exc_info=told)
