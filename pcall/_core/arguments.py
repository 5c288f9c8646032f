"""Builds calls from targets and columns of arguments. No target is called here.

Call *i* gets ``(*cargs, *iargs[i])`` and ``{**ckwargs, **ikwargs[i], **{name:
values[i] for varkwargs}}``. The columns (several targets, ``iargs``, ``ikwargs``, each of
``varkwargs``) are read together, once each and left to right, as ``zip`` does. The shortest
column determines the number of calls; with ``strict``, all have the same length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pcall._core.calls import CallParts, Calls
from pcall._core.records import show
from pcall._core.slips import option_hint
from pcall._core.strict_columns import refuse_text, strict_rows

__all__ = ["build_calls", "stream_calls"]

__tracebackhide__ = True  # pytest shows the frames of its user


def build_calls(
    targets: Any,
    cargs: Any = (),
    iargs: Any = None,
    ckwargs: Any = None,
    ikwargs: Any = None,
    varkwargs: Mapping[str, Any] | None = None,
    *,
    strict: bool = False,
) -> Calls:
    """Build the calls, in call order.

    Args:
        targets: one callable, or an iterable of callables.
        cargs: positional arguments for every call.
        iargs: for each call, an iterable of positional arguments; None if not given.
        ckwargs: keyword arguments for every call; None if not given.
        ikwargs: for each call, a mapping of keyword arguments; None if not given.
        varkwargs: for each keyword name, an iterable with one value per call.
        strict: True: refuse columns of different lengths, and a str or bytes whose characters
            would be taken for values.

    Raises:
        TypeError: an argument has the wrong type; the text names the argument and the call.
        ValueError: ``strict`` refuses an argument; the text names it and its length.
    """
    common, common_kwargs, columns, names = _columns(
        targets, cargs, iargs, ckwargs, ikwargs, varkwargs, strict
    )
    if not columns:
        return Calls(1, targets, common, common_kwargs)
    if iargs is not None and len(columns) == 1 and not common:
        args = list(columns["iargs"])
        return Calls(len(args), targets, common, common_kwargs, args=args)
    if strict:
        sources = {"targets": targets, "iargs": iargs, "ikwargs": ikwargs, **(varkwargs or {})}
        rows = list(strict_rows(columns, sources))
    else:
        rows = list(zip(*columns.values()))  # noqa: B905 - the shortest column decides
    count = len(rows)
    if len(names) == len(columns):
        return Calls(count, targets, common, common_kwargs, names=names, rows=rows)

    # Split the rows into columns again, in the order in which the columns were added.
    taken = 0
    of_targets = of_args = of_kwargs = None
    if not callable(targets):
        of_targets = [row[taken] for row in rows]
        taken += 1
    if iargs is not None:
        of_args = [row[taken] for row in rows]
        if common:
            of_args = [common + args for args in of_args]
        taken += 1
    if ikwargs is not None:
        of_kwargs = [{**common_kwargs, **row[taken]} for row in rows]
        taken += 1
    return Calls(
        count,
        targets,
        common,
        common_kwargs,
        targets=of_targets,
        args=of_args,
        kwargs=of_kwargs,
        names=names,
        rows=[row[taken:] for row in rows] if names else None,
    )


def stream_calls(
    targets: Any,
    cargs: Any = (),
    iargs: Any = None,
    ckwargs: Any = None,
    ikwargs: Any = None,
    varkwargs: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> Iterator[CallParts]:
    """The same calls one by one: the columns, which may be endless, are read as they are needed.

    Raises:
        TypeError: an argument has the wrong type: at once, or when the call is reached.
        ValueError: ``strict``, and a column has ended before the others: when it has.
    """
    common, common_kwargs, columns, names = _columns(
        targets, cargs, iargs, ckwargs, ikwargs, varkwargs, strict
    )
    if not columns:
        return iter([(targets, common, common_kwargs)])
    several = None if callable(targets) else 0
    of_args = None if iargs is None else int(several is not None)
    first = len(columns) - len(names)
    of_kwargs = None if ikwargs is None else first - 1

    sources = {"targets": targets, "iargs": iargs, "ikwargs": ikwargs, **(varkwargs or {})}

    def stream() -> Iterator[CallParts]:
        rows = strict_rows(columns, sources) if strict else zip(*columns.values(), strict=False)
        for row in rows:
            yield (
                targets if several is None else row[several],
                common if of_args is None else common + row[of_args],
                {
                    **common_kwargs,
                    **({} if of_kwargs is None else row[of_kwargs]),
                    **dict(zip(names, row[first:], strict=True)),
                },
            )

    return stream()


def _columns(
    targets: Any,
    cargs: Any,
    iargs: Any,
    ckwargs: Any,
    ikwargs: Any,
    varkwargs: Mapping[str, Any] | None,
    strict: bool,
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Iterator[Any]], tuple[str, ...]]:
    """The arguments of all calls, the columns of the others, and the names of the last columns."""
    if strict:
        refuse_text("cargs", cargs)
    common = tuple(_iterate("cargs", cargs))
    common_kwargs = _mapping("ckwargs", {} if ckwargs is None else ckwargs)

    columns: dict[str, Iterator[Any]] = {}
    if not callable(targets):
        items = _iterate("targets", targets, "a callable or an iterable of callables")
        columns["targets"] = _each("targets", items, _target)
    if iargs is not None:
        columns["iargs"] = _tuples(iargs, strict)
    if ikwargs is not None:
        columns["ikwargs"] = _each("ikwargs", _iterate("ikwargs", ikwargs), _mapping)
    names = tuple(varkwargs or ())
    for name in names:
        values = (varkwargs or {})[name]
        expected = "an iterable with one value for each call"
        if strict:
            refuse_text(name, values)
        columns[name] = _iterate(name, values, expected, option_hint(name, values))
    return common, common_kwargs, columns, names


def _tuples(iargs: Any, strict: bool) -> Iterator[tuple[Any, ...]]:
    if strict:
        refuse_text("iargs", iargs)
    items = _iterate("iargs", iargs)
    if type(iargs) in (list, tuple) and set(map(type, iargs)) == {tuple}:
        return items  # the usual case: no need to convert each item

    def convert(name: str, item: Any) -> tuple[Any, ...]:
        if strict:
            refuse_text(name, item)
        return tuple(_iterate(name, item))

    return _each("iargs", items, convert)


def _each(name: str, items: Iterable[Any], convert: Callable[[str, Any], Any]) -> Iterator[Any]:
    for index, item in enumerate(items):
        yield convert(f"{name}[{index}]", item)


def _target(name: str, value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return f"{show(value)} ({type(value).__name__})"


def _iterate(
    name: str, value: Iterable[Any], expected: str = "an iterable", hint: str = ""
) -> Iterator[Any]:
    try:
        return iter(value)
    except TypeError as error:
        # With an __iter__ of its own, the error comes from there.
        cause = error if hasattr(type(value), "__iter__") else None
        raise TypeError(f"{name} must be {expected}, not {_kind(value)}{hint}") from cause


def _is_mapping(value: Any) -> bool:
    has_methods = hasattr(value, "keys") and hasattr(value, "__getitem__")
    return has_methods or isinstance(value, Mapping)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict and not _is_mapping(value):
        raise TypeError(f"{name} must be a mapping, not {_kind(value)}")
    items = dict(value)
    for key in items:
        if not isinstance(key, str):
            raise TypeError(f"{name} has the key {_kind(key)}; keyword names must be strings")
    return items
