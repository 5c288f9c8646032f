"""Runs as objects; cases of tests/contract/test_object_*.py, test_asyncio_cancel.py and others."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

from pcall import Pcall, pcall
from tests.helpers.cases import main

MB = 1 << 20
PR_SET_CHILD_SUBREAPER = 36


def start_fails() -> None:
    def named(fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    pcall(abs, x=())  # what is opened once is open
    pcall(len, iargs=[("",)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for room in (0, 1, 2, 3):
        before = sorted(os.listdir("/proc/self/fd"))
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(room + 1)]
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(fds), hard))
        try:
            print(room, pcall(len, iargs=[("ab",)]))
        except OSError as error:
            print(room, "failed", error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert sorted(os.listdir("/proc/self/fd")) == before, room
        mine = socket.socketpair()
        names = tuple(named(end.fileno()) for end in mine)
        assert pcall(named, fd=[end.fileno() for end in mine]) == names, room
        for end in mine:
            end.close()


def adopt_orphans() -> None:
    """Do as the first process of a container without an init: inherit orphans."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def start_another() -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def join_among_orphans() -> None:
    adopt_orphans()
    run = Pcall.options(grace_period=0.3)(start_another)
    run.start()
    run.join()
    print("joined", flush=True)
    assert run.results is not None
    state = Path(f"/proc/{run.results[0]}/stat")
    print(state.read_text().rpartition(")")[2].split()[0] if state.exists() else "gone")


def orphans_are_reaped() -> None:
    adopt_orphans()
    print(*pcall(start_another))
    try:
        print(os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("no child")


def growth_over_a_large_parent() -> None:
    held = bytearray(os.urandom(1) * (300 * MB))
    run = Pcall.options(return_outcomes=True)
    small, large = run.pcall(lambda n: len(bytearray(b"x" * n)), iargs=[(0,), (50 * MB,)])
    assert small.max_rss is not None
    assert small.rss_growth is not None
    assert large.rss_growth is not None
    print(small.max_rss // MB, small.rss_growth // MB, large.rss_growth // MB)
    assert len(held) == 300 * MB


def awaited() -> None:
    async def wait() -> None:
        run = Pcall(time.sleep, iargs=[(60,)] * 3)
        run.start()
        print(*run.pids, flush=True)
        await run

    try:
        asyncio.run(wait())
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def interrupt(pid: int) -> None:
    """Raise KeyboardInterrupt unless this is the process of this number."""
    if os.getpid() != pid:
        raise KeyboardInterrupt


class Interrupts:
    """It can be unpickled in the process alone that pickled it."""

    def __reduce__(self) -> tuple[object, ...]:
        return interrupt, (os.getpid(),)


def result_interrupts() -> None:
    try:
        pcall([int, Interrupts])
    except KeyboardInterrupt:
        print("interrupted")
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no child")
    sys.stdout.flush()


if __name__ == "__main__":
    main(globals())
