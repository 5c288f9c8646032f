"""Finds the links of chains: calls whose value only the next call in plan order needs.

If one child makes both calls, it can hand a large value over to the next call without writing
it, since no other call will read it. That is not possible if calls may be retried: another
attempt needs the value as it was.
"""

from __future__ import annotations

from collections.abc import Collection

from pcall.plan.nodes import Gather, Item
from pcall.plan.plan import Plan
from pcall.plan.plan_call import PlanCall

__all__ = ["ChainLinks"]


class ChainLinks:
    """The set of calls that are links.

    Args:
        plan: the plan.
        wanted: the calls whose values the caller wants; None: all of them.
        retried: True if calls may be retried.
    """

    def __init__(self, plan: Plan, wanted: Collection[int] | None, retried: bool) -> None:
        self._plan = plan
        self._wanted = frozenset(wanted or ())
        self._has_none = retried or wanted is None

    def __contains__(self, index: int) -> bool:
        users = self._plan.graph.users[index]
        return (
            not self._has_none and len(users) == 1 and users[0] == index + 1
        ) and index not in self._wanted

    def passed_once(self, index: int) -> bool:
        """True if the value stands at most once in the arguments of the next call.

        For each place the call gets an object of its own, so that a change to one is not seen in
        the other. A value that is handed over can be loaded only once.
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
