"""How a target is called, in a child or here."""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from pcall._records import Call

__all__ = ["invoke"]


def invoke(call: Call) -> Any:
    """Call the target; a coroutine runs to its end in an event loop of its own."""
    value = call.target(*call.args, **call.kwargs)
    if isinstance(value, CoroutineType):
        # asyncio takes longer to import than all of this library, and only those who
        # use it, and have it imported, come here.
        import asyncio

        value = asyncio.run(value)
    return value
