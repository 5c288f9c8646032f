"""Adds to a snapshot of a profile the functions that have not returned yet.

``cProfile`` counts a function when it returns, and so it does not know the function that a call is
in for minutes. Its seconds are known all the same: those since the begin of the call that belong
to no function that has returned. From one snapshot to the next they go to the innermost function
that runs at the second one.
"""

from __future__ import annotations

from types import FrameType
from typing import NamedTuple

from pcall._profiles.cpu_rows import CpuRows, Function, merge_rows

__all__ = ["Unfinished"]


class _Running(NamedTuple):
    frame: int  # id() of it: the frame itself would keep the target's variables alive
    function: Function
    began: float
    own: float


class Unfinished:
    """Follows the stack of one thread from snapshot to snapshot.

    Args:
        began: when its profile began, by the clock of the snapshots.
    """

    def __init__(self, began: float) -> None:
        self._began = self._seen = began
        self._stack: list[_Running] = []

    def rows(self, finished: CpuRows, frames: list[FrameType], now: float) -> CpuRows:
        """The rows of the functions on the stack.

        Args:
            finished: the rows of functions that have returned, including those of this library.
            frames: those of the target on the stack, outermost first.
            now: the time.
        """
        left = now - self._began - sum(row[2] for row in finished.values())
        stack: list[_Running] = []
        for place, frame in enumerate(frames):
            code = frame.f_code
            function = (code.co_filename, code.co_firstlineno, code.co_name)
            before = self._stack[place] if place < len(self._stack) else None
            if before is None or before.frame != id(frame) or before.function != function:
                self._stack = []  # whatever was deeper has returned
                begin = self._began if place == 0 else -1.0
                before = _Running(id(frame), function, begin, 0.0)
            stack.append(before)
        kept = sum(each.own for each in stack)
        left = max(0.0, left)
        if kept > left:
            factor = left / kept
            stack = [each._replace(own=each.own * factor) for each in stack]
        elif stack:
            stack[-1] = stack[-1]._replace(own=stack[-1].own + left - kept)
        deeper = 0.0
        for place in range(len(stack) - 1, -1, -1):
            deeper += stack[place].own
            if stack[place].began < 0:
                began = max(self._seen, now - deeper)
                stack[place] = stack[place]._replace(began=began)
        self._stack, self._seen = stack, now
        return self._as_rows(now)

    def _as_rows(self, now: float) -> CpuRows:
        rows: CpuRows = {}
        caller: Function | None = None
        active: set[Function] = set()
        for each in self._stack:
            again = each.function in active
            active.add(each.function)
            primitive, total = (0, 0.0) if again else (1, now - each.began)
            numbers = (1, primitive, each.own, total)
            callers = {} if caller is None else {caller: numbers}
            merge_rows(rows, {each.function: (primitive, 1, each.own, total, callers)})
            caller = each.function
        return rows
