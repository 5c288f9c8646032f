"""docs/plans.rst, docs/progress.rst: a call that was settled from outside counts as over."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import pytest

from pcall import CallError, Plan, run
from pcall._core.records import Event
from pcall.progress import ConsoleProgress

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")


class Recorder:
    """Counts the calls of each kind of event; those of settled calls apart."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def begin(self) -> None:
        pass

    def observe(self, events: Sequence[Event]) -> None:
        for event in events:
            self.counts[event.kind + " (settled)" * event.settled] += event.count

    def end(self) -> None:
        pass


@pytest.mark.parametrize("max_workers", [None, 0])
def test_calls_that_were_marked_as_done(max_workers: int | None) -> None:
    """At the end all calls are done, and their times are those of the calls that ran."""
    plan = Plan()
    calls = [plan.call(abs, -number) for number in range(5)]
    for call in calls[:2]:
        plan.mark_done(call, 7)
    stream, recorder = io.StringIO(), Recorder()
    console = ConsoleProgress(stream, rich=False)
    assert run(plan, output=calls, max_workers=max_workers, progress=[console, recorder]) == [
        7,
        7,
        2,
        3,
        4,
    ]
    assert "5 of 5 done" in stream.getvalue()
    assert "waiting" not in stream.getvalue().splitlines()[-1]
    assert recorder.counts == {"planned": 5, "started": 3, "done": 3, "done (settled)": 2}


@pytest.mark.parametrize("max_workers", [None, 0])
def test_calls_that_were_marked_as_failed(max_workers: int | None) -> None:
    """They count as failed, and are shown with their error."""
    plan = Plan()
    failed = plan.call(abs, -1)
    plan.call(abs, failed)
    plan.call(abs, -2)
    plan.mark_failed(failed, LookupError("lost before"))
    stream, recorder = io.StringIO(), Recorder()
    console = ConsoleProgress(stream, rich=False)
    with pytest.raises(CallError):
        run(plan, max_workers=max_workers, max_errors=None, progress=[console, recorder])
    assert "1 of 3 done, 1 failed, 1 skipped" in stream.getvalue()
    assert "LookupError: lost before" in stream.getvalue()
    expected = {"planned": 3, "started": 1, "done": 1, "failed (settled)": 1, "skipped": 1}
    assert recorder.counts == expected
