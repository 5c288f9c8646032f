"""Composes the run of independent calls on a cluster."""

from __future__ import annotations

import sys
import time

from pcall._core.calls import Calls
from pcall._core.options import Options
from pcall._core.packed_outcomes import PackedOutcomeStore
from pcall._core.run_state import RunState
from pcall._core.scheduler import Scheduler
from pcall._faces.run_observers import observers_of
from pcall._faces.use_profiles import use_profiles
from pcall._run import Run
from pcall.engines.dask.cluster_work import ClusterWork
from pcall.engines.local.seeding import chance

__all__ = ["make_cluster_run"]


class _ClusterScheduler(Scheduler):
    """A scheduler without deadlines: the nodes watch the timeout, where the calls start."""

    def set_timeout(self, timeout: float | None) -> None:
        """Do nothing: the engine sends the limit of the state to the nodes."""

    def dispatched(self, index: int, stop: int) -> None:
        """Take note that a chunk was dispatched, which need not be the next."""
        self._dispatched_out_of_turn(index, stop)


def make_cluster_run(calls: Calls, options: Options, timeout: float | None) -> Run:
    """Compose the run of these calls on the cluster that the options name."""
    scheduler = _ClusterScheduler(
        len(calls),
        # Calls queue at the workers: a failure stops those that have not started.
        max_workers=options.max_workers or sys.maxsize,
        max_errors=options.max_errors,
        retry=options.rule,
        fail_fast=options.fail_fast,
    )
    observers = observers_of(options.progress_choice)
    outcomes = PackedOutcomeStore(calls)
    use_profiles(outcomes, options)
    state = RunState(
        calls, options, timeout, scheduler, outcomes, observers, time.monotonic, chance
    )
    work = ClusterWork(calls, options.max_tasks_per_child != 1, options.locality)
    return Run(state, options.engine.make_engine(state, work))
