"""Composes the run of independent calls: state, engine, observers."""

from __future__ import annotations

import time

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.run_state import RunState
from pcall._core.scheduler import Scheduler
from pcall._faces.run_observers import observers_of
from pcall._faces.use_profiles import use_profiles
from pcall._run import Run
from pcall.engines.local.parent.fresh_engine import FreshEngine
from pcall.engines.local.seeding import chance

__all__ = ["make_run"]

__tracebackhide__ = True  # pytest shows the frames of its user


def make_run(calls: Calls, options: Options, timeout: float | None) -> Run:
    """Compose the state of these calls with the engine that the options ask for."""
    if options.max_workers == 0:
        return _inline_run(calls, options)
    if options.engine is not None:
        return _cluster_run(calls, options, timeout)
    if options.max_tasks_per_child != 1:
        return _pool_run(calls, options, timeout)
    state = _make_state(calls, options, timeout, options.max_workers, OutcomeStore(calls))
    return Run(state, FreshEngine(state))


def _inline_run(calls: Calls, options: Options) -> Run:
    # Each run loads the engine that it needs.
    from pcall.engines.inline import InlineCalls, InlineEngine

    state = _make_state(calls, options, None, 1, OutcomeStore(calls))
    return Run(state, InlineEngine(state, InlineCalls()))


def _cluster_run(calls: Calls, options: Options, timeout: float | None) -> Run:
    from pcall._faces.cluster_run import make_cluster_run

    return make_cluster_run(calls, options, timeout)


def _pool_run(calls: Calls, options: Options, timeout: float | None) -> Run:
    from pcall._core.chunk_outcomes import ChunkOutcomeStore
    from pcall.engines.local.parent.pool_engine import PoolEngine, pool_size
    from pcall.engines.local.parent.workload import IndependentCalls

    outcomes = ChunkOutcomeStore(calls, captures=bool(options.capture_output))
    state = _make_state(calls, options, timeout, pool_size(options, len(calls)), outcomes)
    workload = IndependentCalls(calls, state.scheduler, options)
    return Run(state, PoolEngine(state, outcomes, workload))


def _make_state(
    calls: Calls,
    options: Options,
    timeout: float | None,
    max_workers: int | None,
    outcomes: OutcomeStore,
) -> RunState:
    scheduler = Scheduler(
        len(calls),
        max_workers=max_workers,
        max_errors=options.max_errors,
        timeout=timeout,
        retry=options.rule,
        fail_fast=options.fail_fast,
    )
    observers = observers_of(options.progress_choice)
    use_profiles(outcomes, options)
    return RunState(calls, options, timeout, scheduler, outcomes, observers, time.monotonic, chance)
