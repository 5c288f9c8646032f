"""Turns the seconds of a profile, which a clock measured, into seconds of processor time.

To read a thread's processor time takes as long as many calls do, so ``cProfile`` reads a clock. On
a machine with more to do than cores, a function also stands still while others run, and a function
that waits uses no processor at all. The processor time of the whole call is known exactly, and is
shared out here: among the functions that do not wait, in proportion to their seconds; functions
in C that are known to wait get the rest of it, if there is any.
"""

from __future__ import annotations

from pcall._profiles.cpu_rows import CpuRows, Function, Numbers

__all__ = ["in_processor_time"]

# A function in C waits if its name contains one of these.
_WAITS = (
    "accept", "acquire", "connect", "epoll", "flock", "fsync", "join_thread", "poll", "read",
    "recv", "select", "send", "sleep", "splice", "wait", "write",
)  # fmt: skip


def _may_wait(function: Function) -> bool:
    file, _, name = function
    return file == "~" and any(word in name for word in _WAITS)


def in_processor_time(rows: CpuRows, cpu: float) -> CpuRows:
    """The rows with their seconds scaled, so that those in the functions themselves sum to ``cpu``.

    Args:
        rows: of one thread, in seconds of a clock.
        cpu: seconds of processor time that the thread has used meanwhile.
    """
    waiting = {function for function in rows if _may_wait(function)}
    waited = sum(rows[function][2] for function in waiting)
    worked = sum(row[2] for row in rows.values()) - waited
    work_factor = min(1.0, cpu / worked) if worked > 0 else 1.0
    left = max(0.0, cpu - worked * work_factor)
    wait_factor = min(1.0, left / waited) if waited > 0 else 1.0
    own = {f: wait_factor if f in waiting else work_factor for f in rows}
    # A function with its callees shrinks by as much as all of them together.
    share = _with_callees(rows, own) if waiting and wait_factor != work_factor else own
    return {
        function: (
            primitive,
            calls,
            spent * own[function],
            total * share[function],
            {
                caller: _scaled(numbers, own[function], share[function])
                for caller, numbers in callers.items()
            },
        )
        for function, (primitive, calls, spent, total, callers) in rows.items()
    }


def _scaled(numbers: Numbers, own: float, total: float) -> Numbers:
    calls, primitive, spent, with_callees = numbers
    return calls, primitive, spent * own, with_callees * total


def _with_callees(rows: CpuRows, own: dict[Function, float]) -> dict[Function, float]:
    """By function, the factor of the seconds with its callees.

    A function that calls itself through others refers to itself: a few rounds approach its factor.
    """
    callees: dict[Function, list[tuple[Function, float]]] = {}
    for function, row in rows.items():
        for caller, numbers in row[4].items():
            if caller != function:
                callees.setdefault(caller, []).append((function, numbers[3]))
    factors = dict(own)
    for _ in range(len(rows)):
        changed = 0.0
        for function, row in rows.items():
            total = spent = row[2]
            scaled = spent * own[function]
            for callee, seconds in callees.get(function, ()):
                total += seconds
                scaled += seconds * factors[callee]
            factor = scaled / total if total > 0 else own[function]
            changed = max(changed, abs(factor - factors[function]))
            factors[function] = factor
        if changed < 0.001:
            break
    return factors
