"""Pickles functions and arguments for another machine.

On one machine a child inherits them. To another one they travel as pickles: by name where that is
enough, and by value (cloudpickle) for what the caller's ``__main__`` defines, for lambdas and for
closures.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from types import CodeType
from typing import Any

import cloudpickle

from pcall._core.calls import Calls
from pcall._core.records import Call, show
from pcall._os.signals import is_interrupt
from pcall._wire.exception_codec import safe_str

__all__ = [
    "FunctionTable",
    "NotSendable",
    "are_plain",
    "check_arguments",
    "dumps",
    "dumps_with",
    "pack_arguments",
    "refusal",
]

__tracebackhide__ = True  # pytest shows the frames of its user


class NotSendable(TypeError):
    """A function or an argument can't be pickled."""


def dumps(value: Any) -> bytes:
    """Pickle a value: by name if that is enough, else by value."""
    try:
        content = pickle.dumps(value, 5)
    except Exception:
        content = b""
    # What the caller's main module defines has another meaning elsewhere.
    if content and b"__main__" not in content:
        return content
    file = io.BytesIO()
    _ByValue(file, 5).dump(value)
    return file.getvalue()


def _reduce_code(code: CodeType) -> Any:
    """Keep the name of the file, so that the frames of an error show their lines."""
    make, parts, *rest = cloudpickle.CloudPickler.dispatch_table[CodeType](code)
    named = (code.co_filename if part == "<dynamic-code>" else part for part in parts)
    return make, tuple(named), *rest


class _ByValue(cloudpickle.CloudPickler):  # type: ignore[misc]
    """cloudpickle, but the code of functions keeps the name of its file."""

    dispatch_table = ChainMap({CodeType: _reduce_code}, cloudpickle.CloudPickler.dispatch_table)


class FunctionTable:
    """The functions of a run, each pickled once.

    Args:
        functions: those that calls name, with repetitions.

    Raises:
        NotSendable: one can't be pickled.
    """

    def __init__(self, functions: Sequence[Any]) -> None:
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id is used again
        pickles: list[bytes] = []
        for function in functions:
            if id(function) in self._numbers:
                continue
            self._numbers[id(function)] = len(self._kept)
            self._kept.append(function)
            try:
                pickles.append(dumps(_by_name(function)))
            except Exception as problem:
                if is_interrupt(problem):
                    raise
                raise NotSendable(
                    f"the function {show(function)} can't be sent to the workers of a cluster: "
                    f"{type(problem).__name__}: {safe_str(problem)}"
                ) from problem
        self.content: bytes = pickle.dumps(pickles, 5)

    def number(self, function: Any) -> int:
        """The number of a function."""
        return self._numbers[id(function)]


_Extend = Callable[[type[pickle.Pickler]], type[pickle.Pickler]]


def dumps_with(pickler: _Extend, value: Any) -> bytes:
    """As :func:`dumps`, with a pickler class that is made from the one to extend."""
    file = io.BytesIO()
    try:
        pickler(pickle.Pickler)(file, 5).dump(value)
    except Exception:
        file = io.BytesIO()
    content = file.getvalue()
    if content and b"__main__" not in content:
        return content
    file = io.BytesIO()
    pickler(_ByValue)(file, 5).dump(value)
    return file.getvalue()


class _ByName:
    """Pickles as an attribute of a module."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __reduce__(self) -> tuple[Any, ...]:
        return _attribute, self._place


def _attribute(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _by_name(function: Any) -> Any:
    """A function of a module's global random generator: of the other process's own one.

    It is a method of that generator, which pickle would send along with its state.
    """
    for module, owner in (("random", "_inst"), ("numpy.random", "mtrand")):
        found = getattr(sys.modules.get(module), owner, None)
        generator = getattr(found, "_rand", None) if owner == "mtrand" else found
        if generator is not None and getattr(function, "__self__", None) is generator:
            return _ByName(module, function.__name__)
    return function


def pack_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle the arguments of a call."""
    return dumps((args, dict(kwargs)))


_PLAIN = frozenset({int, str, float, bool, bytes, type(None), complex})


def are_plain(values: Iterable[Any]) -> bool:
    """True if all values are of types that any process can pickle and load."""
    return _PLAIN.issuperset(map(type, values))


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, content: Any) -> int:
        return len(content)


def check_arguments(calls: Calls) -> None:
    """Find out whether the arguments of all calls can be pickled, and keep none of the pickles.

    Raises:
        NotSendable: those of a call can't; the text names the call and the argument.
    """
    nowhere: Any = _Nowhere()
    for index, (_, args, kwargs) in enumerate(calls.parts(0, len(calls))):
        if are_plain(args) and are_plain(kwargs.values()):
            continue
        try:
            pickle.Pickler(nowhere, 5, buffer_callback=lambda buffer: None).dump((args, kwargs))
            continue
        except Exception as problem:
            if is_interrupt(problem):
                raise
        try:
            dumps((args, dict(kwargs)))
        except Exception as problem:
            if is_interrupt(problem):
                raise
            raise refusal(calls[index]) from problem


def refusal(call: Call) -> NotSendable:
    """The error for a call whose arguments can't be pickled: it names the first that can't."""
    for name, value in _named(call):
        try:
            dumps(value)
        except Exception as problem:
            return NotSendable(
                f"{call} (call {call.index}): the argument {name} = {show(value)} can't be sent to "
                f"a worker of a cluster: {type(problem).__name__}: {safe_str(problem)}"
            )
    return NotSendable(
        f"{call} (call {call.index}): its arguments can't be sent to a worker of a cluster"
    )


def _named(call: Call) -> Iterator[tuple[str, Any]]:
    for position, value in enumerate(call.args):
        yield f"{position}", value
    yield from call.kwargs.items()
