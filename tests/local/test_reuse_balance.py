"""docs/policy.rst: no core waits for work that another child holds, and none is done twice."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pcall import ChildDied, Pcall

LONG = 60
Three = Pcall.options(max_workers=3, max_tasks_per_child=None)
# (number of calls, of which these are long). Where numbers are drawn, calls come in blocks of
# 1/512 of all.
SHAPES = [(603, (300, 301, 302)), (603, (600, 601, 602)), (6000, (3000, 3020, 3040))]


@pytest.fixture(params=["numbers are drawn", "no numbers are drawn"])
def each_generator(request, monkeypatch):
    """With random generators to seed, which makes some calls inseparable, and without."""
    if request.param == "no numbers are drawn":
        for name in ("random", "numpy.random"):
            monkeypatch.delitem(sys.modules, name, raising=False)


def all_there(folder: Path, count: int) -> None:
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + LONG
    while len(list(folder.iterdir())) < count:
        assert time.monotonic() < end, "the others were not begun meanwhile"
        time.sleep(0.005)


@pytest.mark.parametrize(("count", "long"), SHAPES)
def test_long_calls_among_short_ones_run_side_by_side(
    each_system, each_generator, tmp_path, count, long
):
    """However short the calls before were: long ones don't wait behind one another."""

    def call(x):
        if x in long:
            all_there(tmp_path, 3)
        return -x

    assert Three.pcall(call, x=range(count)) == tuple(-x for x in range(count))


@pytest.mark.fast
def test_calls_behind_a_long_one_are_done_meanwhile(each_system, each_generator, tmp_path):
    """A call that takes long holds up none of those that were given to the same child."""

    def call(x):
        if x == 990:
            end = time.monotonic() + LONG
            while len(list(tmp_path.iterdir())) < 9:
                assert time.monotonic() < end, "those behind it were not made"
                time.sleep(0.005)
        elif x > 990:
            (tmp_path / str(x)).touch()
        return x

    assert Three.pcall(call, x=range(1000)) == tuple(range(1000))


def test_each_call_is_made_once(each_system, each_generator, tmp_path):
    """Whatever calls change from child to child: none is lost, and none made twice."""
    seconds = [0.0] * 3000
    for x in random.Random(7).sample(range(3000), 60):
        seconds[x] = random.Random(x).choice([0.0005, 0.0009, 0.0011, 0.004, 0.0055, 0.007, 0.015])
    for x in range(2900, 2920):
        seconds[x] = 0.008
    record = tmp_path / "calls"
    record.touch()
    fd = os.open(record, os.O_WRONLY | os.O_APPEND)

    def call(x):
        os.write(fd, b"%d\n" % x)
        if seconds[x]:
            time.sleep(seconds[x])
        return x

    try:
        for _ in range(3):
            assert Three.pcall(call, x=range(3000)) == tuple(range(3000))
    finally:
        os.close(fd)
    made = Counter(map(int, record.read_text().split()))
    assert made == dict.fromkeys(range(3000), 3)


def test_a_long_call_that_dies_costs_itself_alone(each_system, each_generator, tmp_path):
    """What was behind it is with others by then."""

    def call(x):
        if x == 300:
            all_there(tmp_path, 2)
            os._exit(3)
        if x == 305:
            all_there(tmp_path, 2)
        return x

    tolerant = Three.options(max_errors=None, return_outcomes=True)
    outcomes = tolerant.pcall(call, x=range(400))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [300]
    assert isinstance(outcomes[300].error, ChildDied)
    assert all(outcome.value == outcome.index for outcome in outcomes if outcome.ok)


@pytest.mark.parametrize("count", [600, 6000])
def test_random_numbers_are_the_same_whoever_makes_a_call(each_system, tmp_path, count):
    """A parent that was seeded gives the same run again, also where calls change children."""

    def call(x, long):
        number = random.random()
        if long and x % 100 == 1 and x < 600:
            time.sleep(0.02)
        return number

    random.seed(5)
    plain = Three.pcall(call, long=[False] * count, x=range(count))
    random.seed(5)
    assert Three.pcall(call, long=[True] * count, x=range(count)) == plain
    assert len(set(plain)) == count
