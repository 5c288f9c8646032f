"""docs/testing.rst: what pytest's skip, fail and fixtures, and mocks, come to in calls."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from pcall import ChildProcessException, ResultError, pcall

# Skipped and Failed give "builtins" as their module, so no other process finds them by their names:
# a cluster's calls send a copy of the class.
_COPIED = pytest.mark.needs("inheritance")


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(pytest.skip, marks=_COPIED),
        pytest.param(pytest.fail, marks=_COPIED),
        pytest.xfail,
    ],
)
def test_an_outcome_of_a_test_is_a_failure_of_the_call(end):
    """The cause is pytest's own exception, so raising it does what the call asked for."""
    kind = end.Exception
    with pytest.raises(ChildProcessException, match="no device") as info:
        pcall(end, cargs=["no device"])
    assert type(info.value.__cause__) is kind
    with pytest.raises(kind, match="no device"):
        raise info.value.__cause__ from None


def test_the_message_of_an_assertion_comes_home():
    """A failed assertion that pytest has rewritten shows the values."""

    def check(x):
        assert x == 3

    with pytest.raises(ChildProcessException, match="assert 1 == 3"):
        pcall(check, x=[1])


@pytest.mark.needs("inheritance")  # workers elsewhere have an environment of their own
def test_what_was_patched_is_patched_in_calls(monkeypatch):
    """Objects and variables that a test has replaced are replaced in calls."""
    monkeypatch.setenv("PCALL_IN_TESTS", "set")
    with mock.patch("os.getcwd", return_value="there"):
        assert pcall(lambda: (os.environ["PCALL_IN_TESTS"], os.getcwd())) == (("set", "there"),)


@pytest.mark.needs("isolation")
def test_a_mock_records_nothing_in_the_parent():
    """What a call does to a mock is lost with its copy."""
    target = mock.Mock(return_value="pong")
    assert pcall(target, host=["a", "b"]) == ("pong", "pong")
    target.assert_not_called()


@pytest.mark.needs("transport")
def test_a_mock_is_no_result():
    """A mock can't be pickled: a call that returns one fails, and the error says so."""
    with pytest.raises(ChildProcessException, match="Mock") as info:
        pcall(mock.Mock(), host=["a"])
    assert type(info.value.__cause__) is ResultError
