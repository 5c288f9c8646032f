"""Plans run in real children, on random graphs too, held against a serial model."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from pcall import (
    CallError,
    ChildDied,
    CycleError,
    NotStarted,
    PcallTimeout,
    Plan,
    Retry,
    run,
    run_iter,
)
from tests.helpers.plan_model import Graph, graphs


def both(graph: Graph, max_workers: int, tmp: Path) -> tuple[object, list[int]]:
    """What a run comes to, and the calls that were made, each attempt by itself."""
    log = tmp / "made"
    log.write_bytes(b"")

    def work(index, fails, nested, shared):
        with open(log, "ab", 0) as file:
            file.write(b"%d\n" % index)
        tries = sum(int(line) == index for line in log.read_bytes().split())
        if tries <= fails:
            raise ValueError(f"attempt {tries} of call {index}")
        first, rest = nested[0], nested[1]["rest"]
        return index + sum(first) + sum(rest) + sum(shared or ())

    calls = graph.build(work)
    output = None if graph.output is None else [calls[index] for index in graph.output]
    result: object
    try:
        result = run(
            graph.plan,
            output=output,
            max_workers=max_workers,
            max_errors=graph.max_errors,
            retry=Retry(graph.attempts) if graph.attempts > 1 else None,
        )
    except CallError as error:
        result = error
    return result, [int(line) for line in log.read_bytes().split()]


@pytest.mark.parametrize("max_workers", [0, 1, 3])
@given(graph=graphs(16))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_comes_to_what_the_serial_model_says(graph, max_workers, tmp_path):
    """Whatever the graph, the right calls are made, in order, and the right values come home."""
    result, made = both(graph, max_workers, tmp_path)
    values, failed, skipped = graph.serial()
    for place, index in enumerate(made):
        assert graph.needs(index) <= {*made[:place]}, "made before what it needs"
    if not failed:
        wanted = None if graph.output is None else [values[index] for index in graph.output]
        assert result == wanted
        assert set(made) == graph.needed()
        return
    assert isinstance(result, CallError)
    assert isinstance(result.__cause__, ValueError)
    told = {outcome.index for outcome in result.failures}
    gone = {call.index for call in result.skipped}
    assert {outcome.index for outcome in result.outcomes} == graph.needed()
    assert set(made) == graph.needed() - gone
    if graph.max_errors is None or len(failed) <= graph.max_errors:
        assert (told, gone) == (failed, skipped)
    else:
        # Some were to be tried again, and are not after all: they have failed as well.
        assert told <= {index for index, spec in enumerate(graph.specs) if spec.fails}
        assert len(told) > graph.max_errors


@pytest.mark.fast
def test_only_what_the_output_needs_is_run(tmp_path):
    """A call that the output does not need is not made."""
    plan = Plan()
    wanted = plan.call(str.upper, "a")
    plan.call((tmp_path / "made").touch)
    assert run(plan, output={"x": [wanted, 1]}) == {"x": ["A", 1]}
    assert not (tmp_path / "made").exists()


def test_without_an_output_all_calls_are_made_and_none_is_returned(tmp_path):
    """``output=None`` runs everything and returns None."""
    plan = Plan()
    plan.call((tmp_path / "made").touch)
    assert run(plan) is None
    assert (tmp_path / "made").exists()


def test_an_output_without_calls_is_returned_as_it_is():
    """Where the output needs no call, none is made."""
    plan = Plan()
    plan.call(os._exit, 3)
    assert run(plan, output=[1, (2,)]) == [1, (2,)]
    assert run(plan, output=plan.lit({})) == {}


def test_an_empty_plan_runs():
    """A plan without calls is over at once."""
    assert run(Plan()) is None
    assert list(run_iter(Plan())) == []


@pytest.mark.parametrize("max_workers", [0, 2])
def test_values_of_all_kinds_go_from_call_to_call(max_workers):
    """Numbers, long integers, constants, text, large bytes and classes arrive unchanged."""
    kinds = [1, -(1 << 80), 2.5, None, True, False, "x" * 100_000, b"y" * 3_000_000, {"a": [1]}]
    kinds += [range(9), ValueError("no"), Path("/tmp")]
    plan = Plan()
    made = [plan.call(lambda value=value: value) for value in kinds]
    again = [plan.call(lambda value: (type(value), value), each) for each in made]
    result = run(plan, output=[again, plan.call(len, made)], max_workers=max_workers)
    assert result[1] == len(kinds)
    for (kind, value), sent in zip(result[0], kinds, strict=True):
        assert kind is type(sent)
        assert value == sent or isinstance(sent, ValueError)


def test_arrays_go_from_child_to_child():
    """Large arrays reach calls in the same child, in another one, and the parent."""
    numpy = pytest.importorskip("numpy")
    plan = Plan()
    arrays = [plan.call(numpy.full, 200_000, number) for number in range(5)]
    doubled = [plan.call(numpy.add, array, array) for array in arrays]
    total = plan.call(lambda given: float(sum(array[7] for array in given)), [*arrays, *doubled])
    assert run(plan, output=(total, doubled[4]), max_workers=2)[0] == 30.0
    assert (run(plan, output=doubled[3]) == 6).all()


@pytest.mark.needs("concurrency")
def test_more_large_values_than_descriptors():
    """Large values that all live at once may be more than this process may have open."""
    numpy = pytest.importorskip("numpy")
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = Plan()
    arrays = [plan.call(numpy.full, 20_000, number) for number in range(150)]
    total = plan.call(lambda given: float(sum(array[-1] for array in given)), arrays)
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, limits[1]))
    try:
        assert run(plan, output=total, max_workers=2) == sum(range(150))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("max_workers", [0, 1, 3])
def test_what_a_call_does_to_its_arguments_no_other_call_sees(max_workers):
    """Each call gets objects of its own, in the same child, in another one, and without any."""
    plan = Plan()
    made = plan.call(lambda: [3, 1, 2])
    changed = [plan.call(lambda given: (given.append(9), len(given))[1], made) for _ in range(20)]
    assert run(plan, output=(changed, made), max_workers=max_workers) == ([4] * 20, [3, 1, 2])


@pytest.mark.needs("concurrency")
def test_the_values_of_a_chain_are_dropped_on_the_way():
    """A chain of calls with large results holds a few of them at a time."""
    numpy = pytest.importorskip("numpy")

    def held(array):
        many = 0
        for path in Path(f"/proc/{os.getppid()}/fd").iterdir():
            try:
                many += "memfd:pcall" in os.readlink(path)
            except FileNotFoundError:
                pass  # closed meanwhile
        return numpy.append(array, many)

    plan = Plan()
    call = plan.call(numpy.zeros, 50_000)
    for _ in range(30):
        call = plan.call(held, call)
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    # Stores and answers of children are among them.
    assert max(run(plan, output=call, max_workers=1)[50_000:]) < 10


@pytest.mark.needs("transport")
def test_a_value_that_can_not_be_sent_fails_its_call():
    """A result that can't be pickled is the error of the call that returned it."""
    plan = Plan()
    bad = plan.call(lambda: open(os.devnull))  # noqa: SIM115
    plan.call(print, bad)
    with pytest.raises(CallError, match="could not be pickled") as caught:
        run(plan)
    assert caught.value.call.index == 0


def test_a_key_that_can_not_be_hashed_is_named():
    """A call that returned something unhashable, and is a key, is named in the error."""
    plan = Plan()
    key = plan.call(list)
    plan.call(len, {key: 1})
    with pytest.raises(CallError, match="<call 0: list> is a key of a dict"):
        run(plan)


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_number_of_values_is_told(count):
    """What returns another number of values than it was unpacked to fails those that use it."""
    plan = Plan()
    first, _ = plan.unpack(plan.call(tuple, "abc"[:count]), 2)
    plan.call(str, first)
    with pytest.raises(CallError, match=f"returned {count} values; it was unpacked to 2"):
        run(plan)


def test_a_failure_tells_its_story():
    """CallError has cause, call, place of planning, failures, outcomes and what was skipped."""

    def fail(value):
        raise KeyError(value)

    plan = Plan()
    good = plan.call(str, 5)
    with plan.scope("bad", 7):
        bad = plan.call(fail, good)
    plan.call(str, [bad])
    with pytest.raises(CallError) as caught:
        run(plan, output=plan.calls, max_errors=None)
    error = caught.value
    assert type(error.__cause__) is KeyError
    assert error.__cause__.args == ("5",)
    assert (error.call.index, error.call.args) == (1, (good,))
    assert error.place.filename == __file__
    assert error.place.line == bad.place.line
    assert [outcome.index for outcome in error.failures] == [1]
    assert [call.index for call in error.skipped] == [2]
    ok, _, skipped = error.outcomes
    assert ok.ok
    assert isinstance(skipped.error, NotStarted)
    assert "it needs <call 1: " in str(skipped.error)
    text = "".join(error.__notes__)
    assert "scope bad / 7" in text
    assert f'File "{__file__}", line {bad.place.line}' in text


@pytest.mark.parametrize(("max_workers", "again"), [(0, False), (2, False), (1, True)])
def test_a_failure_tells_what_the_call_was_given(max_workers, again):
    """Arguments are shown as planned, and a note tells the values that stood for calls."""
    same = ValueError("no")

    def fail(value, parts, *, key, plain):
        raise same if again else ValueError("no")

    plan = Plan()
    for word in ("a", "b"):
        part = plan.call(str.upper, word)
        low, _ = plan.unpack(plan.call(divmod, 17, 5), 2)
        plan.call(fail, part, [1, part], key=low, plain=3)
    outcomes = list(run_iter(plan, max_workers=max_workers, max_errors=None))
    for index, value in ((2, "A"), (5, "B")):
        # An object that both calls of a worker raise has the note of each call.
        notes = [note for note in outcomes[index].error.__notes__ if note[:8] != "in call "]
        assert notes == [
            f"given to call {index}: <call {index - 2}: str.upper> = {value!r}, "
            f"<list of 1, <call {index - 2}: str.upper>> = [1, {value!r}], "
            f"<item 0 of <call {index - 1}: divmod>> = 3"
        ]


@pytest.mark.needs("inheritance")
def test_call_errors_pickle():
    """A CallError goes through pickle with all that it tells, as from a nested run."""

    def nested():
        plan = Plan()
        plan.call(str, plan.call(int, "no"))
        run(plan)

    plan = Plan()
    plan.call(nested)
    with pytest.raises(CallError) as caught:
        run(plan)
    inner = caught.value.__cause__
    assert isinstance(inner, CallError)
    assert isinstance(inner.__cause__, ValueError)
    assert inner.call.name == "int"
    assert inner.place[0] == __file__
    assert len(inner.skipped) == 1


@pytest.mark.needs("isolation")
def test_a_child_that_dies_costs_the_call_that_it_was_with():
    """A child killed fails its call; values that it made before are still there."""
    plan = Plan()
    first = plan.call(lambda: "kept" * 1000)
    dead = plan.call(lambda given: os.kill(os.getpid(), signal.SIGKILL), first)
    after = plan.call(lambda given: len(given), first)
    plan.add_dependency(dead, plan.call(str, 1))
    with pytest.raises(CallError, match="SIGKILL") as caught:
        run(plan, output=plan.calls, max_workers=1, max_errors=None)
    assert isinstance(caught.value.__cause__, ChildDied)
    assert [outcome.ok for outcome in caught.value.outcomes] == [True, False, True, False]
    assert caught.value.outcomes[after.index].value == 4000


@pytest.mark.needs("timeouts")
def test_a_call_that_takes_too_long_is_ended():
    """With a limit of errors a timeout is that call's failure, and others go on."""
    plan = Plan()
    slow = plan.call(time.sleep, 60)
    plan.call(str, slow)
    quick = plan.call(str, 1)
    with pytest.raises(CallError) as caught:
        run(plan, output=plan.calls, timeout=0.5, max_errors=5)
    assert isinstance(caught.value.__cause__, PcallTimeout)
    assert caught.value.outcomes[quick.index].value == "1"


@pytest.mark.parametrize("max_workers", [2, 0])
def test_outcomes_come_in_plan_order(max_workers):
    """``run_iter`` yields in plan order, with values, also of what nothing else needs."""
    plan = Plan()
    plan.call(time.sleep, 0.2)
    for number in range(5):
        plan.call(str, number)
    outcomes = list(run_iter(plan, max_workers=max_workers))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4, 5]
    assert [outcome.value for outcome in outcomes[1:]] == list("01234")


@pytest.mark.needs("concurrency")
def test_outcomes_come_as_they_come():
    """``run_iter(order_results=False)`` does not wait for an earlier call that takes longer."""
    plan = Plan()
    plan.call(time.sleep, 0.5)
    plan.call(str, 1)
    outcomes = list(run_iter(plan, max_workers=2, order_results=False))
    assert [outcome.index for outcome in outcomes] == [1, 0]


def test_failures_are_outcomes_of_the_iteration():
    """``run_iter`` raises nothing for a failed call, and yields those that were skipped."""
    plan = Plan()
    plan.call(str, plan.call(int, "no"))
    failed, skipped = run_iter(plan)
    assert isinstance(failed.error, ValueError)
    assert isinstance(skipped.error, NotStarted)


@pytest.mark.needs("concurrency")
def test_leaving_the_iteration_ends_the_calls():
    """Who stops iterating leaves no child behind."""
    plan = Plan()
    plan.call(str, 1)
    plan.call(time.sleep, 60)
    iterator = run_iter(plan, max_workers=2)
    assert next(iterator).value == "1"
    iterator.close()


def test_what_was_marked_done_is_not_made():
    """A call settled from outside is not made, nor what only it needs; its value is used."""
    plan = Plan()
    before = plan.call(os._exit, 3)
    settled = plan.call(str, before)
    after = plan.call(lambda value: value + "!", settled)
    plan.mark_done(settled, "given")
    assert run(plan, output=[after, settled]) == ["given!", "given"]


def test_what_was_marked_failed_fails_the_run():
    """A call settled as failed is the failure of the run, and what needs it is skipped."""
    plan = Plan()
    settled = plan.call(str)
    plan.call(str, settled)
    plan.mark_failed(settled, LookupError("gone"))
    with pytest.raises(CallError, match="gone") as caught:
        run(plan)
    assert isinstance(caught.value.__cause__, LookupError)
    assert len(caught.value.skipped) == 1


def test_an_interrupt_ends_all_calls():
    """Ctrl-C ends the children and goes on."""
    plan = Plan()
    for _ in range(3):
        plan.call(time.sleep, 60)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(plan)
        assert time.monotonic() - began < 10
    finally:
        signal.signal(signal.SIGALRM, handler)


class Broken(Exception):
    """A signal handler raises it."""


def test_what_a_signal_handler_raises_while_a_plan_is_freed_is_not_lost(unraisable):
    """No function of weak references is called then: Python drops what such a one raises."""

    def handler(number, frame):
        raise Broken

    def interrupt(frame, event, arg):
        if event == "call" and os.path.basename(frame.f_code.co_filename) == "weakref.py":
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        plan = Plan()
        assert run(plan, output=[plan.call(int, "3"), plan.call(bytes, 1_000)]) == [3, bytes(1_000)]
        sys.setprofile(interrupt)
        del plan
        gc.collect()
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, before)
    assert not unraisable


@pytest.fixture
def unraisable(monkeypatch):
    """The exceptions that Python could not raise."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: found.append(repr(each.exc_value)))
    return found


def test_calls_tell_after_the_run_what_became_of_them():
    """``started`` and ``done`` tell which calls were made."""
    plan = Plan()
    failed = plan.call(int, "no")
    skipped = plan.call(str, failed)
    with pytest.raises(CallError):
        run(plan)
    assert (failed.started, failed.done) == (True, True)
    assert (skipped.started, skipped.done) == (False, False)


def test_what_was_settled_from_outside_is_done():
    """A call that was marked is done, and was not started."""
    plan = Plan()
    settled, failed = plan.call(str), plan.call(str)
    plan.mark_done(settled, 1)
    plan.mark_failed(failed, ValueError("no"))
    with pytest.raises(CallError):
        run(plan)
    assert (settled.started, settled.done) == (failed.started, failed.done) == (False, True)


def test_what_can_not_be_unpacked_is_named():
    """A call that returned no items, and was unpacked, is named in the error."""
    plan = Plan()
    plan.call(str, plan.unpack(plan.call(abs, -3), 2)[0])
    with pytest.raises(CallError, match="<call 0: abs> returned 3, and was unpacked to 2 values"):
        run(plan)


def test_names_of_keyword_arguments_are_free():
    """Keyword arguments called ``fn``, ``self`` and ``plan`` pass through."""
    plan = Plan()
    call = plan.call(dict, fn=1, self=2, plan=3)
    assert run(plan, output=call) == {"fn": 1, "self": 2, "plan": 3}


@pytest.mark.engines(why="no run is made")
def test_wrong_arguments_are_told_before_anything_runs():
    """What ``run`` is given wrongly is named at once."""
    plan = Plan()
    plan.call(os._exit, 3)
    with pytest.raises(TypeError, match="plan must be a Plan, not 3"):
        run(3)
    with pytest.raises(ValueError, match="max_errors"):
        run(plan, max_errors=-1)
    with pytest.raises(ValueError, match="another plan"):
        run(plan, output=Plan().call(str))
    with pytest.raises(TypeError, match="engine"):
        run_iter(plan, engine=1)


@pytest.mark.engines(why="no run is made")
def test_a_cycle_is_named_before_anything_runs(tmp_path):
    """Calls that wait for each other are named, and none is made."""
    plan = Plan()
    plan.call((tmp_path / "made").touch)
    first = plan.call(str)
    second = plan.call(str, [first])
    plan.add_dependency(second, first)
    text = r"<call 1: str> waits for <call 2: str> waits for <call 1"
    with pytest.raises(CycleError, match=text) as caught:
        run(plan)
    assert isinstance(caught.value, ValueError)
    assert caught.value.calls == (first, second)
    with pytest.raises(CycleError):
        run_iter(plan)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.calls, str(again)) == (caught.value.calls, str(caught.value))
    assert not (tmp_path / "made").exists()


@pytest.mark.engines("inline", why="it notes the order in this process")
def test_a_call_may_wait_for_a_later_one():
    """A dependency on a call that was planned later is no cycle by itself."""
    order = []
    plan = Plan()
    first = plan.call(order.append, 1)
    plan.add_dependency(plan.call(order.append, 2), first)
    run(plan, max_workers=0)
    assert order == [2, 1]
