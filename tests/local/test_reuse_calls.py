"""docs/policy.rst: children that take call after call (``max_tasks_per_child``)."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import itertools
import math
import os
import random
import sys
import threading
import time
from collections import Counter

import numpy
import pytest

from pcall import ChildProcessException, Pcall, ResultError, pcall

Reused = Pcall.options(max_tasks_per_child=None)
MB = 1 << 20


class Colour(enum.IntEnum):
    RED = 1


class Count(int):
    """An int that is more than its number."""


VALUES = [
    *(0, 1, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**100),
    *(0.5, -0.0, math.inf, -math.inf, 1e308, 5e-324),
    *(True, False, None, "", "text", "\0", "\ud800", b"", b"bytes\0", ...),
    *(Colour.RED, Count(7), 1 + 2j, range(5), int),
    *([], [1, [2, [3, {"a": (4, {5}), None: frozenset([6])}]]]),
]
# Made when they are needed: each fork of other tests would copy their page tables.
LARGE = {
    "text": lambda: "x" * 2 * MB,
    "less than 1 MB": lambda: b"x" * (MB - 1),
    "1 MB": lambda: b"x" * MB,
    "two of 1 MB": lambda: [b"x" * MB, b"y" * MB],
    "many": lambda: list(range(300_000)),
}


def same(x):
    return x


def square(x):
    return x * x


def pid(**_):
    return os.getpid()


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def workers(number, **policy):
    return Pcall.options(**{"max_tasks_per_child": None, "max_workers": number, **policy})


# ------------------------------------------------------------------ values


@pytest.mark.fast
def test_results_come_in_call_order(each_system):
    """Results come back in call order, each that of its own call."""
    assert Reused.pcall(square, x=range(5000)) == tuple(x * x for x in range(5000))


@pytest.mark.parametrize("most", [None, 3])
def test_any_value_comes_home_as_it_is(each_system, most):
    """A value comes home with its type, whichever of the ways it takes."""
    values = [*VALUES, *(make() for make in LARGE.values())]
    found = Pcall.options(max_tasks_per_child=most).pcall(same, x=values)
    assert found == tuple(values)
    assert [type(value) for value in found] == [type(value) for value in values]
    assert str(found[values.index(-0.0, 9)]) == "-0.0"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_many_of_one_kind(value):
    """Columns of one kind are read as one, and come home the same."""
    assert_many_come_home(value)


@pytest.mark.parametrize("name", LARGE)
def test_many_large_ones_of_one_kind(name):
    """The same holds for values that are no longer small."""
    assert_many_come_home(LARGE[name]())


def assert_many_come_home(value):
    found = Reused.pcall(same, x=[value] * 30)
    assert found == (value,) * 30
    assert {type(each) for each in found} == {type(value)}


def test_nan_stays_nan():
    """Not a number comes home as such."""
    assert all(math.isnan(x) for x in Reused.pcall(same, x=[math.nan] * 20))


def test_ones_of_different_types_stay_apart():
    """What is equal is not mixed up: 1, 1.0, True and an enum's member stay what they are."""
    ones = [1, 1.0, True, Colour.RED, Count(1)] * 40
    found = Reused.pcall(same, x=ones)
    assert [type(x) for x in found] == [type(x) for x in ones]


@pytest.mark.parametrize("size", [1, 100, 3000, 20_000, 200_000])
def test_arrays(each_system, size):
    """Arrays come home whole, small ones and large ones, and can be written to."""
    found = Reused.pcall(lambda x: numpy.full(size, x), x=range(40))
    for number, array in enumerate(found):
        assert array.shape == (size,)
        assert (array == number).all()
        array[0] = -1
    assert found[1][-1] == (1 if size > 1 else -1)


def test_arrays_of_100_mb():
    """Large arrays come home, beside small values."""
    found = workers(2).pcall(
        lambda x: numpy.full(100 * MB // 8, x, dtype="i8") if x else "small", x=[1, 0, 2, 0]
    )
    assert found[1] == found[3] == "small"
    assert [int(found[x].sum()) for x in (0, 2)] == [100 * MB // 8, 200 * MB // 8]


def test_more_arrays_than_descriptors():
    """However many answers come in files of their own, few are open at a time."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, before[1]))
    try:
        found = workers(2).pcall(lambda x: numpy.full(4000, x), x=range(600))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert all((array == x).all() for x, array in enumerate(found))


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("never sent")


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


@pytest.mark.parametrize(("make", "text"), [(Unpicklable, "never sent"), (Unloadable, "no number")])
def test_a_result_that_can_not_be_sent(each_system, make, text):
    """An error while pickling the result is that call's error alone, and names the type."""
    tolerant = workers(2, max_errors=None, return_outcomes=True)
    outcomes = tolerant.pcall(lambda x: make() if x % 10 == 3 else x, x=range(100))
    for x, outcome in enumerate(outcomes):
        if x % 10 != 3:
            assert outcome.value == x
        else:
            assert isinstance(outcome.error, ResultError)
            assert make.__name__ in str(outcome.error)
            assert text in str(outcome.error)


class OnlyThere:
    """What loads in the child alone."""

    def __init__(self):
        self.there = os.getpid()

    def __setstate__(self, state):
        if os.getpid() != state["there"]:
            raise RuntimeError("not here")


def test_a_result_that_loads_in_the_child_alone(each_system):
    """An error while unpickling it in the parent is that call's error alone."""
    tolerant = workers(1, max_errors=None, return_outcomes=True)
    outcomes = tolerant.pcall(lambda x: OnlyThere() if x == 3 else x, x=range(9))
    assert [outcome.ok for outcome in outcomes] == [x != 3 for x in range(9)]
    assert isinstance(outcomes[3].error, ResultError)
    assert "not here" in str(outcomes[3].error)
    assert "OnlyThere" in str(outcomes[3].error)


# ------------------------------------------------------------------ calls


def test_several_targets(each_system):
    """Each of several targets gets its own row."""
    assert Reused.pcall([same, square, str] * 50, iargs=[(x,) for x in range(150)]) == tuple(
        [same, square, str][x % 3](x) for x in range(150)
    )


def test_coroutine_functions(each_system):
    """A coroutine function runs to its end, in a loop of its own, before the next call."""

    async def double(x):
        await asyncio.sleep(0.001)
        return 2 * x

    assert Reused.pcall(double, x=range(20)) == tuple(range(0, 40, 2))


def test_generators_as_arguments():
    """An argument iterable is consumed once, also an infinite one beside a finite one."""
    numbers = (x for x in range(300))
    assert Reused.pcall(pow, iargs=zip(numbers, iter(lambda: 2, 3))) == tuple(
        x * x for x in range(300)
    )


def test_arguments_are_inherited_and_not_pickled():
    """Nothing is pickled on the way in."""
    lock = threading.Lock()
    assert Reused.pcall(lambda x, f: (type(x) is type(lock), f()), x=[lock] * 5, f=[lambda: 1] * 5)


def test_no_call():
    """A given but empty iterable means no call."""
    assert Reused.pcall(same, x=[]) == ()


def test_failures_have_their_own_tracebacks(each_system):
    """A failed call's traceback is that of the target alone, and the note names the call."""

    def fails(x):
        return 1 // x

    with pytest.raises(ChildProcessException) as info:
        workers(2, max_errors=None).pcall(fails, x=[1, 0, 2, 0])
    cause = info.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    assert cause.__traceback__.tb_frame.f_code.co_name == "fails"
    assert cause.__traceback__.tb_next is None
    assert "call 1" in info.value.__notes__[0]
    assert [outcome.index for outcome in info.value.failures] == [1, 3]


@pytest.mark.parametrize("how", ["iargs", "by name", "merged"])
def test_a_call_that_raises_stop_iteration_fails_as_any_other(each_system, tmp_path, how):
    """It comes home as itself, the call is made once, and those behind it are made too."""
    log = tmp_path / "made"

    def first_of(x):
        with open(log, "ab", 0) as file:
            file.write(b".")
        return next(iter(range(x, 1)))

    rows = {"iargs": {"iargs": [(0,), (1,), (0,)]}, "by name": {"x": (0, 1, 0)}}
    args = rows.get(how, {"x": (0, 1, 0), "ikwargs": [{}] * 3})
    with pytest.raises(ChildProcessException) as info:
        workers(1, max_errors=None).pcall(first_of, timeout=30, **args)
    assert type(info.value.__cause__) is StopIteration
    assert [outcome.ok for outcome in info.value.outcomes] == [True, False, True]
    assert log.read_bytes() == b"..."


@pytest.mark.parametrize(("count", "most"), [(20, 2), (20, 3), (4100, 50)])
def test_max_tasks_per_child(each_system, count, most):
    """A child gets at most so many calls, also where calls are many."""
    calls = Counter(
        Pcall.options(max_tasks_per_child=most, max_workers=4).pcall(pid, x=range(count))
    )
    assert max(calls.values()) <= most
    assert sum(calls.values()) == count


def test_one_worker_a_core_by_default():
    """Then there are by default as many children as cores."""
    run = Reused(nap, seconds=[0.02] * 100)
    run.start()
    most = 0
    while not run.done:
        most = max(most, len(run.livings))
        time.sleep(0.001)
    run.join()
    assert most == len(set(run.results)) == len(os.sched_getaffinity(0))


def test_children_live_on():
    """Children take the next call: there are few of them, however many calls there are."""
    # As many as workers, and another at the end when a call is held up and one has left.
    assert len(set(workers(3).pcall(pid, x=range(2000)))) <= 6


def test_more_workers_than_calls():
    """With fewer calls than workers each has a child of its own, at the same time."""
    assert len(set(workers(8).pcall(nap, seconds=[0.3] * 3))) == 3


def test_as_many_calls_at_once_as_workers(each_system, monkeypatch, tmp_path):
    """Up to ``max_workers`` calls run at once, however long the forks take."""

    def meet(x):
        (tmp_path / str(x)).touch()
        while len(list(tmp_path.iterdir())) < 10:
            time.sleep(0.01)
        return os.getpid()

    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: time.sleep(0.03) or fork())
    assert len(set(workers(10).pcall(meet, 60, x=range(10)))) == 10


# ------------------------------------------------------------------ the object


def test_figures_of_outcomes(each_system):
    """An outcome has the figures of its call alone, whoever ran it."""

    def works(x):
        if x == 2:
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        if x == 3:
            time.sleep(0.3)
        return x

    before = time.time()
    outcomes = workers(1, return_outcomes=True).pcall(works, x=range(5))
    after = time.time()
    assert [outcome.index for outcome in outcomes] == list(range(5))
    assert [outcome.call.kwargs for outcome in outcomes] == [{"x": x} for x in range(5)]
    assert {outcome.pid for outcome in outcomes} != {os.getpid()}
    assert {outcome.exitcode for outcome in outcomes} == {0}
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert {outcome.error for outcome in outcomes} == {None}
    for outcome in outcomes:
        assert before - 0.1 <= outcome.started <= outcome.started + outcome.duration <= after + 0.1
        assert outcome.max_rss > MB
        assert outcome.rss_growth >= 0
    # In the order in which they ran: what a long call keeps waiting may go to the end.
    for one, following in itertools.pairwise(sorted(outcomes, key=lambda each: each.started)):
        assert following.started >= one.started + one.duration - 0.01
    assert outcomes[2].cpu_time >= 0.29
    assert outcomes[2].duration >= 0.29
    assert outcomes[3].duration >= 0.29
    assert outcomes[3].cpu_time < 0.2
    assert outcomes[0].cpu_time < 0.2


def test_figures_of_a_failed_call(each_system):
    """A failed call's figures are its own, too."""

    def fails(x):
        time.sleep(0.2 if x == 1 else 0)
        return 1 // (x - 1)

    outcome = workers(1, return_outcomes=True, max_errors=None).pcall(fails, x=[0, 1, 2])[1]
    assert 0.19 <= outcome.duration < 10
    assert outcome.cpu_time < 0.2
    assert outcome.max_rss > MB
    assert outcome.exitcode == 1


@pytest.mark.filterwarnings("ignore:.* never made:ResourceWarning")
def test_the_object_before_it_starts():
    """Before the start there are a child, a pid and an outcome for each call, all unmade."""
    run = Reused(same, x=[1, 2])
    assert run.pids == (None, None)
    assert [child.pid for child in run.childs] == [None, None]
    assert run.livings == ()
    assert run.outcomes == (None, None)
    assert not run.done


def test_a_run_that_is_ended_before_it_starts():
    """Ended before the start, no call of a run ever begins."""
    run = Reused(same, x=[1, 2])
    run.terminate()
    run.start()
    run.join()
    assert run.results is None
    assert [outcome.attempts for outcome in run.outcomes] == [0, 0]


def test_a_call_that_waits_has_no_pid():
    """A call that its child has been given, and has not begun, has no pid."""
    with workers(1)(nap, seconds=[600] * 3) as run:
        while run.pids[0] is None:
            run.wait(0.01)
        assert run.pids[1:] == (None, None)
        run.kill()


@pytest.mark.parametrize("code", [None, 0, 3, "text"])
def test_the_exitcode_of_a_call_that_exits(code):
    """A call that exits has the status that its own process would have ended with."""
    (outcome,) = workers(1, return_outcomes=True).pcall(sys.exit, iargs=[(code,)])
    assert outcome.exitcode == {None: 0, "text": 1}.get(code, code)


def test_childs_are_those_that_ran_the_calls(each_system):
    """``childs`` and ``pids`` tell for each call in which process it ran."""
    run = workers(2)(pid, x=range(50))
    run.start()
    run.join()
    assert run.pids == run.results
    assert [child.pid for child in run.childs] == list(run.results)
    assert not any(child.is_alive() for child in run.childs)
    assert {child.exitcode for child in run.childs} == {0}


def test_a_running_call_has_its_child():
    """While a call runs, its child is alive and has a pid."""
    run = workers(1)(nap, seconds=[0.01, 600])
    with run:
        while run.outcomes[0] is None:
            time.sleep(0.01)
        assert run.childs[1].is_alive()
        assert run.pids[1] == run.outcomes[0].pid
        assert len(run.livings) == 1
        run.kill()


def test_as_completed_gives_each_call_once(each_system):
    """Outcomes come as they are there, each once, those of failed calls too."""
    run = workers(2, max_errors=None)(lambda x: 1 // (x % 7), x=range(500))
    run.start()
    seen = [outcome.index for outcome in run.as_completed()]
    assert sorted(seen) == list(range(500))
    with pytest.raises(ChildProcessException):
        run.join()


def test_as_completed_gives_a_short_call_before_a_long_one():
    """A call that is over is told of while the child is with its next one."""
    run = workers(1)(nap, seconds=[0, 0, 0, 600])
    run.start()
    seen = run.as_completed()
    assert [next(seen).index for _ in range(3)] == [0, 1, 2]
    run.kill()
    run.join()


def test_wait_and_poll_between_start_and_join(each_system):
    """``wait`` gives up after its time; polling alone takes a run to its end."""
    run = workers(2)(nap, seconds=[0.05] * 10)
    run.start()
    assert run.wait(0.01) is False
    while run.livings:
        time.sleep(0.002)
    assert run.done
    assert run.wait() is True
    assert run.results is None
    run.join()
    assert len(run.results) == 10


def test_results_are_the_same_after_a_second_join():
    """A second ``join`` gives the same answer again."""
    run = Reused(same, x=range(10))
    run.start()
    run.join()
    first = run.results
    run.join()
    assert run.results is first


def test_asyncio(each_system):
    """It can be awaited beside other work of the loop."""

    async def both():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        try:
            return await workers(2).pcall.aio(nap, seconds=[0.1] * 6), ticks
        finally:
            ticking.cancel()

    found, ticks = asyncio.run(both())
    assert len(found) == 6
    assert ticks > 5


def test_cancelling_the_await_ends_the_children(each_system):
    """Cancelling the await terminates the children."""

    async def given_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(workers(2).pcall.aio(nap, seconds=[600] * 4), 0.3)

    asyncio.run(given_up())


@pytest.mark.parametrize("inner", [1, None])
def test_nested_calls(each_system, inner):
    """A reused child makes calls of its own, in fresh children or in reused ones."""

    def outer(x):
        return Pcall.options(max_tasks_per_child=inner, max_workers=2).pcall(square, x=range(x))

    found = workers(2).pcall(outer, x=range(12))
    assert found == tuple(tuple(y * y for y in range(x)) for x in range(12))


def test_from_several_threads(each_system):
    """Runs of several threads of a parent do not disturb each other."""
    found = {}

    def run(number):
        found[number] = workers(2).pcall(square, x=range(number, number + 300))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: tuple(x * x for x in range(n, n + 300)) for n in range(4)}


# ------------------------------------------------------------------ what a call finds

variable = contextvars.ContextVar("variable", default="default")


class Incomparable:
    def __eq__(self, other):
        raise RuntimeError("do not compare")

    __hash__ = None


@pytest.mark.parametrize("value", ["the call's", None, Incomparable()])
def test_each_call_has_the_callers_context_variables(each_system, value):
    """A call finds the caller's context variables, not those of the call before it."""

    def change(x):
        before = variable.get()
        if x % 3 == 0:
            variable.set(value)
        return before

    def caller():
        variable.set("the caller's")
        return workers(1).pcall(change, x=range(60))

    assert set(contextvars.copy_context().run(caller)) == {"the caller's"}
    assert variable.get() == "default"


def draw(x):
    return random.random(), float(numpy.random.random())


@pytest.mark.parametrize("count", [10, 5000])
def test_random_numbers_are_the_same_for_a_parent_seeded_the_same(each_system, count):
    """A parent that was seeded gives the same run again, whatever child runs what."""

    def run(number):
        random.seed(7)
        numpy.random.seed(7)
        return workers(number).pcall(draw, x=range(count))

    first = run(1)
    assert first == run(2) == run(5)
    assert len({x for x, _ in first}) == len({y for _, y in first}) == count
    random.seed(8)
    numpy.random.seed(8)
    other = workers(2).pcall(draw, x=range(count))
    assert not {x for x, _ in first} & {x for x, _ in other}


def test_random_numbers_after_failures(each_system):
    """Also where calls fail, and where they are tried again."""

    def run(number):
        random.seed(7)
        outcomes = workers(number, max_errors=None, retry=2, return_outcomes=True).pcall(
            lambda x: 1 // (x % 900) and random.random(), x=range(5000)
        )
        return [outcome.value for outcome in outcomes]

    assert run(1) == run(3)


def test_random_numbers_are_those_of_fresh_children_for_few_calls():
    """For few calls it makes no difference to the numbers whether children are reused."""

    def run(entry):
        random.seed(7)
        return entry(draw, x=range(10))

    assert [x for x, _ in run(pcall)] == [x for x, _ in run(Reused.pcall)]


def test_a_child_that_comes_back_from_a_fork_of_the_target(each_system, tmp_path):
    """A copy of the child that the target forked ends with the call, and makes no other."""
    record = tmp_path / "calls"
    record.touch()

    def forks(x):
        with open(record, "a") as file:
            file.write(f"{x}\n")
        if x == 3 and os.fork():
            os.wait()
        return x

    assert workers(1).pcall(forks, x=range(10)) == tuple(range(10))
    assert sorted(record.read_text().split()) == [str(x) for x in range(10)]


def test_a_call_is_told_from_the_file_of_the_child(each_system):
    """A hundred thousand values that are pickled come home from one file a child."""
    count = 100_000
    assert Reused.pcall(str, iargs=zip(range(count))) == tuple(map(str, range(count)))


def test_a_process_of_multiprocessing():
    """A child is a full multiprocessing child, and has a name."""

    def who(x):
        import multiprocessing

        process = multiprocessing.current_process()
        return process.name, process.pid == os.getpid(), multiprocessing.parent_process().pid

    for name, right, parent in workers(2).pcall(who, x=range(4)):
        assert name.startswith("pcall-worker-")
        assert right
        assert parent == os.getpid()


def test_stdin_is_empty(each_system):
    """Nothing can be read from stdin, in no call."""
    assert workers(1).pcall(lambda x: sys.stdin.read(), x=range(3)) == ("", "", "")
