"""An executor runs the calls that it is given, with the promises of ``pcall``."""

from __future__ import annotations

import contextvars
import functools
import itertools
import logging
import os
import pickle
import random
import signal
import threading
import time
import warnings
from concurrent.futures import ALL_COMPLETED, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildDied, Executor, PcallTimeout, Retry, pcall
from pcall._os.signals import DeferSignals
from pcall._run import Run
from pcall.exceptions import ResultError
from tests.helpers.processes import has_ended
from tests.helpers.waiting import until, wait_for

each_system = pytest.mark.usefixtures("each_system")


def square(x: int) -> int:
    return x * x


def draw() -> float:
    return random.random()


def fail(x: int) -> None:
    raise LookupError(f"no {x}")


def watchers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "pcall-watcher"]


@each_system
def test_results_come_to_their_futures(executor: Executor) -> None:
    """Each future gets the value of its call, positional and keyword arguments included."""
    futures = [executor.submit(pow, 2, each, mod=1000) for each in range(40)]
    assert [each.result(30) for each in futures] == [pow(2, n, 1000) for n in range(40)]


def test_closures_and_objects_that_no_pickle_takes(executor: Executor) -> None:
    """A lambda with a lock in its closure is a target like any."""
    lock, factor = threading.Lock(), 7

    def locked(x: int) -> int:
        with lock:
            return x * factor

    assert [executor.submit(locked, x).result(30) for x in range(3)] == [0, 7, 14]


def test_coroutines_run_to_their_end(executor: Executor) -> None:
    """A coroutine function gives its value."""

    async def answer() -> int:
        return 42

    assert executor.submit(answer).result(30) == 42


def test_an_error_is_the_original(executor: Executor) -> None:
    """``exception()`` is the call's own, with its frames and a note that names the call."""
    error = executor.submit(fail, 3).exception(30)
    assert type(error) is LookupError
    assert error.args == ("no 3",)
    names = []
    tb = error.__traceback__
    while tb is not None:
        names.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    assert names[-1] == "fail"
    assert any("fail(3)" in note for note in error.__notes__)


@each_system
def test_a_death_costs_one_future(executor: Executor) -> None:
    """Other calls, in flight and later, are not harmed; the error is one of the standard's too."""
    other = executor.submit(time.sleep, 0.3)
    died = executor.submit(os._exit, 7)
    error = died.exception(30)
    assert isinstance(error, ChildDied)
    assert isinstance(error, BrokenProcessPool)
    assert error.exitcode == 7
    assert other.result(30) is None
    assert executor.submit(square, 3).result(30) == 9
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.exitcode == 7


def test_a_worker_that_somebody_kills(executor: Executor) -> None:
    """A SIGTERM or a SIGKILL from outside is a death of the call."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        future = executor.submit(time.sleep, 60)
        pid = until(lambda future=future: future.pid)
        os.kill(pid, number)
        error = future.exception(30)
        assert isinstance(error, ChildDied)
        assert error.signal == number
        assert future.pid == pid


def test_a_sigterm_just_before_a_call(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is a death of the call, too, which is not made in another process instead."""
    parent, died = os.getpid(), tmp_path / "died"

    def seed_and_die(number: int) -> None:
        if os.getpid() != parent:
            with died.open("a") as file:
                file.write("once ")
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(random, "seed", seed_and_die)
    error = executor.submit(square, 2).exception(30)
    assert isinstance(error, ChildDied)
    assert error.signal == signal.SIGTERM
    assert died.read_text() == "once "


def test_results_that_cannot_be_sent(executor: Executor) -> None:
    """They are ``ResultError``s, which are errors of ``pickle`` as well."""
    error = executor.submit(threading.Lock).exception(30)
    assert isinstance(error, ResultError)
    assert isinstance(error, pickle.PicklingError)
    assert type(pickle.loads(pickle.dumps(error))) is type(error)


def test_exceptions_as_values(executor: Executor) -> None:
    """An exception that a call returns is its value."""
    assert isinstance(executor.submit(ValueError, 1).result(30), ValueError)


def test_an_executor_within_a_call(executor: Executor) -> None:
    """A call may use an executor of its own, and a run of its own."""

    def nested() -> list[int]:
        with Executor(2) as inner:
            values = list(inner.map(square, range(3)))
        return values + list(pcall(square, x=[5]))

    assert executor.submit(nested).result(60) == [0, 1, 4, 25]


def test_an_executor_that_a_call_leaves_open(executor: Executor) -> None:
    """What it has submitted is finished before its process exits."""

    def nested() -> int:
        inner = Executor(1)
        inner.submit(time.sleep, 0.05)
        return inner.submit(square, 4).result()

    assert executor.submit(nested).result(60) == 16


@each_system
def test_max_workers_run_at_once(kind: dict[str, Any]) -> None:
    """So many calls run at a time, and the others wait their turn."""
    with Executor(3, **kind) as executor:
        futures = [executor.submit(time.sleep, 0.2) for _ in range(7)]
        until(lambda: sum(each.running() for each in futures) == 3)
        while not futures[-1].done():
            assert len(executor._processes) <= 3
            time.sleep(0.01)
        assert not wait(futures, 30, ALL_COMPLETED).not_done


@each_system
def test_the_watcher_is_there_while_calls_are(kind: dict[str, Any]) -> None:
    """One thread while calls are in flight, none when the executor is idle."""
    with Executor(2, **kind) as executor:
        assert watchers() == []
        futures = [executor.submit(time.sleep, 0.2) for _ in range(4)]
        assert len(watchers()) == 1
        wait(futures)
        assert until(lambda: watchers() == [], 10)
        assert executor.submit(square, 2).result(30) == 4


@each_system
def test_where_submit_forks() -> None:
    """With a free worker the child is forked in the caller's thread, before submit returns."""
    local = threading.local()
    local.value = 3
    with Executor(1) as executor:
        values = [1, 2]
        future = executor.submit(lambda: (local.value, values))
        assert future.pid is not None
        values.append(3)
        assert future.result(30) == (3, [1, 2])


def test_the_pid_stays_known(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the records of a call that has ended are handled, before its future is done."""
    ended, go_on = threading.Event(), threading.Event()
    deliver = Run.deliver_logs

    def wait_and_deliver(run: Run) -> None:
        if threading.current_thread() is not threading.main_thread():
            ended.set()
            go_on.wait(10)
        deliver(run)

    monkeypatch.setattr(Run, "deliver_logs", wait_and_deliver)
    with Executor(1, **kind) as executor:
        future = executor.submit(os.getpid)
        assert ended.wait(30)
        pid, done = future.pid, future.done()
        go_on.set()
        assert (pid, done) == (future.result(30), False)


def test_arguments_of_reused_workers_are_snapshots() -> None:
    """They are pickled in ``submit``: a change that comes later is not seen."""
    with Executor(1, max_tasks_per_child=None) as executor:
        values: list[int] = []
        futures = []
        for each in range(20):
            values.append(each)
            futures.append(executor.submit(len, values))
        assert [each.result(30) for each in futures] == list(range(1, 21))


@each_system
def test_reused_workers_live_on() -> None:
    """The same processes run call after call, each one at most so many."""
    with Executor(2, max_tasks_per_child=None) as executor:
        pids = {each.result(30) for each in [executor.submit(os.getpid) for _ in range(50)]}
        assert len(pids) <= 2
        assert set(executor._processes) >= pids
    with Executor(1, max_tasks_per_child=3) as executor:
        seen = [executor.submit(os.getpid).result(30) for _ in range(7)]
        assert [seen.count(each) for each in dict.fromkeys(seen)] == [3, 3, 1]


@each_system
def test_idle_workers_leave() -> None:
    """A reused worker exits after ``idle_timeout``, and another takes its place when needed."""
    with Executor(1, max_tasks_per_child=None, idle_timeout=0.2) as executor:
        pid = executor.submit(os.getpid).result(30)
        assert until(lambda: has_ended(pid), 10)
        assert executor.submit(os.getpid).result(30) != pid


def test_context_variables_of_the_moment() -> None:
    """A call sees the context variables as they were when it was submitted."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    with Executor(1) as executor:
        futures = []
        for each in range(4):
            variable.set(each)
            futures.append(executor.submit(variable.get))
        assert [each.result(30) for each in futures] == [0, 1, 2, 3]


def test_calls_draw_different_random_numbers(kind: dict[str, Any]) -> None:
    """Also after the executor was idle, and the parent's generator is used once."""
    random.seed(4)
    with Executor(2, **kind) as executor:
        first = [executor.submit(draw).result(30) for _ in range(5)]
        until(lambda: watchers() == [], 10)
        state = random.getstate()
        second = [executor.submit(draw).result(30) for _ in range(5)]
        assert random.getstate() == state
    assert len({*first, *second}) == 10


@each_system
def test_many_futures(kind: dict[str, Any]) -> None:
    """Many calls may be queued, and ``as_completed`` and callbacks get them all."""
    count = 400 if kind["max_tasks_per_child"] == 1 else 3000
    called: list[int] = []
    with Executor(2, **kind) as executor:
        futures = [executor.submit(square, each) for each in range(count)]
        for each in futures:
            each.add_done_callback(lambda future: called.append(future.result()))
        assert sorted(each.result() for each in as_completed(futures, 60)) == [
            each * each for each in range(count)
        ]
    assert len(called) == count


@each_system
def test_callbacks_use_the_executor(executor: Executor) -> None:
    """A callback may submit, and one that raises harms nothing."""
    chain: list[int] = []
    done = threading.Event()

    def then(future: Any) -> None:
        chain.append(future.result())
        if len(chain) < 4:
            executor.submit(square, len(chain)).add_done_callback(then)
        else:
            done.set()
        raise RuntimeError("a fault in a callback")

    logging.getLogger("concurrent.futures").disabled = True
    try:
        executor.submit(square, 9).add_done_callback(then)
        assert done.wait(30)
    finally:
        logging.getLogger("concurrent.futures").disabled = False
    assert chain == [81, 1, 4, 9]


@each_system
def test_many_threads_submit(executor: Executor) -> None:
    """Several threads may submit and wait at once."""
    results: list[int] = []

    def work(base: int) -> None:
        for each in range(10):
            results.append(executor.submit(square, base + each).result(30))

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [each * each for each in range(50)]


def test_no_warning_of_threads_and_forks(executor: Executor) -> None:
    """An executor's own thread causes no warning, and the filters stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        executor.submit(square, 1).result(30)  # adds the one filter of this library
        before = list(warnings.filters)
        futures = [executor.submit(square, each) for each in range(10)]
        assert [each.result(30) for each in futures] == [each * each for each in range(10)]
        assert warnings.filters == before


@each_system
def test_timeout_ends_one_call(kind: dict[str, Any]) -> None:
    """A call over its timeout is ended, and no other."""
    with Executor(2, timeout=0.4, **kind) as executor:
        slow = executor.submit(time.sleep, 60)
        executor = executor.options(timeout=60)
        fine = executor.submit(square, 3)
        assert fine.result(30) == 9
        error = slow.exception(30)
        assert isinstance(error, PcallTimeout)
        assert isinstance(error, TimeoutError)
        assert executor.submit(square, 4).result(30) == 16


def test_views_have_their_own_policy(executor: Executor, tmp_path: Any) -> None:
    """``options()`` changes timeout and retry for the calls of the view alone."""

    def third_time() -> int:
        path = tmp_path / "tries"
        with path.open("a") as file:
            file.write("x")
        if len(path.read_text()) < 3:
            raise OSError("not yet")
        return len(path.read_text())

    quick = executor.options(timeout=0.3)
    slow = executor.submit(time.sleep, 0.8)
    assert isinstance(quick.submit(time.sleep, 60).exception(30), PcallTimeout)
    assert slow.result(30) is None
    stubborn = executor.options(retry=Retry(3, on=OSError)).submit(third_time)
    assert stubborn.result(30) == 3
    assert stubborn.outcome is not None
    assert stubborn.outcome.attempts == 3
    assert isinstance(executor.submit(fail, 1).exception(30), LookupError)


@each_system
def test_a_wait_for_a_retry_blocks_no_worker() -> None:
    """While a call waits for its next attempt, another one runs."""
    with Executor(1, retry=Retry(2, wait=60)) as executor:
        failing = executor.submit(fail, 1)
        assert executor.submit(square, 2).result(30) == 4
        assert not failing.done()
        assert failing.cancel()


def test_outcomes_tell_the_rest(executor: Executor) -> None:
    """``future.outcome`` has the figures of the call, and its number goes on."""
    futures = [executor.submit(functools.partial(square, each)) for each in range(3)]
    wait(futures)
    for number, future in enumerate(futures):
        outcome = future.outcome
        assert outcome is not None
        assert (outcome.index, outcome.value, outcome.attempts) == (number, number**2, 1)
        assert outcome.pid == future.pid


@each_system
def test_output_is_captured(executor: Executor, capfd: pytest.CaptureFixture[str]) -> None:
    """A view captures what its calls print, ``"group"`` shows it too, and others print as ever."""
    captured = executor.options(capture_output=True).submit(os.system, "echo quiet")
    assert captured.result(30) == 0
    assert captured.outcome is not None
    assert captured.outcome.stdout == "quiet\n"
    grouped = executor.options(capture_output="group").submit(os.system, "echo loud")
    assert grouped.result(30) == 0
    assert grouped.outcome is not None
    assert grouped.outcome.stdout == "loud\n"
    executor.submit(os.system, "echo plain").result(30)
    assert sorted(capfd.readouterr().out.split()) == ["loud", "plain"]


@each_system
def test_records_come_home_as_calls_end(
    executor: Executor, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A record is at the parent's handlers when its future is done, long calls or not."""
    with caplog.at_level(logging.INFO):
        slow = executor.submit(wait_for, tmp_path / "go")
        for each in range(3):
            executor.submit(logging.info, "call %d", each).result(30)
            assert caplog.messages == [f"call {n}" for n in range(each + 1)]
        assert not slow.done()
        (tmp_path / "go").touch()
        assert slow.result(30)


@each_system
def test_sections_come_home_as_calls_end(executor: Executor, tmp_path: Any) -> None:
    """The section of a call is in the main log when its future is done."""
    path = tmp_path / "main.log"
    handler = logging.FileHandler(path)
    logging.getLogger().addHandler(handler)
    try:
        slow = executor.submit(wait_for, tmp_path / "go")
        for each in range(3):
            executor.submit(logging.warning, "call %d", each).result(30)
            lines = path.read_text().splitlines()
            assert [line for line in lines if line.startswith("call")][-1] == f"call {each}"
            assert sum(line.startswith("<<<< End") for line in lines) == each + 1
        assert not slow.done()
        (tmp_path / "go").touch()
        assert slow.result(30)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert {each.name for each in tmp_path.iterdir()} == {"main.log", "go"}


def test_records_come_home_whoever_collects_the_answer(
    kind: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a thread that submits has taken an answer just after the watcher's turn."""
    turn = Run.turn

    def turn_and_collect(run: Run, pause: float | None) -> None:
        turn(run, 0)
        if not run.state.scheduler.complete:  # nobody submits to a run that is closed
            with run._lock, DeferSignals():  # as a thread does between two forks
                run._engine.collect(run._engine.poll(0.01))

    monkeypatch.setattr(Run, "turn", turn_and_collect)
    seen: list[list[str]] = []
    with caplog.at_level(logging.INFO), Executor(2, grace_period=0.5, **kind) as executor:
        for each in range(5):
            future = executor.submit(logging.info, "call %d", each)
            future.add_done_callback(lambda _: seen.append(list(caplog.messages)))
            future.result(30)
            assert caplog.messages == [f"call {n}" for n in range(each + 1)]
    assert [len(messages) for messages in seen] == [1, 2, 3, 4, 5]


def test_progress_counts_the_calls(kind: dict[str, Any]) -> None:
    """Observers see one run for the whole life of the executor."""

    class Counter:
        def __init__(self) -> None:
            self.counts: dict[str, int] = {}
            self.begun = self.ended = 0

        def begin(self) -> None:
            self.begun += 1

        def observe(self, events: Any) -> None:
            for event in events:
                self.counts[event.kind] = self.counts.get(event.kind, 0) + event.count

        def end(self) -> None:
            self.ended += 1

    counter = Counter()
    with Executor(2, progress=counter, **kind) as executor:
        executor.submit(square, 1).result(30)
        until(lambda: watchers() == [], 10)
        futures = [executor.submit(square, each) for each in range(5)]
        failed = executor.submit(fail, 1)
        wait([*futures, failed])
    assert (counter.begun, counter.ended) == (1, 1)
    assert counter.counts["planned"] == counter.counts["started"] == 7
    assert (counter.counts["done"], counter.counts["failed"]) == (6, 1)


def test_a_broken_initializer(kind: dict[str, Any]) -> None:
    """The first future gets a ``BrokenExecutor`` from the error, and all later calls as well."""
    logging.getLogger("concurrent.futures").disabled = True
    try:
        with Executor(1, initializer=fail, initargs=(8,), **kind) as executor:
            futures = [executor.submit(square, 1) for _ in range(3)]
            for future in futures:
                error = future.exception(30)
                assert isinstance(error, BrokenProcessPool)
                assert isinstance(error.__cause__, LookupError)
            with pytest.raises(BrokenProcessPool, match="no 8"):
                executor.submit(square, 1)
    finally:
        logging.getLogger("concurrent.futures").disabled = False


state: list[int] = []


def test_an_initializer(kind: dict[str, Any]) -> None:
    """It is called once in each child, before the first call."""
    with Executor(1, initializer=state.append, initargs=(5,), **kind) as executor:
        assert [executor.submit(list, state).result(30) for _ in range(3)]
        assert [executor.submit(len_of_state).result(30) for _ in range(3)] == [1, 1, 1]
    assert state == []


def len_of_state() -> int:
    return len(state)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": 1.5}, TypeError, "max_workers"),
        ({"mp_context": "fork"}, TypeError, "mp_context"),
        ({"initializer": 3}, TypeError, "initializer"),
        ({"initargs": 3}, TypeError, "initargs"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"idle_timeout": "x"}, TypeError, "idle_timeout"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child"),
        ({"retry": "often"}, TypeError, "retry"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """They are refused at once, by name."""
    with pytest.raises(error, match=text):
        Executor(**options)


def test_other_start_methods_are_refused() -> None:
    """Children inherit their calls, so only ``fork`` will do."""
    import multiprocessing

    with pytest.raises(ValueError, match="spawn"):
        Executor(mp_context=multiprocessing.get_context("spawn"))
    Executor(mp_context=multiprocessing.get_context("fork")).shutdown()


def test_wrong_calls(executor: Executor) -> None:
    """What can't be called, and options that a view has not, are refused at once."""
    with pytest.raises(TypeError, match="callable"):
        executor.submit(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_workers"):
        executor.options(max_workers=3)
    with pytest.raises(ValueError, match="timeout"):
        executor.options(timeout=-1)


@each_system
def test_map_yields_in_call_order(kind: dict[str, Any]) -> None:
    """Whatever ends first; closures are inherited by reused workers, too."""
    with Executor(2, **kind) as executor:
        assert list(executor.map(lambda x, y: x * y, range(30), range(1, 50))) == [
            x * (x + 1) for x in range(30)
        ]
        assert list(executor.map(square, [])) == []
        pids = set(executor.map(lambda _: os.getpid(), range(30)))
        assert (len(pids) <= 4) == (kind["max_tasks_per_child"] is None)


def test_map_goes_on_after_an_error(executor: Executor) -> None:
    """As with the standard library's, the iterator ends at the error; other calls are fine."""
    results = executor.map(square, [1, "x", 3])
    assert next(results) == 1
    with pytest.raises(TypeError):
        next(results)
    assert list(results) == []


def test_map_of_an_endless_iterable(executor: Executor) -> None:
    """With ``buffersize`` it is read so far ahead, and no further."""
    taken: list[int] = []

    def numbers() -> Any:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = executor.map(square, numbers(), buffersize=3)
    assert len(taken) == 3
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 8
    results.close()  # type: ignore[attr-defined]


def test_map_that_times_out_ends_its_calls(executor: Executor) -> None:
    """The error comes in time, and no call runs on."""
    results = executor.map(time.sleep, [0, 60, 60, 60], timeout=0.5)
    assert next(results) is None
    with pytest.raises(TimeoutError):
        next(results)
    began = time.monotonic()
    assert executor.submit(square, 3).result(30) == 9
    assert time.monotonic() - began < 20


def test_a_map_that_is_left_runs_no_further(executor: Executor, tmp_path: Any) -> None:
    """Queued calls are cancelled, and running ones finish."""
    results = executor.map(lambda n: (time.sleep(0.1), (tmp_path / str(n)).touch()), range(50))
    next(results)
    results.close()  # type: ignore[attr-defined]
    executor.submit(square, 1).result(30)
    count = len(list(tmp_path.iterdir()))
    assert count <= 8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 1.5}, TypeError),
        ({"timeout": "soon"}, TypeError),
    ],
)
def test_wrong_options_of_map(
    executor: Executor, options: dict[str, Any], error: type[Exception]
) -> None:
    """They are refused before anything is read."""
    with pytest.raises(error, match=next(iter(options))):
        executor.map(square, itertools.count(), **options)


@each_system
def test_many_calls_wait_through_several_runs(
    kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor replaces its run after many calls; nobody notices but by new workers."""
    monkeypatch.setattr("pcall.executor.crew.RUN_CALLS", 20)
    monkeypatch.setattr("pcall.executor.crew.ROWS", 24)
    with Executor(2, **kind) as executor:
        futures = [executor.submit(square, each) for each in range(130)]
        for each in futures[::7]:
            each.cancel_if_pending()
        for number, future in enumerate(futures):
            if not future.cancelled():
                assert future.result(30) == number * number
        assert [each.outcome.index for each in futures if each.outcome] == sorted(
            number for number, each in enumerate(futures) if each.outcome
        )


def test_calls_of_views_are_told_apart(executor: Executor) -> None:
    """Views with their own ways to capture output share numbers of calls and random numbers."""
    views = [executor, executor.options(capture_output=True), executor]
    # To pickle random.random is to pickle a generator.
    futures = [views[i % 3].submit(lambda: random.random()) for i in range(6)]
    assert len({future.result() for future in futures}) == 6
    outcomes = [future.outcome for future in futures]
    assert [outcome.index for outcome in outcomes if outcome is not None] == [*range(6)]
