"""docs/progress.rst, "As a timeline": a file in the Trace Event format."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pcall import Pcall, Plan, pcall, run
from pcall.progress import TimelineProgress
from tests.helpers.waiting import until

PHASES = {"M", "X", "b", "e", "i"}


def bars(events, **fields):
    """The bars with these fields, of themselves or of their arguments."""
    return [
        event
        for event in events
        if event["ph"] == "X"
        and all({**event["args"], **event}.get(name) == value for name, value in fields.items())
    ]


def checked(path):
    """The events of a complete file, each as the format wants it."""
    return check(json.loads(path.read_text()))


def check(events):
    """The rules of the Trace Event format, as far as these events use it."""
    assert isinstance(events, list)
    open_waits = {}
    for event in events:
        assert event["ph"] in PHASES
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        assert event["ts"] < 1e12
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["cat"] in ("done", "failed", "retried")
            assert event["cname"] in ("good", "terrible", "bad")
            assert isinstance(event["args"]["call"], int)
        elif event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
        elif event["ph"] in "be":
            assert isinstance(event["cat"], str)
            key = event["cat"], event["id"]
            if event["ph"] == "b":
                open_waits[key] = event["ts"]
            else:
                assert event["ts"] >= open_waits.pop(key)
        else:
            assert event["s"] in "gpt"
    assert not open_waits
    rows = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert {event["tid"] for event in bars(events)} <= rows
    by_row: dict[int, list[tuple[float, float]]] = {}
    for bar in bars(events):
        by_row.setdefault(bar["tid"], []).append((bar["ts"], bar["ts"] + bar["dur"]))
    for row in by_row.values():
        row.sort()
        for (_, end), (begin, _) in itertools.pairwise(row):
            assert begin >= end - 0.01  # no two calls of one row overlap
    return events


def nap(seconds):
    time.sleep(seconds)
    return seconds


POLICIES = {
    "fresh": {"max_workers": 3},
    "reused": {"max_workers": 3, "max_tasks_per_child": None},
    "inline": {"max_workers": 0},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_bar_for_each_call(each_system, tmp_path, policy):
    """Each call has its bar, in the row of its worker, with its figures."""
    path = tmp_path / "run.json"
    Pcall.options(progress=TimelineProgress(path), **policy).pcall(nap, seconds=[0.01] * 12)
    events = checked(path)
    made = bars(events, name="nap", result="done", attempt=1, cname="good")
    assert sorted(bar["args"]["call"] for bar in made) == list(range(12))
    assert all(bar["dur"] >= 9_000 for bar in made)
    assert all(bar["args"]["pid"] for bar in made)
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert 1 <= len(names) <= 3
    assert len(set(names)) == len(names)
    kind = "worker" if "max_tasks_per_child" in policy else "process"
    assert all(name.startswith(kind) for name in names)


def fails(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        raise LookupError("not yet")


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_failures_attempts_and_waits(tmp_path, policy):
    """A failed attempt is red, with its error; the wait before the next one is there, too."""
    path = tmp_path / "run.json"
    made = Pcall.options(progress=TimelineProgress(path), retry=2, max_errors=None, **policy)
    outcomes = made.options(return_outcomes=True).pcall(fails, path=[tmp_path / "a"])
    assert not outcomes[0].ok
    events = checked(path)
    (retried,) = bars(events, result="retried", attempt=1, cname="bad")
    (failed,) = bars(events, result="failed", attempt=2, cname="terrible")
    assert retried["args"]["error"] == failed["args"]["error"] == "LookupError: not yet"
    waits = [event for event in events if event["ph"] in "be"]
    assert [event["ph"] for event in waits] == ["b", "e"]
    assert retried["ts"] + retried["dur"] <= waits[1]["ts"] + 0.01
    assert waits[1]["ts"] <= failed["ts"] + 0.01


def boom(i):
    if i == 0:
        raise LookupError
    time.sleep(0.01)


def test_skipped_calls(tmp_path):
    """Calls that never start are told at the time when that is known."""
    path = tmp_path / "run.json"
    made = Pcall.options(progress=TimelineProgress(path), max_workers=1, return_outcomes=True)
    made.pcall(boom, i=range(5))
    (skipped,) = [event for event in checked(path) if event["ph"] == "i"]
    assert skipped["name"] == "4 skipped"


def add(*numbers):
    return sum(numbers)


def test_plans(tmp_path):
    """The calls of a plan have the names of their functions, and their scopes."""
    plan = Plan()
    with plan.scope("load", "all"):
        parts = [plan.call(nap, 0.005) for _ in range(6)]
    total = plan.call(add, *parts)
    path = tmp_path / "run.json"
    run(plan, output=total, progress=TimelineProgress(path), max_workers=2)
    events = checked(path)
    assert len(bars(events, name="nap", scope="load / all")) == 6
    (last,) = bars(events, name="add", scope="add")
    assert last["ts"] >= max(bar["ts"] + bar["dur"] for bar in bars(events, name="nap")) - 0.01


def test_many_quick_calls(tmp_path):
    """Calls that come in chunks have a bar each."""
    path = tmp_path / "run.json"
    made = Pcall.options(progress=TimelineProgress(path), max_tasks_per_child=None)
    made.pcall(abs, iargs=((i,) for i in range(5_000)))
    found = bars(checked(path), name="abs")
    assert sorted(bar["args"]["call"] for bar in found) == list(range(5_000))


def test_further_runs_go_to_the_same_file(tmp_path):
    """Runs one after another, and beside each other, are on one time axis."""
    path = tmp_path / "run.json"
    shown = Pcall.options(progress=TimelineProgress(path))
    shown.pcall(nap, seconds=[0.01])
    with shown(nap, seconds=[0.05]) as first, shown(nap, seconds=[0.05]) as second:
        assert first is not second
    events = checked(path)
    one, *both = sorted(bars(events), key=lambda bar: bar["ts"])
    assert len(both) == 2
    assert all(bar["ts"] >= one["ts"] + one["dur"] for bar in both)
    path.write_text("something else")
    shown.pcall(nap, seconds=[0.01])
    assert len(bars(checked(path))) == 1


def in_the_call():
    return pcall(nap, seconds=[0.01, 0.01])


def test_calls_of_a_call_are_part_of_its_bar(tmp_path):
    """Children write nothing: what a call's own run does is in the call's bar."""
    path = tmp_path / "run.json"
    Pcall.options(progress=TimelineProgress(path)).pcall([in_the_call])
    (bar,) = bars(checked(path))
    assert bar["name"] == "in_the_call"


SCRIPT = """
import sys, time
from pcall import pcall
def nap(i):
    time.sleep(0.02 if i < 5 else 60)
if __name__ == "__main__":
    pcall(nap, i=range(8))
"""


def test_a_killed_run_has_its_file(tmp_path):
    """The file of a killed run has the calls that had ended; the format's bracket may miss."""
    (tmp_path / "script.py").write_text(SCRIPT)
    path = tmp_path / "run.json"
    env = {**os.environ, "PCALL_PROGRESS": f"timeline:{path}", "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=env)
    try:
        until(lambda: path.exists() and path.read_text().count('"done"') >= 10)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    text = path.read_text()
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(text)
    events = check(json.loads(text + "]"))
    assert len(bars(events, result="done")) == 5


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        (3, TypeError, "path must be that of a file, not 3"),
        ("", ValueError, "path must be that of a file, not empty"),
        ("/nowhere/run.json", ValueError, "path must be in a folder that exists"),
        ("/dev/null", ValueError, "'/dev/null' is none"),
    ],
)
def test_wrong_paths(path, kind, text):
    """They are refused before anything runs."""
    with pytest.raises(kind, match=text):
        TimelineProgress(path)
