"""docs/policy.rst: the policy of a run, as far as the event loop needs it."""

from __future__ import annotations

import fractions
import functools
import math
import os
import time

import numpy
import pytest

from pcall import (
    ChildProcessException,
    NotStarted,
    Outcome,
    Pcall,
    PcallTimeout,
    Retry,
    TaskCancelled,
    pcall,
)


def square(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * x


def here(x):
    return os.getpid()


# ------------------------------------------------------------------ class statements


class _Careful(Pcall, max_errors=None, return_outcomes=True):
    """A policy, and a method."""

    def failed(self):
        return [outcome.index for outcome in self.results if not outcome.ok]


def test_a_class_statement_takes_options(engine):
    """``class Mine(Pcall, max_errors=None)`` is a subclass with that policy."""
    run = _Careful(square, x=[1, -1, 2])
    run.start()
    run.join()
    assert run.failed() == [1]
    assert [each.ok for each in _Careful.pcall(square, x=[-1, 1])] == [False, True]


@pytest.mark.engines(why="no run is made")
def test_the_options_of_a_class_statement_are_inherited():
    """A subclass keeps the options that it does not change, and its base class keeps all."""

    class Kept(_Careful, return_outcomes=False):
        pass

    class Plain(Kept):
        pass

    assert Plain._options == Pcall._options.but({"max_errors": None})
    assert Plain.options(max_errors=0)._options == Pcall._options
    assert _Careful._options.return_outcomes


@pytest.mark.engines(why="no run is made")
def test_a_wrong_option_of_a_class_statement():
    """It is refused where the class is made, and the text names the nearest option."""
    with pytest.raises(TypeError, match="unknown option 'max_worker'; did you mean 'max_workers'"):

        class Wrong(Pcall, max_worker=2):
            pass


# ------------------------------------------------------------------ validation


@pytest.mark.engines(why="no run is made")
@pytest.mark.fast
@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ({"max_workers": -1}, ValueError),
        ({"max_workers": 1.5}, TypeError),
        ({"max_workers": "2"}, TypeError),
        ({"max_workers": True}, TypeError),
        ({"max_errors": -1}, ValueError),
        ({"max_errors": 0.5}, TypeError),
        ({"max_errors": False}, TypeError),
        ({"grace_period": -1}, ValueError),
        ({"grace_period": math.nan}, ValueError),
        ({"grace_period": math.inf}, ValueError),
        ({"grace_period": "5"}, TypeError),
        ({"grace_period": None}, TypeError),
        ({"grace_period": True}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": -3}, ValueError),
        ({"max_tasks_per_child": True}, TypeError),
        ({"max_tasks_per_child": 2.0}, TypeError),
        ({"max_tasks_per_child": "1"}, TypeError),
        ({"retry": 0}, ValueError),
        ({"retry": -2}, ValueError),
        ({"retry": True}, TypeError),
        ({"retry": 1.5}, TypeError),
        ({"retry": "3"}, TypeError),
        ({"retry": [ValueError]}, TypeError),
        ({"return_outcomes": 1}, TypeError),
        ({"return_outcomes": None}, TypeError),
    ],
)
def test_ill_typed_options_raise_at_once(policy, error):
    """Ill-typed options raise at once, and the text names the option and the value."""
    (name, value), *_ = policy.items()
    with pytest.raises(error, match=rf"^{name} must be .*{value!r}|^{name} must be finite"):
        Pcall.options(**policy)


@pytest.mark.engines(why="it chooses the engines itself")
@pytest.mark.parametrize(
    "policy",
    [
        {"max_workers": None},
        {"max_workers": 0},
        {"max_workers": 10**9},
        {"max_errors": None},
        {"max_errors": 3},
        {"grace_period": 0},
        {"grace_period": 0.25},
        {"grace_period": fractions.Fraction(1, 2)},
        {"grace_period": numpy.float32(0.5)},
        {"max_tasks_per_child": 1},
        {"return_outcomes": True},
        {"retry": None},
        {"retry": 1},
        {"retry": 3},
        {"retry": Retry(3, on=(OSError, KeyError), wait=1, max_wait=10, jitter=0.5)},
        {"retry": functools.cache},
        {},
    ],
)
def test_what_the_table_allows_is_taken(policy):
    """Every value that the table of options allows makes a policy that runs."""
    results = Pcall.options(**policy).pcall(square, x=(1, 2))
    values = [r.value for r in results] if policy.get("return_outcomes") else list(results)
    assert values == [1, 4]


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize("count", [1, 2, 10**9, None])
def test_max_tasks_per_child_takes_any_count(count):
    """A child takes one call or any number of them, or with None has no end to it."""
    assert issubclass(Pcall.options(max_tasks_per_child=count), Pcall)


@pytest.mark.engines(why="no run is made")
def test_a_retry_says_what_it_may_be():
    """An ill-typed retry names all that it could have been."""
    with pytest.raises(TypeError, match=r"an int .*, a Retry, a decorator or None, not '3'"):
        Pcall.options(retry="3")


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize(
    ("cls", "meant"), [(Retry, r"Retry\(attempts\)"), (OSError, r"Retry\(attempts, on=OSError\)")]
)
def test_a_class_is_no_rule_for_attempts(cls, meant):
    """The class of rules, and one of exceptions, would pass for a decorator, and fail later."""
    with pytest.raises(TypeError, match=f"^retry must not be the class .*; write {meant}$"):
        Pcall.options(retry=cls)


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("max_worker", "max_workers"),
        ("workers", "max_workers"),
        ("maxerrors", "max_errors"),
        ("grace", "grace_period"),
        ("return_outcome", "return_outcomes"),
        ("max_tasks_per_chlid", "max_tasks_per_child"),
        ("max_task_per_child", "max_tasks_per_child"),
        ("retries", "retry"),
    ],
)
def test_an_unknown_option_names_the_nearest(wrong, nearest):
    """Unknown options raise at once, naming the nearest valid one."""
    with pytest.raises(TypeError, match=rf"'{wrong}'.*'{nearest}'"):
        Pcall.options(**{wrong: 1})


@pytest.mark.engines(why="no run is made")
def test_an_option_unlike_any_names_them_all():
    """Where no valid name is near, all are named."""
    with pytest.raises(TypeError, match=r"'xyz'.*max_workers.*return_outcomes"):
        Pcall.options(xyz=1)


def test_a_policy_is_never_taken_from_the_call():
    """Every name beyond the seven of pcall belongs to the target, an option's name too."""
    assert pcall(lambda **kwargs: kwargs, max_workers=[8], retry=[3]) == (
        {"max_workers": 8, "retry": 3},
    )


# ------------------------------------------------------------------ classes of classes


@pytest.mark.needs("processes")
def test_options_makes_a_subclass():
    """Pcall.options returns a configured subclass, and leaves Pcall as it was."""
    Inline = Pcall.options(max_workers=0)
    assert issubclass(Inline, Pcall)
    assert Inline is not Pcall
    assert Inline.pcall(here, x=[1]) == (os.getpid(),)
    assert Pcall.pcall(here, x=[1]) != (os.getpid(),)
    assert pcall(here, x=[1]) != (os.getpid(),)


@pytest.mark.engines("inline", why="it is about this engine")
def test_the_object_of_a_configured_class():
    """The object of a configured class follows its policy."""
    run = Pcall.options(max_workers=0)(here, x=[1, 2])
    run.start()
    run.join()
    assert run.results == (os.getpid(),) * 2


@pytest.mark.needs("processes")
def test_options_of_options():
    """What is not named stays as it is; what is named again is replaced."""
    Quiet = Pcall.options(return_outcomes=True, max_workers=0, max_errors=None)
    (first, second) = Quiet.options(max_workers=1).pcall(square, x=(-1, 2))
    assert isinstance(first.error, ValueError)
    assert second.value == 4
    assert second.pid != os.getpid()
    assert Quiet.pcall(square, x=[2])[0].pid == os.getpid()


@pytest.mark.parametrize("max_workers", [1, 0])
def test_options_of_a_subclass(max_workers):
    """A user's subclass keeps its own members in the class that options returns."""

    class Mine(Pcall):
        """My runs."""

        def total(self):
            return sum(self.results or ())

    Bounded = Mine.options(max_workers=max_workers)
    assert issubclass(Bounded, Mine)
    run = Bounded(square, x=(1, 2, 3))
    with run:
        pass
    assert run.total() == 14


@pytest.mark.engines(why="no run is made")
def test_a_configured_class_says_where_it_comes_from():
    """The name of a configured class is that of its base."""

    class Mine(Pcall):
        pass

    assert Mine.options(max_workers=1).__name__ == "Mine"


# ------------------------------------------------------------------ each option


@pytest.mark.parametrize("timeout", [None, 0, 0.0, math.inf, 60, 1e300, fractions.Fraction(60)])
def test_timeouts_that_do_not_bite(timeout):
    """None and 0 set no limit, infinity neither; any other number is a limit in seconds."""
    assert pcall(square, timeout, x=(2, 3)) == (4, 9)


@pytest.mark.parametrize("max_workers", [1, 0])
def test_return_outcomes(max_workers):
    """With return_outcomes nothing is raised, and the outcomes are the result."""
    outcomes = Pcall.options(return_outcomes=True, max_workers=max_workers).pcall(
        square, x=(2, -1, 3)
    )
    assert [type(outcome) for outcome in outcomes] == [Outcome] * 3
    assert [outcome.ok for outcome in outcomes] == [True, False, False]
    assert [type(outcome.error) for outcome in outcomes] == [type(None), ValueError, NotStarted]


@pytest.mark.needs("timeouts")
def test_return_outcomes_of_a_timeout():
    """With return_outcomes a timeout is the outcome of its call, and raises nothing."""
    patient = Pcall.options(return_outcomes=True, max_errors=None)
    long, short = patient.pcall(time.sleep, 0.5, iargs=[(60,), (0,)])
    assert isinstance(long.error, PcallTimeout)
    assert isinstance(long.error.__cause__, TaskCancelled)
    assert short.ok


@pytest.mark.needs("concurrency")
def test_max_workers_bounds_what_runs_at_once(tmp_path):
    """No more than max_workers calls run at once."""

    def count(x):
        mine = tmp_path / str(x)
        mine.touch()
        time.sleep(0.1)
        running = len(list(tmp_path.iterdir()))
        mine.unlink()
        return running

    running = Pcall.options(max_workers=3).pcall(count, x=range(12))
    assert max(running) <= 3
    assert len(running) == 12


@pytest.mark.parametrize("max_workers", [1, 0])
def test_calls_start_in_call_order(max_workers):
    """Queued calls start in call order."""
    outcomes = Pcall.options(max_workers=max_workers, return_outcomes=True).pcall(
        square, x=range(5)
    )
    started = [outcome.started for outcome in outcomes]
    assert started == sorted(started)


@pytest.mark.needs("no queue")
def test_without_max_workers_all_run_at_once(tmp_path):
    """By default all calls run at once, so that calls which wait for each other end."""

    def meet(x):
        (tmp_path / str(x)).touch()
        end = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 12 and time.monotonic() < end:
            time.sleep(0.005)
        return time.monotonic() < end

    assert pcall(meet, x=range(12)) == (True,) * 12


@pytest.mark.parametrize("max_errors", [0, 1, 3])
@pytest.mark.parametrize("max_workers", [0, 1])
def test_max_errors_failures_are_tolerated(max_workers, max_errors):
    """After more than max_errors failed calls no further call starts."""
    policy = Pcall.options(max_workers=max_workers, max_errors=max_errors, return_outcomes=True)
    outcomes = policy.pcall(square, x=[1, -1, 2, -2, 3, -3, 4, -4, 5, -5])
    failed = [o for o in outcomes if isinstance(o.error, ValueError)]
    skipped = [o for o in outcomes if isinstance(o.error, NotStarted)]
    assert len(failed) == max_errors + 1
    assert [o.index for o in skipped] == list(range(2 * max_errors + 2, 10))


@pytest.mark.parametrize("max_workers", [2, 0])
def test_max_errors_none_tolerates_all(max_workers):
    """With max_errors None every call runs, however many have failed."""
    policy = Pcall.options(max_workers=max_workers, max_errors=None, return_outcomes=True)
    assert all(isinstance(o.error, ValueError) for o in policy.pcall(square, x=[-1] * 8))


@pytest.mark.needs("no queue")
@pytest.mark.parametrize("count", [5, 100])
def test_without_a_queue_a_failure_stops_no_call(count):
    """max_errors matters once calls queue: where all run at once, all run."""
    outcomes = Pcall.options(return_outcomes=True).pcall(square, x=[-1] * count)
    assert [type(o.error) for o in outcomes] == [ValueError] * count


@pytest.mark.parametrize("max_workers", [1, 0])
def test_a_tolerated_failure_is_raised_in_the_end(max_workers):
    """Failures that max_errors tolerates let the others run, and are raised after them."""
    run = Pcall.options(max_workers=max_workers, max_errors=5)(square, x=[-1, 2, 3])
    with pytest.raises(ChildProcessException, match="negative: -1"), run:
        pass
    assert [o.value for o in run.outcomes[1:]] == [4, 9]


# ------------------------------------------------------------------ max_workers=0


@pytest.mark.engines("inline", why="it is about this engine")
def test_inline_calls_run_in_this_process():
    """max_workers=0: no fork, calls run one after another in this process."""
    seen = []
    assert Pcall.options(max_workers=0).pcall(seen.append, iargs=[(1,), (2,)]) == (None, None)
    assert seen == [1, 2]


@pytest.mark.parametrize("max_workers", [0, 1, None])
def test_errors_are_the_same_inline(max_workers):
    """max_workers=0 raises what the run would raise with children."""
    run = Pcall.options(max_workers=max_workers, max_errors=None)(square, x=[1, -2, -3])
    run.start()
    with pytest.raises(ChildProcessException) as caught:
        run.join()
    error = caught.value
    assert type(error) is ChildProcessException
    assert str(error) == "negative: -2"
    assert type(error.__cause__) is ValueError
    assert [o.index for o in error.failures] == [1, 2]
    assert [o.value for o in error.outcomes] == [1, None, None]
    assert any("square(x=-2)" in note for note in error.__notes__)
    tb = error.__cause__.__traceback__
    while tb.tb_next:
        tb = tb.tb_next
    assert tb.tb_frame.f_code.co_name == "square"
    assert run.results is None
    assert run.done


@pytest.mark.parametrize("max_workers", [0, 1])
def test_a_coroutine_function_inline(max_workers):
    """A coroutine function runs to its end inline as well."""

    async def double(x):
        return 2 * x

    assert Pcall.options(max_workers=max_workers).pcall(double, x=[1, 2]) == (2, 4)


@pytest.mark.parametrize("max_workers", [0, 1])
def test_a_system_exit_is_the_calls_failure_inline_too(max_workers):
    """A call that exits fails; inline it does not take this process with it."""

    def leave():
        raise SystemExit(3)

    with pytest.raises(ChildProcessException) as caught:
        Pcall.options(max_workers=max_workers).pcall(leave)
    assert caught.value.__cause__.code == 3


@pytest.mark.engines("inline", why="it is about this engine")
def test_a_failed_call_is_logged_inline_too(caplog):
    """A failed call is logged through the logger pcall at ERROR, in the process it ran in."""
    with pytest.raises(ChildProcessException):
        Pcall.options(max_workers=0).pcall(square, x=[-7])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pcall", "ERROR")
    assert "square(x=-7)" in record.getMessage()
