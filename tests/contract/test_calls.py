"""README.rst: which calls are made, with which arguments, and what comes back."""

from __future__ import annotations

import itertools
import os
import types
from collections import UserDict

import pytest

from pcall import Pcall, pcall


def add(x, y):
    return x + y


def multiply(x, y):
    return x * y


def seen(*args, **kwargs):
    """What the target was given."""
    return args, kwargs


@pytest.fixture
def no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on a fork."""

    def fork():
        raise AssertionError("something was forked")

    monkeypatch.setattr(os, "fork", fork)


# ------------------------------------------------------------------ which arguments


@pytest.mark.fast
def test_the_one_liner():
    """Columns of keyword arguments make calls, results come in call order."""
    assert pcall(add, x=(1, 2, 3), y=(4, 5, 6)) == (5, 7, 9)


def test_one_target_alone_is_one_call():
    """With no instance argument given: one call for one target."""
    assert pcall(seen) == (((), {}),)
    assert pcall(seen, cargs=(1, 2), ckwargs={"a": 3}) == (((1, 2), {"a": 3}),)


def test_several_targets_alone_are_one_call_each():
    """With no instance argument given: one call for each of several."""
    assert pcall([add, multiply], cargs=(3, 4)) == (7, 12)
    assert pcall((add, multiply, add), ckwargs={"x": 3, "y": 5}) == (8, 15, 8)


def test_several_targets_take_a_row_each():
    """Each of several targets gets its own row of the columns."""
    assert pcall([add, multiply], x=(1, 2), y=(3, 4)) == (4, 8)


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_list_of_one_target_is_one_call(kind):
    """A list of one target is one call, however long the columns are."""
    assert pcall(kind([add]), x=(1, 2, 3), y=(4, 5, 6)) == (5,)


def test_positional_arguments_are_the_common_ones_then_the_calls_own():
    """Call i gets (*cargs, *iargs[i])."""
    expected = (((0, 1, 2), {}), ((0, 3), {}), ((0,), {}))
    assert pcall(seen, cargs=(0,), iargs=[(1, 2), (3,), ()]) == expected


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        ({"ckwargs": {"a": "ckwargs"}}, "ckwargs"),
        ({"ckwargs": {"a": "ckwargs"}, "ikwargs": [{"a": "ikwargs"}]}, "ikwargs"),
        ({"ckwargs": {"a": "ckwargs"}, "a": ["varkwargs"]}, "varkwargs"),
        ({"ikwargs": [{"a": "ikwargs"}], "a": ["varkwargs"]}, "varkwargs"),
        (
            {"ckwargs": {"a": "ckwargs"}, "ikwargs": [{"a": "ikwargs"}], "a": ["varkwargs"]},
            "varkwargs",
        ),
    ],
)
def test_of_keyword_arguments_the_later_wins(given, winner):
    """Of ckwargs, ikwargs and varkwargs the later wins."""
    assert pcall(seen, **given) == (((), {"a": winner}),)


def test_all_columns_together():
    """Call i gets all that is its own, from each of the columns."""
    results = pcall(
        seen,
        None,
        (1,),
        [(2,), (3,)],
        {"a": 4, "b": 5},
        [{"b": 6, "c": 7}, {"d": 8}],
        c=[9, 10],
    )
    assert results == (
        ((1, 2), {"a": 4, "b": 6, "c": 9}),
        ((1, 3), {"a": 4, "b": 5, "d": 8, "c": 10}),
    )


def test_common_arguments_are_not_shared_between_calls():
    """What ikwargs sets for one call is not seen by the next."""
    assert pcall(seen, ckwargs={"a": 1}, ikwargs=[{"a": 2}, {}]) == (
        ((), {"a": 2}),
        ((), {"a": 1}),
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"iargs": [(), ()], "ikwargs": [{}] * 3, "a": "pqrs"},
        {"iargs": [()] * 3, "ikwargs": [{}, {}], "a": "pqrs"},
        {"iargs": [()] * 3, "ikwargs": [{}] * 4, "a": "pq"},
        {"targets": [seen, seen], "iargs": [()] * 3, "ikwargs": [{}] * 3, "a": "pqr"},
    ],
)
def test_the_shortest_column_gives_the_number_of_calls(columns):
    """The number of calls is that of the shortest of iargs, ikwargs, varkwargs and targets."""
    assert pcall(**{"targets": seen} | columns) == (((), {"a": "p"}), ((), {"a": "q"}))


@pytest.mark.parametrize(
    "columns",
    [
        {"targets": []},
        {"targets": iter(())},
        {"iargs": []},
        {"ikwargs": ()},
        {"a": ""},
        {"a": {}},
        {"a": (), "b": (1, 2)},
        {"iargs": iter(()), "a": itertools.count()},
        {"targets": [], "a": (1, 2)},
    ],
)
def test_a_given_but_empty_column_makes_no_call(no_fork, columns):
    """A given but empty iterable means no call: the result is () and nothing is forked."""
    assert pcall(**{"targets": seen} | columns) == ()


@pytest.mark.needs("processes")
def test_the_guard_against_forks_sees_a_fork(no_fork):
    """A run with a call forks, so the tests above and below can fail."""
    with pytest.raises(AssertionError, match="something was forked"):
        pcall(seen)


@pytest.mark.filterwarnings("ignore:.* never made:ResourceWarning")
def test_building_the_object_forks_nothing(no_fork):
    """Building a Pcall forks nothing."""
    assert len(Pcall(add, x=(1, 2, 3), y=(4, 5, 6)).childs) == 3


# ------------------------------------------------------------------ any iterable


def test_columns_may_be_generators():
    """Every argument iterable may be a generator."""
    assert pcall(
        (target for target in (seen, seen)),
        cargs=(n for n in (1,)),
        iargs=((n for n in (i, -i)) for i in (2, 3)),
        ikwargs=({"a": i} for i in (4, 5)),
        b=(i for i in (6, 7)),
    ) == (((1, 2, -2), {"a": 4, "b": 6}), ((1, 3, -3), {"a": 5, "b": 7}))


def test_columns_may_be_dict_views():
    """Every argument iterable may be a view of a dict."""
    ports = {"a": 1, "b": 2}
    assert pcall(seen, name=ports.keys(), port=ports.values()) == (
        ((), {"name": "a", "port": 1}),
        ((), {"name": "b", "port": 2}),
    )
    assert pcall(seen, iargs=ports.items()) == ((("a", 1), {}), (("b", 2), {}))
    assert pcall(seen, name=ports) == (((), {"name": "a"}), ((), {"name": "b"}))


def test_an_infinite_column_beside_a_finite_one():
    """An infinite iterator may stand beside a finite one."""
    assert pcall(
        itertools.repeat(add), x=itertools.count(), y=(10, 20), ikwargs=itertools.repeat({})
    ) == (10, 21)


def test_a_string_is_an_iterable_of_its_characters():
    """A value of varkwargs that is a str gives one character a call."""
    assert pcall(add, x="ab", y="cd") == ("ac", "bd")


def test_items_of_iargs_may_be_any_iterable():
    """The items of iargs may be of any iterable kind, each of another."""
    items = ["ab", range(2), iter((1,)), {"k": 0}, b"\x07"]
    assert [args for args, _ in pcall(seen, iargs=items)] == [
        ("a", "b"),
        (0, 1),
        (1,),
        ("k",),
        (7,),
    ]


def test_items_of_ikwargs_may_be_any_mapping():
    """The items of ikwargs, and ckwargs, may be of any kind of mapping."""
    items = [types.MappingProxyType({"a": 1}), UserDict(a=2), {"a": 3}]
    results = pcall(seen, ckwargs=UserDict(b=0), ikwargs=items)
    assert [kwargs for _, kwargs in results] == [{"b": 0, "a": n} for n in (1, 2, 3)]
