"""The run of a plan: state, engine and values, composed."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pcall._core.chunk_outcomes import ChunkOutcomeStore
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.packed_outcomes import PackedOutcomeStore
from pcall._core.run_state import RunState
from pcall._errors import ResultError
from pcall._faces.run_observers import observers_of
from pcall._faces.use_profiles import use_profiles
from pcall._os.signals import is_interrupt
from pcall._run import Run
from pcall._tuning import CHUNK_SECONDS
from pcall.engines.inline import InlineEngine
from pcall.engines.local.parent.pool_engine import PoolEngine, pool_size
from pcall.engines.local.seeding import chance
from pcall.plan.call_states import DONE, FAILED, HANDED, SKIPPED
from pcall.plan.call_stats import CallStats
from pcall.plan.chain_links import ChainLinks
from pcall.plan.given_results import GivenResults
from pcall.plan.inline_plan import InlinePlan, InlineValues
from pcall.plan.nodes import resolve
from pcall.plan.plan_call import Settled
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_values import PlanValues
from pcall.plan.plan_workload import PlanWorkload
from pcall.plan.rerun_scheduler import RerunScheduler

if TYPE_CHECKING:
    from pcall.plan.cluster_plan import ClusterPlan, ClusterValues

__all__ = ["PlanRun"]

__tracebackhide__ = True  # pytest shows the frames of its user

# Seconds that a chunk may take on a cluster, where a message takes longer.
CLUSTER_CHUNK_SECONDS = 0.02


class PlanRun:
    """Runs the calls of a plan, and keeps their values.

    Args:
        calls: of the plan.
        options: the policy.
        timeout: seconds that each call may take; None: no limit.
        output: the calls whose values are wanted; None: all calls are executed, for no value.
        keep: True if all values are wanted.

    Attributes:
        run: the run.
        outcomes: its outcomes, with the values that are still kept.
        scheduler: its scheduler.
    """

    def __init__(
        self,
        calls: PlanCalls,
        options: Options,
        timeout: float | None,
        output: list[int] | None,
        keep: bool,
    ) -> None:
        self._plan = calls.plan
        inline = options.max_workers == 0
        cluster = options.engine is not None and not inline
        rule = options.rule
        retried = rule is not None and rule.attempts > 1
        links = ChainLinks(calls.plan, None if keep else output or (), retried)
        stats = CallStats(calls.plan, links, CLUSTER_CHUNK_SECONDS if cluster else CHUNK_SECONDS)
        given = GivenResults(calls.plan)
        self._values: InlineValues | PlanValues | ClusterValues
        if cluster:
            from pcall.plan.cluster_plan import ClusterPlan, ClusterValues

            self._values = ClusterValues(given)
        else:
            self._values = InlineValues(given) if inline else PlanValues(calls.plan, given)
        self.scheduler: RerunScheduler = RerunScheduler(
            calls.plan,
            output,
            given=given,
            keep=keep,
            max_workers=_most_chunks(options, len(calls)),
            max_errors=options.max_errors,
            # The nodes of a cluster watch it.
            timeout=None if inline or cluster else timeout,
            retry=rule,
            fail_fast=options.fail_fast,
            chunk_policy=stats,
            is_used_up=self._values.is_used_up,
            is_stale=self._values.is_stale,
        )
        self.outcomes: OutcomeStore
        self._workload: InlinePlan | PlanWorkload | ClusterPlan
        self._engine: Any
        if cluster:
            wanted = None if keep else frozenset(output or ())
            self.outcomes = PackedOutcomeStore(calls, self._values.value_of)
            reused = options.max_tasks_per_child != 1
            assert isinstance(self._values, ClusterValues)
            self._workload = ClusterPlan(
                calls, self.scheduler, self._values, links, stats, wanted, reused
            )
            state = self._state(calls, options, timeout)
            self._engine = options.engine.make_engine(state, self._workload)
        elif isinstance(self._values, InlineValues):
            self.outcomes = OutcomeStore(calls, self._values.value_of)
            self._workload = InlinePlan(calls, self.scheduler, self._values)
            state = self._state(calls, options, None)
            self._engine = InlineEngine(state, self._workload)
        else:
            assert isinstance(self._values, PlanValues)
            self.outcomes = outcomes = ChunkOutcomeStore(
                calls, self._values.value_of, bool(options.capture_output)
            )
            self._workload = PlanWorkload(
                calls, self.scheduler, self._values, links, stats, retried
            )
            state = self._state(calls, options, timeout)
            self._engine = PoolEngine(state, outcomes, self._workload)
        self.run: Run = Run(state, self._engine)
        profiles = self.outcomes.profiles
        chosen = profiles is not None and options.profile is not None
        self._plan.profile = profiles.merged if profiles is not None and chosen else None
        # Not before it is complete: another thread may settle a call now.
        calls.plan.attach(self.settle)
        for index, result in given.changes().items():  # since they were taken from the plan
            self.settle(index, result)

    def _state(self, calls: PlanCalls, options: Options, timeout: float | None) -> RunState:
        observers = observers_of(options.progress_choice)
        use_profiles(self.outcomes, options)
        return RunState(
            calls,
            options,
            timeout,
            self.scheduler,
            self.outcomes,
            observers,
            time.monotonic,
            chance,
        )

    def output(self, structure: Any) -> Any:
        """The output of the run, with values in place of calls.

        A value that does not load here, or is not what the structure takes (another number of
        items, a key that has no hash), is the failure of the call that returned it. The outcomes
        tell of it, and nothing is returned then.
        """
        read = -1  # the call whose value was read last

        def value_of(index: int) -> Any:
            nonlocal read
            read = index
            return self._values.value_of(index)

        try:
            return resolve(structure, value_of)
        except BaseException as problem:
            if read < 0 or is_interrupt(problem):
                raise
            self.outcomes.fail(read, problem)
            return None

    def release(self, index: int) -> None:
        """Take note that the caller does not need the value of this call any more."""
        self.scheduler.uses.release(index)
        self._workload.drop_unneeded()

    def settle(self, index: int, result: Settled | None) -> None:
        """A call of the plan is settled while this run lasts; None: its value is lost."""
        self.run.post(partial(self._settle_now, index, result))

    def _settle_now(self, index: int, result: Settled | None) -> None:
        if result is None:
            lose = getattr(self._workload, "lose", self.scheduler.lose)
            lose(index)
            return
        self._engine.refresh()  # what has ended until now has ended by itself
        if self.scheduler.is_over(index):
            return
        value, error = result
        if error is None:
            try:
                self._values.give(index, value)
            except ResultError as failure:
                value, error = None, failure
        if self.run.state.settle_now(index, value, error):
            self._engine.withdraw(index)

    def note(self) -> None:
        """Record in the plan and its calls how the calls ended."""
        plan = self._plan
        plan.states = bytes(self.scheduler.state)
        for call, state in zip(plan.calls, plan.states, strict=True):
            settled = call.settled is not None
            call.done = settled or state in (DONE, FAILED)
            call.started = not settled and state in (DONE, FAILED, HANDED)
            if state == SKIPPED:
                # Perhaps it had failed and was to be retried when the run was stopped.
                outcome = self.outcomes[call.index]
                call.started = call.done = outcome is not None and outcome.attempts > 0

    def close(self) -> None:
        """Drop all values."""
        self._plan.detach(self.settle)
        self._values.close()


def _most_chunks(options: Options, calls: int) -> int:
    """The number of chunks at once, those that wait at workers included."""
    if options.max_workers == 0:
        return 1
    if options.engine is not None:
        return options.max_workers or sys.maxsize
    return pool_size(options, calls)
