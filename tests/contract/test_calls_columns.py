"""README.rst: the calls of a run are a sequence, in whatever columns they are kept."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcall import Call, Pcall
from pcall._core.arguments import build_calls

pytestmark = pytest.mark.engines(why="calls are built, and hardly any is made")


def first(*args, **kwargs):
    return args, kwargs


def second(*args, **kwargs):
    return kwargs, args


COLUMNS = {
    "one call": {},
    "no call": {"iargs": []},
    "targets": {"targets": [first, second, first]},
    "iargs": {"cargs": ["c"], "iargs": [(0,), [1], "2"]},
    "ikwargs": {"ckwargs": {"a": "c"}, "ikwargs": [{"a": 0}, {"b": 1}, {}]},
    "varkwargs": {"varkwargs": {"x": range(4), "y": "abcd"}},
    "varkwargs beside ckwargs": {"ckwargs": {"x": "c", "z": 9}, "varkwargs": {"x": range(4)}},
    "all": {
        "targets": [first, second] * 2,
        "cargs": ["c"],
        "iargs": [(0,), (1,), (2,)],
        "ckwargs": {"a": "c"},
        "ikwargs": [{"b": "i"}] * 5,
        "varkwargs": {"b": range(9), "d": "abc"},
    },
}


@pytest.fixture(params=COLUMNS)
def calls(request):
    """Calls of each kind of columns."""
    return build_calls(**{"targets": first} | COLUMNS[request.param])


def plain(calls):
    return [(call.index, call.target, call.args, call.kwargs) for call in calls]


@pytest.mark.fast
def test_calls_are_a_sequence(calls):
    """Each call is found by its index, from either end, as in a list of them."""
    listed = list(calls)
    assert all(type(call) is Call for call in listed)
    assert [call.index for call in listed] == list(range(len(calls)))
    assert plain(calls[i] for i in range(len(calls))) == plain(listed)
    assert plain(calls[i - len(calls)] for i in range(len(calls))) == plain(listed)
    assert plain(reversed(calls)) == plain(listed[::-1])


@pytest.mark.parametrize("beyond", [0, 1, 10**9, -1, -(10**9)])
def test_no_call_beyond_the_ends(calls, beyond):
    """An index beyond either end is an IndexError, as in a list."""
    with pytest.raises(IndexError):
        calls[len(calls) + beyond if beyond >= 0 else -len(calls) + beyond]


def test_an_index_is_a_number(calls):
    """What is no index is a TypeError, as in a list."""
    for index in ("0", None):
        with pytest.raises(TypeError):
            calls[index]


ends = st.none() | st.integers(-6, 6)


@given(st.sampled_from(list(COLUMNS)), ends, ends, ends.filter(lambda step: step != 0))
def test_a_slice_is_that_of_a_list(name, start, stop, step):
    """A slice has the calls that the slice of a list has, each with its own index."""
    calls = build_calls(**{"targets": first} | COLUMNS[name])
    assert plain(calls[start:stop:step]) == plain(list(calls)[start:stop:step])


@given(st.integers(0, 4), st.integers(0, 4))
def test_parts_are_those_of_the_calls(start, stop):
    """What a child takes of some calls is what these calls show."""
    calls = build_calls(first, ckwargs={"z": 1}, varkwargs={"x": range(4), "y": "abcd"})
    stop = max(start, stop)
    expected = [(call.target, call.args, call.kwargs) for call in calls[start:stop]]
    assert [(target, args, dict(kw)) for target, args, kw in calls.parts(start, stop)] == expected


def test_each_call_has_keywords_of_its_own(calls):
    """What is done to the keywords of one call is not seen in another, nor in itself later."""
    before = plain(calls)
    for call in calls:
        call.kwargs["x"] = "changed"
    assert plain(calls) == before


def test_the_run_keeps_what_the_columns_were():
    """A column that changes after the run was built does not change the run."""
    columns = [[1], [2]]
    run = Pcall.options(max_workers=0)(first, iargs=columns, x=(values := [3, 4]))
    columns[0].append(5)
    columns.clear()
    values.clear()
    with run:
        pass
    assert run.results == (((1,), {"x": 3}), ((2,), {"x": 4}))


# ------------------------------------------------------------------ decorate


def loud(target):
    def shout(*args, **kwargs):
        return "loud", target(*args, **kwargs)

    return shout


def test_every_target_is_decorated(calls):
    """A decorator is put around each target, and nothing else changes."""
    before = plain(calls)
    calls.decorate(loud)
    for (_, target, *rest), (_, decorated, *after) in zip(before, plain(calls), strict=True):
        assert decorated(1, k=2) == ("loud", target(1, k=2))
        assert rest == after


def test_a_decorator_sees_a_common_target_once():
    """The target of all calls is decorated once, not once for each of them."""
    seen = []
    calls = build_calls(first, varkwargs={"x": range(1000)})
    calls.decorate(lambda target: seen.append(target) or target)
    assert seen == [first]


@pytest.mark.parametrize("targets", [first, [first, second]], ids=["one", "several"])
def test_what_is_decorated_must_be_callable(targets):
    """A decorator that returns something else is told, with what it returned."""
    with pytest.raises(TypeError, match=r"^retry=.* must return a callable, not 5$"):
        build_calls(targets).decorate(lambda target: 5)


# ------------------------------------------------------------------ many calls


def test_a_hundred_thousand_calls_are_no_objects():
    """A hundred thousand calls are kept as columns: no Call is there until it is asked for."""
    count = 100_000
    numbers = list(range(count))
    before = sys.getallocatedblocks()
    calls = build_calls(first, varkwargs={"x": numbers, "y": itertools.repeat(1)})
    # A row of values is one object; a Call would be four.
    assert sys.getallocatedblocks() - before < 2 * count
    assert len(calls) == count
    assert plain([calls[-1], calls[77_777]]) == [
        (99_999, first, (), {"x": 99_999, "y": 1}),
        (77_777, first, (), {"x": 77_777, "y": 1}),
    ]


def two(x, y=7):
    return x, y


def only_named(x, *, y=7):
    return x, y


def only_positional(x, /, **rest):
    return x, rest


@pytest.mark.parametrize(
    ("target", "columns"),
    [
        (two, {"varkwargs": {"x": "ab", "y": "cd"}}),
        (two, {"varkwargs": {"y": "cd", "x": "ab"}}),
        (two, {"varkwargs": {"x": "ab"}}),
        (two, {"cargs": [0], "varkwargs": {"y": "cd"}}),
        (two, {"iargs": [(0,), (1,)], "varkwargs": {"y": "cd"}}),
        (two, {"ckwargs": {"x": 0}, "varkwargs": {"y": "cd"}}),
        (two, {"ckwargs": {"y": 0}, "varkwargs": {"x": "ab"}}),
        (only_named, {"varkwargs": {"x": "ab", "y": "cd"}}),
        (only_positional, {"cargs": [0], "varkwargs": {"x": "ab"}}),
        (lambda *x, **rest: (x, rest), {"varkwargs": {"x": "ab", "rest": "cd"}}),
        ([two, two], {"varkwargs": {"y": "cd", "x": "ab"}}),
    ],
)
def test_each_way_to_make_calls_passes_the_same_arguments(target, columns):
    """However the arguments of calls are kept: they are made as written."""
    calls = build_calls(**{"targets": target} | columns)
    expected = [call.target(*call.args, **call.kwargs) for call in calls]
    assert list(calls.results(0, len(calls))) == expected
    assert list(calls.results(1, 2)) == expected[1:2]
