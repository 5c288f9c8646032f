"""Waiting for a run from asyncio: the run's turns as callbacks of the user's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pcall._run import Run

__all__ = ["end", "finish", "until_due"]

__tracebackhide__ = True  # pytest shows the frames of its user


async def finish(run: Run) -> None:
    """Take turns until the run is over.

    If the await is cancelled, the children are terminated, and the cancellation propagates once
    they have ended. If it is cancelled again meanwhile, they are killed.
    """
    cancelled: asyncio.CancelledError | None = None
    end: Callable[[], None] = run.terminate
    while not run.over:
        try:
            await until_due(run)
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
            end()
            end = run.kill
        run.turn(0)
    if cancelled is not None:
        run.finish()
        raise cancelled


async def end(run: Run) -> None:
    """Terminate the children, and wait until they have ended.

    Cancelled meanwhile, it kills them, and is cancelled once they have ended.
    """
    run.terminate()
    try:
        await finish(run)
    finally:
        run.abandon_if_owner()


async def until_due(run: Run) -> None:
    """Wait until :meth:`Run.turn` has something to do."""
    loop = asyncio.get_running_loop()
    due = asyncio.Event()
    timer = loop.call_later(run.pause(), due.set)
    fd = run.fileno()
    try:
        if fd is not None:
            loop.add_reader(fd, due.set)
        await due.wait()
    finally:
        timer.cancel()
        if fd is not None:
            loop.remove_reader(fd)
