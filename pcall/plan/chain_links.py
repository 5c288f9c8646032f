"""Links of a chain: calls whose value the next call in plan order needs, and nothing else does.

Where one child makes both, it can hand such a value on as it is, if it is large: nothing else
will ask for it. That is not so where a call may be tried again, which needs the value as it was.
"""

from __future__ import annotations

from collections.abc import Collection

from pcall.plan.nodes import Gather, Item
from pcall.plan.plan import Plan, PlanCall

__all__ = ["ChainLinks"]


class ChainLinks:
    """Tells which calls are links, from the plan alone.

    Args:
        plan: the plan.
        wanted: calls whose values the caller wants; None: those of all.
        retried: True when calls may be tried again.
    """

    def __init__(self, plan: Plan, wanted: Collection[int] | None, retried: bool) -> None:
        self._plan = plan
        self._wanted = frozenset(wanted or ())
        self._none = retried or wanted is None

    def __contains__(self, index: int) -> bool:
        users = self._plan.users[index]
        return (
            not self._none and len(users) == 1 and users[0] == index + 1
        ) and index not in self._wanted

    def passed_once(self, index: int) -> bool:
        """True when the next call gets the value at one place, or at none.

        At two it gets two objects, so that what it does to one is not seen in the other.
        """
        user = self._plan.calls[index + 1]
        found, stack = 0, [*user.args, *user.kwargs.values()]
        while stack:
            node = stack.pop()
            if isinstance(node, Gather):
                stack += node.parts
            elif isinstance(node, Item):
                stack.append(node.of)
            elif isinstance(node, PlanCall):
                found += node.index == index
        return found <= 1
