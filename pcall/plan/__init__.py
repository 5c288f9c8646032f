"""Plans: calls that depend on calls.

>>> from pcall import Plan, run
>>> plan = Plan()
>>> parts = [plan.call(pow, number, 2) for number in range(4)]
>>> total = plan.call(sum, parts)
>>> run(plan, output={"total": total, "last": parts[-1]})
{'total': 14, 'last': 9}
"""

import typing as _typing

from pcall._lazy import lazy_names as _lazy_names

if _typing.TYPE_CHECKING:
    from pcall.plan.nodes import Gather, Item, Lit, Node
    from pcall.plan.places import Place
    from pcall.plan.plan import Plan
    from pcall.plan.plan_call import PlanCall
    from pcall.plan.running import run, run_iter
else:
    __getattr__, __dir__ = _lazy_names(
        globals(),
        {
            "pcall.plan.nodes": ("Gather", "Item", "Lit", "Node"),
            "pcall.plan.places": ("Place",),
            "pcall.plan.plan": ("Plan",),
            "pcall.plan.plan_call": ("PlanCall",),
            "pcall.plan.running": ("run", "run_iter"),
        },
    )

__all__ = ["Gather", "Item", "Lit", "Node", "Place", "Plan", "PlanCall", "run", "run_iter"]
