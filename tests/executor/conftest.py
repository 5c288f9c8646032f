"""What the tests of executors share: each kind of executor in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pcall import Executor

KINDS = {"fresh": 1, "reused": None}


@pytest.fixture(params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The option that chooses between fresh children and reused ones."""
    return {"max_tasks_per_child": KINDS[request.param]}


@pytest.fixture
def executor(kind: dict[str, Any]) -> Iterator[Executor]:
    """An executor with two workers and a short grace period."""
    with Executor(2, grace_period=0.5, **kind) as executor:
        yield executor
