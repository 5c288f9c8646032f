"""Builds the exception of a run from its outcomes, and the notes of the exception."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from pcall._core.call_failures import ChildDied, ChildProcessException, PcallTimeout
from pcall._core.call_notes import call_note
from pcall._core.records import Outcome
from pcall._wire.exception_codec import safe_str, text_or_name, type_name

__all__ = ["failure_notes", "failure_of"]

# How many kinds of failures a note lists, and how many running calls a text names.
_SHOWN = 10


def failure_of(
    outcomes: Sequence[Outcome],
    timed_out: Sequence[int] = (),
    timeout: float | None = None,
    ended_by_us: Collection[int] = (),
    ended_from_outside: Collection[int] = (),
) -> ChildProcessException | PcallTimeout | None:
    """The exception to raise for these outcomes; None if no call failed.

    The cause is the first failure in call order. It selects the type: ``ChildDied`` if the child
    died, ``PcallTimeout`` if the call ran too long, ``ChildProcessException`` otherwise. A
    timeout that ended the whole run takes precedence.

    Args:
        outcomes: the outcomes of all calls, in call order.
        timed_out: indices of the calls that were running when one of them reached the timeout,
            and that were ended for it.
        timeout: the limit, in seconds.
        ended_by_us: indices of calls that were ended on request, or because others had failed.
            These are no failures.
        ended_from_outside: indices of calls whose child died, or that ran too long. A call can
            also *raise* these errors, if it makes calls of its own.
    """
    unsuccessful = [o for o in outcomes if not o.ok and o.attempts]
    failures = tuple(o for o in unsuccessful if o.index not in ended_by_us)
    if not failures:
        return None
    all_of_them = tuple(outcomes)
    error: ChildProcessException | PcallTimeout
    if timed_out:
        running = tuple(outcomes[index] for index in timed_out)
        first = next(o for o in running if isinstance(o.error, PcallTimeout))
        error = PcallTimeout(_still_running(running, timeout), timeout, running, failures)
        error.outcomes = all_of_them
    else:
        first = failures[0]
        cause = first.error
        ended = first.index in ended_from_outside
        if ended and isinstance(cause, ChildDied):
            error = ChildDied(cause.exitcode, failures, all_of_them)
        elif ended and isinstance(cause, PcallTimeout):
            error = PcallTimeout(str(cause), cause.timeout, (first,), failures, all_of_them)
        else:
            assert cause is not None
            error = ChildProcessException(text_or_name(cause), failures, all_of_them)
    error.__cause__ = first.error
    error.add_note(call_note(first))
    skipped, ended_calls = sum(not o.attempts for o in outcomes), len(unsuccessful) - len(failures)
    for note in failure_notes(first, failures, skipped, ended_calls):
        error.add_note(note)
    return error


def _still_running(running: Sequence[Outcome], timeout: float | None) -> str:
    calls = [f"{o.call} (call {o.index}, pid {o.pid})" for o in running[:_SHOWN]]
    if len(running) > _SHOWN:
        calls.append(f"and {len(running) - _SHOWN} more")
    verb = "call was" if len(running) == 1 else "calls were"
    return f"{len(running)} {verb} still running after {timeout:g} s: {', '.join(calls)}"


def failure_notes(
    first: Outcome, failures: Sequence[Outcome], skipped: int, ended: int
) -> list[str]:
    """Notes that count the other failures, by type and text, the ended and the skipped calls.

    Args:
        first: the failure that is the cause.
        failures: all failures.
        skipped: the number of calls that did not start.
        ended: the number of calls that were ended while they ran.
    """
    notes = []
    others = [o for o in failures if o is not first]
    if others:
        kinds = Counter(_one_line(o.error) for o in others if o.error is not None)
        lines = [f"  {count} x {kind}" for kind, count in kinds.most_common(_SHOWN)]
        if len(kinds) > _SHOWN:
            more = len(kinds) - _SHOWN
            lines.append(f"  and {more} more {'kind' if more == 1 else 'kinds'}")
        verb = "call" if len(others) == 1 else "calls"
        notes.append("\n".join([f"{len(others)} more {verb} failed:", *lines]))
    if ended:
        notes.append(f"{ended} more {'was' if ended == 1 else 'were'} ended while running")
    if skipped:
        notes.append(f"{skipped} more {'was' if skipped == 1 else 'were'} not started for it")
    return notes


def _one_line(error: BaseException) -> str:
    text = safe_str(error).partition("\n")[0]
    return f"{type_name(type(error))}: {text[:200]}" if text else type_name(type(error))
