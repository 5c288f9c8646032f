"""Contract tests run on each engine that they hold for."""

from __future__ import annotations

import pytest

from tests.helpers.engines import EngineUse


@pytest.fixture(autouse=True)
def on_each_engine(engine: EngineUse) -> None:
    """Run each test of this folder on each engine, but for what its marks say."""
