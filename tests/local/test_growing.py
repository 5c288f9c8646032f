"""A run on the local engines takes calls that were not there at its start (docs/design.rst)."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pcall import Outcome
from pcall._core.chunk_outcomes import ChunkOutcomeStore
from pcall._core.growing_calls import GrowingCalls
from pcall._core.observers import Observers
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.run_state import RunState
from pcall._core.scheduler import Scheduler
from pcall._run import Run
from pcall.engines.engine import Engine
from pcall.engines.local.parent.fresh_engine import FreshEngine
from pcall.engines.local.parent.pool_engine import PoolEngine, pool_size
from pcall.engines.local.parent.workload import IndependentCalls

pytestmark = pytest.mark.usefixtures("each_system")


class Growing:
    """A run on a local engine, to which calls are added one by one.

    Args:
        pooled: True for reused workers, False for a fresh child for each call.
        timeout: seconds that each call may take.
        **policy: see ``Pcall.options``.
    """

    def __init__(self, pooled: bool, timeout: float | None = None, **policy: Any) -> None:
        options = Options(max_tasks_per_child=None if pooled else 1, **policy)
        self.calls = GrowingCalls()
        scheduler = Scheduler(
            0,
            max_workers=pool_size(options, 0, growing=True) if pooled else options.max_workers,
            max_errors=options.max_errors,
            timeout=timeout,
            retry=options.rule,
            growing=True,
        )
        chunked = ChunkOutcomeStore(self.calls)
        outcomes = chunked if pooled else OutcomeStore(self.calls)
        state = RunState(
            self.calls,
            options,
            timeout,
            scheduler,
            outcomes,
            Observers(),
            time.monotonic,
            lambda: 0.0,
        )
        engine: Engine
        if pooled:
            workload = IndependentCalls(self.calls, scheduler, options)
            engine = PoolEngine(state, chunked, workload)
        else:
            engine = FreshEngine(state)
        self.run = Run(state, engine)
        self.run.start()

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *_: object) -> None:
        self.run.abandon()

    def submit(self, target: Any, *args: Any) -> int:
        index = self.calls.append(target, args, {})
        self.run.grow(1)
        self.run.turn(0)
        return index

    def outcome(self, index: int) -> Outcome:
        while not self.run.state.outcomes.has(index):
            self.run.turn(None)
        outcome = self.run.state.outcomes[index]
        assert isinstance(outcome, Outcome)
        return outcome

    def finish(self) -> None:
        self.run.seal()
        while not self.run.over:
            self.run.turn(None)
        self.run.finish()


@pytest.fixture(params=[False, True], ids=["fresh", "reused"])
def pooled(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def square(x: int) -> int:
    return x * x


def fail(x: int) -> None:
    raise ValueError(x)


def test_calls_that_come_one_by_one(pooled: bool) -> None:
    """Each call runs when it comes, and closures of that moment are its target."""
    with Growing(pooled, max_workers=2) as growing:
        for x in range(20):
            index = growing.submit(lambda y, x=x: x * y, 3)
            assert growing.outcome(index).value == 3 * x
        growing.finish()
        assert growing.run.state.outcomes.values() == tuple(3 * x for x in range(20))


def test_thousands_that_come_in_batches(pooled: bool) -> None:
    """A run outgrows what it had reserved at its start, while earlier calls still run."""
    count = 5000 if pooled else 300
    with Growing(pooled, max_workers=2) as growing:
        while len(growing.calls) < count:
            for _ in range(count // 10):
                growing.calls.append(square, (len(growing.calls),), {})
            growing.run.grow(count // 10)
            growing.run.turn(0)
        growing.finish()
        assert growing.run.state.outcomes.values() == tuple(x * x for x in range(count))


def test_a_late_call_that_fails(pooled: bool) -> None:
    """A failure, a death and a timeout of late calls are theirs alone."""
    with Growing(pooled, timeout=1.0, max_workers=2, max_errors=None) as growing:
        assert growing.outcome(growing.submit(square, 2)).value == 4
        failed = growing.submit(fail, 7)
        died = growing.submit(os._exit, 3)
        slow = growing.submit(time.sleep, 60)
        fine = growing.submit(square, 3)
        assert isinstance(growing.outcome(failed).error, ValueError)
        assert growing.outcome(died).exitcode == 3
        assert isinstance(growing.outcome(slow).error, TimeoutError)
        assert growing.outcome(fine).value == 9
        growing.finish()


def test_a_late_call_is_retried(pooled: bool, tmp_path: Path) -> None:
    """Attempts of late calls are counted like those of any."""

    def third_time(path: Path) -> str:
        with path.open("a") as file:
            file.write("x")
        if len(path.read_text()) < 3:
            raise OSError(path)
        return path.read_text()

    with Growing(pooled, max_workers=2, retry=3) as growing:
        growing.outcome(growing.submit(square, 1))
        late = growing.submit(third_time, tmp_path / "tries")
        assert growing.outcome(late).value == "xxx"
        assert growing.outcome(late).attempts == 3
        growing.finish()


def test_records_of_late_calls_come_home(pooled: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Log records of calls that came late reach the parent's handlers, in call order."""
    with caplog.at_level(logging.INFO), Growing(pooled, max_workers=2) as growing:
        for x in range(5):
            growing.submit(logging.info, "call %d", x)
        growing.finish()
    assert caplog.messages == [f"call {x}" for x in range(5)]


def test_sections_of_late_calls(pooled: bool, tmp_path: Path) -> None:
    """Calls that came late have their sections in the main log, in call order."""
    handler = logging.FileHandler(tmp_path / "main.log")
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with Growing(pooled, max_workers=2) as growing:
            for x in range(4):
                growing.outcome(growing.submit(logging.warning, "call %d", x))
            growing.finish()
    finally:
        root.removeHandler(handler)
        handler.close()
    lines = (tmp_path / "main.log").read_text().splitlines()
    assert [line for line in lines if line.startswith("call")] == [f"call {x}" for x in range(4)]
    assert sum(line.startswith(">>>> Begin child log") for line in lines) == 4


def test_a_growing_run_that_is_left(pooled: bool) -> None:
    """A run that is abandoned ends what runs, and starts nothing more."""
    with Growing(pooled, max_workers=1, grace_period=0.5) as growing:
        growing.submit(time.sleep, 60)
        growing.submit(time.sleep, 60)
        pids = [child.pid for child in growing.run.living]
    assert growing.run.living == ()
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
