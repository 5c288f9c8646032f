"""docs/logs.rst: no log is lost to threads, interrupts and repeated executions."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from pcall import DependenciesFailed, Pcall, Plan, Retry, run
from tests.helpers.processes import descriptors, has_ended
from tests.helpers.scripts import run_case
from tests.helpers.waiting import until, wait_for

log = logging.getLogger("test.interrupts")


@pytest.fixture
def add():
    """Add handlers to the logger of these tests."""

    def add(handler):
        log.addHandler(handler)
        return handler

    log.setLevel(logging.INFO)
    yield add
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.NOTSET)


class Slow(logging.Handler):
    """A handler that waits, with the first record that it gets, until it may go on."""

    def __init__(self):
        super().__init__()
        self.messages = []
        self.entered, self.go_on = threading.Event(), threading.Event()

    def emit(self, record):
        first = not self.messages
        self.messages.append(record.getMessage())
        if first:
            self.entered.set()
            assert self.go_on.wait(60)


@pytest.mark.fast
def test_join_while_another_thread_is_in_a_handler(add, tmp_path):
    """join() returns when all records are delivered, whichever thread delivers them."""
    slow = add(Slow())
    before = descriptors()

    def target(n):
        assert wait_for(tmp_path / ("go on" if n else "begin"))
        log.info("call %d", n)

    calls = Pcall(target, n=range(4))
    calls.start()
    waiting = threading.Thread(target=lambda: calls.wait(60))
    waiting.start()
    (tmp_path / "begin").touch()
    assert slow.entered.wait(60)  # while the other calls run
    (tmp_path / "go on").touch()
    assert until(lambda: calls.done, 60)
    threading.Timer(0.5, slow.go_on.set).start()
    calls.join()
    assert slow.messages == [f"call {n}" for n in range(4)]
    waiting.join()
    assert descriptors() == before


def test_join_within_a_handler(add):
    """A handler that joins the run gets the other records once it has returned."""
    before = descriptors()
    messages = []

    class Joins(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())
            if len(messages) == 1:
                calls.join()

    add(Joins())
    calls = Pcall(lambda n: log.info("call %d", n), n=range(4))
    calls.start()
    calls.join()
    assert messages == [f"call {n}" for n in range(4)]
    assert descriptors() == before


def test_order_after_an_interrupt(add):
    """After an interrupt in a handler the remaining records of the call arrive in their order."""
    messages = []

    class Interrupted(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())
            if len(messages) == 2:
                raise KeyboardInterrupt

    add(Interrupted())
    calls = Pcall(lambda n: [log.info("record %d", k) for k in range(5)] and None, n=[0])
    calls.start()
    with pytest.raises(KeyboardInterrupt):
        calls.join()
    del calls
    assert messages == [f"record {k}" for k in range(5)]


@pytest.mark.parametrize("case", ["while_sections_are_found", "anywhere_in_the_merge"])
def test_ctrl_c_while_logs_are_merged(tmp_path, case):
    """Ctrl-C while sections are found or merged: each is in the main log, once and whole."""
    run_case("logs_interrupts.py", case, system="linux", folder=tmp_path)


# ------------------------------------------------------------------ executed again


@pytest.fixture
def main_log(tmp_path, add):
    """A log file, in a folder of its own."""
    folder = tmp_path / "logs"
    folder.mkdir()
    add(logging.FileHandler(folder / "main.log"))
    return folder / "main.log"


def lines_of(path):
    """The lines between the marks of sections; and nothing else is in the folder."""
    assert os.listdir(path.parent) == [path.name]
    return [line for line in path.read_text().splitlines() if "child log /" not in line]


def count(path):
    """How often this was called for the path."""
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


def test_dependencies_that_are_made_again(main_log, tmp_path):
    """What each execution of a call logged is there when it was executed again elsewhere."""
    pid = tmp_path / "pid"

    def first():
        log.info("first, time %d", count(tmp_path / "first"))
        pid.write_text(str(os.getpid()))

    def blocks():
        # Nothing is executed again before this has ended.
        assert until(lambda: pid.exists() and has_ended(int(pid.read_text())), 60)

    def second(_):
        if count(tmp_path / "second") == 1:
            # The worker that executed the dependency goes, idle, once this has answered.
            code = f"import os, time; time.sleep(1); os.kill({pid.read_text()}, 9)"
            subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
            raise DependenciesFailed({None: [call]})

    plan = Plan()
    plan.call(blocks)
    call = plan.call(first)
    plan.call(second, call)
    run(plan, max_workers=2)
    found = [line for line in lines_of(main_log) if line.startswith("first")]
    assert found == [f"first, time {n}" for n in (1, 2)]


@pytest.mark.parametrize("tasks", [1, None])
def test_retried_after_a_crash(main_log, tmp_path, tasks):
    """Each attempt's lines are there, in order, when the child of an attempt was killed."""

    def target(n):
        attempt = count(tmp_path / str(n))
        log.info("call %d, attempt %d", n, attempt)
        if n % 2 and attempt < 3:
            os.kill(os.getpid(), signal.SIGKILL)

    Again = Pcall.options(retry=Retry(3), max_tasks_per_child=tasks, max_workers=2)
    Again.pcall(target, n=range(6))
    attempts = [(n, k) for n in range(6) for k in range(1, 4 if n % 2 else 2)]
    found = [
        line for line in lines_of(main_log) if line.startswith("call") and "process" not in line
    ]
    assert found == [f"call {n}, attempt {k}" for n, k in attempts]


def test_a_value_that_is_lost_with_its_worker(main_log, tmp_path):
    """A chain whose worker is killed: each execution of each of its calls is in the log."""

    def link(n, content):
        log.info("link %d, time %d", n, count(tmp_path / str(n)))
        if n == 3 and count(tmp_path / "killed") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return content

    plan = Plan()
    call = plan.call(link, 0, bytearray(3_000_000))
    for n in range(1, 6):
        call = plan.call(link, n, call)
    run(plan, output=call, retry=2, max_workers=2)
    times = {n: os.path.getsize(tmp_path / str(n)) for n in range(6)}
    assert times[3] > 1
    found = [line for line in lines_of(main_log) if line.startswith("link")]
    assert found == [f"link {n}, time {k + 1}" for n in range(6) for k in range(times[n])]
