"""How calls of an executor are cancelled, and how executors end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from pcall import Executor
from tests.helpers.processes import assert_ended
from tests.helpers.waiting import until

each_system = pytest.mark.usefixtures("each_system")


def square(x: int) -> int:
    return x * x


def test_a_queued_call_is_cancelled(kind: dict[str, Any], tmp_path: Path) -> None:
    """It is done at once, and never starts."""
    with Executor(1, **kind) as executor:
        running = executor.submit(time.sleep, 0.3)
        futures = [executor.submit((tmp_path / str(n)).touch) for n in range(20)]
        last = executor.submit(square, 3)
        assert all(each.cancel() for each in futures)
        assert all(each.cancelled() for each in futures)
        assert not wait(futures, 10).not_done
        assert running.result(30) is None
        assert last.result(30) == 9
    assert list(tmp_path.iterdir()) == []


@each_system
def test_a_running_call_is_cancelled(executor: Executor) -> None:
    """``cancel()`` is True at once, and the processes of the call end, those it started too."""
    pids: list[int] = []

    def family() -> None:
        with subprocess.Popen(["sleep", "60"]):
            time.sleep(60)

    future = executor.submit(family)
    pid = until(lambda: future.pid)
    until(lambda: len(pids) or pids.extend(in_group(pid)) or len(pids) > 1)
    assert until(lambda: len(in_group(pid)) == 2)
    pids = in_group(pid)
    began = time.monotonic()
    assert future.cancel()
    assert time.monotonic() - began < 0.3
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    assert not wait([future], 30).not_done
    assert until(lambda: in_group(pid) == [])
    assert_ended(pids)
    assert executor.submit(square, 2).result(30) == 4


def in_group(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def test_a_call_that_ignores_sigterm_is_killed(executor: Executor) -> None:
    """After the grace period."""

    def stubborn() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()

    future = executor.submit(stubborn)
    pid = until(lambda: future.pid)
    time.sleep(0.2)
    assert future.cancel()
    assert not wait([future], 30).not_done
    assert_ended([pid])


def test_a_worker_whose_call_was_too_quick_to_be_cancelled() -> None:
    """It is not killed when the grace period is over: by then it runs another call."""

    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.4)

    with Executor(1, max_tasks_per_child=None, grace_period=0.6) as executor:
        future = executor.submit(deaf)
        until(lambda: future.pid)
        time.sleep(0.1)
        assert future.cancel()
        assert executor.submit(time.sleep, 0.8).result(30) is None


def test_a_call_that_answers_meanwhile_stays_cancelled(executor: Executor, tmp_path: Path) -> None:
    """What a call returns in spite of a cancel is dropped; its clean-up runs."""

    def deaf() -> int:
        try:
            time.sleep(60)
        except BaseException:
            (tmp_path / "cleaned").touch()
        return 3

    future = executor.submit(deaf)
    until(lambda: future.pid)
    time.sleep(0.1)
    assert future.cancel()
    assert not wait([future], 30).not_done
    with pytest.raises(CancelledError):
        future.result()
    assert (tmp_path / "cleaned").exists()


def test_a_call_that_is_over_is_not_cancelled(executor: Executor) -> None:
    """``cancel()`` is False, and the result stays."""
    future = executor.submit(square, 4)
    assert future.result(30) == 16
    assert not future.cancel()
    assert future.result() == 16


@each_system
def test_cancels_at_any_moment(executor: Executor) -> None:
    """Whatever a call does when it is cancelled, its future ends one way, and others are fine."""
    futures = []
    for number in range(60):
        future = executor.submit(bytes, 1 << 18) if number % 2 else executor.submit(square, 3)
        if number % 3:
            time.sleep(0.001 * (number % 7))
        future.cancel()
        futures.append(future)
    assert not wait(futures, 60).not_done
    for number, future in enumerate(futures):
        if not future.cancelled():
            assert future.result() == (bytes(1 << 18) if number % 2 else 9)
    assert executor.submit(square, 5).result(30) == 25


def test_a_cancelled_call_is_not_retried(tmp_path: Path, kind: dict[str, Any]) -> None:
    """Neither while it runs nor while it waits for another attempt."""

    def note() -> None:
        with (tmp_path / "tries").open("a") as file:
            file.write("x")
        raise OSError

    from pcall import Retry

    with Executor(1, retry=Retry(9, wait=0.3), **kind) as executor:
        future = executor.submit(note)
        until((tmp_path / "tries").exists)
        time.sleep(0.15)
        assert future.cancel()
        assert not wait([future], 30).not_done
        assert executor.submit(square, 2).result(30) == 4
        time.sleep(0.4)
        assert (tmp_path / "tries").read_text() == "x"


def test_callbacks_of_cancelled_calls(executor: Executor) -> None:
    """They are called once, in the thread that cancels."""
    called: list[int] = []
    future = executor.submit(time.sleep, 60)
    future.add_done_callback(lambda _: called.append(threading.get_ident()))
    future.cancel()
    assert called == [threading.get_ident()]
    wait([future], 30)
    assert len(called) == 1


@each_system
def test_shutdown_waits_for_all_calls(kind: dict[str, Any]) -> None:
    """Also for those that queue; then no more are taken."""
    executor = Executor(1, **kind)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(4)]
    executor.shutdown()
    assert all(each.done() for each in futures)
    assert executor._processes == {}
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    executor.shutdown()


def test_shutdown_without_wait(kind: dict[str, Any]) -> None:
    """What was submitted is run all the same."""
    executor = Executor(1, **kind)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(4)]
    executor.shutdown(wait=False)
    assert [each.result(30) for each in futures] == [None] * 4
    executor.shutdown()


def test_shutdown_cancels_what_queues(kind: dict[str, Any]) -> None:
    """With ``cancel_futures`` running calls finish, and the others are cancelled."""
    executor = Executor(1, **kind)
    running = executor.submit(time.sleep, 0.3)
    until(running.running)
    queued = [executor.submit(time.sleep, 60) for _ in range(5)]
    executor.shutdown(cancel_futures=True)
    assert running.result() is None
    assert all(each.cancelled() for each in queued)


def test_shutdown_in_a_callback(kind: dict[str, Any]) -> None:
    """It does not wait for its own thread."""
    executor = Executor(1, **kind)
    done = threading.Event()

    def end(_: Any) -> None:
        executor.shutdown(wait=True)
        done.set()

    executor.submit(square, 1).add_done_callback(end)
    assert done.wait(30)
    executor.shutdown()


@each_system
@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_all_workers_are_ended(how: str, kind: dict[str, Any], tmp_path: Path) -> None:
    """Running calls die, queued ones are cancelled, and nothing more is taken."""

    def careful() -> None:
        try:
            time.sleep(60)
        finally:
            (tmp_path / "cleaned").touch()

    executor = Executor(1, **kind)
    running = executor.submit(careful)
    until(running.running)
    queued = executor.submit(square, 1)
    time.sleep(0.2)
    getattr(executor, how)()
    assert isinstance(running.exception(30), BrokenProcessPool)
    assert queued.cancelled()
    assert (tmp_path / "cleaned").exists() == (how == "terminate_workers")
    with pytest.raises(RuntimeError):
        executor.submit(square, 1)
    executor.shutdown()


def test_a_block_that_an_error_leaves(kind: dict[str, Any]) -> None:
    """As with the standard library's, it waits for the calls."""
    with pytest.raises(KeyError), Executor(1, **kind) as executor:
        future = executor.submit(time.sleep, 0.2)
        raise KeyError
    assert future.result() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_a_block_that_an_interrupt_leaves(kind: dict[str, Any], error: Any) -> None:
    """It ends the calls, which in groups of their own know nothing of a Ctrl-C."""
    began = time.monotonic()
    with pytest.raises(error), Executor(1, grace_period=0.5, **kind) as executor:
        running = executor.submit(time.sleep, 60)
        queued = executor.submit(time.sleep, 60)
        until(running.running)
        raise error
    assert time.monotonic() - began < 20
    assert isinstance(running.exception(), BrokenProcessPool)
    assert queued.cancelled()


@each_system
def test_an_executor_that_is_collected(kind: dict[str, Any]) -> None:
    """What was submitted is run, and then everything ends."""
    futures = [Executor(1, **kind).submit(square, each) for each in range(3)]
    gc.collect()
    assert [each.result(30) for each in futures] == [0, 1, 4]
    idle = Executor(1, **kind)
    pid = idle.submit(os.getpid).result(30)
    until(lambda: not any(each.name == "pcall-watcher" for each in threading.enumerate()))
    del idle
    gc.collect()
    assert_ended([pid], os.getpid())


def test_a_view_keeps_its_executor(kind: dict[str, Any]) -> None:
    """Children live on as long as a view does."""
    view = Executor(1, **kind).options(timeout=20)
    gc.collect()
    assert view.submit(square, 3).result(30) == 9
    view.shutdown()


def test_a_child_can_not_use_it(executor: Executor) -> None:
    """A call, and any child, gets an error at once, and its exit harms nothing."""
    executor.submit(square, 1).result(30)

    def use() -> int:
        return executor.submit(square, 2).result()

    assert "belongs to the parent" in str(executor.submit(use).exception(30))
    pid = os.fork()
    if pid == 0:
        try:
            executor.shutdown()
            del use
            gc.collect()
        finally:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert executor.submit(square, 3).result(30) == 9


SCRIPT = """
import sys, time, threading, os, atexit
from pcall import Executor

def work(number):
    time.sleep(0.2)
    print("did", number, flush=True)

executor = Executor(1, max_tasks_per_child={tasks})
futures = [executor.submit(work, number) for number in range(2)]

def late():
    try:
        executor.submit(work, 9)
    except RuntimeError as error:
        print(error, [each.exception() for each in futures])

atexit.register(late)
{more}
"""

END = "cannot schedule new futures after interpreter shutdown [None, None]"


def run_script(kind: dict[str, Any], more: str = "") -> list[str]:
    script = SCRIPT.format(tasks=kind["max_tasks_per_child"], more=more)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


refuses_forks = pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info < (3, 12, 3),
    reason="this Python refuses forks once it is about to exit",
)


@refuses_forks
def test_an_interpreter_that_exits(kind: dict[str, Any]) -> None:
    """It finishes the calls, running and queued ones, and then takes no more."""
    assert run_script(kind) == ["did 0", "did 1", END]


@refuses_forks
def test_an_interpreter_that_exits_after_shutdown(kind: dict[str, Any]) -> None:
    """The same where nobody waits."""
    end = "cannot schedule new futures after shutdown [None, None]"
    found = run_script(kind, "executor.shutdown(wait=False)")
    assert found[:2] == ["did 0", "did 1"]
    assert found[2].endswith("[None, None]"), end


def test_an_interpreter_that_exits_with_idle_workers(kind: dict[str, Any]) -> None:
    """Nothing holds it up."""
    began = time.monotonic()
    assert run_script(kind, "[each.result() for each in futures]; time.sleep(0.3)")[-1] == END
    assert time.monotonic() - began < 20


def test_a_parent_that_is_killed(kind: dict[str, Any]) -> None:
    """Its children end as well, idle ones too."""
    script = SCRIPT.format(
        tasks=kind["max_tasks_per_child"],
        more="executor.submit(lambda: (print(os.getpid(), flush=True), time.sleep(60)))\n"
        "time.sleep(60)",
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        pid = int(lines[2])
        process.kill()
    assert_ended([pid])


INTERRUPTED = """
import os, signal, threading, time
from pcall import Executor

def careful():
    try:
        time.sleep(60)
    finally:
        os.write(1, b"cleaned\\n")  # at once, whatever the buffering

try:
    with Executor(2, max_tasks_per_child={tasks}, grace_period=5) as executor:
        futures = [executor.submit(careful) for _ in range(3)]
        while not all(each.pid for each in futures[:2]):
            time.sleep(0.01)
        time.sleep(0.2)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        futures[0].result()
except KeyboardInterrupt:
    print([each.cancelled() or type(each.exception()).__name__ for each in futures])
"""


def test_ctrl_c_while_a_result_is_waited_for(kind: dict[str, Any]) -> None:
    """The calls are ended, and can clean up; what queues is cancelled."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(tasks=kind["max_tasks_per_child"])],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["cleaned"] * 2 + ["['ChildDied', 'ChildDied', True]"]
    assert done.stderr == ""


def test_ctrl_c_at_any_moment(kind: dict[str, Any]) -> None:
    """No future stays undone when it comes between two lines of ``submit``."""
    # The interpreter drops what a handler raises while the collector calls back for a weak
    # reference, such as that of ``threading`` to a thread that has ended.
    gc.disable()
    try:
        for delay in range(6):
            futures = []
            timer = threading.Timer(0.02 * delay, signal.pthread_kill, (MAIN, signal.SIGINT))
            with pytest.raises(KeyboardInterrupt), Executor(2, grace_period=1, **kind) as executor:
                timer.start()
                for number in range(100_000):
                    futures.append(executor.submit(square, number))
            timer.join()
            assert not wait(futures, 10).not_done
    finally:
        gc.enable()


MAIN = threading.main_thread().ident or 0


@pytest.mark.parametrize("error", [SystemExit, KeyError])
def test_a_callback_that_raises(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises, other futures are set."""

    def fail(_: Any) -> None:
        raise error

    with Executor(2) as executor:
        executor.submit(time.sleep, 0.3).add_done_callback(fail)
        futures = [executor.submit(square, each) for each in range(4)]
        assert [each.result(30) for each in futures] == [0, 1, 4, 9]
        assert executor.submit(square, 5).result(30) == 25


def test_submit_while_it_shuts_down(kind: dict[str, Any]) -> None:
    """Each call is either refused or run to its end."""
    executor = Executor(2, **kind)
    futures = []
    refused: list[str] = []

    def submit() -> None:
        try:
            for number in range(100_000):
                futures.append(executor.submit(square, number))
                time.sleep(0.005)
        except RuntimeError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    executor.shutdown()
    for thread in threads:
        thread.join()
    assert refused == ["cannot schedule new futures after shutdown"] * 3
    assert not wait(futures, 30).not_done
    assert all(each.exception() is None for each in futures)


def test_signals_of_the_process_stay_as_they_are(kind: dict[str, Any]) -> None:
    """Neither handlers nor the mask of a thread change."""
    before = [signal.getsignal(each) for each in signal.valid_signals()]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with Executor(2, **kind) as executor:
        futures = [executor.submit(square, each) for each in range(5)]
        futures[-1].cancel()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        assert futures[0].result(30) == 0
    assert [signal.getsignal(each) for each in signal.valid_signals()] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


FORKS = """
import os, threading, time
from pcall import Executor

with Executor(2, max_tasks_per_child={tasks}) as executor:
    assert executor.submit(abs, -1).result() == 1
    while threading.active_count() > 1:
        time.sleep(0.01)
    for _ in range(2):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        assert executor.submit(abs, -1).result() == 1
        while threading.active_count() > 1:
            time.sleep(0.01)
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_other_forks_of_the_program_are_not_warned_of(kind: dict[str, Any]) -> None:
    """An idle executor has no thread, and so Python has nothing to warn of."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS.format(tasks=kind["max_tasks_per_child"])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
