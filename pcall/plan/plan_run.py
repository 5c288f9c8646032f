"""The run of a plan: state, engine and values, composed."""

from __future__ import annotations

import time
from typing import Any

from pcall._core.chunk_outcomes import ChunkOutcomeStore
from pcall._core.options import Options
from pcall._core.outcome_store import OutcomeStore
from pcall._core.run_state import RunState
from pcall._run import Run
from pcall._run_observers import observers_of
from pcall._tuning import CHUNK_SECONDS
from pcall.engines.engine import Engine
from pcall.engines.inline import InlineEngine
from pcall.engines.local.parent.pool_engine import PoolEngine, pool_size
from pcall.engines.local.seeding import chance
from pcall.plan.call_states import DONE, FAILED, HANDED, SKIPPED
from pcall.plan.call_stats import CallStats
from pcall.plan.chain_links import ChainLinks
from pcall.plan.inline_plan import InlinePlan, InlineValues
from pcall.plan.plan_calls import PlanCalls
from pcall.plan.plan_values import PlanValues
from pcall.plan.plan_workload import PlanWorkload
from pcall.plan.rerun_scheduler import RerunScheduler

__all__ = ["PlanRun"]

__tracebackhide__ = True  # pytest shows the frames of its user


class PlanRun:
    """Runs the calls of a plan, and has their values.

    Args:
        calls: of the plan.
        options: the policy.
        timeout: seconds that each call may take; None: no limit.
        output: the calls whose values are wanted; None: all calls are executed.
        keep: True when all values are wanted.

    Attributes:
        run: the run.
        outcomes: its outcomes, with values for as long as these are kept.
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
        rule = options.rule
        retried = rule is not None and rule.attempts > 1
        links = ChainLinks(calls.plan, None if keep else output or (), retried)
        stats = CallStats(calls.plan, links, CHUNK_SECONDS)
        self._values = InlineValues(calls.plan) if inline else PlanValues(calls.plan)
        self.scheduler = RerunScheduler(
            calls.plan,
            output,
            keep=keep,
            max_workers=1 if inline else pool_size(options, len(calls)),
            max_errors=options.max_errors,
            timeout=None if inline else timeout,
            retry=rule,
            chunk_policy=stats,
            is_used_up=self._values.is_used_up,
        )
        self.outcomes: OutcomeStore
        self._workload: InlinePlan | PlanWorkload
        engine: Engine
        if isinstance(self._values, InlineValues):
            self.outcomes = OutcomeStore(calls, self._values.value_of)
            self._workload = InlinePlan(calls, self.scheduler, self._values)
            state = self._state(calls, options, None)
            engine = InlineEngine(state, self._workload)
        else:
            self.outcomes = outcomes = ChunkOutcomeStore(calls, self._values.value_of)
            self._workload = PlanWorkload(
                calls, self.scheduler, self._values, links, stats, retried
            )
            state = self._state(calls, options, timeout)
            engine = PoolEngine(state, outcomes, self._workload)
        self.run = Run(state, engine)

    def _state(self, calls: PlanCalls, options: Options, timeout: float | None) -> RunState:
        observers = observers_of(options.progress_choice)
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

    def value(self, index: int) -> Any:
        """The value of a call that has returned; None when it was dropped.

        Raises:
            ResultError: it can't be read.
        """
        return self._values.value_of(index)

    def release(self, index: int) -> None:
        """The caller needs the value of this call no more."""
        self.scheduler.uses.release(index)
        self._workload.drop_unneeded()

    def note(self) -> None:
        """Write on the plan, and on its calls, how they ended."""
        plan = self._plan
        plan.states = bytes(self.scheduler.state)
        for call, state in zip(plan.calls, plan.states, strict=True):
            settled = call.settled is not None
            call.done = settled or state in (DONE, FAILED)
            call.started = not settled and state in (DONE, FAILED, HANDED)
            if state == SKIPPED:
                # It was to be retried, perhaps, when the run was stopped.
                outcome = self.outcomes[call.index]
                call.started = call.done = outcome is not None and outcome.attempts > 0

    def close(self) -> None:
        """Drop all values."""
        self._values.close()
