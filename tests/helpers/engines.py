"""The engines that tests run on: a table, and how one of them becomes the default of a test.

A test that asks for the fixture ``engine`` (calls) or ``plan_engine`` (plans) runs once on each
row of the table. Two marks choose:

.. code-block:: python

    @pytest.mark.needs("processes")            # not on engines that lack this; see PROPERTIES
    @pytest.mark.engines("fresh", why="...")   # on these alone
    @pytest.mark.engines(why="...")            # once, with no default changed
    @pytest.mark.faulty("inline", why="...")   # fails there, for a fault of the library; now and
                                               # then alone, with strict=False

A further engine is a further row. ``docs/design.rst`` says how to add one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

from pcall import Pcall
from pcall._core.options import Options
from pcall._core.run_state import RunState
from pcall._run import Run
from pcall.engines.engine import Engine

__all__ = [
    "CALLS",
    "PLANS",
    "PROPERTIES",
    "EngineUse",
    "Row",
    "expect_faults",
    "fixture_of",
    "is_chosen",
    "is_first",
    "parametrize",
]

# What a test may need, and an engine may lack.
PROPERTIES = {
    "processes": "calls run in children of this process, with pids, exit codes and signals",
    "isolation": "a call may change the memory of its process, exit, or kill it",
    "no queue": "without max_workers all calls run at once, so a failure stops none of them",
    "transport": "results and exceptions are pickled on their way",
    "timeouts": "a call that runs too long is ended",
    "concurrency": "calls run beside each other and the caller, as many as max_workers says",
    "child logs": "a record tells which call made it, and a log file has a section for each call",
    "inheritance": "calls have the memory of this process: what it has changed, and what can't be "
    "pickled",
    "a fresh child": "a child runs one call, so all that the child is and does is the call's",
}


@dataclass(frozen=True)
class Row:
    """An engine under test.

    Attributes:
        name: its name in the IDs of tests.
        made: the name of the engine's class.
        policy: the options that choose it.
        lacks: the keys of PROPERTIES that it does not have.
        fixture: the name of a fixture that the engine needs, for instance one that starts a
            cluster. Its value is a mapping, and is added to the policy. Default "": none.
    """

    name: str
    made: str
    policy: Mapping[str, Any]
    lacks: frozenset[str] = frozenset()
    fixture: str = ""


_NOT_IN_A_POOL = frozenset({"a fresh child", "no queue"})
# Logs of a cluster's calls have sections, too, with the name of the worker: tests/cluster.
_NOT_ELSEWHERE = frozenset({"processes", "no queue", "inheritance", "child logs"})

CALLS = (
    Row("fresh", "FreshEngine", {}),
    # Four, so that calls may wait for each other on a machine with one core.
    Row("reused", "PoolEngine", {"max_tasks_per_child": None, "max_workers": 4}, _NOT_IN_A_POOL),
    Row("inline", "InlineEngine", {"max_workers": 0}, frozenset(PROPERTIES) - {"inheritance"}),
    Row("cluster", "ClusterEngine", {}, _NOT_ELSEWHERE, "cluster_policy"),
    Row(
        "cluster reused",
        "ClusterEngine",
        {"max_tasks_per_child": None},
        _NOT_ELSEWHERE | _NOT_IN_A_POOL,
        "cluster_policy",
    ),
)
PLANS = (
    Row("pool", "PoolEngine", {}, _NOT_IN_A_POOL),
    Row("inline", "InlineEngine", {"max_workers": 0}, frozenset(PROPERTIES) - {"inheritance"}),
    Row("cluster", "ClusterEngine", {}, _NOT_ELSEWHERE | _NOT_IN_A_POOL, "cluster_policy"),
)

TABLES = {"engine": CALLS, "plan_engine": PLANS}
# Fixtures of engines that are not installed: their tests would be hundreds of skips.
MISSING = () if find_spec("distributed") and find_spec("cloudpickle") else ("cluster_policy",)


def rows_for(table: Sequence[Row], marks: Iterable[pytest.Mark]) -> list[Row]:
    """Return the rows of a table that a test with these marks runs on.

    Raises:
        ValueError: a mark names an engine or a property that there is not, or gives no reason.
    """
    rows = list(table)
    for mark in marks:
        if mark.name == "needs":
            if not mark.args or {*mark.args} - {*PROPERTIES}:
                raise ValueError(f"needs{mark.args}: a need is one of {', '.join(PROPERTIES)}")
            rows = [row for row in rows if not row.lacks & {*mark.args}]
        elif mark.name == "engines":
            if not mark.kwargs.get("why"):
                raise ValueError(f"engines{mark.args} needs a reason: why=...")
            known = {row.name for each in TABLES.values() for row in each}
            if {*mark.args} - known:
                raise ValueError(f"engines{mark.args}: there are {', '.join(sorted(known))}")
            rows = [row for row in rows if row.name in mark.args]
    return rows


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for an engine on each that it holds for."""
    for fixture, table in TABLES.items():
        if fixture in metafunc.fixturenames:
            marks = list(metafunc.definition.iter_markers())
            rows = rows_for(table, marks)
            if not rows and all(mark.name != "engines" for mark in marks):
                raise ValueError(f"{metafunc.definition.nodeid} needs what no engine has")
            if rows:
                rows = [row for row in rows if row.fixture not in MISSING] or rows
                parameters = [pytest.param(row, id=row.name) for row in rows]
                metafunc.parametrize(fixture, parameters, indirect=True)


def is_chosen(item: pytest.Item) -> bool:
    """Return False where a parameter of the test, or its mark, excludes the engine.

    A test with the parameter ``max_workers`` runs inline where that is 0, and elsewhere where it
    is not. A mark of one parameter of a test is known here for the first time.
    """
    return all(row in rows for row, rows in _engines_of(item))


def is_first(item: pytest.Item) -> bool:
    """Return whether the engine of a test is the first of those that it runs on."""
    return all(row is rows[0] for row, rows in _engines_of(item))


def _engines_of(item: pytest.Item) -> Iterator[tuple[Row, list[Row]]]:
    """Yield the engine of a test, and all on which it runs with these other parameters."""
    parameters = _parameters(item)
    for fixture, table in TABLES.items():
        if fixture in parameters:
            rows = rows_for(table, item.iter_markers())
            if "max_workers" in parameters:
                inline = parameters["max_workers"] == 0
                rows = [row for row in rows if (row.policy.get("max_workers") == 0) == inline]
            yield parameters[fixture], rows


def fixture_of(item: pytest.Item) -> str:
    """Return the name of the fixture that the engine of a test needs; "" for none."""
    return next((row.fixture for row in _parameters(item).values() if isinstance(row, Row)), "")


def expect_faults(item: pytest.Item) -> None:
    """Expect a test to fail on the engines that its marks call faulty."""
    names = {row.name for row in _parameters(item).values() if isinstance(row, Row)}
    for mark in item.iter_markers("faulty"):
        if names & {*mark.args}:
            strict = mark.kwargs.get("strict", True)
            item.add_marker(pytest.mark.xfail(reason=mark.kwargs["why"], strict=strict))


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})


class EngineUse:
    """Makes an engine the default of a test, and notes which engines the test's runs have.

    Args:
        row: the engine; None: no default is changed.
        policy: the options that choose it.
        patch: undoes the changes at the end of the test.
    """

    def __init__(
        self, row: Row | None, policy: Mapping[str, Any], patch: pytest.MonkeyPatch
    ) -> None:
        self.row = row
        self._policy = dict(policy)
        self._patch = patch
        self._made: set[str] = set()
        if row is not None:
            self._note_runs()

    @classmethod
    def of(cls, request: pytest.FixtureRequest, patch: pytest.MonkeyPatch) -> EngineUse:
        """Make one for the test that a fixture is set up for."""
        row: Row | None = getattr(request, "param", None)
        policy = dict(row.policy) if row else {}
        if row and row.fixture:
            policy.update(request.getfixturevalue(row.fixture))
        return cls(row, policy, patch)

    def _note_runs(self) -> None:
        make, made = Run.__init__, self._made

        def noted(self: Run, state: RunState, engine: Engine, *more: Any, **named: Any) -> None:
            made.add(type(engine).__name__)
            make(self, state, engine, *more, **named)

        self._patch.setattr(Run, "__init__", noted)

    def become_default_of_calls(self) -> None:
        """Have ``pcall`` and ``Pcall`` use the engine, and classes with a policy made before."""
        usual = Pcall._options
        for each in _with_subclasses(Pcall):
            if "_options" in vars(each):
                options: Options = vars(each)["_options"]
                changes = {
                    name: value
                    for name, value in self._policy.items()
                    if getattr(options, name) == getattr(usual, name)
                }
                # A class whose policy the engine refuses stays as it is; whichever test uses it is
                # told so by check().
                with suppress(ValueError):
                    self._patch.setattr(each, "_options", options.but(changes))

    def become_default_of_plans(self, module: Any) -> None:
        """Have ``run`` and ``run_iter`` use the engine where a test module calls them."""
        for name in ("run", "run_iter"):
            if hasattr(module, name):
                used = partial(getattr(module, name), **self._policy)
                self._patch.setattr(module, name, used)

    def check(self) -> None:
        """Fail a test that has made no run on its engine: it has to say so by a mark."""
        if self.row is not None and self.row.made not in self._made:
            pytest.fail(
                f"no run was made on the engine {self.row.name}, but on {sorted(self._made)}: "
                f"mark the test with needs(...) or engines(..., why=...)"
            )


def _with_subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for each in cls.__subclasses__():
        yield from _with_subclasses(each)
