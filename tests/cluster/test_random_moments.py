"""Callers and schedulers that end at random moments; ``cluster_soak.py 200`` for longer."""

from __future__ import annotations

import json

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import run_python

pytest.importorskip("distributed", reason="distributed is not installed")


@pytest.mark.slow
def test_nothing_is_left():
    """No process, file or task is left, and no result is wrong, whenever it happens."""
    done = run_python(ROOT / "tests/scripts/cluster_soak.py", 6, timeout=170)
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["bad"], found
