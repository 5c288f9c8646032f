"""docs/errors.rst: what a run raises for its failures: cause, frames, who failed, how many."""

from __future__ import annotations

import linecache
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from pcall import (
    CallError,
    ChildDied,
    ChildProcessException,
    NotStarted,
    Outcome,
    Pcall,
    PcallError,
    PcallTimeout,
    Plan,
    RemoteError,
    ResultError,
    TaskCancelled,
    pcall,
    run,
)

Tolerant = Pcall.options(max_errors=None)


class Refused(Exception):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host} has nothing on port {port}")
        self.host, self.port = host, port


def throw(error: BaseException | type[BaseException]) -> None:
    raise error


def failure(target: Any, *args: Any, **columns: Any) -> Any:
    """What a run raises in which the target fails."""
    with pytest.raises(ChildProcessException) as info:
        Tolerant.pcall(target, cargs=args, **columns)
    return info.value


def functions(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def causes(error: BaseException) -> list[Any]:
    found = []
    cause = error.__cause__
    while cause is not None:
        found.append(cause)
        cause = cause.__cause__
    return found


def first_step(depth: int) -> None:
    second_step(depth)


def second_step(depth: int) -> None:
    if depth:
        return first_step(depth - 1)
    raise LookupError("at the bottom")


def test_frames() -> None:
    """``__traceback__`` of the cause walks the child's source lines, and none of the library's."""
    error = failure(first_step, 1).__cause__
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames] == ["first_step", "second_step"] * 2
    assert [frame.line for frame in frames] == [
        "second_step(depth)",
        "return first_step(depth - 1)",
        "second_step(depth)",
        'raise LookupError("at the bottom")',
    ]
    for frame in frames:
        assert frame.filename == __file__
        assert linecache.getline(__file__, frame.lineno or 0).strip() == frame.line
    assert error.__traceback__.tb_frame.f_globals["__name__"] == __name__


def test_frames_of_endless_recursion() -> None:
    """A RecursionError brings its frames, as many as there were."""

    def endless(number: int) -> None:
        endless(number + 1)

    error = failure(endless, 0).__cause__
    assert type(error) is RecursionError
    frames = traceback.extract_tb(error.__traceback__)
    assert len(frames) > sys.getrecursionlimit() / 2
    assert {frame.line for frame in frames} == {"endless(number + 1)"}


def test_frames_of_several_joins() -> None:
    """A second ``join()`` raises the same exception, and its frames have not grown."""
    run = Pcall(first_step, cargs=(0,))
    run.start()
    seen = []
    for _ in range(3):
        with pytest.raises(ChildProcessException) as info:
            run.join()
        error = info.value
        seen.append((error, functions(error), functions(error.__cause__)))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.fast
def test_which_call_failed() -> None:
    """The text is the original's; a note says target, arguments (shortened), index, and pid."""

    def refuse(host: str, data: bytes, port: int = 0) -> None:
        if host == "two":
            raise Refused(host, port)

    error = failure(refuse, host=("one", "two"), data=[bytes(10_000)] * 2, port=(80, 8080))
    cause = error.__cause__
    assert type(error) is ChildProcessException
    assert (type(cause), cause.host, cause.port) == (Refused, "two", 8080)
    assert str(error) == str(cause) == "two has nothing on port 8080"
    (outcome,) = error.failures
    (note,) = error.__notes__
    for part in ("refuse(", "host='two'", "port=8080", "data=b'", "call 1", str(outcome.pid)):
        assert part in note
    assert len(note) < 500


class Silent(Exception):
    """An exception without a text."""


@pytest.mark.engines(why="it names the engines")
@pytest.mark.parametrize("policy", [{}, {"max_tasks_per_child": None}, {"max_workers": 0}])
def test_an_exception_without_a_text(policy: dict[str, Any]) -> None:
    """The text is then the name of its class, also where it comes from a nested run or a plan."""

    def fail(how: str) -> None:
        if how == "assert":
            raise AssertionError
        if how == "exit":
            sys.exit()
        if how == "own":
            raise Silent
        pcall(fail, how=("own",))

    expected = {"assert": "AssertionError", "exit": "SystemExit", "own": "Silent"}
    for how, name in {**expected, "nested": "Silent"}.items():
        with pytest.raises(ChildProcessException) as info:
            Pcall.options(**policy).pcall(fail, how=(how,))
        assert str(info.value) == name
        assert str(info.value.__cause__) == ("Silent" if how == "nested" else "")
        plan = Plan()
        plan.call(fail, how)
        with pytest.raises(CallError) as planned:
            run(plan, max_workers=policy.get("max_workers"))
        assert str(planned.value) == name
        again = pickle.loads(pickle.dumps(planned.value))
        assert str(again) == name


def test_arguments_that_can_not_be_shown() -> None:
    """An argument whose ``repr()`` fails or is endless does not hide the error."""

    class Shy:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    endless: list[Any] = []
    endless.append(endless)
    error = failure(lambda *args: throw(Refused("here", 80)), Shy(), endless)
    assert str(error) == "here has nothing on port 80"
    assert "Shy" in error.__notes__[0]


def test_the_first_in_call_order_is_the_cause() -> None:
    """Not the first in time; ``failures`` has all that failed, ``outcomes`` every one."""

    def fail_late_if_early(index: int) -> int:
        if index % 2:
            time.sleep(0.5 if index == 1 else 0)
            raise ValueError(f"number {index}")
        return index * 10

    error = failure(fail_late_if_early, index=range(6))
    assert str(error) == "number 1"
    assert [outcome.index for outcome in error.failures] == [1, 3, 5]
    assert [str(outcome.error) for outcome in error.failures] == [f"number {i}" for i in (1, 3, 5)]
    assert [outcome.index for outcome in error.outcomes] == list(range(6))
    assert [outcome.value for outcome in error.outcomes] == [0, None, 20, None, 40, None]
    assert all(isinstance(outcome, Outcome) for outcome in error.outcomes)


def test_equal_failures_are_counted_once() -> None:
    """The printed traceback says how many more there are, equal ones with their count."""

    def fail(index: int) -> None:
        raise (KeyError if index % 3 else ValueError)("text")

    printed = "".join(traceback.format_exception(failure(fail, index=range(9))))
    assert "8 more" in printed
    assert printed.count("2 x ValueError: text") == 1
    assert printed.count("6 x KeyError: 'text'") == 1


def test_very_many_kinds_of_failures() -> None:
    """However many differ, what is printed stays readable, and ``failures`` has them all."""

    def fail(index: int) -> None:
        raise ValueError(f"number {index} " + "x" * 10_000)

    error = failure(fail, index=range(60))
    assert len(error.failures) == 60
    assert "59 more" in "\n".join(error.__notes__)
    assert len("\n".join(error.__notes__)) < 10_000


@pytest.mark.needs("no queue")
def test_a_failure_keeps_no_call_from_starting_that_is_not_queued() -> None:
    """Without ``max_workers`` all calls run at once, however early one of them fails."""

    def fail_if_first(index: int) -> int:
        if index == 0:
            raise LookupError("early")
        return index

    with pytest.raises(ChildProcessException, match="early") as info:
        pcall(fail_if_first, index=range(100))
    assert [outcome.value for outcome in info.value.outcomes[1:]] == list(range(1, 100))


@pytest.mark.parametrize("max_workers", [1, 0])
def test_calls_that_never_started(max_workers: int) -> None:
    """A queued call that is dropped for a failure has an outcome that says so."""
    one_by_one = Pcall.options(max_workers=max_workers)
    with pytest.raises(ChildProcessException) as info:
        one_by_one.pcall([int, first_step, int, int], iargs=[(), (0,), (), ()])
    assert [type(outcome.error) for outcome in info.value.outcomes] == [
        type(None),
        LookupError,
        NotStarted,
        NotStarted,
    ]
    assert [outcome.index for outcome in info.value.failures] == [1]
    assert "2 more were not started" in "\n".join(info.value.__notes__)
    with pytest.raises(ChildProcessException) as info:
        one_by_one.pcall([first_step, int], iargs=[(0,), ()])
    assert info.value.__notes__[1:] == ["1 more was not started for it"]


@pytest.mark.needs("no queue")
@pytest.mark.parametrize("level", [1, 2])
def test_in_flight_calls_are_waited_for(level: int, tmp_path: Path) -> None:
    """It raises after all calls in flight have ended, in runs within runs, too."""

    path = tmp_path / "file"

    def slow(depth: int) -> str:
        time.sleep(0.7)
        path.write_text("done")
        return "slow"

    def calls() -> Any:
        return pcall([first_step, slow], cargs=(0,))

    with pytest.raises(ChildProcessException) as info:
        calls() if level == 1 else pcall(calls)
    assert path.read_text() == "done"
    error: Any = info.value if level == 1 else info.value.__cause__
    assert [outcome.value for outcome in error.outcomes] == [None, "slow"]


def outer() -> None:
    pcall(middle)


def middle() -> None:
    pcall(inner)


def inner() -> None:
    first_step(0)


def test_three_levels() -> None:
    """Runs in children of children bring the first cause home, each level with its frames."""
    error = failure(outer)
    raised = [error, *causes(error)]
    kinds = [ChildProcessException] * 3
    assert [type(one) for one in raised] == [*kinds, LookupError]
    assert {str(one) for one in raised} == {"at the bottom"}
    assert functions(raised[1])[0] == "outer"
    assert functions(raised[2])[0] == "middle"
    assert functions(raised[3]) == ["inner", "first_step", "second_step"]
    for one, name in zip(raised, ("outer", "middle", "inner"), strict=False):
        assert f"{name}()" in one.__notes__[0]


@pytest.mark.needs("processes")
def test_three_levels_of_processes() -> None:
    """Each failure has the process id of the call that failed on its level."""
    error = failure(outer)
    levels = [error, *causes(error)][:3]
    assert len({one.failures[0].pid for one in levels}) == 3


@pytest.mark.parametrize("kind", [ChildDied, PcallTimeout, NotStarted, ResultError, TaskCancelled])
def test_a_call_that_raises_an_error_of_the_librarys(kind: type[Exception]) -> None:
    """A call that raises, whatever it raises, makes a ChildProcessException from that."""
    error = failure(throw, kind)
    assert type(error) is ChildProcessException
    assert type(error.__cause__) is kind


@pytest.mark.needs("isolation")
def test_a_child_that_died_in_a_child() -> None:
    """The outer call has not died but raised: it fails with what the inner run raised."""
    error = failure(lambda: pcall(os._exit, cargs=(3,)))
    assert type(error) is ChildProcessException
    assert [type(cause) for cause in causes(error)] == [ChildDied, ChildDied]
    assert error.__cause__.exitcode == 3
    assert error.failures[0].exitcode == 1


@pytest.mark.needs("timeouts")
def test_a_call_out_of_time_in_a_child() -> None:
    """The outer call had no limit: it fails with the PcallTimeout that the inner run raised."""
    error = failure(lambda: pcall(time.sleep, cargs=(60,), timeout=0.3))
    assert type(error) is ChildProcessException
    assert type(error.__cause__) is PcallTimeout
    assert "sleep(60)" in str(error)


@pytest.mark.needs("isolation")
@pytest.mark.parametrize("status", [0, 3])
def test_died_with_a_status(status: int) -> None:
    """ChildDied has the exit status and says it; there was no signal."""
    error = failure(os._exit, status)
    for one in (error, error.__cause__):
        assert (type(one), one.exitcode, one.signal) == (ChildDied, status, None)
        assert str(one) == f"exited with status {status} before returning"


@pytest.mark.needs("isolation")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGABRT", "SIGKILL", "SIGRTMIN"])
def test_died_of_a_signal(name: str) -> None:
    """ChildDied has the signal and names it."""

    number = getattr(signal, name)

    def die() -> None:
        signal.signal(number, signal.SIG_DFL) if name != "SIGKILL" else None
        os.kill(os.getpid(), number)
        time.sleep(60)

    error = failure(die)
    assert type(error) is ChildDied
    assert (error.exitcode, error.signal) == (-number, number)
    assert str(error) == f"killed by {name} before returning"


PUBLIC = [
    PcallError("text"),
    ChildProcessException("text"),
    ChildDied(-11),
    ChildDied(3),
    ChildDied(None),
    PcallTimeout("text", 1.5),
    NotStarted("text"),
    ResultError("text"),
    RemoteError("some.Error", "text", "Traceback"),
    TaskCancelled("text"),
]


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize("error", PUBLIC, ids=lambda error: type(error).__name__)
def test_public_exceptions_pickle(error: Any) -> None:
    """Every exception of the library's keeps its type, fields, text and notes in a pickle."""
    error.__notes__ = ["noted"]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.mark.needs("inheritance")
def test_a_raised_one_pickles() -> None:
    """What a run raised pickles with its outcomes, although targets and arguments may not."""
    lock = threading.Lock()
    error = failure([lambda lock: 1, lambda lock: throw(Refused("here", 80))], lock)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.__notes__) == (str(error), error.__notes__)
    assert [outcome.ok for outcome in again.outcomes] == [True, False]
    assert again.outcomes[0].value == 1
    (failed,) = again.failures
    assert (type(failed.error), failed.error.port) == (Refused, 80)
    assert functions(failed.error)[-1] == "throw"
