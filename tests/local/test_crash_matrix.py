"""docs/errors.rst: however a call ends, and whatever it was doing, its run names it and goes on."""

from __future__ import annotations

import copyreg
import ctypes
import faulthandler
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pcall import ChildDied, ChildProcessException, Pcall, PcallTimeout, ResultError
from tests.helpers.scripts import run_case, system_name

MB = 1 << 20
HANG_ENDS_AFTER = 1


class Alien(BaseException):
    """An exception that no ``except Exception`` sees."""


def raise_exception() -> NoReturn:
    raise ValueError("seven")


def sys_exit() -> NoReturn:
    sys.exit(7)


def os_exit() -> NoReturn:
    os._exit(7)


def segfault() -> None:
    faulthandler.disable()  # pytest's would print a trace of what is meant to happen
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> NoReturn:
    while True:
        time.sleep(1)


def interrupt() -> None:
    # The handler may be missing where the tests run in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def raise_alien() -> NoReturn:
    raise Alien("seven")


def out_of_memory() -> None:
    bytearray(sys.maxsize // 2)


def recurse() -> None:
    recurse()


@dataclass(frozen=True)
class Way:
    """One way to end: what does it, and what the call's error is when it does."""

    do: Callable[[], Any]
    error: type[BaseException]
    text: str
    exitcode: int | None = None


WAYS = {
    "exception": Way(raise_exception, ValueError, "seven"),
    "sys.exit": Way(sys_exit, SystemExit, "7"),
    "os._exit": Way(os_exit, ChildDied, "exited with status 7 before returning", 7),
    "SIGSEGV": Way(segfault, ChildDied, "killed by SIGSEGV before returning", -int(signal.SIGSEGV)),
    "SIGKILL": Way(
        kill_itself, ChildDied, "killed by SIGKILL before returning", -int(signal.SIGKILL)
    ),
    "hang": Way(hang, PcallTimeout, "timeout of"),
    "KeyboardInterrupt": Way(interrupt, KeyboardInterrupt, ""),
    "BaseException": Way(raise_alien, Alien, "seven"),
    "MemoryError": Way(out_of_memory, MemoryError, ""),
    "RecursionError": Way(recurse, RecursionError, "maximum recursion depth exceeded"),
}
RAISING = [name for name, way in WAYS.items() if way.exitcode is None and name != "hang"]
PORTABLE = ["exception", "os._exit", "SIGKILL", "hang"]


def do(way: str) -> Any:
    return WAYS[way].do()


def do_elsewhere(way: str, pid: int) -> Any:
    return do(way) if os.getpid() != pid else None


def do_only_in(way: str, pid: int) -> Any:
    return do(way) if os.getpid() == pid else None


class EndsPickling:
    def __init__(self, way: str) -> None:
        self.way = way

    def __reduce__(self) -> Any:
        return do(self.way) or (int, ())


class EndsUnpickling(EndsPickling):
    def __reduce__(self) -> Any:
        return do, (self.way,)


class EndsUnpicklingInParent(EndsPickling):
    def __reduce__(self) -> Any:
        return do_elsewhere, (self.way, os.getpid())


class EndsUnpicklingByRegistry(EndsPickling):
    """Its class has no method of pickle's: a reducer is registered for it."""

    __reduce__ = object.__reduce__


# Harmless elsewhere than in the child: loaded in the parent, it must not end the tests.
copyreg.pickle(EndsUnpicklingByRegistry, lambda this: (do_only_in, (this.way, os.getpid())))


def running(way: str) -> Any:
    return do(way)


def pickling(way: str) -> Any:
    return [EndsPickling(way)]


def unpickling(way: str) -> Any:
    return [EndsUnpickling(way)]


def writing(way: str) -> Any:
    """Return 8 MB of which 1 MB can be written: at the limit the kernel sends SIGXFSZ."""
    signal.signal(signal.SIGXFSZ, lambda *_: do(way))
    return limited(MB)


def limited(size: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return b"x" * 8 * MB


STAGES = {stage.__name__: stage for stage in (running, pickling, unpickling, writing)}


def neighbour(number: int) -> int:
    return number * 11


def run(target: Callable[..., Any], *args: Any, hangs: bool = False) -> tuple[Any, ...]:
    """Run the target between two calls that succeed; what was raised, and the outcomes."""
    bounded = Pcall.options(max_errors=None, grace_period=1)
    calls = bounded(
        [neighbour, target, neighbour],
        iargs=[(1,), args, (2,)],
        timeout=HANG_ENDS_AFTER if hangs else 60,
    )
    calls.start()
    with pytest.raises((ChildProcessException, PcallTimeout)) as info:
        calls.join()
    assert calls.results is None
    first, broken, last = calls.outcomes
    assert (first.ok, first.value, last.ok, last.value) == (True, 11, True, 22)
    error = info.value
    assert error.outcomes == calls.outcomes
    assert error.failures == (broken,)
    assert error.__cause__ is broken.error
    note = error.__notes__[0]
    assert target.__name__ in note
    assert "call 1" in note
    assert str(broken.pid) in note
    assert broken.pid != os.getpid()
    return error, broken


def check(way: Way, error: BaseException, broken: Any, wrapped: bool) -> None:
    assert way.text in str(error)
    if way.exitcode is not None:
        assert isinstance(error, ChildDied)
        assert isinstance(broken.error, ChildDied)
        assert broken.exitcode == broken.error.exitcode == error.exitcode == way.exitcode
        assert error.signal == (-way.exitcode if way.exitcode < 0 else None)
    elif way.error is PcallTimeout:
        assert isinstance(error, PcallTimeout)
    elif wrapped:
        assert type(error) is ChildProcessException
        assert type(broken.error) is ResultError
        assert type(broken.error.__cause__) is way.error
        assert way.error.__name__ in str(error)
    else:
        assert type(error) is ChildProcessException
        assert type(broken.error) is way.error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", ["running", "pickling", "unpickling"])
def test_a_call_that_ends_so(stage: str, way: str) -> None:
    """No hang, the call named with how it died, the other outcomes intact, nothing left."""
    error, broken = run(STAGES[stage], way, hangs=way == "hang")
    check(WAYS[way], error, broken, wrapped=stage != "running")
    if isinstance(broken.error, ResultError):
        assert "of type list" in str(error)


@pytest.mark.fast
@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_ends_so_while_its_result_is_written(way: str) -> None:
    """A result that is written in part counts for nothing: the call is told as it ended."""
    error, broken = run(writing, way, hangs=way == "hang")
    # A signal handler raises wherever the child is just then, so either may be the error.
    check(WAYS[way], error, broken, wrapped=isinstance(broken.error, ResultError))


@pytest.mark.parametrize("way", PORTABLE)
@pytest.mark.parametrize("stage", STAGES)
def test_a_call_that_ends_so_on_any_posix(each_system: str, stage: str, way: str) -> None:
    """The same holds with Linux's means and without them."""
    error, broken = run(STAGES[stage], way, hangs=way == "hang")
    check(WAYS[way], error, broken, wrapped=isinstance(broken.error, ResultError))


@pytest.mark.parametrize("way", [way for way in RAISING if way != "KeyboardInterrupt"])
def test_a_result_that_raises_in_the_parent_alone(way: str) -> None:
    """An error while unpickling it in the parent is that call's error and names the type."""

    def unpickling_in_parent(way: str) -> Any:
        return [EndsUnpicklingInParent(way)]

    error, broken = run(unpickling_in_parent, way)
    check(WAYS[way], error, broken, wrapped=True)
    assert "of type list" in str(error)


def test_a_result_that_interrupts_in_the_parent_alone(tmp_path: Path) -> None:
    """A KeyboardInterrupt in the parent goes on, once, and nothing hangs or stays behind."""
    ran = run_case("objects.py", "result_interrupts", system=system_name(), folder=tmp_path)
    assert (ran.stdout, ran.stderr) == ("interrupted\nno child\n", "")


def test_a_result_whose_reducer_is_registered() -> None:
    """A result is tried out in its child also when ``copyreg`` knows how to load it."""

    def registered() -> Any:
        return EndsUnpicklingByRegistry("os._exit")

    check(WAYS["os._exit"], *run(registered), wrapped=False)


def test_all_of_them_at_once() -> None:
    """Each of many calls that end badly in one run has its own outcome."""
    columns = [(stage, way) for stage in STAGES for way in WAYS]
    calls = Pcall.options(max_errors=None, grace_period=1)(
        lambda stage, way: STAGES[stage](way), iargs=columns, timeout=4
    )
    calls.start()
    with pytest.raises(ChildProcessException) as info:
        calls.join()
    assert type(info.value.__cause__) is ValueError
    assert len(info.value.failures) == len(columns)
    for (stage, way), outcome in zip(columns, calls.outcomes, strict=True):
        assert outcome is not None
        error = outcome.error
        if isinstance(error, ResultError):
            assert stage != "running"
            error = error.__cause__
        assert type(error) is WAYS[way].error, (stage, way)
        assert WAYS[way].exitcode in (None, outcome.exitcode)


def test_a_child_that_becomes_another_program() -> None:
    """A child that calls ``exec`` is one that died without answering, whatever its status."""

    def becomes_another() -> None:
        os.execv(sys.executable, [sys.executable, "-S", "-c", ""])

    error, broken = run(becomes_another)
    assert type(broken.error) is ChildDied
    assert broken.exitcode == 0
    assert str(error) == "exited with status 0 before returning"


def test_a_child_that_is_killed_at_any_moment(each_system: str) -> None:
    """A child that is killed around its answer has answered in full or not at all."""
    seed = random.randrange(1 << 30)

    def killed_at(seconds: float) -> bytes:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it kills
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return b"x" * 40 * MB

    moments = random.Random(seed)
    tolerant = Pcall.options(max_errors=None, return_outcomes=True, max_workers=4)
    outcomes = tolerant.pcall(killed_at, seconds=[moments.uniform(1e-4, 0.1) for _ in range(40)])
    for outcome in outcomes:
        if outcome.ok:
            assert outcome.value == b"x" * 40 * MB
        else:
            assert type(outcome.error) is ChildDied, seed
            assert outcome.error.signal == signal.SIGALRM
    assert not all(outcome.ok for outcome in outcomes), seed
