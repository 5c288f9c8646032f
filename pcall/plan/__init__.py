"""Plans: calls that depend on calls.

>>> from pcall import Plan, run
>>> plan = Plan()
>>> parts = [plan.call(pow, number, 2) for number in range(4)]
>>> total = plan.call(sum, parts)
>>> run(plan, output={"total": total, "last": parts[-1]})
{'total': 14, 'last': 9}
"""

from pcall.plan.nodes import Gather, Item, Lit, Node, Place
from pcall.plan.plan import Plan, PlanCall
from pcall.plan.running import run, run_iter

__all__ = ["Gather", "Item", "Lit", "Node", "Place", "Plan", "PlanCall", "run", "run_iter"]
