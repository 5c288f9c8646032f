"""Hints for obvious slips in the arguments of a run: what was meant, and how to write it.

Nothing here refuses a call that could succeed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from types import FunctionType, MethodType
from typing import Any

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.records import name_of, show
from pcall._core.seconds import limit_of

__all__ = ["call_limit", "check_taken", "option_hint"]

__tracebackhide__ = True  # pytest shows the frames of its user

_OPTIONS = frozenset(field.name for field in fields(Options))


def option_hint(name: str, value: Any) -> str:
    """The end of an error text about a keyword that has the name of an option; else empty."""
    if name not in _OPTIONS:
        return ""
    return f"; options go to Pcall.options({name}={show(value)})"


def call_limit(timeout: Any) -> float | None:
    """Check the argument ``timeout`` of a run, as :func:`limit_of` does.

    Raises:
        TypeError: it is not a number; if it has several values, the text says where these go.
        ValueError: it is negative or NaN.
    """
    if timeout is None:
        return None  # the usual case: the checks of abstract classes below touch many pages
    if isinstance(timeout, Iterable) and not isinstance(timeout, str | bytes):
        raise TypeError(
            f"timeout must be a number of seconds, not {show(timeout)}; values for each call go "
            f"to iargs= or by keyword"
        )
    return limit_of(timeout)


def check_taken(calls: Calls, given: Mapping[str, Any]) -> None:
    """See to it that no target needs an argument that this library took for itself.

    Args:
        calls: of the run.
        given: this library's own arguments that were given, by name.

    Raises:
        TypeError: a target needs one. Python would raise a TypeError, too, which says only that
            the argument is missing.
    """
    if not given or not any(_needed(target, given) for target in calls.targets):
        return  # the usual case: no call is looked at
    for index, (target, args, kwargs) in enumerate(calls.parts(0, len(calls))):
        for name, place in _needed(target, given).items():
            if name not in kwargs and place >= len(args):
                raise TypeError(
                    f"{name_of(target)}() needs the argument {name!r}, which pcall took for "
                    f"itself (call {index}); pass it by ckwargs={{{name!r}: {show(given[name])}}}"
                )


def _needed(target: Any, names: Collection[str]) -> dict[str, float]:
    """Which of these arguments a call of the target needs.

    Known are functions, methods and classes of Python, by the code that is called. The signature
    that a wrapper shows may be that of another function.

    Returns:
        By name, the place of the argument in the call; infinite for one that goes by name alone.
    """
    bound = 0
    cls: Any = target
    new: Any = object.__new__
    if type(cls) is type and cls.__new__ is new:
        target, bound = getattr(cls, "__init__", None), 1
    elif type(target) is MethodType:
        target, bound = target.__func__, 1
    if type(target) is not FunctionType:
        return {}
    code = target.__code__
    count, only = code.co_argcount, code.co_kwonlyargcount
    optional = len(target.__defaults__ or ())
    needed: dict[str, float] = {
        name: place - bound
        for place, name in enumerate(code.co_varnames[: count - optional])
        if name in names and place >= bound
    }
    for name in code.co_varnames[count : count + only]:
        if name in names and name not in (target.__kwdefaults__ or ()):
            needed[name] = float("inf")
    return needed
