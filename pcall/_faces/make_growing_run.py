"""Composes a run to which calls are added while it runs, and which forgets those that are over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pcall._core.chunk_outcomes import PassingOutcomes
from pcall._core.growing_calls import GrowingCalls
from pcall._core.observers import Observers
from pcall._core.options import Options
from pcall._core.run_state import RunState
from pcall._core.scheduler import Scheduler
from pcall._run import Run
from pcall.engines.engine import Engine
from pcall.engines.local.parent.fresh_engine import FreshEngine
from pcall.engines.local.parent.pool_engine import PoolEngine, pool_size
from pcall.engines.local.parent.sent_workload import SentCallsWorkload
from pcall.engines.local.seeding import Draw, chance

if TYPE_CHECKING:
    from pcall._profiles.run_profile import RunProfile

__all__ = ["make_growing_run"]

__tracebackhide__ = True  # pytest shows the frames of its user


def make_growing_run(
    calls: GrowingCalls,
    options: Options,
    timeout: float | None,
    drawn: Draw,
    observers: Observers,
    idle_timeout: float | None = None,
    profiles: RunProfile | None = None,
) -> tuple[Run, PassingOutcomes]:
    """Compose a run without calls; ``GrowingCalls.append`` and ``Run.grow`` add some.

    Args:
        calls: to be filled; ``kept=False``.
        options: the policy. ``max_workers`` is a number, and ``max_errors`` None.
        timeout: seconds that each call may take; None: no limit.
        drawn: random numbers for the children.
        observers: of the run.
        idle_timeout: seconds after which an idle reused worker exits; None: it stays.
        profiles: collects the profiles of calls; None: none are taken.

    Returns:
        The run, and its outcomes, which are to be taken and forgotten.
    """
    pooled = options.max_tasks_per_child != 1
    scheduler = Scheduler(
        0,
        max_workers=pool_size(options, 0, growing=True) if pooled else options.max_workers,
        max_errors=options.max_errors,
        timeout=timeout,
        retry=options.rule,
        growing=True,
        first=len(calls),
    )
    outcomes = PassingOutcomes(calls, captures=bool(options.capture_output))
    outcomes.profiles = profiles
    state = RunState(
        calls, options, timeout, scheduler, outcomes, observers, time.monotonic, chance
    )
    engine: Engine
    if pooled:
        engine = PoolEngine(
            state, outcomes, SentCallsWorkload(calls, scheduler, idle_timeout), drawn
        )
    else:
        engine = FreshEngine(state, drawn)
    return Run(state, engine), outcomes
