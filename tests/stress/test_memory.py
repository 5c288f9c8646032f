"""docs/performance.rst: random mixed runs, however many, leave nothing in the process."""

from __future__ import annotations

import pytest

from tests.helpers.scripts import run_python


@pytest.mark.slow
def test_mixed_runs_leave_nothing():
    """Once all kinds of runs have been made, memory, objects, descriptors and threads stay.

    ``python -m tests.scripts.memory_soak 600`` shows the same for longer.
    """
    found = run_python("-m", "tests.scripts.memory_soak", 12)
    rows = [list(map(float, line.split())) for line in found.stdout.splitlines()[1:-1]]
    early, late = rows[len(rows) // 2], rows[-1]
    runs, _, megabytes, _, objects, *rest = (b - a for a, b in zip(early, late, strict=True))
    assert runs > 0
    assert rest == [0, 0], "descriptors and threads"
    assert abs(objects) < 200
    assert megabytes < 0.5
