"""The memory that a large result takes; cases of tests/local/test_large_results.py."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import numpy
    import pandas  # type: ignore[import-untyped, unused-ignore]
except ImportError:
    pass  # whoever needs it is skipped

from pcall import Pcall
from tests.helpers.cases import main

# For each kind, how a value of so many bytes is made, and the array in it or the value itself.
# The frame holds the array as it is.
KINDS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "array": (lambda size: numpy.ones(size // 8), lambda value: value),
    "frame": (
        lambda size: pandas.DataFrame(numpy.ones((8, size // 64)).T, copy=False),
        lambda value: value[3],
    ),
    "nested": (
        lambda size: {"one": [numpy.ones(size // 16)], "two": (numpy.ones(size // 16), "little")},
        lambda value: value["one"][0],
    ),
    "bytes": (lambda size: b"x" * size, lambda value: value),
    "bytearray": (lambda size: bytearray(b"x") * size, lambda value: value),
}


def own() -> int:
    """Return the bytes that this process alone has: those mapped from a file are not counted."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def growth(kind: str, size: int) -> tuple[int | None, int]:
    """Return by how many bytes a result makes the child grow, and the parent that has read it."""
    make, part = KINDS[kind]
    before = own()
    run = Pcall(lambda: make(size))
    run.start()
    run.join()
    assert run.results is not None
    (value,), (outcome,) = run.results, run.outcomes
    sum(part(value)[::512])
    gc.collect()
    assert outcome is not None
    return outcome.rss_growth, own() - before


def measure(kind: str, size: str) -> None:
    growth(kind, 100_000)  # imports, caches
    print(json.dumps(growth(kind, int(size))))


if __name__ == "__main__":
    main(globals())
