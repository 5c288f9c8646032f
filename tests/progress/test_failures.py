"""docs/progress.rst: equal exceptions are grouped with a count, in memory that is bounded."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from types import SimpleNamespace

import pytest

from pcall import ChildDied, Pcall, RemoteError
from pcall._core.records import Event
from pcall.progress.failure_groups import GroupedFailures
from tests.helpers.progress_runs import PROBE, failed, outcome_of, probe


def caught(function, *args) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


def groups_of(*errors: BaseException | int, keep: int = 0) -> list:
    failures = GroupedFailures(keep)
    for index, error in enumerate(errors):
        failures.add(failed(error, index=index))
    return failures.groups


@pytest.mark.fast
def test_equal_exceptions_are_one_group():
    """Exceptions of one type that were raised in the same line are counted together."""
    (group,) = groups_of(2, 5, 8)
    assert group.count == group.failed == 3
    assert group.title == "ConnectionError: refused"
    assert "in probe\n    raise ConnectionError" in group.kept[0].traceback


def test_different_exceptions_are_different_groups():
    """Another type, or another line, is another group."""
    assert [group.type_name for group in groups_of(0, 1, 2, 3)] == [
        "ZeroDivisionError",
        "ValueError",
        "ConnectionError",
    ]

    def two(which):
        if which:
            raise KeyError
        raise KeyError

    assert [group.count for group in groups_of(*(caught(two, n) for n in (0, 1, 1)))] == [1, 2]


def test_texts_of_a_group_are_counted():
    """Exceptions that differ in their text alone are one group, which tells the texts apart."""
    (group,) = groups_of(1, 4, 4, 7)
    assert group.texts == {
        "no answer from host-1": 1,
        "no answer from host-4": 2,
        "no answer from host-7": 1,
    }
    assert group.title == "ValueError: no answer from host-4 (or another text)"


def test_causes_tell_groups_apart():
    """The same line with another cause is another group; what is suppressed does not count."""

    def wrap(number, quiet):
        try:
            probe(number)
        except Exception as error:
            raise RuntimeError("wrapped") from (None if quiet else error)

    errors = [caught(wrap, number, False) for number in (0, 2, 3)]
    assert [group.count for group in groups_of(*errors)] == [2, 1]
    errors = [caught(wrap, number, True) for number in (0, 2, 3)]
    assert [group.count for group in groups_of(*errors)] == [3]


def test_members_tell_exception_groups_apart():
    """Exception groups are equal when their members are."""

    def together(*numbers):
        raise ExceptionGroup("some", [caught(probe, number) for number in numbers])

    errors = [caught(together, *numbers) for numbers in ((0, 1), (3, 4), (0, 2))]
    assert [group.count for group in groups_of(*errors)] == [2, 1]


def test_lost_children_are_grouped_by_how_they_ended():
    """Children killed by one signal are one group, whatever they ran."""
    found = groups_of(ChildDied(-11), ChildDied(-11), ChildDied(-9))
    assert [group.count for group in found] == [2, 1]
    assert "SIGSEGV" in found[0].title


def test_what_could_not_be_rebuilt_goes_by_its_name():
    """An exception that arrived as RemoteError is grouped by the type that it stands for."""
    errors = [RemoteError("lib.Odd", "text", "tb"), RemoteError("lib.Other", "text", "tb")]
    assert [group.type_name for group in groups_of(*errors)] == ["lib.Odd", "lib.Other"]


def test_recursions_of_any_depth_are_equal():
    """How deep a recursion went makes no difference."""

    def dig(depth):
        if not depth:
            raise ValueError
        dig(depth - 1)

    assert [group.count for group in groups_of(caught(dig, 3), caught(dig, 50))] == [2]


def test_exceptions_of_different_scopes_are_one_group():
    """Equal exceptions are one group also where calls of several scopes raised them."""
    failures = GroupedFailures()
    failures.add(failed(0, scope=("a",)))
    failures.add(failed(0, scope=("b",)))
    (group,) = failures.groups
    assert (group.scope, group.elsewhere, group.count) == (("a",), True, 2)


def test_attempts_that_were_retried_are_counted_apart():
    """A group tells calls that failed from attempts that were followed by another."""
    failures = GroupedFailures()
    failures.add(failed(0, kind="retried"))
    failures.add(failed(0, attempts=2))
    (group,) = failures.groups
    assert (group.failed, group.retried, group.count) == (1, 1, 2)
    assert group.kept[0].retried


def test_failures_are_kept_singly_up_to_a_bound():
    """So many failures are kept each by itself, and beyond that the first of each group."""
    first, second = groups_of(*[2] * 10, 0, 0, keep=5)
    assert [failure.index for failure in first.kept] == [0, 1, 2, 3, 4, 5]
    assert [failure.index for failure in second.kept] == [10]


def test_a_failure_tells_of_its_call():
    """What is kept of a failure names its call, attempt, process, text and full traceback."""
    failures = GroupedFailures()
    failures.add(Event("failed", PROBE, 0.0, outcome=outcome_of(4, index=17, attempts=3)))
    (failure,) = failures.groups[0].kept
    assert (failure.call, failure.index, failure.attempt) == ("probe(4)", 17, 3)
    assert (failure.pid, failure.duration, failure.retried) == (4017, 0.25, False)
    assert failure.text == "no answer from host-4"
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert failure.traceback.endswith("ValueError: no answer from host-4")


@pytest.mark.usefixtures("engine")
def test_real_failures_have_the_childs_lines():
    """The errors of real calls are grouped by the lines of the child."""
    outcomes = Pcall.options(return_outcomes=True, max_errors=None).pcall(probe, number=range(12))
    (_, zero), (_, value), (_, refused) = failures = [
        (group.count, group.kept[0].traceback)
        for group in groups_of(*(outcome.error for outcome in outcomes))
    ]
    assert [count for count, _ in failures] == [4, 4, 4]
    assert "return number / 0" in zero
    assert "raise ValueError" in value
    assert "raise ConnectionError" in refused
    assert "pcall/_" not in zero


def test_inline_failures_show_the_users_lines_alone():
    """The library's own frames are not shown, also of calls that ran in this process."""
    inline = Pcall.options(return_outcomes=True, max_workers=0)
    (outcome,) = inline.pcall(probe, number=[0])
    (group,) = groups_of(outcome.error)
    assert "return number / 0" in group.kept[0].traceback
    assert "_inline" not in group.kept[0].traceback


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class HostileArgument:
    def __repr__(self):
        raise RuntimeError


def test_exceptions_that_cannot_be_shown():
    """An exception, or an argument, whose text fails is told of all the same."""
    failures = GroupedFailures()
    outcome = outcome_of(Hostile(), args=(HostileArgument(),))
    failures.add(Event("failed", PROBE, 0.0, outcome=outcome))
    (group,) = failures.groups
    assert "Hostile" in group.title
    assert group.kept[0].call.startswith("probe(<HostileArgument")


def test_a_circle_of_causes_has_an_end():
    """Exceptions that are each other's cause are grouped as others are."""
    first, second = ValueError("one"), KeyError("two")
    first.__cause__, second.__cause__ = second, first
    assert [group.count for group in groups_of(first, first)] == [2]


def distinct(number: int) -> BaseException:
    """An exception with a line of its own: it is equal to no other."""
    names: dict[str, object] = {}
    source = "\n" * number + "def fail(): raise LookupError('x' * 10000)"
    exec(compile(source, f"made-{number}.py", "exec"), names)
    return caught(names["fail"])


@pytest.mark.parametrize("kind", ["equal", "texts", "groups"])
def test_memory_is_bounded(kind):
    """Forty thousand failures take a few megabytes, equal ones and different ones."""
    errors = {
        "equal": lambda number: 2,
        "texts": lambda number: ValueError(f"{number} " + "x" * 5000),
        "groups": lambda number: distinct(number),
    }[kind]
    count = 1_500 if kind == "groups" else 40_000
    failures = GroupedFailures(keep=1000)
    call = outcome_of(0).call
    tracemalloc.start()
    try:
        for number in range(count):
            if number == count // 2:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
            error = errors(number)
            outcome = outcome_of(error) if isinstance(error, int) else None
            made = outcome or SimpleNamespace(
                error=error, call=call, index=number, attempts=1, pid=1, duration=0.1, log=None
            )
            failures.add(Event("failed", PROBE, 0.0, outcome=made))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert failures.count == count
    assert len(failures.groups) <= 100
    assert sum(len(group.kept) for group in failures.groups) <= 1100
    assert sum(len(group.texts) for group in failures.groups) <= 2000
    assert grown < 2_000_000
    kept = [failure for group in failures.groups for failure in group.kept]
    assert sum(sys.getsizeof(failure.traceback) for failure in kept) < 10_000_000
