"""Callers and schedulers that end at random moments: ``cluster_soak.py 200`` in short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

pytest.importorskip("distributed", reason="distributed is not installed")


@pytest.mark.slow
def test_nothing_is_left():
    """No process, file or task is left, and no result is wrong, whenever it happens."""
    done = subprocess.run(
        [sys.executable, str(Path(ROOT) / "tests" / "scripts" / "cluster_soak.py"), "6"],
        capture_output=True,
        text=True,
        timeout=170,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["bad"], found
