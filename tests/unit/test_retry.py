"""docs/policy.rst: ``Retry``, the rule: how often, for which errors, after which wait."""

from __future__ import annotations

import dataclasses
import fractions
import math
import pickle

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcall import ChildDied, PcallTimeout, Retry, TaskCancelled


class Box:
    """Neither an exception nor callable."""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"attempts": 0}, ValueError),
        ({"attempts": -1}, ValueError),
        ({"attempts": 1.5}, TypeError),
        ({"attempts": "3"}, TypeError),
        ({"attempts": None}, TypeError),
        ({"attempts": True}, TypeError),
        ({"wait": -1}, ValueError),
        ({"wait": math.nan}, ValueError),
        ({"wait": math.inf}, ValueError),
        ({"wait": "1"}, TypeError),
        ({"wait": None}, TypeError),
        ({"wait": True}, TypeError),
        ({"max_wait": -0.5}, ValueError),
        ({"max_wait": math.nan}, ValueError),
        ({"max_wait": "1"}, TypeError),
        ({"jitter": -1}, ValueError),
        ({"jitter": math.inf}, ValueError),
        ({"jitter": [1]}, TypeError),
        ({"on": None}, TypeError),
        ({"on": 5}, TypeError),
        ({"on": "ValueError"}, TypeError),
        ({"on": ()}, TypeError),
        ({"on": []}, TypeError),
        ({"on": [ValueError, "KeyError"]}, TypeError),
        ({"on": (ValueError, int)}, TypeError),
        ({"on": ValueError("an instance")}, TypeError),
        ({"on": int}, TypeError),
        ({"on": Box}, TypeError),
    ],
    ids=str,
)
def test_wrong_values_raise_at_once(arguments, error):
    """A wrong value raises at once, and the text names the argument and the value."""
    ((name, value),) = arguments.items()
    with pytest.raises(error) as caught:
        Retry(**{"attempts": 3} | arguments)
    assert str(caught.value).startswith(f"{name} must be ")
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 1},
        {"attempts": 10**9},
        {"wait": 0, "max_wait": 0, "jitter": 0},
        {"wait": fractions.Fraction(1, 2), "jitter": numpy.float32(0.5)},
        {"max_wait": math.inf},
        {"on": BaseException},
        {"on": (OSError, KeyError)},
        {"on": {OSError, KeyError}},
        {"on": callable},
    ],
    ids=str,
)
def test_what_the_rule_takes(arguments):
    """Every value in range makes a rule, and its first wait is a number of seconds."""
    assert Retry(**{"attempts": 3} | arguments).delay(1, 0.5) >= 0.0


def test_a_rule_is_a_value():
    """A rule is frozen, equal to one with the same values, and can be pickled."""
    rule = Retry(3, on=[OSError, KeyError], wait=1)
    assert rule == Retry(3, on=(OSError, KeyError), wait=1.0)
    assert pickle.loads(pickle.dumps(rule)) == rule
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.attempts = 4


# ------------------------------------------------------------------ the wait


def test_the_wait_doubles_up_to_the_longest():
    """Before attempt n + 1 it waits wait * 2 ** (n - 1) seconds, and no longer than max_wait."""
    rule = Retry(9, wait=0.5, max_wait=3)
    assert [rule.delay(attempt, 1.0) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_by_default_it_does_not_wait():
    """Without wait= the next attempt is due at once."""
    assert [Retry(9).delay(attempt, 1.0) for attempt in (1, 2, 3)] == [0.0] * 3


def test_the_longest_wait_is_a_minute_by_default():
    """max_wait is 60 seconds unless it is given."""
    assert Retry(99, wait=1).delay(99, 0.0) == 60.0


@given(st.integers(1, 10**6), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_the_wait_stays_within_its_bounds(attempt, wait, max_wait, jitter):
    """Each wait is at least the doubled one, and up to jitter seconds more, at any attempt."""
    rule = Retry(10**6, wait=wait, max_wait=max_wait, jitter=jitter)
    least, half, most = (rule.delay(attempt, chance) for chance in (0.0, 0.5, 1.0))
    assert min(wait, max_wait) <= least <= max_wait
    assert most == pytest.approx(least + jitter)
    assert least <= half <= most


@pytest.mark.parametrize(
    "wait",
    [10**400, fractions.Fraction(1, 3), numpy.float32(1e30)],
    ids=lambda wait: type(wait).__name__,
)
def test_a_number_of_any_kind_waits(wait):
    """A wait that is any kind of number never fails when the time has come."""
    try:
        rule = Retry(2000, wait=wait)
    except ValueError:
        return  # no float can hold it: that was told at once
    assert 0 < rule.delay(1999, 0.5) <= 60


# ------------------------------------------------------------------ which errors


@pytest.mark.parametrize(
    "on",
    [
        OSError,
        (OSError, KeyError),
        [KeyError, OSError],
        {OSError},
        (kind for kind in (OSError, KeyError)),
        lambda error: isinstance(error, OSError),
        lambda error: ["anything", "true"] if isinstance(error, OSError) else "",
    ],
    ids=["class", "tuple", "list", "set", "generator", "predicate", "truth"],
)
def test_on_decides(on):
    """Errors of the classes that were given are tried again, or those a function says yes to."""
    rule = Retry(3, on=on)
    for _ in range(2):  # an iterable that can be read once alone is no less good later
        assert rule.decides(OSError("busy"))
        assert rule.decides(ConnectionResetError("a subclass"))
        assert not rule.decides(ValueError("wrong"))


def test_by_default_every_exception_is_tried_again():
    """By default any Exception is tried again, a timeout and a lost child too; no exit is."""
    rule = Retry(3)
    for error in (ValueError(), PcallTimeout("late"), ChildDied(-9)):
        assert rule.decides(error)
    for leaving in (SystemExit(1), KeyboardInterrupt(), TaskCancelled()):
        assert not rule.decides(leaving)


def test_a_function_that_fails_says_no():
    """A function given as on= that raises says no, and the call's own error tells of it."""
    error = OSError("busy")
    assert not Retry(3, on=lambda error: error.no_such_name).decides(error)
    (note,) = error.__notes__
    assert "on=" in note
    assert "AttributeError" in note
    assert "no_such_name" in note
