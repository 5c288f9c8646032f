"""README.rst: obvious slips in the arguments of a run are named, and what to write instead."""

from __future__ import annotations

import functools
import inspect
import pydoc
from collections.abc import Callable
from typing import Any

import pytest

import pcall as package
from pcall import Pcall, pcall

pytestmark = pytest.mark.engines(why="the tests name the engines that they hold for")


def fetch(host: str, timeout: float = 1) -> None:
    raise AssertionError("nothing is to be called")


def message(call: Callable[[], Any], kind: type[Exception] = TypeError) -> str:
    with pytest.raises(kind) as info:
        call()
    assert not isinstance(info.value, package.PcallError)
    return str(info.value)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("max_workers", 2, "2"),
        ("max_tasks_per_child", None, "None"),
        ("retry", 3, "3"),
        ("progress", True, "True"),
        ("return_outcomes", True, "True"),
        ("grace_period", 0.5, "0.5"),
    ],
)
def test_an_option_among_the_keywords(name: str, value: Any, shown: str) -> None:
    """It says where options go."""
    for face in (pcall, Pcall, Pcall.options(max_errors=None).pcall):
        text = message(lambda face=face: face(fetch, host=["a"], **{name: value}))
        assert text.startswith(f"{name} must be an iterable with one value for each call, not ")
        assert text.endswith(f"; options go to Pcall.options({name}={shown})")


def test_another_keyword_says_nothing_of_options() -> None:
    """It is the target's; and so is one that is named like an option, if it is a column."""
    assert "options" not in message(lambda: pcall(fetch, host="a", port=3))
    assert pcall(lambda retry: retry + 1, retry=[1, 2]) == (2, 3)


@pytest.mark.parametrize("values", [[1, 2], (1,), range(3), iter("ab"), {"a": 1}, {1}])
def test_a_list_as_timeout(values: Any) -> None:
    """It was meant as values for the calls."""
    for face in (pcall, Pcall):
        text = message(lambda face=face: face(fetch, values))
        assert text.startswith("timeout must be a number of seconds, not ")
        assert text.endswith("; values for each call go to iargs= or by keyword")
    text = message(lambda: pcall(fetch, "5"))
    assert text == "timeout must be a number of seconds, not '5'"


class Device:
    def __init__(self, host: str, timeout: float) -> None:
        raise AssertionError("nothing is to be called")

    def reset(self, timeout: float) -> None:
        raise AssertionError("nothing is to be called")


def needs_timeout(host: str, timeout: float) -> None:
    raise AssertionError("nothing is to be called")


def needs_keyword(*, cargs: Any) -> None:
    raise AssertionError("nothing is to be called")


def needs_iargs(host: str, iargs: Any) -> None:
    raise AssertionError("nothing is to be called")


@pytest.mark.parametrize(
    ("target", "arguments", "name"),
    [
        (needs_timeout, {"host": ["a"], "timeout": 5}, "timeout"),
        ([print, needs_timeout], {"host": ["a", "b"], "timeout": 5}, "timeout"),
        (Device, {"host": ["a"], "timeout": 5}, "timeout"),
        (object.__new__(Device).reset, {"timeout": 5}, "timeout"),
        (needs_keyword, {"cargs": ()}, ""),
        (needs_keyword, {"cargs": [1]}, "cargs"),
        (needs_iargs, {"host": "ab", "iargs": [(), ()]}, "iargs"),
    ],
)
def test_a_target_that_needs_what_this_library_took(
    target: Any, arguments: dict[str, Any], name: str
) -> None:
    """It says who took it, and how to pass it."""
    if not name:  # nothing was given that could have been meant for the target
        with pytest.raises(package.ChildProcessException, match="missing 1 required"):
            pcall(target, **arguments)
        return
    text = message(lambda: pcall(target, **arguments))
    assert f"needs the argument {name!r}, which pcall took for itself" in text
    assert f"pass it by ckwargs={{{name!r}: {arguments[name]!r}}}" in text
    assert f"(call {1 if isinstance(target, list) else 0})" in text


def test_a_target_that_gets_it_otherwise() -> None:
    """By position, by ckwargs or ikwargs, by its default, or from a wrapper."""

    def echo(host: str, timeout: float) -> tuple[str, float]:
        return host, timeout

    @functools.wraps(echo)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return echo(*args, **kwargs, timeout=1)

    assert pcall(echo, 60, iargs=[("a", 2)]) == (("a", 2),)
    assert pcall(echo, 60, cargs=("a",), iargs=[(2,)]) == (("a", 2),)
    assert pcall(echo, 60, host=["a"], ckwargs={"timeout": 2}) == (("a", 2),)
    assert pcall(echo, 60, host=["a"], ikwargs=[{"timeout": 2}]) == (("a", 2),)
    assert pcall(wrapped, 60, host=["a"]) == (("a", 1),)
    assert pcall(functools.partial(echo, timeout=3), 60, host=["a"]) == (("a", 3),)
    assert pcall(lambda host, timeout=4: timeout, 60, host=["a"]) == (4,)


def test_the_function_speaks_of_itself() -> None:
    """In the errors of Python about its arguments, in help(), and to inspect."""
    assert message(lambda: pcall()) == "pcall() missing 1 required positional argument: 'targets'"
    assert message(lambda: pcall(1, 2, 3, 4, 5, 6, 7, 8)).startswith("pcall() takes from")
    assert message(lambda: pcall(print, 1, timeout=2)) == (
        "pcall() got multiple values for argument 'timeout'"
    )
    signature = inspect.signature(pcall)
    assert list(signature.parameters) == [
        "targets",
        "timeout",
        "cargs",
        "iargs",
        "ckwargs",
        "ikwargs",
        "varkwargs",
    ]
    assert signature == inspect.signature(Pcall.pcall)
    for function in (pcall, Pcall.pcall):
        lines = pydoc.render_doc(function, renderer=pydoc.plaintext).splitlines()
        assert lines[2].startswith("pcall(")
        assert "targets:" in "".join(lines[2:5])
        assert any("Call targets in parallel" in line for line in lines)
        assert not any("BoundEntry" in line for line in lines[1:])
    assert (pcall.__name__, pcall.__module__) == ("pcall", "pcall")


def test_the_function_binds_to_nothing() -> None:
    """As an attribute of a class it is called without the object."""

    class Bench:
        run = pcall

    assert Bench().run(abs, iargs=[(-1,)]) == (1,)
