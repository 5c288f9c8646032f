"""Plans run on each engine that a test holds for."""

from __future__ import annotations

import pytest

from tests.helpers.engines import EngineUse


@pytest.fixture(autouse=True)
def on_each_engine(plan_engine: EngineUse) -> None:
    """Run each test of this folder on each engine, but for what its marks say."""
