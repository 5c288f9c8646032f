"""The programs of one's own cluster: a scheduler and a worker that end when their stdin does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import time
from typing import Any

import dask
from distributed import Scheduler
from distributed import Worker as DaskWorker

__all__ = ["scheduler", "worker"]

logging.disable(logging.CRITICAL)  # dask tells of each connection that ends
# Nothing is loaded that was not asked for.
dask.config.set({"distributed.worker.preload": [], "distributed.scheduler.preload": []})


def scheduler() -> None:
    """Run a scheduler. Its first line of output says where it listens."""
    caller = os.getppid()
    order = _order()
    asyncio.run(_scheduler())
    if os.getppid() != caller:  # nobody else is left to do it
        time.sleep(2)
        shutil.rmtree(order["folder"], ignore_errors=True)


def _order() -> dict[str, Any]:
    """The first line of input; the end of this process, if its caller is gone before."""
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(1)
    order: dict[str, Any] = json.loads(line)
    dask.config.set({"temporary-directory": order["folder"]})  # else files of its own stay
    return order


async def _scheduler() -> None:
    async with Scheduler(
        host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
    ) as started:
        print(json.dumps({"address": started.address}), flush=True)
        await _end_of_stdin()
        await started.close()


def worker() -> None:
    """Run a worker, with what the first line of input says."""
    order = _order()
    asyncio.run(_worker(order))


async def _worker(order: dict[str, Any]) -> None:
    async with DaskWorker(
        order["address"],
        name=order["name"],
        nthreads=order["threads"],
        host="127.0.0.1",
        dashboard=False,
        dashboard_address="127.0.0.1:0",
        local_directory=order["folder"],
        death_timeout=30,
    ) as started:
        ended = asyncio.ensure_future(_end_of_stdin())
        gone = asyncio.ensure_future(started.finished())
        await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
        await started.close(timeout=1, nanny=False)
    os._exit(0)


async def _end_of_stdin() -> None:
    """Wait until the process at the other end is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, read)
    await ended.wait()
