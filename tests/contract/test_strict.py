"""docs/policy.rst: ``strict``, which refuses lengths that differ, and text for values."""

from __future__ import annotations

import itertools

import pytest

from pcall import Pcall, pcall

pytestmark = pytest.mark.engines(why="nothing runs")

Strict = Pcall.options(strict=True)


def work(*args, **kwargs):
    raise AssertionError("nothing runs")


@pytest.mark.parametrize(
    ("arguments", "lengths"),
    [
        ({"x": [1, 2, 3], "y": [1, 2]}, "x has 3, y has 2"),
        ({"x": [1, 2], "y": (1, 2, 3)}, "x has 2, y has 3"),
        ({"iargs": [(1,), (2,)], "x": {1}}, "iargs has 2, x has 1"),
        ({"ikwargs": [{}, {}], "iargs": [()]}, "iargs has 1, ikwargs has 2"),
        ({"x": [], "y": [1]}, "x has 0, y has 1"),
        ({"x": [1, 2], "y": itertools.count()}, "x has 2, y has more than 2"),
        (
            {"x": iter([1, 2]), "y": [1, 2, 3], "z": iter([1])},
            "x has more than 1, y has 3, z has 1",
        ),
    ],
)
def test_different_lengths(arguments, lengths):
    """They are a ValueError that names each argument and its length, before anything is forked."""
    with pytest.raises(ValueError, match="lengths differ") as info:
        Strict(work, **arguments)
    assert lengths in str(info.value)


def test_several_targets():
    """The number of targets counts as the others do."""
    with pytest.raises(ValueError, match="targets has 1, x has 3"):
        Strict([work], x=[1, 2, 3])


@pytest.mark.parametrize("text", ["abc", b"abc"])
@pytest.mark.parametrize("name", ["x", "iargs", "iargs[1]", "cargs"])
def test_text_in_place_of_values(name, text):
    """A str or bytes is a ValueError: each of its characters would be a value."""
    arguments = {name: text} if name != "iargs[1]" else {"iargs": [("a",), text]}
    with pytest.raises(ValueError, match="of length 3") as info:
        Strict(work, **arguments)
    assert f"{name} is {text!r}" in str(info.value)


def test_what_fits_runs():
    """Equal lengths, also those of iterators, and text as a value, are as without the option."""
    assert Strict.pcall(max, iargs=[("a", "b"), ("d", "c")]) == ("b", "d")
    made = Strict.pcall(dict, x=iter(["ab", "cd"]), y=[1, 2], cargs=[{"z": "text"}])
    assert made == ({"z": "text", "x": "ab", "y": 1}, {"z": "text", "x": "cd", "y": 2})
    assert Strict.pcall(dict, x=[]) == ()
    assert Strict.pcall([int, str]) == (0, "")


def test_without_the_option_the_shortest_decides():
    """Lengths may differ, and a str is an iterable like any other."""
    assert pcall(dict, x="ab", y=itertools.count()) == ({"x": "a", "y": 0}, {"x": "b", "y": 1})
