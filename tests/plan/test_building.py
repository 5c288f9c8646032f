"""docs/plans.rst: planning calls; what is wrong is told at once, and runs nothing."""

from __future__ import annotations

import collections
import dataclasses
import sys
import threading
import typing

import pytest

from pcall import Plan, run


def give(value):
    return value


class Pair(typing.NamedTuple):
    left: object
    right: object


@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass
class Counted:
    x: object
    seen: list = dataclasses.field(init=False, default_factory=list)


STRUCTURES = {
    "list": (lambda call: [1, call, [call]], [1, "a", ["a"]]),
    "tuple": (lambda call: (call, 2), ("a", 2)),
    "named tuple": (lambda call: Pair(call, [call]), Pair("a", ["a"])),
    "set": (lambda call: {call, 2}, {"a", 2}),
    "frozenset": (lambda call: frozenset({call}), frozenset({"a"})),
    "dict": (lambda call: {call: 1, "k": call}, {"a": 1, "k": "a"}),
    "tuple as key": (lambda call: {(1, call): 2}, {(1, "a"): 2}),
    "frozen dataclass": (lambda call: Point(call), Point("a")),
    "dataclass": (lambda call: Counted([call]), Counted(["a"])),
    "ordered": (
        lambda call: collections.OrderedDict(b=call),
        collections.OrderedDict(b="a"),
    ),
    "default": (
        lambda call: collections.defaultdict(list, {1: call}),
        collections.defaultdict(list, {1: "a"}),
    ),
    "deep": (lambda call: [({"x": [{1: (call,)}]},)], [({"x": [{1: ("a",)}]},)]),
}


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
@pytest.mark.fast
@pytest.mark.parametrize("name", STRUCTURES)
def test_calls_are_found_in_containers(name):
    """A call inside any container, however deep, is replaced by its value."""
    make, expected = STRUCTURES[name]
    plan = Plan()
    call = plan.call(give, "a")
    structure = make(call)
    result = run(plan, output=[plan.call(give, structure), structure], max_workers=0)
    assert result == [expected, expected]
    assert type(result[0]) is type(expected)


@pytest.mark.engines(why="no run is made")
def test_a_container_without_calls_stays_the_same_object():
    """What holds no call is passed as it is."""
    plan = Plan()
    values = [1, {2: [3]}, Point(1)]
    assert plan.call(give, values).args[0] is values


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
def test_lit_is_not_looked_into():
    """``lit`` passes a value as it is, also where it holds a call."""
    plan = Plan()
    call = plan.call(give, 1)
    held = [call]
    assert run(plan, output=plan.call(lambda given: given is held, plan.lit(held)), max_workers=0)


@pytest.mark.engines(why="no run is made")
def test_a_list_given_to_many_calls_is_one_gather():
    """A thousand calls with one list of a thousand calls are two thousand edges."""
    plan = Plan()
    parts = [plan.call(give, number) for number in range(1000)]
    for _ in range(1000):
        plan.call(sum, parts)
    assert len(plan.graph.gather_needs) == 1
    assert sum(map(len, plan.graph.needs)) == 1000


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
def test_a_list_that_was_changed_is_another_gather():
    """Each call gets what the list held when the call was planned."""
    plan = Plan()
    parts = [plan.call(give, number) for number in range(10)]
    before = plan.call(sum, parts)
    inner = [parts[0]]
    nested = [inner]
    first = plan.call(len, nested)
    parts.append(plan.call(give, 100))
    parts[0] = parts[1]
    inner.append(3)
    after, second = plan.call(sum, parts), plan.call(give, nested)
    result = run(plan, output=[before, after, first, second], max_workers=0)
    assert result == [45, 146, 1, [[0, 3]]]


@pytest.mark.engines(why="no run is made")
def test_the_arguments_are_bound_at_once():
    """A call that can't be made so fails where it is planned, and names the function."""
    plan = Plan()
    with pytest.raises(TypeError, match=r"give\(value\): got an unexpected keyword argument 'x'"):
        plan.call(give, 1, x=1)
    with pytest.raises(TypeError, match="missing a required argument: 'value'"):
        plan.call(give)
    with pytest.raises(TypeError, match="fn must be callable, not 3"):
        plan.call(3)
    assert len(plan) == 0


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
def test_a_builtin_without_a_signature_is_not_checked():
    """Where a callable tells nothing of its arguments, the call itself does."""
    plan = Plan()
    assert run(plan, output=plan.call(max, 1, 2), max_workers=0) == 2


@pytest.mark.engines(why="no run is made")
def test_the_place_of_planning_is_kept():
    """A call knows the file and the line where it was planned."""
    plan = Plan()
    line = sys._getframe().f_lineno + 1
    place = plan.call(give, 1).place
    assert (place.filename, place.line) == (__file__, line)
    assert place.function == "test_the_place_of_planning_is_kept"


@pytest.mark.engines(why="no run is made")
def test_scopes_are_nested():
    """A call has the names of all scopes around it, of any hashable kind."""
    plan = Plan()
    with plan.scope("a", 1):
        outer = plan.call(give, 1)
        with plan.scope(("x", 2)):
            inner = plan.call(give, 1)
    assert outer.scope == ("a", 1)
    assert inner.scope == ("a", 1, ("x", 2))
    assert plan.call(give, 1).scope == ()
    with pytest.raises(TypeError, match="hashable"), plan.scope([]):
        pass


@pytest.mark.engines(why="no run is made")
def test_scopes_belong_to_their_thread():
    """A scope of one thread is none of another's."""
    plan = Plan()
    with plan.scope("a"):
        thread = threading.Thread(target=plan.call, args=(give, 1))
        thread.start()
        thread.join()
    assert plan.calls[0].scope == ()


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
def test_unpack_gives_each_value_by_itself():
    """The values that a call returns can be given to different calls."""
    plan = Plan()
    low, high = plan.unpack(plan.call(divmod, 17, 5), 2)
    assert run(plan, output=[plan.call(give, high), low], max_workers=0) == [2, 3]


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
def test_a_gather_can_be_given_to_calls():
    """``gather`` makes one value of a structure; of one without calls, too."""
    plan = Plan()
    gathered = plan.gather({"a": plan.call(give, 1)})
    calls = [plan.call(give, gathered), plan.call(give, plan.gather([2]))]
    assert run(plan, output=calls, max_workers=0) == [{"a": 1}, [2]]


@pytest.mark.engines(why="no run is made")
@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda plan, other: plan.call(give, [other]), ValueError, "another plan"),
        (lambda plan, other: plan.unpack(other, 2), ValueError, "another plan"),
        (lambda plan, other: plan.add_dependency(other, plan.calls[0]), ValueError, "another plan"),
        (lambda plan, other: plan.mark_done(other, 1), ValueError, "another plan"),
        (lambda plan, other: plan.unpack(3, 2), TypeError, "call must be a call"),
        (lambda plan, other: plan.unpack(plan.calls[0], -1), ValueError, "n must be 0 or more"),
        (lambda plan, other: plan.unpack(plan.calls[0], "2"), TypeError, "n must be an int"),
        (lambda plan, other: plan.add_dependency(1, plan.calls[0]), TypeError, "first must be"),
        (lambda plan, other: plan.add_dependency(plan.calls[0], 1), TypeError, "then must be"),
        (
            lambda plan, other: plan.add_dependency(plan.calls[0], plan.calls[0]),
            ValueError,
            "<call 0: give> can't wait for itself",
        ),
        (lambda plan, other: plan.mark_failed(plan.calls[0], 1), TypeError, "an exception"),
        (
            lambda plan, other: plan.call(give, {plan.gather([plan.calls[0]]): 1}),
            TypeError,
            "<list of <call 0: give>> can't be hashed, and is a key of a dict",
        ),
        (
            lambda plan, other: setattr(plan.calls[0], "priority", "high"),
            TypeError,
            "priority must be a number, not 'high'",
        ),
        (lambda plan, other: plan.render("png"), ValueError, "'dot' or 'svg', not 'png'"),
    ],
)
def test_what_is_wrong_is_told_at_once(wrong, error, text):
    """A mistake is an error on its line, which names the calls."""
    plan, other = Plan(), Plan()
    plan.call(give, 1)
    with pytest.raises(error, match=text.replace("(", r"\(")):
        wrong(plan, other.call(give, 1))


@pytest.mark.engines(why="no run is made")
def test_a_container_that_holds_itself():
    """Without calls it is an argument like any other; with calls it is refused."""
    plan = Plan()
    own: list = [1]
    own.append(own)
    assert plan.call(give, own).args[0] is own
    own.append(plan.call(give, 1))
    with pytest.raises(ValueError, match="a list with calls in it must not hold itself"):
        plan.call(give, own)


@pytest.mark.engines("inline", why="it asks for inline, since the engine does not matter")
def test_a_picture_shows_calls_scopes_and_outcomes():
    """``render`` gives Graphviz text, in which what is done is green and what failed is red."""
    plan = Plan()
    with plan.scope('a "scope"'):
        parts = [plan.call(int, text) for text in ("1", "2", "3", "4", "5", "no")]
    plan.call(sum, parts)
    assert "palegreen" not in plan.render()
    with pytest.raises(Exception, match="no"):
        run(plan, max_errors=None, max_workers=0)
    text = plan.render()
    assert text.count("fillcolor=palegreen") == 5
    assert text.count("fillcolor=lightcoral") == text.count("fillcolor=lightgrey") == 1
    assert text.count(" -> ") == 7
    assert r'label="a \"scope\""' in text


@pytest.mark.engines(why="no run is made")
def test_a_picture_as_svg_needs_dot(monkeypatch, tmp_path):
    """SVG is what the program ``dot`` makes; without it the error says so."""
    plan = Plan()
    plan.call(give, 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="Graphviz, which is not installed"):
        plan.render("svg")
    dot = tmp_path / "dot"
    dot.write_text('#!/bin/sh\nread first\necho "<svg>$1 $first</svg>"\n')
    dot.chmod(0o755)
    assert plan.render("svg") == "<svg>-Tsvg digraph plan {</svg>\n"


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["wide", "chain", "shared"])
def test_large_plans_take_memory_that_grows_with_them(shape):
    """100 000 calls, wide or in a chain, and a list of 1000 given to 1000, run."""
    plan = Plan()
    if shape == "wide":
        for number in range(100_000):
            plan.call(give, number)
        output = plan.calls[-1]
        assert run(plan) is None
    elif shape == "chain":
        output = plan.call(give, 99_999)
        for _ in range(99_999):
            output = plan.call(give, output)
    else:
        parts = [plan.call(give, number) for number in range(1000)]
        sums = [plan.call(sum, parts) for _ in range(1000)]
        output = plan.call(max, sums)
    assert run(plan, output=output) == (499_500 if shape == "shared" else 99_999)
