"""Plans with large values; cases of tests/plan/test_values.py."""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy

from pcall import Plan, run, run_iter
from pcall.plan.value_store import Values
from tests.helpers.cases import main
from tests.helpers.processes import descriptors


def chain(kind: str, unit: str) -> None:
    many, size = 8, int(unit)

    def step(value: Any) -> Any:
        if kind == "bytes":
            return value.replace(b"y", b"x")
        if kind == "in place":
            value += 1
            return value
        return value + 1

    def first() -> Any:
        return b"y" * size if kind == "bytes" else numpy.zeros(size // 8)

    plan = Plan()
    if kind == "apart":
        # Two chains whose links are planned in turns: values go through files.
        calls = [plan.call(first), plan.call(int)]
        for _ in range(many):
            calls = [plan.call(step, call) for call in calls]
        call = calls[0]
    else:
        call = plan.call(first)
        for _ in range(many):
            call = plan.call(step, call)
    print("ready", flush=True)
    sys.stdin.read(1)
    assert run(plan, output=plan.call(len, call), max_workers=2)


def interrupted() -> None:
    made, close = Values.__init__, Values.close

    def interrupts(method: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: Any) -> None:
            if method is made:
                made(*args)
            raise KeyboardInterrupt

        return wrapped

    before = len(descriptors())
    for name, method in (("__init__", made), ("close", close)):
        setattr(Values, name, interrupts(method))
        plan = Plan()
        try:
            run(plan, output=plan.call(bytes, 2_000_000))
            sys.exit("no interrupt came")
        except KeyboardInterrupt:
            pass
        setattr(Values, name, method)
        gc.collect()
        assert len(descriptors()) == before, (name, descriptors())


def kept() -> None:
    def use(array: Any, pause: None) -> str:
        return str(array.sum())

    plan = Plan()
    made = plan.call(numpy.full, 400_000, 1.0)
    plan.call(use, made, plan.call(time.sleep, 0.5))
    outcomes = {o.index: o for o in run_iter(plan, max_workers=2, order_results=False)}
    assert outcomes[2].value == "400000.0"
    assert outcomes[made.index].value.sum() == 400_000


def scarce(opened: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(int(opened))]

    def total(arrays: list[Any]) -> float:
        return float(sum(array.sum() for array in arrays))

    plan = Plan()
    parts = [plan.call(numpy.full, 3000, float(number)) for number in range(600)]
    expected = 3000.0 * sum(range(600))
    for max_workers in (1, 4):
        assert run(plan, output=plan.call(total, parts), max_workers=max_workers) == expected
        assert total(run(plan, output=parts, max_workers=max_workers)) == expected
        outcomes = list(run_iter(plan, output=parts, max_workers=max_workers))
        assert total([outcome.value for outcome in outcomes]) == expected
    for fd in held:
        os.close(fd)


if __name__ == "__main__":
    main(globals())
