"""Checks the arguments of a planned call against the function's signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pcall._core.records import name_of, show

__all__ = ["Signatures"]

__tracebackhide__ = True  # pytest shows the frames of its user


class _Known(NamedTuple):
    fn: Any  # kept alive, so that no other function gets its id()
    signature: inspect.Signature | None


class Signatures:
    """The signatures of the functions of a plan, each read once."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}  # by id()

    def check(self, fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that a function can be called with these arguments.

        A builtin without a signature is not checked.

        Raises:
            TypeError: it can't, or ``fn`` is not callable.
        """
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {show(fn)} ({type(fn).__name__})")
        known = self._known.get(id(fn))
        if known is None or known.fn is not fn:
            known = self._known[id(fn)] = _Known(fn, _signature(fn))
        if known.signature is not None:
            try:
                known.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name_of(fn)}{known.signature}: {error}") from None


def _signature(fn: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (ValueError, TypeError):  # raised for some builtins
        return None
