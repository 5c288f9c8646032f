"""docs/design.rst: an answer comes home whatever its size, also where the format changes."""

from __future__ import annotations

import pickle

import pytest

from pcall import Pcall, Plan, run

MB = 1 << 20


class Loaded:
    """An object whose loading runs code, so that its answer names its type."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self):
        return Loaded, (self.content,)


def make(size: int) -> Loaded:
    """An object whose pickle has this many bytes."""
    overhead = len(pickle.dumps(Loaded(bytes(MB // 2)), 5)) - MB // 2
    return Loaded(bytes(size - overhead))


def length(value: Loaded) -> int:
    return len(pickle.dumps(value, 5))


# From where an answer has a file of its own, down to where it surely has none.
SIZES = [MB + 1, MB, MB - 1, MB - 20, MB - 60, MB - 2047, MB - 2048, MB - 2049, MB - 4096]


@pytest.mark.fast
def test_answers_of_about_a_megabyte(each_system):
    """In a reused worker an answer is complete on both sides of the limit of a short one."""
    found = Pcall.options(max_tasks_per_child=None, max_workers=2).pcall(make, size=SIZES)
    assert [length(value) for value in found] == SIZES


@pytest.mark.parametrize("size", SIZES)
def test_values_of_about_a_megabyte_in_a_plan(size):
    """A call gets such a value complete, and so does the caller."""
    plan = Plan()
    value = plan.call(make, size)
    used = plan.call(length, value)
    value, used = run(plan, output=[value, used])
    assert (length(value), used) == (size, size)
