"""Calls as a node has them: functions that it has loaded, and arguments that only a child loads."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from typing import Any

from pcall._core.calls import make_call as call_target
from pcall._core.records import Call, name_of
from pcall.engines.dask.node_values import Planned, Values, load_planned

__all__ = ["Arguments", "load_functions", "make_call"]

__tracebackhide__ = True  # pytest shows the frames of its user


class Arguments:
    """The arguments of a call. They are loaded where they are first asked for: in its child.

    So it is the call that fails if they can't be loaded, or that takes long if that does.

    Args:
        content: a pickle of positional and keyword arguments.
        values: has the values of other calls that stand in them; None: there are none.
    """

    def __init__(self, content: bytes, values: Values | None = None) -> None:
        self._content = content
        self._values = values
        self._loaded: tuple[tuple[Any, ...], dict[str, Any]] | Planned | None = None

    def load(self) -> Any:
        """The positional and the keyword arguments."""
        if self._loaded is None:
            if self._values is None:
                self._loaded = pickle.loads(self._content)
            else:
                self._loaded = load_planned(self._content, self._values)
        return self._loaded

    @property
    def planned(self) -> bool:
        """True for a call of a plan."""
        return self._values is not None

    def note(self, error: Exception, index: int) -> None:
        """Add a note with the values that a planned call got."""
        if isinstance(self._loaded, Planned):
            self._loaded.note(error, index)


class _Positional:
    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments

    def __iter__(self) -> Iterator[Any]:
        return iter(self._arguments.load()[0])


class _Named:
    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments

    def keys(self) -> Any:
        return self._arguments.load()[1].keys()

    def items(self) -> Any:
        return self._arguments.load()[1].items()

    def __getitem__(self, name: str) -> Any:
        return self._arguments.load()[1][name]


class _Noting:
    """Calls a function of a plan; an error gets a note with the values that the call got."""

    def __init__(self, function: Any, arguments: Arguments, index: int) -> None:
        self.__qualname__ = name_of(function)
        self._function = function
        self._arguments = arguments
        self._index = index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return call_target(self._function, args, kwargs)
        except Exception as error:
            self._arguments.note(error, self._index)
            raise


def make_call(index: int, function: Any, arguments: Arguments) -> Call:
    """A call whose arguments are loaded when it is made."""
    if arguments.planned:
        function = _Noting(function, arguments, index)
    positional: Any = _Positional(arguments)
    named: Any = _Named(arguments)
    return Call(index, function, positional, named)


def load_functions(content: bytes) -> list[Any]:
    """Load the functions of a run.

    What the caller's ``__main__`` has defined is pickled by value. Its classes are put into the
    ``__main__`` of this process, so that children can send their instances home by name.
    """
    functions = [pickle.loads(each) for each in pickle.loads(content)]
    cloudpickle: Any = sys.modules.get("cloudpickle.cloudpickle")
    known = getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    main = vars(sys.modules["__main__"])
    for cls in list(known):
        if cls.__module__ == "__main__" and "." not in cls.__qualname__:
            main.setdefault(cls.__name__, cls)
    return functions
