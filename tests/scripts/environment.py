"""Calls in surroundings that lack something; cases of tests/local/test_environment.py."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pcall import ChildDied, ChildProcessException, Outcome, Pcall, PcallTimeout, pcall
from tests.helpers.cases import FINE, main
from tests.helpers.processes import children

Outcomes = Pcall.options(return_outcomes=True, max_errors=None)


def square(x: int) -> int:
    return x * x


def raises(x: int) -> None:
    raise LookupError(x)


def dies(x: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def all_three(count: int = 30) -> tuple[Outcome, ...]:
    """Make calls that return, raise and die; fail unless each ends in its own way."""
    assert pcall(square, x=range(count)) == tuple(x * x for x in range(count))
    found = Outcomes.pcall([square, raises, dies] * 3, x=[7] * 9)
    assert [o.ok for o in found] == [True, False, False] * 3, found
    assert all(o.value == 49 for o in found[::3]), found
    for o in found[1::3]:
        assert type(o.error) is LookupError and o.error.args == (7,), found
    assert all(type(o.error) is ChildDied for o in found[2::3]), found
    return found


# ------------------------------------------------------------ limits


def few_descriptors() -> None:
    def opens(i: int) -> int:
        files = [open(os.devnull) for _ in range(8)]
        os.close(os.open(".", os.O_RDONLY))
        return len(files) + i

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    assert pcall(opens, i=range(200)) == tuple(range(8, 208))
    all_three()


def descriptors_run_out() -> None:
    all_three()
    taken = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 12, taken + 12))
    for count in (3, 16, 40):
        assert pcall(square, x=range(count)) == tuple(x * x for x in range(count))


def fork_fails_half_way(name: str) -> None:
    number = getattr(errno, name)
    forks = 0

    def fork() -> int:
        nonlocal forks
        forks += 1
        if forks == 57:
            raise OSError(number, os.strerror(number))
        return real()

    pcall(square, x=[1])
    before = sorted(os.listdir("/proc/self/fd"))
    real, os.fork = os.fork, fork
    start = time.monotonic()
    run = Pcall.options(grace_period=90)(time.sleep, iargs=[(1000,)] * 100)
    try:
        run.start()
    except OSError as error:
        assert error.errno == number
        assert re.search(r"\b56\b.*\b100\b", str(error)), error
        assert os.strerror(number) in str(error), error
    else:
        raise AssertionError("no error")
    assert time.monotonic() - start < 30
    assert not children() and run.done and not run.livings
    assert sorted(os.listdir("/proc/self/fd")) == before


def nap(x: int) -> int:
    time.sleep(0.05)
    return x * x


def become_another_user() -> None:
    """Become a user without other processes, if this is root; calls were made before."""
    assert pcall(square, x=[2]) == (4,)
    if os.geteuid() == 0:
        # Not the usual nobody: other tests that run just now may have become that one.
        user = 20_000 + os.getpid() % 40_000
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        os.chdir("/")
        # The kernel hides a process that has changed its user, until it has run exec.
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)


def tasks() -> int:
    """Return how many threads this user has, as the kernel counts them."""
    found = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == os.getuid():
                found += len(os.listdir(path / "task"))
        except OSError:
            pass
    return found


def limit_tasks(most: int) -> None:
    """Allow this user so many processes and threads."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))


def few_processes() -> None:
    become_another_user()
    limit_tasks(tasks() + 20)
    most = 0
    run = Pcall(nap, x=range(100))
    run.start()
    while not run.done:
        most = max(most, len(run.livings))
        time.sleep(0.005)
    run.join()
    assert run.results == tuple(x * x for x in range(100))
    assert 1 < most <= 20, most


def no_process() -> None:
    become_another_user()
    limit_tasks(tasks())
    try:
        pcall(nap, x=range(100))
    except OSError as error:
        assert error.errno == errno.EAGAIN, error
        assert re.search(r"\b0\b.*\b100\b", str(error)), error
    else:
        raise AssertionError("no error")


def few_processes_of_a_hidden_user() -> None:
    become_another_user()
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    limit_tasks(20)
    assert pcall(nap, x=range(60)) == tuple(x * x for x in range(60))


# ------------------------------------------------------------ places for files


def no_place_for_files(place: str, lack: str) -> None:
    def sized(x: int) -> bytes:
        return b"x" * 100_000

    tempfile.tempdir = place
    if sys.argv[1] == "linux":
        assert pcall(sized, x=range(20)) == (sized(0),) * 20
        all_three()
        return
    start = time.monotonic()
    try:
        pcall(sized, x=range(20))
    except OSError as error:
        assert error.errno == getattr(errno, lack), error
    except ChildProcessException as error:
        assert lack == "ENOSPC"
        assert "ENOSPC" in repr(error.__cause__) or "No space left" in str(error), error
    else:
        raise AssertionError("no error")
    assert time.monotonic() - start < 30
    assert not children()


def without_proc() -> None:
    assert not os.path.exists("/proc/self")
    all_three()
    assert pcall(lambda x: pcall(square, x=range(x)), x=[3]) == ((0, 1, 4),)


def working_directory(what: str) -> None:
    os.mkdir("other")
    os.chdir("other")
    here = os.getcwd()
    if what == "deleted":
        os.rmdir(here)
        (found,) = Outcomes.pcall(os.getcwd)
        assert type(found.error) is FileNotFoundError, found
    else:
        assert pcall(os.getcwd) == (here,)
    all_three()


# ------------------------------------------------------------ signals and waits


def sigchld_ignored() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    all_three(100)
    try:
        pcall(time.sleep, 2, iargs=[(1000,), (0,)])
    except PcallTimeout as error:
        assert [o.index for o in error.running] == [0]
    else:
        raise AssertionError("no timeout")
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN


def another_thread_reaps() -> None:
    taken, over = 0, False

    def reap() -> None:
        nonlocal taken
        while not over:
            try:
                os.wait()
                taken += 1
            except ChildProcessError:
                time.sleep(0)

    thread = threading.Thread(target=reap)
    thread.start()
    try:
        for _ in range(5):
            all_three()
            try:
                pcall(time.sleep, 0.1, iargs=[(1000,), (1000,)])
            except PcallTimeout as error:
                assert len(error.running) == 2
            else:
                raise AssertionError("no timeout")
    finally:
        over = True
        thread.join()
    assert taken > 0


# ------------------------------------------------------------ streams


def writes(x: int) -> int:
    """Write to all streams, which may be closed or full, and return the square."""
    print("in the buffer until the end of the child")
    with contextlib.suppress(OSError):
        print("x" * 10_000, file=sys.stderr)
    for fd in (1, 2):  # as C code does, which knows nothing of sys.stdout
        with contextlib.suppress(OSError):
            os.write(fd, b"x" * 1000)
    subprocess.run(["echo"], check=False, stderr=subprocess.DEVNULL)
    return x * x


def broken_streams() -> None:
    try:
        print("pending")
        with contextlib.suppress(OSError):
            print("pending", file=sys.stderr)
        assert pcall(writes, x=range(20)) == tuple(x * x for x in range(20))
        all_three()
    except BaseException:
        Path("why").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(FINE)  # what Python itself would do about such streams is not looked at


def stdout_without_a_reader() -> None:
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    os.close(writer)
    broken_streams()


# ------------------------------------------------------------ the interpreter's options


def beside_threads() -> None:
    all_three()
    event = threading.Event()
    threads = [threading.Thread(target=event.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        all_three()
        assert pcall(lambda x: pcall(square, x=range(x)), x=[3]) == ((0, 1, 4),)
    finally:
        event.set()
        for thread in threads:
            thread.join()


def misuse() -> None:
    run = Pcall(square, x=[1])
    early: tuple[Callable[[], object], ...] = (run.join, run.wait, run.as_completed)
    for method in early:
        try:
            method()
        except AssertionError:
            pass
        else:
            raise SystemExit(f"{method} before start() raised nothing")
    run.start()
    try:
        run.start()
    except AssertionError:
        pass
    else:
        raise SystemExit("a second start() raised nothing")
    run.join()
    if run.results != (1,):
        raise SystemExit(str(run.results))


if __name__ == "__main__":
    main(globals())
