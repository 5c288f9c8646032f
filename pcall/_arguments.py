"""From targets and columns of arguments to calls. Pure: nothing is forked, nothing called.

Call *i* gets ``(*cargs, *iargs[i])`` and ``{**ckwargs, **ikwargs[i], **{name:
values[i] for varkwargs}}``. The columns (several targets, ``iargs``, ``ikwargs``, each of
``varkwargs``) are read together, each once and left to right, as ``zip`` does: the
shortest gives the number of calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pcall._records import Call, show

__all__ = ["build_calls"]


def build_calls(
    targets: Any,
    cargs: Any = (),
    iargs: Any = None,
    ckwargs: Any = None,
    ikwargs: Any = None,
    varkwargs: Mapping[str, Any] | None = None,
) -> list[Call]:
    """The calls that these arguments make, in call order.

    Args:
        targets: one callable, or an iterable of callables.
        cargs: positional arguments of every call.
        iargs: for each call an iterable of positional arguments; None: not given.
        ckwargs: keyword arguments of every call.
        ikwargs: for each call a mapping of keyword arguments; None: not given.
        varkwargs: for each name an iterable with one value a call.

    Raises:
        TypeError: an argument has the wrong shape; the text names it and the call.
    """
    one_target = callable(targets)
    common = tuple(_iterate("cargs", cargs))
    common_kwargs = _mapping("ckwargs", {} if ckwargs is None else ckwargs)

    columns: list[Iterator[Any]] = []
    if not one_target:
        columns.append(_iterate("targets", targets, "a callable or an iterable of callables"))
    if iargs is not None:
        columns.append(_iterate("iargs", iargs))
    if ikwargs is not None:
        columns.append(_iterate("ikwargs", ikwargs))
    names = list(varkwargs or ())
    for name in names:
        values = (varkwargs or {})[name]
        columns.append(_iterate(name, values, "an iterable with one value for each call"))

    if not columns:
        return [Call(0, targets, common, common_kwargs)]

    calls = []
    for index, row in enumerate(zip(*columns)):  # noqa: B905 - the shortest decides
        cells = iter(row)
        target = targets if one_target else next(cells)
        if not callable(target):
            raise TypeError(f"targets[{index}] must be callable, not {_kind(target)}")
        args = common
        if iargs is not None:
            args = (*common, *_iterate(f"iargs[{index}]", next(cells)))
        kwargs = dict(common_kwargs)
        if ikwargs is not None:
            kwargs.update(_mapping(f"ikwargs[{index}]", next(cells)))
        kwargs.update(zip(names, cells, strict=True))
        calls.append(Call(index, target, args, kwargs))
    return calls


def _kind(value: Any) -> str:
    return f"{show(value)} ({type(value).__name__})"


def _iterate(name: str, value: Iterable[Any], expected: str = "an iterable") -> Iterator[Any]:
    try:
        return iter(value)
    except TypeError as error:
        cause = error if hasattr(type(value), "__iter__") else None  # its own code failed
        raise TypeError(f"{name} must be {expected}, not {_kind(value)}") from cause


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) and not (
        hasattr(value, "keys") and hasattr(value, "__getitem__")
    ):
        raise TypeError(f"{name} must be a mapping, not {_kind(value)}")
    items = dict(value)
    for key in items:
        if not isinstance(key, str):
            raise TypeError(f"{name} has the key {_kind(key)}; keyword names must be strings")
    return items
