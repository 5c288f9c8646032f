"""The seam to the operating system at its limits; cases of tests/local/test_system.py."""

from __future__ import annotations

import ctypes  # noqa: F401 - it can't be imported where there are no descriptors
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from pcall import pcall
from pcall._os import capacity, current
from pcall._os.linux import LinuxSystem
from pcall._os.portable import PortableSystem
from pcall._os.system import System
from tests.helpers.cases import main


def system() -> System:
    """Return the system that the command line names, without a choice by trying."""
    return PortableSystem() if sys.argv[1] == "portable" else LinuxSystem()


def no_descriptor_for_a_sentinel() -> None:
    chosen = current.get_system()
    pcall(abs, iargs=[(0,)])
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    assert chosen.sentinel(pid, None) is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # A run with ever more room: an error at once that says so, until it works.
    worked = []
    for _ in range(12):
        try:
            assert pcall(abs, iargs=[(-1,), (-2,), (-3,)]) == (1, 2, 3)
            worked.append(True)
        except OSError as error:
            assert error.errno == errno.EMFILE, error
            worked.append(False)
        os.close(taken.pop())
    assert worked == sorted(worked), worked
    assert worked[-1], worked


def orphan(when: str) -> None:
    early = when == "early"
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        parent = os.getpid()
        watch = system().parent_watch(parent, 0.5)
        if os.fork() == 0:
            os.setpgid(0, 0)  # what ends it may end its group
            os.close(reader)
            if early:  # the parent dies before it is watched
                while os.getppid() == parent:
                    time.sleep(0.01)
            for step, *args in watch:
                step(*args)
            if os.getppid() != parent:
                os._exit(0)
            os.write(writer, b"w")
            time.sleep(60)
            os._exit(0)
        if early:
            os._exit(0)
        time.sleep(60)
    os.close(writer)
    if not early:
        assert os.read(reader, 1) == b"w"
        os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    start = time.monotonic()
    while os.read(reader, 1):
        pass
    assert time.monotonic() - start < 20


def chosen_by_trying() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        current.get_system()
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    else:
        raise AssertionError("no error")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert type(current.get_system()) is LinuxSystem


def limit_of_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def room(limit: int, each: int) -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return capacity.capacity(each)

    assert 50 <= room(256, 2) <= 126
    assert 33 <= room(256, 3) <= 84
    before = room(256, 2)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    assert before - 52 <= room(256, 2) <= before - 48
    taken += [os.open(os.devnull, os.O_RDONLY) for _ in range(140)]
    assert room(256, 2) == 1


def resident_memory() -> None:
    before = capacity.resident_memory()
    block = bytearray(50 << 20)
    print(capacity.resident_memory() - before, len(block))


def control_group(folder: str, others: str, count: str) -> None:
    Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    current.use_system(system())
    sleepers = [subprocess.Popen(["sleep", "100"]) for _ in range(int(others))]

    def nap(x: int) -> int:
        time.sleep(0.05)
        return x * x

    assert pcall(nap, x=range(int(count))) == tuple(x * x for x in range(int(count)))
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()


if __name__ == "__main__":
    main(globals())
