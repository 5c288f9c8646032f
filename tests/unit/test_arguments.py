"""README.rst: argument building against a plain model, which is ``zip``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcall import Pcall, pcall
from pcall._core.arguments import build_calls


def first(*args, **kwargs):
    pass


def second(*args, **kwargs):
    pass


def third(*args, **kwargs):
    pass


class Column:
    """An iterable of some items that writes down who asks for what, in which order."""

    def __init__(self, name: str, items: list[Any], endless: bool, log: list[str]) -> None:
        self.name = name
        self.items = items
        self.endless = endless
        self.log = log
        self.begun = 0

    def __iter__(self) -> Iterator[Any]:
        self.begun += 1
        return self._read()

    def _read(self) -> Iterator[Any]:
        for item in itertools.cycle(self.items) if self.endless else self.items:
            self.log.append(self.name)
            yield item
        self.log.append(f"{self.name} ended")


class Given(NamedTuple):
    """The arguments of a run; a column is a list and whether it goes on for ever."""

    targets: Any
    cargs: list[Any]
    iargs: tuple[list[Any], bool] | None
    ckwargs: dict[str, Any]
    ikwargs: tuple[list[Any], bool] | None
    varkwargs: dict[str, tuple[list[Any], bool]]


values = st.integers(0, 9)
names = st.sampled_from(["a", "b", "c", "self", "cls", "call", "index"])


def columns(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[list[Any], bool]]:
    finite = st.tuples(st.lists(items, max_size=4), st.just(False))
    endless = st.tuples(st.lists(items, min_size=1, max_size=3), st.just(True))
    return finite | endless


targets = st.just(first) | columns(st.sampled_from([first, second, third]))
arguments = st.builds(
    Given,
    targets=targets,
    cargs=st.lists(values, max_size=3),
    iargs=st.none() | columns(st.lists(values, max_size=3)),
    ckwargs=st.dictionaries(names, values, max_size=4),
    ikwargs=st.none() | columns(st.dictionaries(names, values, max_size=4)),
    varkwargs=st.dictionaries(names, columns(values), max_size=4),
).filter(
    # Columns that all go on for ever make a run that never starts.
    lambda given: (
        not (made := [c for c in _columns_of(given) if c is not None])
        or any(not endless for _, endless in made)
    )
)


def _columns_of(given: Given) -> list[tuple[list[Any], bool] | None]:
    several = None if callable(given.targets) else given.targets
    return [several, given.iargs, given.ikwargs, *given.varkwargs.values()]


def spread(given: Given) -> tuple[dict[str, Any], list[Column], list[str]]:
    """The arguments to pass, the columns among them, and the log that these write."""
    log: list[str] = []
    made: list[Column] = []

    def column(name: str, of: tuple[list[Any], bool] | None) -> Column | None:
        if of is None:
            return None
        made.append(Column(name, *of, log))
        return made[-1]

    several = not callable(given.targets)
    return (
        {
            "targets": column("targets", given.targets) if several else given.targets,
            "cargs": given.cargs,
            "iargs": column("iargs", given.iargs),
            "ckwargs": given.ckwargs,
            "ikwargs": column("ikwargs", given.ikwargs),
            "varkwargs": {name: column(name, of) for name, of in given.varkwargs.items()},
        },
        made,
        log,
    )


def model(
    targets: Any, cargs: Any, iargs: Any, ckwargs: Any, ikwargs: Any, varkwargs: Any
) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """What README.rst says, word by word: the columns that are given, zipped."""
    given = {} if callable(targets) else {"targets": targets}
    given |= {} if iargs is None else {"iargs": iargs}
    given |= {} if ikwargs is None else {"ikwargs": ikwargs}
    # Under a key that no name of a keyword argument can equal.
    given |= {("var", name): column for name, column in varkwargs.items()}
    rows = [dict(zip(given, row)) for row in zip(*given.values())] if given else [{}]
    return [
        (
            row.get("targets", targets),
            (*cargs, *row.get("iargs", ())),
            {
                **ckwargs,
                **row.get("ikwargs", {}),
                **{name: row["var", name] for name in varkwargs},
            },
        )
        for row in rows
    ]


@given(arguments)
def test_calls_are_those_of_zip(given):
    """Call i gets (*cargs, *iargs[i]) and the keywords of which the later wins."""
    calls = build_calls(**spread(given)[0])
    assert [(c.target, c.args, c.kwargs) for c in calls] == model(**spread(given)[0])
    assert [c.index for c in calls] == list(range(len(calls)))


@given(arguments)
def test_columns_are_consumed_as_zip_does(given):
    """Each column is consumed once, left to right, no item further than zip goes."""
    kwargs, made, log = spread(given)
    build_calls(**kwargs)
    kwargs, _, expected = spread(given)
    model(**kwargs)
    assert log == expected
    assert [column.begun for column in made] == [1] * len(made)


@given(arguments)
def test_the_shortest_decides(given):
    """The number of calls is that of the shortest column; one when there is none."""
    lengths = [len(items) for items, endless in filter(None, _columns_of(given)) if not endless]
    assert len(build_calls(**spread(given)[0])) == min(lengths, default=1)


@given(arguments)
def test_what_was_given_is_not_changed(given):
    """Building the calls leaves what was given as it was."""
    before = repr(given)
    calls = build_calls(**spread(given)[0])
    for call in calls:
        call.kwargs.clear()
    assert repr(given) == before


# ------------------------------------------------------------------ wrong shapes


class NotQuite(Mapping[Any, Any]):
    """A mapping with a key that is no string."""

    def __getitem__(self, key):
        return key

    def __iter__(self):
        return iter(["good", 1])

    def __len__(self):
        return 2


def broken_repr() -> object:
    class Broken:
        def __repr__(self):
            raise ValueError("no text")

    return Broken()


ENDLESS = itertools.repeat

WRONG = {
    "a target that is not callable": ({"targets": 5}, "targets"),
    "no target": ({"targets": None}, "targets"),
    "one of several targets": ({"targets": [first, 5]}, r"targets\[1\]"),
    "a target that is a string": ({"targets": "first"}, r"targets\[0\]"),
    "cargs is not iterable": ({"cargs": 5}, "cargs"),
    "iargs is not iterable": ({"iargs": 5}, "iargs"),
    "an item of iargs is not iterable": ({"iargs": [(1,), (2,), 3]}, r"iargs\[2\]"),
    "an item of iargs is None": ({"iargs": [None]}, r"iargs\[0\]"),
    "ckwargs is no mapping": ({"ckwargs": [("a", 1)]}, "ckwargs"),
    "ckwargs has a key that is not a string": ({"ckwargs": {1: 2}}, "ckwargs.*1"),
    "ikwargs is not iterable": ({"ikwargs": 5}, "ikwargs"),
    "an item of ikwargs is no mapping": ({"ikwargs": [{}, 5]}, r"ikwargs\[1\]"),
    "an item of ikwargs is a list of pairs": ({"ikwargs": [[("a", 1)]]}, r"ikwargs\[0\]"),
    "ikwargs is one mapping": ({"ikwargs": {"a": 1}}, r"ikwargs\[0\]"),
    "a key that is not a string": ({"ikwargs": [{}, {}, {None: 2}]}, r"ikwargs\[2\].*None"),
    "a key of an odd mapping": ({"ikwargs": [NotQuite()]}, r"ikwargs\[0\].*1"),
    "a value of varkwargs is not iterable": ({"host": 5}, "host"),
    "a value of varkwargs is None": ({"host": None}, "host"),
    "a value without a text": ({"host": broken_repr()}, "host"),
    "an item without a text": ({"iargs": [(), broken_repr()]}, r"iargs\[1\]"),
    "a name named self": ({"self": 5}, "self"),
    "beside endless columns": (
        {"targets": ENDLESS(first), "iargs": ENDLESS(()), "host": 5},
        "host",
    ),
    "in an endless column": (
        {"iargs": itertools.chain([(), ()], ENDLESS(3)), "host": ENDLESS(1)},
        r"iargs\[2\]",
    ),
    "no column but wrong ones": ({"iargs": 5, "host": ()}, "iargs"),
}


@pytest.fixture
def no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on a fork. Another test sees that this catches one."""

    def fork():
        pytest.fail("something was forked")

    monkeypatch.setattr(os, "fork", fork)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_shape_raises_before_anything_is_forked(no_fork, case):
    """A wrong shape raises TypeError before any fork, naming the argument and the call."""
    given, text = WRONG[case]
    with pytest.raises(TypeError, match=rf"^{text}"):
        pcall(**{"targets": first} | given)


@pytest.mark.parametrize("case", ["one of several targets", "an item of iargs is not iterable"])
def test_a_wrong_shape_raises_when_the_object_is_built(no_fork, case):
    """A wrong shape is told when the Pcall is built, not when it is started."""
    given, text = WRONG[case]
    with pytest.raises(TypeError, match=rf"^{text}"):
        Pcall(**{"targets": first} | given)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (float("nan"), ValueError),
        (float("-inf"), ValueError),
        ("1", TypeError),
        (True, TypeError),
        (1j, TypeError),
        ([1], TypeError),
    ],
)
def test_a_wrong_timeout_raises_before_anything_is_forked(no_fork, timeout, error):
    """A timeout that is negative or not a number raises before any fork, and is named."""
    with pytest.raises(error, match=r"^timeout\b"):
        pcall(first, timeout)
    with pytest.raises(error, match=r"^timeout\b"):
        pcall(first, x=[], timeout=timeout)


def test_what_an_iterable_raises_goes_to_the_caller(no_fork):
    """An error of a user's own generator goes to the caller as it is."""

    def hosts():
        yield "a"
        raise LookupError("inventory is down")

    with pytest.raises(LookupError, match="inventory is down"):
        pcall(first, host=hosts())


@given(st.integers(0, 5), st.sampled_from(["targets", "iargs", "ikwargs"]))
def test_nothing_is_read_beyond_the_first_wrong_item(index, name):
    """The first wrong item is told at once: endless columns are read up to that item alone."""
    good = {"targets": first, "iargs": (), "ikwargs": {}}
    read = dict.fromkeys([*good, "x"], 0)

    def column(of: str, item: object) -> Iterator[object]:
        while True:
            read[of] += 1
            yield 0 if of == name and read[of] == index + 1 else item

    with pytest.raises(TypeError, match=rf"^{name}\[{index}\]"):
        build_calls(
            **{of: column(of, item) for of, item in good.items()},
            varkwargs={"x": column("x", 0)},
        )
    upto = list(read).index(name)
    assert list(read.values()) == [index + (place <= upto) for place in range(len(read))]


@given(st.integers(0, 5))
def test_of_endless_columns_only_what_is_needed_is_read(count):
    """Left of the shortest column one item more is read, right of it none, as zip does."""
    left, right = itertools.count(), itertools.count()
    build_calls(first, varkwargs={"a": left, "b": range(count), "c": right})
    assert (next(left), next(right)) == (count + 1, count)
