"""docs/timeouts.rst: a call that takes too long is ended, with all that it started."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildProcessException, NotStarted, Pcall, PcallTimeout, TaskCancelled, pcall

pytestmark = pytest.mark.needs("timeouts")

Quick = Pcall.options(grace_period=0.3)
PROMPT = 10.0  # seconds that nothing here takes, unless something is waited for that sleeps


@pytest.fixture(autouse=True)
def prompt() -> Iterator[None]:
    """What sleeps here sleeps for a minute: none of it may be waited for."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < PROMPT


def out_of_time(target: Any, *args: Any, kind: type[Pcall] = Quick, timeout: float = 0.3) -> Any:
    """What is raised for a call that ran too long."""
    with pytest.raises(PcallTimeout) as info:
        kind.pcall(target, timeout, args)
    return info.value


def sleep(seconds: float = 60) -> float:
    time.sleep(seconds)
    return seconds


def ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep()


def blocks_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    sleep()


def swallows_it() -> None:
    while True:
        try:
            sleep()
        except TaskCancelled:
            pass


def stops() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep()


def stops_again() -> None:
    try:
        stops()
    finally:
        stops()


def counts_in_c() -> None:
    sum(range(10**12))


def matches_in_c() -> None:
    re.match(r"(x+x+)+y", "x" * 60)


def waits_in_c() -> None:
    ctypes.CDLL(None).sleep(60)
    sleep()


def waits_in_c_with_the_gil() -> None:
    ctypes.PyDLL(None).sleep(60)
    sleep()


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


RESISTING = [
    sleep,
    ignores_sigterm,
    blocks_sigterm,
    swallows_it,
    stops,
    stops_again,
    counts_in_c,
    matches_in_c,
    waits_in_c,
    waits_in_c_with_the_gil,
    waits_for_a_lock,
]


@pytest.mark.parametrize("target", RESISTING)
def test_a_child_that_resists(target: Callable[[], Any]) -> None:
    """SIGTERM, SIGKILL after the grace period, and PcallTimeout, whatever the child does."""
    error = out_of_time(target)
    assert target.__name__ in str(error)
    assert type(error.outcomes[0].error) is PcallTimeout


@pytest.mark.needs("no queue")
def test_children_that_resist_together(each_system: str) -> None:
    """One PcallTimeout names all that were still running."""
    error = out_of_time(RESISTING, timeout=1)
    assert [outcome.call.target for outcome in error.running] == RESISTING
    assert "and 1 more" in str(error)


@pytest.mark.fast
def test_what_is_raised() -> None:
    """A builtin TimeoutError that names the calls still running: target, args, index, pid."""
    run = Quick(sleep, seconds=(0, 60, 0.1, 61), timeout=2)
    run.start()
    with pytest.raises(TimeoutError) as info:
        run.join()
    error = info.value
    assert type(error) is PcallTimeout
    assert error.timeout == 2
    assert run.results is None
    assert [outcome.index for outcome in error.running] == [1, 3]
    for outcome, seconds in zip(error.running, (60, 61), strict=True):
        assert f"sleep(seconds={seconds})" in str(error)
        assert f"call {outcome.index}" in str(error)
        assert str(outcome.pid) in str(error)
    assert "seconds=0" not in str(error)
    assert error.outcomes == run.outcomes
    assert [outcome.value for outcome in run.outcomes if outcome] == [0, None, 0.1, None]
    assert [outcome.index for outcome in error.failures] == [1, 3]
    assert type(run.outcomes[1].error) is PcallTimeout


def test_those_that_were_queued() -> None:
    """With no error tolerated, a timeout ends the run: what is queued never starts."""
    one_by_one = Quick.options(max_workers=1)
    error = out_of_time([sleep, sleep, sleep], kind=one_by_one)
    assert [outcome.index for outcome in error.running] == [0]
    assert [type(outcome.error) for outcome in error.outcomes[1:]] == [NotStarted] * 2


@pytest.mark.parametrize("timeout", [None, 0, float("inf"), 60, 60.5])
def test_no_limit(timeout: float | None) -> None:
    """None and 0 set no limit, and a limit that is not reached changes nothing."""
    assert pcall(sleep, timeout, seconds=(0, 0.3)) == (0, 0.3)


def test_the_clock_starts_with_the_child() -> None:
    """A call that waits for its turn is not running: its time starts with its child."""
    one_by_one = Quick.options(max_workers=1)
    assert one_by_one.pcall(sleep, 1.5, seconds=[0.5] * 4) == (0.5,) * 4


@pytest.mark.parametrize("max_errors", [None, 1])
def test_with_errors_tolerated(max_errors: int | None) -> None:
    """The timeout is that call's failure alone, and the others go on."""
    tolerant = Quick.options(max_errors=max_errors, max_workers=2)
    run = tolerant(sleep, seconds=(0, 60, 0.1, 1.6, 1.6, 0.2), timeout=3)
    run.start()
    with pytest.raises(PcallTimeout) as info:
        run.join()
    assert [outcome.index for outcome in info.value.failures] == [1]
    assert [outcome.index for outcome in info.value.running] == [1]
    values = [outcome.value for outcome in info.value.outcomes]
    assert values == [0, None, 0.1, 1.6, 1.6, 0.2]


def test_more_timeouts_than_tolerated() -> None:
    """Timeouts count as failed calls: after too many, no further call starts."""
    tolerant = Quick.options(max_errors=1, max_workers=1)
    error = out_of_time([sleep] * 4, kind=tolerant)
    kinds = [type(outcome.error) for outcome in error.outcomes]
    assert kinds == [PcallTimeout, PcallTimeout, NotStarted, NotStarted]


@pytest.mark.parametrize("max_errors", [0, None])
def test_with_outcomes_returned(max_errors: int | None) -> None:
    """Nothing is raised: the outcome of the call has the error."""
    quiet = Quick.options(return_outcomes=True, max_errors=max_errors)
    done, late = quiet.pcall(sleep, 1, seconds=(0, 60))
    assert (done.ok, done.value) == (True, 0)
    assert (late.ok, type(late.error), late.error.timeout) == (False, PcallTimeout, 1)
    assert "sleep(seconds=60)" in str(late.error)
    assert late.duration >= 1
    with pytest.raises(PcallTimeout):
        late.result()


def test_a_cleanup_that_takes_a_second(each_system: str, tmp_path: Path) -> None:
    """SIGTERM raises in the main thread, so a ``finally`` runs, and has the grace period."""
    begun, over = tmp_path / "begun", tmp_path / "over"

    def cleans_up() -> None:
        try:
            sleep()
        finally:
            begun.touch()
            sleep(1)
            over.touch()

    out_of_time(cleans_up, kind=Pcall, timeout=1)
    assert begun.exists()
    assert over.exists()


def test_a_cleanup_that_takes_too_long(tmp_path: Path) -> None:
    """What is not over after the grace period is killed."""
    begun = tmp_path / "begun"

    def cleans_up() -> None:
        try:
            sleep()
        finally:
            begun.touch()
            sleep()

    error = out_of_time(cleans_up, timeout=1)
    assert begun.exists()
    assert error.running[0].exitcode == -signal.SIGKILL


def test_what_a_context_manager_sees(tmp_path: Path) -> None:
    """A TaskCancelled, which is no Exception: ``except Exception`` does not swallow it."""
    path = tmp_path / "seen"

    class Manager:
        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: Any, error: Any, tb: Any) -> None:
            path.write_text(kind.__name__)

    def handles() -> None:
        with Manager():
            try:
                sleep()
            except Exception:
                path.write_text("swallowed")
                sleep()

    error = out_of_time(handles, kind=Pcall, timeout=1)
    assert path.read_text() == "TaskCancelled"
    assert not issubclass(TaskCancelled, Exception)
    assert error.running[0].exitcode == -signal.SIGTERM


def test_a_handler_of_the_targets_own(tmp_path: Path) -> None:
    """A target that set its own SIGTERM handler keeps it."""
    path = tmp_path / "handled"

    def handles() -> str:
        signal.signal(signal.SIGTERM, lambda *_: path.touch())
        while not path.exists():
            time.sleep(0.01)
        return "in peace"

    error = out_of_time(handles, kind=Pcall, timeout=1)
    assert path.exists()
    assert error.running[0].exitcode == 0


@pytest.mark.needs("no queue")
def test_in_flight_calls_are_waited_for(each_system: str) -> None:
    """A call that fails ends no other: those in flight are waited for, then it is told."""

    def fail_or_sleep(index: int) -> str:
        time.sleep(0.3 if index == 0 else 1)
        if index == 0:
            raise LookupError("early")
        return "late"

    with pytest.raises(ChildProcessException, match="early") as info:
        pcall(fail_or_sleep, index=(0, 1, 2))
    assert [outcome.value for outcome in info.value.outcomes] == [None, "late", "late"]


def test_a_failure_and_a_timeout() -> None:
    """When one's time ends the run, PcallTimeout is raised, and ``failures`` has both."""

    def fail_or_hang(index: int) -> None:
        time.sleep(0.2 if index == 0 else 60)
        raise LookupError("early")

    with pytest.raises(PcallTimeout) as info:
        Quick.pcall(fail_or_hang, timeout=1, index=(0, 1))
    kinds = [type(outcome.error) for outcome in info.value.failures]
    assert kinds == [LookupError, PcallTimeout]
