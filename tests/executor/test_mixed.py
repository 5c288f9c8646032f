"""Calls of all kinds at once, with policies drawn at random, each against its own expectation."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildDied, Executor, PcallTimeout, Retry

SEEDS = range(2)
CALLS = 16


def fine(x: int) -> int:
    return x


def prints(x: int) -> int:
    print("printed", x)
    return x


def fails(x: int) -> int:
    raise LookupError(f"no {x}")


def dies(x: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


def hangs(x: int) -> int:
    time.sleep(60)
    return x


def fails_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        raise LookupError("the first time")
    return path.name


def nests(x: int) -> int:
    with Executor(1) as executor:
        return executor.submit(lambda: x).result()


def draw_call(chance: random.Random, executor: Any, x: int, folder: Path) -> Callable[[], None]:
    """Submit a call; what is returned checks how it ended."""
    kind = chance.choice(["fine", "prints", "fails", "dies", "hangs", "again", "nests", "closure"])
    policy: dict[str, Any] = {}
    if chance.random() < 0.5:
        policy["capture_output"] = True
    if kind == "hangs":
        policy["timeout"] = 0.2
    if kind in ("again", "fails") and (kind == "again" or chance.random() < 0.5):
        policy["retry"] = Retry(2, on=LookupError)
    view = executor.options(**policy) if policy else executor
    path = folder / str(x)
    targets: dict[str, tuple[Any, Any, Any]] = {
        "fine": (fine, x, x),
        "prints": (prints, x, x),
        "fails": (fails, x, LookupError),
        "dies": (dies, x, ChildDied),
        "hangs": (hangs, x, PcallTimeout),
        "again": (fails_once, path, path.name),
        "nests": (nests, x, x),
        "closure": (lambda value: value + 0 * x, x, x),
    }
    target, argument, expected = targets[kind]
    future = view.submit(target, argument)

    def check() -> None:
        error = future.exception(timeout=60)
        outcome = future.outcome
        assert outcome is not None
        assert outcome.index == x
        if isinstance(expected, type):
            assert isinstance(error, expected)
        else:
            assert error is None, error
            assert future.result() == expected
        assert outcome.attempts == (2 if "retry" in policy else 1)
        captured = "capture_output" in policy
        if kind != "fails":  # its log record may be printed
            printed = f"printed {x}\n" if kind == "prints" else ""
            assert outcome.stdout == (printed if captured else None)
        assert outcome.profile is not None or kind in ("dies", "hangs")

    return check


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_of_all_kinds(seed: int, kind: dict[str, Any], tmp_path: Path) -> None:
    """No call changes how another one ends, whatever policy either has."""
    chance = random.Random(seed)
    with Executor(2, grace_period=0.5, profile="cpu", **kind) as executor:
        checks = [draw_call(chance, executor, x, tmp_path) for x in range(CALLS)]
        for check in checks:
            check()
