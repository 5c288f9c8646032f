"""docs/plans.rst: large values in chains: who sees what, what that takes, and failures."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from pcall import CallError, ChildDied, DependenciesFailed, PcallTimeout, Plan, Retry, run, run_iter
from tests.helpers import ROOT
from tests.helpers.cases import FINE
from tests.helpers.plan_model import Graph, graphs
from tests.helpers.scripts import environment, python, run_case

numpy = pytest.importorskip("numpy")

SIZE = 20_000  # of an array: large enough to be out of band


def full(number):
    return numpy.full(SIZE, float(number))


def pids_of_chain(length, **policy):
    """The processes that the links of a chain ran in."""
    plan = Plan()
    call = plan.call(full, 0)
    for _ in range(length):
        call = plan.call(lambda array: numpy.append(array, os.getpid()), call)
    return [int(pid) for pid in run(plan, output=call, **policy)[SIZE:]]


@pytest.mark.needs("concurrency")
def test_a_chain_with_large_values_stays_in_one_child():
    """A child that made a large value makes the call that needs it."""
    assert len(set(pids_of_chain(30, max_workers=2))) == 1


@pytest.mark.needs("concurrency", "processes")
def test_a_large_value_that_the_next_call_alone_needs_is_not_written():
    """Along a chain no file is made for values: they are handed on as they are."""
    plan = Plan()

    def files(array):
        time.sleep(0.01)
        parent = Path(f"/proc/{os.getppid()}/fd")
        return numpy.append(array, sum("memfd:" in os.readlink(fd) for fd in parent.iterdir()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    call = plan.call(full, 0)
    for _ in range(20):
        call = plan.call(files, call)
    made = run(plan, output=call, max_workers=2)[SIZE:]
    assert len(set(made)) == 1


@pytest.mark.parametrize("max_workers", [2, 0])
@pytest.mark.fast
@pytest.mark.parametrize("kind", ["array", "bytes", "dict"])
@pytest.mark.parametrize("in_place", [False, True])
def test_values_along_a_chain_are_right(kind, in_place, max_workers):
    """Whether a call changes what it was given or makes something new, the next one gets that."""

    def step(value):
        if kind == "bytes":
            return value + b"x"
        array = value if kind == "array" else value["array"]
        if in_place:
            array += 1
        else:
            array = array + 1
        return array if kind == "array" else {"array": array, "n": value["n"] + 1}

    first = {"array": full(0), "bytes": b"y" * 2_000_000, "dict": {"array": full(0), "n": 0}}[kind]
    plan = Plan()
    call = plan.call(lambda: first)
    for _ in range(40):
        call = plan.call(step, call)
    result = run(plan, output=call, max_workers=max_workers)
    if kind == "bytes":
        assert result == b"y" * 2_000_000 + b"x" * 40
    else:
        array = result if kind == "array" else result["array"]
        assert (array == 40).all()
        assert kind == "array" or result["n"] == 40


@pytest.mark.parametrize("max_workers", [1, 0])
@pytest.mark.parametrize("share", ["whole", "view", "weakly", "part"])
def test_what_a_function_keeps_no_other_call_changes(share, max_workers):
    """A value that its function still has is not changed by the call that it goes to."""
    import weakref

    kept = full(1)
    refs = []

    def give(_):
        if share == "whole":
            return kept
        if share == "view":
            return kept[5:]
        if share == "part":
            return {"array": kept, "other": full(3)}
        mine = full(2)
        refs.append(weakref.ref(mine))
        return mine

    def change(array):
        if share == "part":
            array = array["array"]
        array += 1
        gone = [ref() is None or float(ref()[0]) for ref in refs]
        return float(kept.sum()), gone

    plan = Plan()
    last, ends = 0, []
    for _ in range(10):
        last = plan.call(change, plan.call(give, last))
        ends.append(last)
    for total, gone in run(plan, output=ends, max_workers=max_workers):
        assert total == SIZE
        assert all(each in (True, 2.0) for each in gone)


@pytest.mark.parametrize("max_workers", [1, 0])
def test_a_value_given_twice_to_one_call_is_two_objects(max_workers):
    """What a call does to one argument is not seen in another one that is the same value."""

    def change(one, other):
        one += 1
        return float(other.sum())

    plan = Plan()
    ends = []
    last = 0
    for _ in range(8):
        made = plan.call(lambda _: full(1), last)
        last = plan.call(change, made, made)
        ends.append(last)
    assert run(plan, output=ends, max_workers=max_workers) == [SIZE] * 8


@pytest.mark.parametrize("max_workers", [2, 0])
def test_what_needs_a_value_later_sees_it_as_it_was(max_workers):
    """A value with more users than the next call is as it was for each of them."""

    def change(array):
        array += 1
        return array

    plan = Plan()
    firsts = [plan.call(full, number) for number in range(6)]
    changed = []
    for first in firsts:
        middle = plan.call(change, first)
        changed.append(plan.call(change, middle))
    kept = [plan.call(lambda array: float(array[0]), first) for first in firsts]
    values, ends = run(plan, output=(kept, changed), max_workers=max_workers)
    assert values == [0, 1, 2, 3, 4, 5]
    assert [float(end[7]) for end in ends] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("max_workers", [1, 0])
@pytest.mark.parametrize("attempts", [2, 4])
def test_another_attempt_gets_the_value_as_it_was(tmp_path, attempts, max_workers):
    """A call that changed its argument and failed is tried again with the unchanged one."""

    def step(array):
        array += 1
        with open(tmp_path / "made", "ab", 0) as file:
            file.write(b".")
            if file.tell() % attempts:
                raise OSError("not yet")
        return array

    plan = Plan()
    call = plan.call(full, 0)
    for _ in range(4):
        call = plan.call(step, call)
    result = run(plan, output=call, max_workers=max_workers, retry=Retry(attempts))
    assert (result == 4).all()


@pytest.mark.needs("isolation")
def test_a_death_costs_the_call_that_had_the_value_and_nothing_else():
    """A child killed with a value that only it had: that call fails, and others go on."""

    def step(array, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return array + 1

    plan = Plan()
    other = [plan.call(full, number) for number in range(3)]
    call = plan.call(full, 0)
    for number in range(6):
        call = plan.call(step, call, number)
    sums = [plan.call(lambda array: float(array[0]), each) for each in other]
    with pytest.raises(CallError) as caught:
        run(plan, max_workers=2, max_errors=None, output=[call, sums])
    error = caught.value
    assert isinstance(error.__cause__, ChildDied)
    assert [outcome.index for outcome in error.failures] == [7]
    assert [skipped.index for skipped in error.skipped] == [8, 9]
    assert [error.outcomes[each.index].value for each in sums] == [0, 1, 2]


@pytest.mark.needs("isolation")
def test_a_sigterm_from_outside_costs_one_call():
    """A child that somebody ends between two calls of a chain fails the one that comes next."""

    def step(array, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        return array + 1

    plan = Plan()
    call = plan.call(full, 0)
    for number in range(6):
        call = plan.call(step, call, number)
    with pytest.raises(CallError) as caught:
        run(plan, max_workers=1, max_errors=None)
    assert [outcome.index for outcome in caught.value.failures] == [4]
    assert [skipped.index for skipped in caught.value.skipped] == [5, 6]


@pytest.mark.needs("isolation", "inheritance")
def test_a_death_between_two_calls_costs_the_one_that_the_value_was_for():
    """A child that dies when it has a value for the next call, and has not begun that, fails it."""

    class Deadly:
        def __eq__(self, other):  # asked once the call is over
            os.kill(os.getpid(), signal.SIGKILL)

    variable = contextvars.ContextVar("variable")

    def step(array, number):
        if number == 3:
            variable.set(Deadly())
        return array + 1

    def run_it():
        variable.set(1)
        plan = Plan()
        call = plan.call(full, 0)
        for number in range(6):
            call = plan.call(step, call, number)
        run(plan, max_workers=1, max_errors=None)

    with pytest.raises(CallError, match="SIGKILL") as caught:
        contextvars.copy_context().run(run_it)
    assert [outcome.index for outcome in caught.value.failures] == [5]
    assert [skipped.index for skipped in caught.value.skipped] == [6]
    assert caught.value.outcomes[4].ok


@pytest.mark.needs("timeouts")
def test_a_link_that_takes_too_long_is_ended_alone():
    """A timeout in the middle of a chain is that call's, and what waits for it is skipped."""

    def step(array, number):
        time.sleep(30 if number == 3 else 0)
        return array + 1

    plan = Plan()
    call = plan.call(full, 0)
    for number in range(6):
        call = plan.call(step, call, number)
    free = plan.call(full, 5)
    with pytest.raises(CallError) as caught:
        run(plan, max_workers=2, max_errors=None, timeout=1, output=[call, free])
    assert isinstance(caught.value.__cause__, PcallTimeout)
    assert [outcome.index for outcome in caught.value.failures] == [4]
    assert caught.value.outcomes[-1].ok


@pytest.mark.parametrize("max_workers", [1, 0])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("kind", [numpy.array, bytes])
def test_dependencies_are_made_again_that_are_nowhere_any_more(tmp_path, far, kind, max_workers):
    """What a call had alone is made again for it, when it asks for another of its dependencies."""

    def make(_):
        return kind(numpy.full(400_000, 7.0))

    def use(value, other):
        assert numpy.frombuffer(value)[0] == 7
        if kind is not bytes:
            value += 100
        with open(tmp_path / "used", "ab", 0) as file:
            file.write(b".")
            if file.tell() < 3:
                raise DependenciesFailed({"other": [number]})
            return file.tell(), other

    plan = Plan()
    number = plan.call(int, 3)
    plan.call(int)
    source = plan.call(make, plan.call(int))
    if far:  # they do not follow each other, so the value goes through a file
        plan.call(int)
    assert run(plan, output=plan.call(use, source, number), max_workers=max_workers) == (3, 3)


@pytest.mark.needs("concurrency")
def test_what_goes_before_a_chain_does_not_wait_for_its_end(tmp_path):
    """A call of higher priority that becomes ready starts before the rest of a long chain."""

    def link(*_):
        time.sleep(0.1)
        with open(tmp_path / "order", "a") as file:
            print("link", file=file)
        return full(0)

    def urgent(_):
        with open(tmp_path / "order", "a") as file:
            print("urgent", file=file)

    def busy(_):
        """Takes the other child until the urgent call has been made."""
        end = time.monotonic() + 20
        while "urgent" not in (tmp_path / "order").read_text() and time.monotonic() < end:
            time.sleep(0.01)

    plan = Plan()
    gate = plan.call(time.sleep, 0.3)
    call = plan.call(link)
    for _ in range(25):
        call = plan.call(link, call)
    for function in (busy, urgent):
        plan.call(function, gate).priority = 1
    run(plan, max_workers=2)
    assert (tmp_path / "order").read_text().split()[-1] == "link"


@pytest.mark.parametrize("max_workers", [2, 0])
def test_outcomes_of_a_chain_have_their_values(max_workers):
    """``run_iter`` yields the value of each link, large ones too."""
    plan = Plan()
    call = plan.call(full, 0)
    for _ in range(10):
        call = plan.call(lambda array: array + 1, call)
    outcomes = list(run_iter(plan, max_workers=max_workers))
    assert [float(outcome.value[3]) for outcome in outcomes] == list(range(11))


@pytest.mark.needs("concurrency")
@pytest.mark.parametrize("max_workers", [1, 3])
@given(graph=graphs(16))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_large_values_that_are_changed_in_place_come_to_what_the_model_says(
    graph: Graph, max_workers
):
    """On any graph, with calls that change what they get and return it, values are right."""
    graph.attempts, graph.max_errors = 1, None

    def work(index, fails, nested, shared):
        if fails:
            raise ValueError(index)
        given = [*nested[0], *nested[1]["rest"], *(shared or ())]
        total = sum(float(array[0]) for array in given)
        for array in given:
            assert (array == array[0]).all()
        made = given[0] if given else full(0)
        made[:] = total + index
        for array in given[1:]:
            array[:] = -1
        return made

    calls = graph.build(work)
    values, failed, _ = graph.serial()
    wanted = range(len(calls)) if graph.output is None else graph.output
    output = [calls[index] for index in wanted]
    if failed:
        with pytest.raises(CallError) as caught:
            run(graph.plan, output=output, max_workers=max_workers, max_errors=None)
        assert {outcome.index for outcome in caught.value.failures} == failed
    else:
        result = run(graph.plan, output=output, max_workers=max_workers)
        assert [float(array[-1]) for array in result] == [values[index] for index in wanted]


UNIT = 64_000_000


def held(process):
    """Bytes that a process and its children hold: memory of their own, and files in memory."""
    own, files, stack = 0, {}, [process]
    while stack:
        each = stack.pop()
        try:
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    own += int(line.split()[1]) * 1024
            for fd in Path(f"/proc/{each}/fd").iterdir():
                if "memfd:" in os.readlink(fd):
                    known = fd.stat()
                    files[known.st_ino] = known.st_blocks * 512
            stack += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        except OSError:
            continue  # it has ended meanwhile
    return own + sum(files.values())


@pytest.mark.engines(why="a script makes the run")
@pytest.mark.parametrize("kind", ["array", "in place", "bytes", "apart"])
def test_a_chain_with_large_values_takes_the_memory_of_two(kind):
    """While a chain runs there are two of its values at a time, wherever they lie."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("no /proc here")
    with subprocess.Popen(
        python(ROOT / "tests/scripts/values.py", "linux", "chain", kind, UNIT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        process.stdout.readline()
        before, most = held(process.pid), 0
        process.stdin.write(b"x")
        process.stdin.close()
        while process.poll() is None:
            most = max(most, held(process.pid) - before)
    assert process.returncode == FINE
    assert UNIT < most < 2.5 * UNIT


@pytest.mark.engines(why="a script makes the run")
def test_values_that_nobody_came_to_close_are_given_back(tmp_path):
    """An interrupt at the moment that they are made, or are to be closed, leaves no descriptor."""
    run_case("values.py", "interrupted", system="linux", folder=tmp_path)


@pytest.mark.engines(why="a script makes the run")
def test_an_outcome_keeps_its_value_while_other_calls_use_it(tmp_path):
    """A value that ``run_iter`` has yielded is there to its last reader, whoever else had it."""
    run_case("values.py", "kept", system="linux", folder=tmp_path)


@pytest.mark.engines(why="a script makes the run")
@pytest.mark.parametrize("opened", [600, 900])
@pytest.mark.parametrize("system", ["linux", "portable"])
def test_descriptors_that_others_have_open_leave_fewer_for_values(tmp_path, system, opened):
    """600 arrays go through a process that has most of its 1,024 descriptors open already."""
    run_case("values.py", "scarce", opened, system=system, folder=tmp_path)
