"""docs/design.rst: a child is a full multiprocessing child, and what it changes is its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from multiprocessing import util
from pathlib import Path
from typing import Any

import numpy
import pytest

from pcall import Pcall, Retry, TaskCancelled, pcall
from tests.helpers.scripts import run_case, system_name

pytestmark = pytest.mark.usefixtures("each_system")
fork = multiprocessing.get_context("fork")
# Shared memory comes in arenas; while this lives, no test opens the first or closes the last.
_arena = fork.Value("i")


def run(folder: Path, case: str, *arguments: object, **settings: Any) -> str:
    """Run a case of the script to its end; return its stdout."""
    script = ("inheritance.py", case, *arguments)
    found = run_case(*script, system=system_name(), folder=folder, **settings)
    assert found.stderr == ""
    return found.stdout


# ------------------------------------------------------------ multiprocessing


@pytest.mark.fast
def test_current_and_parent_process():
    """In a child current_process() is the child, and parent_process() the living parent."""

    def target(i):
        me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
        assert isinstance(me, multiprocessing.process.BaseProcess)
        assert not me.daemon
        assert multiprocessing.active_children() == []
        return os.getpid(), me.pid, me.name, parent.pid, os.getppid(), parent.is_alive()

    run = Pcall(target, i=[0, 1])
    run.start()
    run.join()
    mine = os.getpid()
    expected = [(child.pid, child.pid, child.name, mine, mine, True) for child in run.childs]
    assert list(run.results) == expected


def test_parent_process_is_seen_to_have_died(tmp_path):
    """A child that cleans up after its parent's end sees that parent_process() is dead."""
    assert run(tmp_path, "parent_process_has_died") == "False\n"


class Registered:
    """What hooks are registered for."""

    seen: list[str] = []


def test_hooks_after_fork_and_finalizers(tmp_path):
    """register_after_fork hooks run in a child, and so do its Finalize, but not its parent's."""
    log = tmp_path / "log"

    def note(text):
        with log.open("a") as file:
            file.write(f"{text}\n")

    def target():
        util.Finalize(None, note, args=("of the child",), exitpriority=1)
        return list(Registered.seen)

    thing = Registered()
    util.register_after_fork(thing, lambda obj: obj.seen.append("hook"))
    of_parent = util.Finalize(None, note, args=("of the parent",), exitpriority=1)
    try:
        assert pcall(target) == (["hook"],)
        assert Registered.seen == []
        assert log.read_text() == "of the child\n"
    finally:
        of_parent.cancel()


def test_queue_delivers_everything():
    """What a child puts into a multiprocessing.Queue arrives in full, however short it lives."""
    queue = fork.Queue()

    def target(i):
        for n in range(300):
            queue.put((i, n, b"x" * 2000))

    run = Pcall(target, i=range(3))
    run.start()
    found = [queue.get(timeout=30)[:2] for _ in range(900)]
    run.join()
    queue.close()
    queue.join_thread()
    assert sorted(found) == [(i, n) for i in range(3) for n in range(300)]


def test_shared_values_locks_and_managers():
    """Values, locks, events and a manager's objects work across calls."""
    value, ready = fork.Value("i"), fork.Event()

    def target(i, shared):
        for _ in range(100):
            with value.get_lock():
                value.value += 1
        shared[i] = os.getpid()
        if i == 0:
            assert ready.wait(30)
        else:
            ready.set()

    with fork.Manager() as manager:
        shared = manager.dict()
        run = Pcall(target, i=[0, 1], ckwargs={"shared": shared})
        run.start()
        run.join()
        assert dict(shared) == dict(enumerate(run.pids))
    assert value.value == 200


def double(n):
    return 2 * n


def test_processes_and_pools_within_a_child():
    """A child can start a Process, a Pool and an executor of its own."""

    def with_process():
        reader, writer = fork.Pipe(duplex=False)
        process = fork.Process(target=writer.send, args=("sent",))
        process.start()
        process.join()
        return reader.recv(), process.exitcode

    def with_pool():
        with fork.Pool(2) as pool:
            return pool.map(double, range(5))

    def with_executor():
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
            return list(pool.map(double, range(5)))

    expected = (("sent", 0), [0, 2, 4, 6, 8], [0, 2, 4, 6, 8])
    assert pcall([with_process, with_pool, with_executor], 20) == expected


def test_a_process_of_a_child_is_ended_as_anywhere(capfd):
    """Process.terminate() within a child ends the process by SIGTERM, without a word."""

    def target():
        ready = fork.Event()
        process = fork.Process(target=lambda: ready.set() or time.sleep(60))
        process.start()
        assert ready.wait(10)
        process.terminate()
        process.join()
        return process.exitcode

    assert pcall(target, 20) == (-signal.SIGTERM,)
    assert capfd.readouterr().err == ""


def test_a_process_of_a_child_is_ended_before_it_runs():
    """Process.terminate() within a child ends a process that has not yet begun to run, too."""

    def target():
        codes = set()
        for _ in range(50):
            process = fork.Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join(5)
            codes.add(process.exitcode)
        return codes

    assert pcall(target, 30) == ({-signal.SIGTERM},)


def test_a_target_that_forks_is_cancelled_while_it_does(capfd):
    """A SIGTERM that comes in the middle of a fork of the target cancels it all the same."""

    def target():
        while True:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)

    start = time.monotonic()
    run = Pcall.options(grace_period=60)(target, iargs=[()] * 20)
    run.start()
    time.sleep(0.5)
    run.terminate()
    assert run.wait(10)
    assert [type(outcome.error) for outcome in run.outcomes] == [TaskCancelled] * 20
    assert time.monotonic() - start < 20
    assert "ignored" not in capfd.readouterr().err


# ------------------------------------------------------------ the thread, its context, signals


def test_the_target_runs_in_the_main_thread():
    """A target runs in the main thread, also when start() is called in another."""

    def target():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # in the main thread alone
        asyncio.run(asyncio.sleep(0))
        return threading.current_thread() is threading.main_thread()

    found = []
    thread = threading.Thread(target=lambda: found.extend(pcall([target, target])))
    thread.start()
    thread.join()
    assert found == [True, True]
    assert pcall(target) == (True,)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def get_and_set(i):
    value = variable.get()
    variable.set("child's")
    return value


def test_context_of_the_caller():
    """Children have the caller's context variables, those queued at start() as they were then."""
    token = variable.set("at start")
    try:
        run = Pcall.options(max_workers=1)(get_and_set, i=range(4))
        run.start()
        variable.set("later")
        run.join()
        assert run.results == ("at start",) * 4
        assert variable.get() == "later"
    finally:
        variable.reset(token)


def test_context_of_a_task():
    """Each of two asyncio tasks hands its own context on."""

    async def task(value):
        variable.set(value)
        return await Pcall.options(max_workers=1)(get_and_set, i=range(3))

    async def main():
        return await asyncio.gather(task("one"), task("two"))

    assert asyncio.run(main()) == [("one",) * 3, ("two",) * 3]
    assert variable.get() == "unset"


def test_signal_mask_and_handlers():
    """A child has the caller's signal mask and handlers, but for SIGTERM's."""

    def target():
        try:
            signal.raise_signal(signal.SIGTERM)
        except TaskCancelled:
            cancelled = True
        handler = signal.getsignal(signal.SIGUSR2)
        return cancelled, signal.pthread_sigmask(signal.SIG_BLOCK, ()), handler is handle

    def handle(signum, frame):
        pass

    before = signal.signal(signal.SIGUSR2, handle)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
    try:
        assert pcall(target) == ((True, mask | {signal.SIGWINCH}, True),)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | {signal.SIGWINCH}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR2, before)


def test_wakeup_descriptor_is_the_parents_alone():
    """A signal in a child does not wake the parent's event loop."""

    def target():
        signal.signal(signal.SIGUSR1, lambda signum, frame: None)
        signal.raise_signal(signal.SIGUSR1)
        return signal.set_wakeup_fd(-1)

    reader, writer = os.pipe2(os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writer)
    try:
        assert pcall(target) == (-1,)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        assert signal.set_wakeup_fd(writer) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def test_a_child_leads_its_group():
    """Each child leads a process group of its own."""
    run = Pcall(time.sleep, iargs=[(1,), (1,)])
    run.start()
    try:
        time.sleep(0.3)
        assert [os.getpgid(pid) for pid in run.pids] == list(run.pids)
    finally:
        run.kill()
        run.wait()
    assert pcall([os.getpgrp, os.getpid])[0] != os.getpgrp()


# ------------------------------------------------------------ descriptors, files, streams


def open_files(barrier=None):
    """What is open in this process, by kind; of a pidfd, whose it is."""
    if barrier is not None:
        barrier.wait()
    found = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{name}")
            if kind == "anon_inode:[pidfd]":
                (kind,) = re.findall(r"Pid:\s+\d+", Path(f"/proc/self/fdinfo/{name}").read_text())
            else:
                kind = re.sub(r"\d+", "", kind)
        except OSError:
            continue  # the one that listed the folder
        found[kind] += 1
    return found


def test_no_descriptors_of_siblings():
    """The last of 20 children has not one descriptor more than a child without siblings."""
    barrier = fork.Barrier(20)
    (alone,) = pcall(open_files)
    for files in pcall(open_files, barrier=[barrier] * 20):
        assert files == alone


def test_no_descriptors_of_children_of_another_run():
    """Neither has a child descriptors of the children of a run that goes on beside its own."""
    (alone,) = pcall(open_files)
    other = Pcall(time.sleep, iargs=[(60,)] * 5)
    other.start()
    try:
        (files,) = pcall(open_files)
    finally:
        other.kill()
        other.wait()
    assert files == alone


def test_stdin_is_dev_null(tmp_path):
    """A child and what it starts read nothing from stdin; what the parent can read stays."""
    text = "".join(f"line {n}\n" for n in range(5000))
    assert run(tmp_path, "stdin_is_dev_null", input=text) == text


@pytest.mark.parametrize("place", ["pipe", "file"])
def test_streams_are_neither_doubled_nor_lost(tmp_path, place):
    """What was in the buffers at the fork, and what children print, is written once."""
    text = run(tmp_path, "streams", place)
    if place == "file":
        text = (tmp_path / "out").read_text()
    assert text.startswith("bytes before\ntext before;")
    assert text.endswith("between;after\n")
    assert text.count("before") == 2
    assert text.count("between;") == 2
    for i in range(4):
        assert text.count(f"<child {i}>") == text.count(f"<bytes {i}>") == 2
    assert (tmp_path / "own").read_text() == "pending in a file"


def test_exit_handlers(tmp_path):
    """Exit handlers of the parent run in no child; those that a child registers run in it."""
    lines = run(tmp_path, "exit_handlers").splitlines()
    assert lines == [
        *("thread of 0", "last of 0", "first of 0"),
        *("thread of 1", "last of 1", "first of 1"),
        "of the parent True",
    ]


def test_changes_of_a_child_are_its_own(tmp_path):
    """Environment, working directory, umask and objects that a child changes stay as they were."""
    shared = ["of the parent"]

    def target():
        os.environ["PCALL_TEST_OF_A_CHILD"] = "1"
        os.chdir(tmp_path)
        shared.append("of the child")
        return os.umask(0o077)

    before = os.getcwd(), dict(os.environ), os.umask(0o022)
    try:
        assert pcall([target, target]) == (0o022, 0o022)
        assert (os.getcwd(), dict(os.environ), shared) == (*before[:2], ["of the parent"])
    finally:
        assert os.umask(before[2]) == 0o022


# ------------------------------------------------------------ random numbers


def draw(i):
    return random.random(), float(numpy.random.random()), int(numpy.random.randint(2**60))


@pytest.fixture
def seeded():
    """Seed both generators, and put them back where they were."""
    state, numpys = random.getstate(), numpy.random.get_state()
    random.seed(12)
    numpy.random.seed(34)
    yield
    random.setstate(state)
    numpy.random.set_state(numpys)


def test_random_streams_differ(seeded):
    """Of 100 children no two draw the same numbers, nor does the parent."""
    drawn = [*pcall(draw, i=range(100)), draw(0)]
    for stream in zip(*drawn, strict=True):
        assert len(set(stream)) == 101


def test_random_streams_repeat_when_seeded(seeded):
    """A parent that was seeded alike gives the same run again, however the calls queue."""
    first = pcall(draw, i=range(20))
    random.seed(12)
    numpy.random.seed(34)
    assert Pcall.options(max_workers=2).pcall(draw, i=range(20)) == first
    random.seed(13)
    numpy.random.seed(35)
    for one, other in zip(pcall(draw, i=range(20)), first, strict=True):
        assert not set(one) & set(other)


def test_random_streams_repeat_in_another_interpreter(tmp_path):
    """A seeded script draws the same in every interpreter, whatever its hash seed."""
    found = {run(tmp_path, "random_numbers", env={"PYTHONHASHSEED": seed}) for seed in ("1", "2")}
    assert len(found) == 1


def test_random_streams_of_nested_calls_differ(seeded):
    """Children of different children draw different numbers."""

    def nested(i):
        return pcall(draw, i=range(3))

    drawn = [numbers for each in pcall(nested, i=range(3)) for numbers in each]
    for stream in zip(*drawn, strict=True):
        assert len(set(stream)) == 9


@pytest.mark.parametrize("policy", [{}, {"max_tasks_per_child": None}], ids=["fresh", "reused"])
def test_a_second_run_draws_other_numbers(seeded, policy):
    """Two runs with nothing drawn in between share no number: samples are not counted twice."""
    entry = Pcall.options(**policy).pcall
    first, second = entry(draw, i=range(20)), entry(draw, i=range(20))
    for one, other in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True):
        assert len({*one, *other}) == 40


def test_a_second_attempt_draws_other_numbers(seeded):
    """An attempt of a call does not repeat the numbers of the one before it."""
    drawn = []

    def target(i):
        raise LookupError(random.random())

    outcome = Pcall.options(
        retry=Retry(3, on=lambda error: drawn.append(error.args[0]) or True),
        return_outcomes=True,
    ).pcall(target, i=[0])[0]
    assert len({*drawn, outcome.error.args[0]}) == 3


def test_a_run_takes_a_fixed_amount_from_the_parents_generators(seeded):
    """Whatever its calls, a run changes what the parent draws next by the same small amount."""

    def after(entry, count):
        random.seed(12)
        numpy.random.seed(34)
        entry(draw, i=range(count))
        return draw(0)

    random.seed(12)
    numpy.random.seed(34)
    random.getrandbits(128)
    numpy.random.bytes(16)
    expected = draw(0)
    assert after(pcall, 1) == after(pcall, 30) == expected
    assert after(Pcall.options(max_tasks_per_child=None).pcall, 30) == expected


def test_another_bit_generator_of_numpy(tmp_path):
    """Where numpy.random has another bit generator than its usual one, calls still work."""
    run(tmp_path, "another_bit_generator")
