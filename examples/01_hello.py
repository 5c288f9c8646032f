"""Hello: one function, three calls, three processes.

Each call runs in a process of its own, and the results come back in the order of the calls.
"""

import os
import time

from pcall import pcall


def add(x, y):
    return x + y


# Three calls: add(x=1, y=4), add(x=2, y=5), add(x=3, y=6).
results = pcall(add, x=(1, 2, 3), y=(4, 5, 6))
print("sums:", results)
assert results == (5, 7, 9)


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


# The calls run at the same time: ten naps of a second take about a second.
begin = time.monotonic()
pids = pcall(nap, seconds=[1] * 10)
took = time.monotonic() - begin
print(f"ten naps of 1 s took {took:.1f} s in {len(set(pids))} processes")
assert len(set(pids)) == 10
assert took < 10
