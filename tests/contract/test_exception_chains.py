"""docs/errors.rst: chains and groups of exceptions come home whole, each member as itself."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from pcall import ChildProcessException, pcall


class TwoArguments(Exception):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host} has nothing on port {port}")
        self.host, self.port = host, port


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    host: str


def throw(error: BaseException) -> None:
    raise error


def original(target: Callable[[], Any]) -> Any:
    """What the target raised."""
    with pytest.raises(ChildProcessException) as info:
        pcall(target)
    return info.value.__cause__


@pytest.mark.fast
def test_a_chain() -> None:
    """``__cause__``, ``__context__`` and ``__suppress_context__`` come along, with frames."""

    def chain() -> None:
        try:
            try:
                throw(TwoArguments("here", 80))
            except TwoArguments as cause:
                raise KeyError("middle") from cause
        except KeyError:
            raise OSError("last") from None

    last = original(chain)
    middle = last.__context__
    assert (str(last), last.__cause__, last.__suppress_context__) == ("last", None, True)
    assert (type(middle), middle.__suppress_context__) == (KeyError, True)
    assert type(middle.__cause__) is TwoArguments
    assert middle.__cause__ is middle.__context__
    assert middle.__cause__.__context__ is None
    for error, function in ((last, "chain"), (middle, "chain"), (middle.__cause__, "throw")):
        assert traceback.extract_tb(error.__traceback__)[-1].name == function


def test_a_circle() -> None:
    """Exceptions that are each other's causes come home so."""

    def circle() -> None:
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        raise one

    one = original(circle)
    assert one.__cause__.__cause__ is one


def test_a_chain_longer_than_the_stack_is_deep() -> None:
    """3000 exceptions, each the cause of the next, come home in order."""

    def chain() -> None:
        error = None
        for number in range(3000):
            following = ValueError(number)
            following.__cause__ = error
            error = following
        throw(error)

    error = original(chain)
    for number in reversed(range(3000)):
        assert (type(error), error.args) == (ValueError, (number,))
        error = error.__cause__
    assert error is None


def test_a_group_deeper_than_the_stack() -> None:
    """A group that is nested 3000 deep comes home, member by member."""

    def deep() -> None:
        error: Exception = ValueError("text")
        for number in range(3000):
            error = ExceptionGroup(f"number {number}", [error])
        throw(error)

    error = original(deep)
    for number in reversed(range(3000)):
        assert (type(error), error.message) == (ExceptionGroup, f"number {number}")
        (error,) = error.exceptions
    assert (type(error), str(error)) == (ValueError, "text")


class OwnGroup(ExceptionGroup[Any]):
    def __new__(cls, code: int, members: list[Exception]) -> OwnGroup:
        return super().__new__(cls, f"code {code}", members)

    def __init__(self, code: int, members: list[Exception]) -> None:
        self.code = code

    def derive(self, members: Any) -> OwnGroup:
        return OwnGroup(self.code, members)


@pytest.mark.parametrize("kind", [ExceptionGroup, OwnGroup, BaseExceptionGroup])
def test_a_group(kind: Any) -> None:
    """Members come home as themselves: nested, chained, with an odd ``__init__``, in any class."""

    def group() -> None:
        members: list[Any] = [TwoArguments("here", 80)]
        try:
            throw(KeyError("cause"))
        except KeyError as cause:
            try:
                raise ValueError("chained") from cause
            except ValueError as chained:
                members.append(chained)
        members.append(ExceptionGroup("inner", [KeywordOnly(code=3), Frozen("here")]))
        if kind is BaseExceptionGroup:
            members.append(KeyboardInterrupt())
        error = kind(3 if kind is OwnGroup else "outer", members)
        error.add_note("noted")
        raise error

    error = original(group)
    assert type(error) is kind
    noted, call = error.__notes__
    assert noted == "noted"
    assert call.startswith("in call 0, ")
    assert error.message == ("code 3" if kind is OwnGroup else "outer")
    assert getattr(error, "code", 3) == 3
    odd, chained, inner, *rest = error.exceptions
    assert [type(one) for one in rest] == [KeyboardInterrupt] * (kind is BaseExceptionGroup)
    assert (type(odd), odd.port) == (TwoArguments, 80)
    assert (str(chained), repr(chained.__cause__)) == ("chained", "KeyError('cause')")
    assert traceback.extract_tb(chained.__cause__.__traceback__)[-1].name == "throw"
    assert [type(one) for one in inner.exceptions] == [KeywordOnly, Frozen]
    assert error.split(KeywordOnly)[0] is not None
