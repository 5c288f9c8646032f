"""docs/policy.rst: a call that dies or times out costs that call and its reused child alone."""

from __future__ import annotations

import copyreg
import ctypes
import faulthandler
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from pcall import (
    ChildDied,
    ChildProcessException,
    NotStarted,
    Pcall,
    PcallTimeout,
    ResultError,
    Retry,
    TaskCancelled,
)

MB = 1 << 20
LONG = 600  # seconds that no test waits: pytest-timeout would end it


def tolerant(number=2, **policy):
    fixed = {"max_tasks_per_child": None, "max_workers": number, "return_outcomes": True}
    return Pcall.options(**{**fixed, "max_errors": None, "grace_period": 0.5, **policy})


class Record:
    """What was run, by whom: a line for each run of a call, appended by a single write."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs"
        self.path.touch()

    def add(self, x) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, f"{x} {os.getpid()}\n".encode())
        os.close(fd)

    def runs(self) -> list[tuple[int, int]]:
        return [tuple(map(int, line.split())) for line in self.path.read_text().splitlines()]

    def counts(self) -> Counter[int]:
        return Counter(x for x, _ in self.runs())


@pytest.fixture
def record(tmp_path) -> Record:
    return Record(tmp_path)


# ------------------------------------------------------------------ the crash matrix


def segfault():
    faulthandler.disable()  # pytest's would print a trace of what is meant to happen
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def ignore():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(LONG)


def swallow():
    while True:
        try:
            time.sleep(LONG)
        except BaseException:
            pass


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONG)


def interrupt():
    # The handler may be missing where the tests run in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


WAYS = {
    "exception": (lambda: int("seven"), ValueError),
    "sys.exit": (lambda: sys.exit(7), SystemExit),
    "os._exit": (lambda: os._exit(7), ChildDied),
    "SIGSEGV": (segfault, ChildDied),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), ChildDied),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), BaseException),
    "exec": (lambda: os.execv("/bin/true", ["true"]), ChildDied),
    "KeyboardInterrupt": (interrupt, KeyboardInterrupt),
    "MemoryError": (lambda: bytearray(sys.maxsize // 2), MemoryError),
    "hang": (lambda: time.sleep(LONG), PcallTimeout),
    "ignore": (ignore, PcallTimeout),
    "swallow": (swallow, PcallTimeout),
    "stop": (stop, PcallTimeout),
}
SLOW = ["hang", "ignore", "swallow", "stop"]


def do(way):
    return WAYS[way][0]()


def do_only_in(way, pid):
    return do(way) if os.getpid() == pid else None


class EndsPickling:
    def __init__(self, way):
        self.way = way

    def __reduce__(self):
        return do(self.way) or (int, ())


class EndsUnpickling(EndsPickling):
    def __reduce__(self):
        return do_only_in, (self.way, os.getpid())


class EndsUnpicklingByRegistry(EndsPickling):
    __reduce__ = object.__reduce__


copyreg.pickle(EndsUnpicklingByRegistry, lambda this: (do_only_in, (this.way, os.getpid())))


def writing(way):
    """Answer with 8 MB of which 1 MB can be written: at the limit the kernel sends SIGXFSZ."""
    signal.signal(signal.SIGXFSZ, lambda *_: do(way))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, resource.RLIM_INFINITY))
    return b"x" * 8 * MB


STAGES = {
    "running": do,
    "pickling": lambda way: [EndsPickling(way)],
    "unpickling": lambda way: [EndsUnpickling(way)],
    "registered": lambda way: EndsUnpicklingByRegistry(way),
    "writing": writing,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_call_that_ends_so_costs_itself_and_its_child(each_system, record, stage, way):
    """No other call is lost or run twice, and a child that is lost is replaced."""

    def target(x):
        record.add(x)
        return STAGES[stage](way) if x == 20 else x

    outcomes = tolerant(2).pcall(target, 0.4 if way in SLOW else LONG, x=range(60))
    for outcome in outcomes:
        if outcome.index != 20:
            assert (outcome.ok, outcome.value, outcome.attempts) == (True, outcome.index, 1)
    assert record.counts() == Counter(range(60))
    broken = outcomes[20]
    error = broken.error.__cause__ if isinstance(broken.error, ResultError) else broken.error
    assert isinstance(error, WAYS[way][1])
    assert broken.pid in {pid for x, pid in record.runs() if x == 20}
    assert broken.pid != os.getpid()


@pytest.mark.parametrize("way", ["os._exit", "SIGKILL"])
def test_many_that_die(each_system, record, way):
    """Each call of many that die has its own outcome, and each costs one child."""

    def target(x):
        record.add(x)
        return do(way) if x % 3 == 0 else os.getpid()

    outcomes = tolerant(3).pcall(target, x=range(90))
    assert [outcome.ok for outcome in outcomes] == [x % 3 != 0 for x in range(90)]
    assert record.counts() == Counter(range(90))
    assert len({outcome.pid for outcome in outcomes if not outcome.ok}) == 30
    for outcome in outcomes:
        assert (outcome.index, outcome.pid) in record.runs()


@pytest.mark.fast
def test_a_call_that_fails_costs_no_child():
    """A call that raises leaves its child alive for the next."""
    outcomes = tolerant(1).pcall(lambda x: 1 // (x % 2), x=range(100))
    assert len({outcome.pid for outcome in outcomes}) == 1
    assert sum(outcome.ok for outcome in outcomes) == 50


# ------------------------------------------------------------------ timeouts


def test_with_no_error_allowed_a_timeout_ends_the_run(each_system, record):
    """With ``max_errors`` 0, SIGTERM goes to every child, and ``PcallTimeout`` names the calls."""

    def target(x):
        record.add(x)
        time.sleep(LONG if x in (10, 11) else 0.001)

    run = Pcall.options(max_tasks_per_child=None, max_workers=2)(target, 0.5, x=range(40))
    start = time.monotonic()
    run.start()
    with pytest.raises(PcallTimeout, match=r"still running after 0\.5 s"):
        run.join()
    assert time.monotonic() - start < 20
    assert max(record.counts().values()) == 1
    for outcome in run.outcomes:
        assert outcome.ok or isinstance(outcome.error, PcallTimeout | NotStarted | TaskCancelled)
    assert any(isinstance(run.outcomes[x].error, PcallTimeout) for x in (10, 11))


def test_the_timeout_is_each_calls_own(each_system):
    """The time counts from the start of a call, not from that of its child."""
    outcomes = tolerant(1).pcall(time.sleep, 0.6, iargs=[(0.1,)] * 15)
    assert all(outcome.ok for outcome in outcomes)


def test_a_timeout_within_a_stretch_of_short_calls(each_system):
    """A long call among short ones is seen in time, and no other is ended for it."""
    outcomes = tolerant(1).pcall(lambda x: time.sleep(LONG) if x == 2000 else x, 0.5, x=range(4000))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [2000]
    assert isinstance(outcomes[2000].error, PcallTimeout)
    assert outcomes[2000].duration < 10


def test_a_call_that_ends_when_its_time_is_up_costs_no_other(each_system, record):
    """A SIGTERM that comes too late for a call is not taken for the next."""

    def target(x):
        record.add(x)
        time.sleep(0.06 if x % 2 else 0.001)
        return x

    for _ in range(3):
        outcomes = tolerant(2).pcall(target, 0.06, x=range(40))
        for outcome in outcomes:
            if not outcome.ok:
                assert outcome.index % 2, outcome
                assert isinstance(outcome.error, PcallTimeout)
    assert set(record.counts().values()) == {3}


def test_a_handler_that_a_call_leaves_does_not_outlive_it(each_system):
    """The next call is cancelled by SIGTERM as any, whatever handler one before it has set."""

    def target(x):
        if x == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(0.05)  # the next one is no part of its chunk
        if x == 5:
            time.sleep(LONG)

    outcomes = tolerant(1, grace_period=60).pcall(target, 1, x=range(7))
    assert [outcome.ok for outcome in outcomes] == [x != 5 for x in range(7)]


def test_a_thread_that_keeps_a_child_from_leaving(each_system):
    """With a timeout, a child that does not end after its last call is ended."""

    def target(x):
        threading.Thread(target=time.sleep, args=(LONG,)).start()
        return x

    outcomes = tolerant(2).pcall(target, 1, x=range(6))
    assert [outcome.value for outcome in outcomes] == list(range(6))


# ------------------------------------------------------------------ retries and the error limit


@pytest.mark.parametrize("way", ["exception", "os._exit", "SIGKILL", "hang", "stop"])
def test_another_attempt_has_a_fresh_child(each_system, record, way):
    """However an attempt fails, the next one is made in a child that has run nothing."""

    def target(x):
        record.add(x)
        if x % 10 == 3 and record.counts()[x] < 3:
            do(way)
        return x

    policy = tolerant(2, retry=Retry(3, on=Exception, wait=0.01))
    outcomes = policy.pcall(target, 0.4 if way in SLOW else LONG, x=range(25))
    assert [outcome.value for outcome in outcomes] == list(range(25))
    assert [outcome.attempts for outcome in outcomes] == [
        3 if x % 10 == 3 else 1 for x in range(25)
    ]
    runs = record.runs()
    assert Counter(x for x, _ in runs) == {x: 3 if x % 10 == 3 else 1 for x in range(25)}
    for number, (x, pid) in enumerate(runs):
        if x in [before for before, _ in runs[:number]]:
            assert pid not in [of for _, of in runs[:number]], "its child had run something"


@pytest.mark.parametrize("limit", [0, 1, 4])
@pytest.mark.parametrize("way", ["exception", "os._exit", "hang"])
def test_with_one_worker_exactly_so_many_fail(each_system, record, way, limit):
    """With one worker exactly ``max_errors + 1`` calls fail, and none starts thereafter."""
    if way == "hang":
        limit = min(limit, 1)

    def target(x):
        record.add(x)
        if x >= 5:
            do(way)
        return x

    policy = tolerant(1, max_errors=limit)
    outcomes = policy.pcall(target, 0.4 if way == "hang" else LONG, x=range(40))
    failed = [o.index for o in outcomes if o.attempts and not o.ok]
    ran = [x for x, _ in record.runs()]
    assert len(failed) == limit + 1
    assert len(set(ran)) == len(ran)
    assert {x for x in ran if x >= 5} == set(failed)
    assert ran[-1] in failed, "one has started after the last that may fail"
    assert all(isinstance(o.error, NotStarted) for o in outcomes if o.index not in ran)


def test_calls_in_flight_are_waited_for(each_system):
    """When the limit is reached, what runs comes to its end."""

    def target(x):
        if x == 0:
            time.sleep(1)
        if x == 1:
            time.sleep(0.3)
            raise ValueError(x)
        return x

    run = Pcall.options(max_tasks_per_child=None, max_workers=2)(target, x=range(2))
    run.start()
    with pytest.raises(ChildProcessException):
        run.join()
    assert run.outcomes[0].ok


# ------------------------------------------------------------------ terminate, kill, leaving


@pytest.mark.parametrize("end", ["terminate", "kill"])
@pytest.mark.parametrize("seconds", [0, 0.001, 0.3])
def test_ended_on_request(each_system, record, end, seconds):
    """No call is told as failed that was ended so, whichever its child was with."""

    def target(x):
        record.add(x)
        time.sleep(seconds)
        return x

    for moment in (0, 0.01, 0.05):
        run = Pcall.options(max_tasks_per_child=None, max_workers=3)(target, x=range(3000))
        run.start()
        run.wait(moment)
        getattr(run, end)()
        run.join()
        for outcome in run.outcomes:
            assert outcome.ok is (outcome.error is None)
            assert not outcome.ok or outcome.value == outcome.index
        assert run.results is None or all(outcome.ok for outcome in run.outcomes)
        assert not run.livings
    assert max(record.counts().values()) <= 3


def test_leaving_the_block_by_an_exception(each_system):
    """The children are ended, and the exception goes on."""
    with (
        pytest.raises(KeyError),
        Pcall.options(max_tasks_per_child=None)(time.sleep, iargs=[(LONG,)] * 8) as run,
    ):
        raise KeyError
    assert not run.livings
    assert run.done


def test_a_run_that_is_dropped():
    """A run that nobody holds any more leaves nothing."""
    run = Pcall.options(max_tasks_per_child=None)(time.sleep, iargs=[(LONG,)] * 8)
    run.start()
    pid = run.livings[0].pid
    del run
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_is_killed_from_outside(each_system, record):
    """Killed at any moment, a child costs the call that it is with, at most, and no other."""

    def target(x):
        record.add(x)
        time.sleep(0.001)
        return x

    run = tolerant(2)(target, x=range(1500))
    run.start()
    killed = 0
    while not run.done:
        for child in run.livings[:1]:
            child.kill()
            killed += 1
        run.wait(0.05)
    run.join()
    assert killed > 3
    failed = [outcome for outcome in run.outcomes if not outcome.ok]
    assert len(failed) <= killed
    assert all(isinstance(outcome.error, ChildDied) for outcome in failed)
    counts = record.counts()
    for outcome in run.outcomes:
        assert counts[outcome.index] == 1 or (counts[outcome.index] == 0 and not outcome.ok)


def test_a_call_that_raised_is_not_one_that_was_killed(each_system, tmp_path):
    """It has the exit code of its own failure, and no word of a kill in the log, although its
    child was killed, and reaped by the caller, before the run looked.
    """

    def target(x):
        time.sleep(0.5 * (x == 0))
        if x == 0:
            raise ValueError("its own")
        os.kill(os.getpid(), signal.SIGKILL)

    handler = logging.FileHandler(tmp_path / "main.log")
    logging.getLogger().addHandler(handler)
    try:
        run = tolerant(1)(target, x=range(2))
        run.start()
        (child,) = run.livings
        child.join(30)
        run.join()
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    raised, killed = run.outcomes
    assert child.exitcode == -signal.SIGKILL
    assert isinstance(raised.error, ValueError)
    assert raised.exitcode == 1
    assert raised.pid == killed.pid == child.pid
    assert isinstance(killed.error, ChildDied)
    assert killed.exitcode == -signal.SIGKILL
    log = (tmp_path / "main.log").read_text()
    assert "its own" in log
    told = [line for line in log.splitlines() if "killed by SIGKILL" in line]
    assert len(told) <= 1
    assert not any("call 0" in line for line in told)


def test_children_that_are_killed_before_they_have_begun(each_system, monkeypatch):
    """Each costs a call, so that there is an end to it."""

    fork = os.fork

    def fork_and_kill():
        pid = fork()
        if pid:
            os.kill(pid, signal.SIGKILL)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_kill)
    outcomes = tolerant(2).pcall(int, iargs=[()] * 6)
    assert len(outcomes) == 6
    assert all(isinstance(o.error, ChildDied) for o in outcomes if not o.ok)


def test_a_child_that_is_stopped_while_it_is_idle(each_system):
    """A stopped child keeps no one waiting once it is killed."""
    run = tolerant(2)(lambda x: time.sleep(0.01 if x else 1), x=range(2))
    run.start()
    run.wait(0.3)
    idle = [child for child in run.livings if child.pid != run.pids[0]]
    for child in idle:
        os.kill(child.pid, signal.SIGSTOP)
    run.kill()
    run.join()


# ------------------------------------------------------------------ what a call leaves


def test_a_process_that_a_call_leaves(each_system, tmp_path):
    """What a call has started, and left, ends with its child."""

    def target(x):
        return subprocess.Popen(["sleep", str(LONG)]).pid if x == 1 else x

    pid = tolerant(1).pcall(target, x=range(4))[1].value
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
                break  # nobody reaps orphans here
        except (ProcessLookupError, FileNotFoundError):
            break
        time.sleep(0.01)
    else:
        pytest.fail("it is still there")


@pytest.mark.parametrize("what", ["closes", "limits"])
def test_a_call_that_takes_the_descriptors_away(each_system, record, what):
    """A call that leaves its child unable to answer costs that child, and no other call."""

    def target(x):
        record.add(x)
        if x == 3 and what == "closes":
            os.closerange(3, 1000)
        if x == 3 and what == "limits":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        return str(x)

    outcomes = tolerant(1).pcall(target, x=range(12))
    assert sum(outcome.ok for outcome in outcomes) >= 11
    assert record.counts() == Counter(range(12))


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_children_that_are_ended_while_they_are_idle_or_leave(each_system, end, tmp_path):
    """A child that is ended at the end of its life, or between two calls, does nothing more."""
    here = os.getpid()
    try:
        for moment in range(40):
            run = tolerant(3)(int, iargs=[()] * 12)
            run.start()
            run.wait(moment % 20 / 4000)
            for child in run.livings:
                os.kill(child.pid, signal.SIGTERM if end == "terminate" else signal.SIGKILL)
            getattr(run, end)()
            run.join()
            statuses = {child.forked.returncode for child in run.childs if child.forked}
            assert statuses <= {0, -signal.SIGTERM, -signal.SIGKILL}
    finally:
        if os.getpid() != here:
            (tmp_path / "escaped").touch()
            os._exit(1)
    assert not (tmp_path / "escaped").exists()
