"""docs/timeouts.rst: a call that has answered is over, whatever keeps its child from ending."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pcall import ChildProcessException, Pcall, Plan, run
from tests.helpers.processes import assert_ended

GRACE = 0.5
PROMPT = 15.0  # seconds that nothing here takes, unless something is waited for that sleeps
POLICIES = {
    "fresh": Pcall.options(grace_period=GRACE),
    "reused": Pcall.options(grace_period=GRACE, max_tasks_per_child=None),
}

pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(autouse=True)
def prompt() -> Iterator[None]:
    """What sleeps here sleeps for a minute: none of it may be waited for."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < PROMPT


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request: pytest.FixtureRequest) -> type[Pcall]:
    """A fresh child for each call, or workers that are reused."""
    kind: type[Pcall] = request.param
    return kind


def by_thread() -> None:
    """A thread that is not a daemon: the interpreter waits for it."""
    threading.Thread(target=time.sleep, args=(60,)).start()


def by_exit_handler() -> None:
    """An exit handler that blocks."""
    atexit.register(time.sleep, 60)


def by_stubborn_exit_handler() -> None:
    """An exit handler that blocks, and blocks again when it is interrupted."""

    def handler() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(60)

    atexit.register(handler)


def by_process() -> None:
    """A process of multiprocessing that is not a daemon: multiprocessing joins it."""
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()


STAYING = [by_thread, by_exit_handler, by_stubborn_exit_handler, by_process]


@pytest.mark.fast
@pytest.mark.parametrize("stay", STAYING)
def test_a_child_that_can_not_exit(
    each_system: str,
    policy: type[Pcall],
    stay: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its result stands, it is ended after the grace period, and a warning names it."""

    def target(x: int) -> int:
        stay()
        return x + os.getpid()

    job = policy(target, x=[1])
    job.start()
    job.join()
    assert job.results is not None
    pid = job.results[0] - 1
    assert_ended([pid])
    (outcome,) = job.outcomes
    assert outcome is not None
    assert (outcome.ok, outcome.attempts) == (True, 1)
    (record,) = [each for each in caplog.records if each.name == "pcall"]
    assert record.levelno == logging.WARNING
    assert f"process {pid} did not end within the grace period of 0.5 s" in record.message


def test_an_error_stands(each_system: str, policy: type[Pcall]) -> None:
    """A call that has raised has its own error, although its child had to be ended."""

    def target() -> None:
        by_thread()
        raise LookupError("the call's own")

    with pytest.raises(ChildProcessException, match="the call's own"):
        policy.pcall(target)


def test_others_are_not_waited_for(each_system: str, policy: type[Pcall]) -> None:
    """Calls that stay cost one grace period together, and no other call its result."""

    def target(x: int) -> int:
        if x % 3 == 0:
            by_thread()
        return x

    assert policy.options(max_workers=4).pcall(target, x=range(12)) == tuple(range(12))


@pytest.mark.parametrize("max_errors", [0, None])
def test_a_timeout_does_not_matter_after_the_answer(
    each_system: str, policy: type[Pcall], max_errors: int | None
) -> None:
    """A call that has answered in time is not ended for its timeout."""

    def target(x: int) -> int:
        by_thread()
        return x

    patient = policy.options(grace_period=2.0, max_errors=max_errors)
    assert patient.pcall(target, timeout=0.5, x=[1, 2]) == (1, 2)


def test_what_ends_in_time_is_left_alone(
    each_system: str, policy: type[Pcall], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread, an exit handler and a program that end within the grace period do their work."""

    def target() -> None:
        def later(name: str) -> None:
            time.sleep(0.7)
            (tmp_path / name).touch()

        threading.Thread(target=later, args=["thread"]).start()
        atexit.register(later, "handler")
        subprocess.Popen(["/bin/sh", "-c", "sleep 1; echo > program"], cwd=tmp_path)

    policy.options(grace_period=8.0).pcall(target)
    assert {path.name for path in tmp_path.iterdir()} == {"thread", "handler", "program"}
    assert [each for each in caplog.records if each.name == "pcall"] == []


def test_a_program_is_ended_after_the_grace_period(
    each_system: str, policy: type[Pcall], caplog: pytest.LogCaptureFixture
) -> None:
    """A program that a call leaves running has the grace period, and a warning names it."""

    def target() -> int:
        return subprocess.Popen(["sleep", "60"]).pid

    (pid,) = policy.pcall(target)
    assert_ended([pid])
    (record,) = [each for each in caplog.records if each.name == "pcall"]
    assert f"sleep (process {pid})" in record.message


def test_a_program_is_ended_at_once_on_request(each_system: str, policy: type[Pcall]) -> None:
    """``terminate()`` and a failed run wait for no grace period of a program."""

    def target(x: int) -> int:
        if x:
            time.sleep(60)
        return subprocess.Popen(["sleep", "60"]).pid

    job = policy.options(grace_period=60.0)(target, x=[0, 1])
    job.start()
    outcome = next(job.as_completed())
    job.terminate()
    job.join()
    assert_ended([outcome.value])


def test_in_a_plan(each_system: str) -> None:
    """A plan ends although a worker of it can't exit."""

    def target(x: int) -> int:
        by_thread()
        return x

    plan = Plan()
    calls = [plan.call(target, x) for x in range(3)]
    begin = time.monotonic()
    assert run(plan, output=calls) == [0, 1, 2]
    assert time.monotonic() - begin > 4  # the grace period of plans is 5 seconds
