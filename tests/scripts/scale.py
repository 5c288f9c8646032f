"""Many calls in a small process; cases of tests/stress/test_scale.py."""

from __future__ import annotations

import gc
import threading

from pcall import pcall
from tests.helpers.cases import main
from tests.helpers.processes import children, descriptors, resident_memory

MB = 1 << 20


def many_calls(number: str) -> None:
    count = int(number)
    pcall(abs, iargs=[(0,)] * 20)
    gc.collect()
    before, size = (len(descriptors()), threading.active_count()), resident_memory()
    assert pcall(lambda x: x * x, x=range(count)) == tuple(x * x for x in range(count))
    assert (len(descriptors()), threading.active_count()) == before
    assert not children()
    gc.collect()
    # What Python keeps of the objects of 5000 calls for its next ones is far below that.
    assert resident_memory() - size < 16 * MB + count * 8192


if __name__ == "__main__":
    main(globals())
