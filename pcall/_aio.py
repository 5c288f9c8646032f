"""Waiting for a run from asyncio: the supervisor's turns as callbacks of the user's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pcall.engines.inline import InlineRun
from pcall.engines.local.parent.supervisor import Supervisor

__all__ = ["finish"]


async def finish(supervisor: Supervisor | InlineRun) -> None:
    """Take turns until the run is over.

    Cancelled, it ends the children, waits until they have ended, and is cancelled then;
    cancelled again meanwhile, it kills them.
    """
    cancelled: asyncio.CancelledError | None = None
    end: Callable[[], None] = supervisor.terminate
    while not supervisor.over:
        try:
            await _until_due(supervisor)
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
            end()
            end = supervisor.kill
        supervisor.turn(0)
    if cancelled is not None:
        supervisor.finish()
        raise cancelled


async def _until_due(supervisor: Supervisor | InlineRun) -> None:
    loop = asyncio.get_running_loop()
    due = asyncio.Event()
    timer = loop.call_later(supervisor.pause(), due.set)
    fd = supervisor.fileno()
    try:
        if fd is not None:
            loop.add_reader(fd, due.set)
        await due.wait()
    finally:
        timer.cancel()
        if fd is not None:
            loop.remove_reader(fd)
