"""docs/plans.rst: ``DependenciesFailed`` has dependencies made again, so often at most."""

from __future__ import annotations

import pytest

from pcall import CallError, DependenciesFailed, Plan, run, run_iter
from pcall.plan.rerun_scheduler import RERUNS


def count(path) -> int:
    """Note that this was called; how often it was."""
    with open(path, "ab", 0) as file:
        file.write(b".")
    return path.stat().st_size


@pytest.mark.fast
@pytest.mark.parametrize("max_workers", [0, 1, 2])
def test_dependencies_are_made_again_and_then_the_call(tmp_path, max_workers):
    """What the call names is made again, and what was made of that, and nothing else."""
    plan = Plan()
    kept = plan.call(count, tmp_path / "kept")
    source = plan.call(count, tmp_path / "source")
    made = plan.call(lambda source, kept: count(tmp_path / "made") and (source, kept), source, kept)

    def use(made):
        count(tmp_path / "use")
        if made[0] < 3:
            raise DependenciesFailed({"made": [source]})
        return made

    used = plan.call(use, made)
    assert run(plan, output=[used, kept], max_workers=max_workers) == [(3, 1), 1]
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {"kept": 1, "source": 3, "made": 3, "use": 3}


@pytest.mark.parametrize("max_workers", [0, 2])
def test_what_was_dropped_is_made_again_for_it(tmp_path, max_workers):
    """A dependency whose own arguments have been dropped since gets them anew."""
    plan = Plan()
    source = plan.call(count, tmp_path / "source")
    middle = plan.call(lambda n: "x" * 100 + str(n), source)

    def use(text):
        if text.endswith("1"):
            raise DependenciesFailed({"text": [middle]})
        return text[100:]

    assert run(plan, output=plan.call(use, middle), max_workers=max_workers) == "2"


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize("given", [3, {"value": 3}, ["value"], {"value": None}])
def test_what_is_no_mapping_to_lists_is_refused(given):
    """Dependencies are told as names with lists of calls, or not at all."""
    with pytest.raises(TypeError, match="dependencies must map names to lists of calls, not be"):
        DependenciesFailed(given)


def test_it_is_bounded(tmp_path):
    """A call that is never content fails after so many times."""
    plan = Plan()
    source = plan.call(count, tmp_path / "source")

    def use(value):
        raise DependenciesFailed({"value": [source]})

    plan.call(use, source)
    with pytest.raises(CallError, match="these values can't be used: value") as caught:
        run(plan)
    assert caught.value.__cause__.dependencies == {"value": [source]}
    assert (tmp_path / "source").stat().st_size == 1 + RERUNS


def test_what_a_call_does_not_need_is_not_made_again(tmp_path):
    """To name a call that is no dependency is a failure like any other."""
    plan = Plan()
    other = plan.call(count, tmp_path / "other")

    def use():
        raise DependenciesFailed({"x": [other]})

    plan.add_dependency(other, later := plan.call(str))
    plan.call(use)
    plan.add_dependency(later, plan.calls[-1])
    plan.call(str)
    stranger = plan.calls[-1]

    def other_use():
        raise DependenciesFailed({"x": [stranger]})

    plan.call(other_use)
    with pytest.raises(CallError) as caught:
        run(plan, max_errors=None)
    assert {outcome.index for outcome in caught.value.failures} == {2, 4}


@pytest.mark.parametrize("max_workers", [1, 0])
def test_others_that_need_it_wait_for_the_new_value(tmp_path, max_workers):
    """A call that has not started when a dependency is made again gets the new value."""
    plan = Plan()
    source = plan.call(count, tmp_path / "source")

    def use(value):
        if value == 1:
            raise DependenciesFailed({"value": [source]})
        return value

    used = plan.call(use, source)
    used.priority = 1
    other = plan.call(lambda value: value, source)
    assert run(plan, output=[used, other], max_workers=max_workers) == [2, 2]


@pytest.mark.parametrize("max_workers", [0, 1, 2])
@pytest.mark.parametrize("ordered", [False, True])
def test_the_iteration_yields_each_call_once(tmp_path, max_workers, ordered):
    """A call that is made again is yielded once, with a value."""
    plan = Plan()
    source = plan.call(count, tmp_path / "source")

    def use(value):
        if value < 3:
            raise DependenciesFailed({"value": [source]})
        return -value

    plan.call(use, source)
    outcomes = list(run_iter(plan, order_results=ordered, max_workers=max_workers))
    assert sorted(outcome.index for outcome in outcomes) == [0, 1]
    values = {outcome.index: outcome.value for outcome in outcomes}
    assert values[0] in (1, 2, 3)
    assert values[1] == -3


@pytest.mark.engines("inline", why="there all calls end before the first outcome is yielded")
def test_the_iteration_yields_the_last_outcome(tmp_path):
    """A call that is made again before its outcome was yielded has the last one."""
    plan = Plan()

    def use(value):
        if value == 1:
            raise DependenciesFailed({"value": [source]})
        return value

    # In this process all calls have ended before the first outcome is yielded.
    source = plan.call(count, tmp_path / "source")
    plan.call(use, source)
    iterator = run_iter(plan, order_results=False, max_workers=0)
    assert [(outcome.index, outcome.value) for outcome in iterator] == [(0, 2), (1, 2)]


@pytest.mark.parametrize("max_workers", [0, 2])
def test_a_settled_call_is_not_executed_for_a_rerun(tmp_path, max_workers):
    """A call that is made again gets the values of settled calls as they were given."""
    plan = Plan()
    settled = plan.call(count, tmp_path / "settled")
    plan.mark_done(settled, 7)
    middle = plan.call(lambda value: (value, count(tmp_path / "middle")), settled)

    def use(pair):
        if pair[1] == 1:
            raise DependenciesFailed({"pair": [middle]})
        return pair

    assert run(plan, output=plan.call(use, middle), max_workers=max_workers) == (7, 2)
    assert not (tmp_path / "settled").exists()


@pytest.mark.parametrize("max_workers", [0, 2])
def test_what_only_a_settled_call_would_need_is_no_dependency(tmp_path, max_workers):
    """A call that is named although a settled one stands before it is not made for that."""
    plan = Plan()
    source = plan.call(count, tmp_path / "source")
    settled = plan.call(count, plan.call(lambda *_: tmp_path / "settled", source))
    plan.mark_done(settled, 7)

    def use(value):
        raise DependenciesFailed({"value": [source]})

    call = plan.call(use, settled)
    with pytest.raises(CallError, match="these values can't be used"):
        run(plan, output=call, max_workers=max_workers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("max_workers", [0, 2])
def test_a_report_is_no_attempt_of_retry(tmp_path, max_workers):
    """A call that has reported its dependencies has all its attempts left."""
    plan = Plan()
    source = plan.call(count, tmp_path / "source")

    def use(value):
        if value < 3:
            raise DependenciesFailed({"value": [source]})
        if count(tmp_path / "use") < 2:
            raise OSError("not yet")
        return value

    used = plan.call(use, source)
    assert run(plan, output=used, max_workers=max_workers, retry=2) == 3
