"""Profiles of the calls of executors and of ``iter``."""

from __future__ import annotations

import os
import time
from typing import Any, Literal

import pytest

from pcall import Executor, InlineExecutor, Pcall
from pcall.profiling import CpuProfile, MemoryProfile
from tests.executor.conftest import KINDS

kept: list[Any] = []


def prepare() -> None:
    kept.append(bytearray(3_000_000))


def work(x: int) -> int:
    return helper(x)


def helper(x: int) -> int:
    kept.append(bytearray(1_000_000))
    return x


def outer(x: int) -> int:
    with Executor(1) as executor:
        return executor.submit(work, x).result()


def times_called(profile: object) -> dict[str, int]:
    """By name, how often the functions of this file were called."""
    assert isinstance(profile, CpuProfile)
    stats: dict[Any, Any] = vars(profile.stats)["stats"]
    here = os.path.basename(__file__)
    return {name: row[1] for (file, _, name), row in stats.items() if file.endswith(here)}


def test_each_call_and_all_of_them(kind: dict[str, Any]) -> None:
    """A future has the profile of its call; the executor has one over all, views included."""
    with Executor(2, profile="cpu", **kind) as executor:
        futures = [executor.submit(work, x) for x in range(4)]
        futures.append(executor.options(capture_output=True).submit(work, 4))
        assert [future.result() for future in futures] == [0, 1, 2, 3, 4]
        for future in futures:
            assert future.outcome is not None
            assert times_called(future.outcome.profile) == {"work": 1, "helper": 1}
        assert times_called(executor.profile) == {"work": 5, "helper": 5}


def test_the_initializer_does_not_count(kind: dict[str, Any]) -> None:
    """Neither its calls nor its memory are in a profile, in no kind of child."""
    with Executor(1, None, prepare, profile="memory", **kind) as executor:
        future = executor.submit(work, 1)
        assert future.result() == 1
        assert future.outcome is not None
        profile = future.outcome.profile
        assert isinstance(profile, MemoryProfile)
        assert 900_000 < sum(row.size for row in profile.statistics("filename")) < 2_000_000
    with Executor(1, None, prepare, profile="cpu", **kind) as executor:
        executor.submit(work, 1).result()
        assert times_called(executor.profile) == {"work": 1, "helper": 1}


def test_a_cancelled_call_and_a_view_with_retries(kind: dict[str, Any]) -> None:
    """Calls that end badly do not spoil the profile of the others."""
    with Executor(2, grace_period=0.5, profile="cpu", **kind) as executor:
        slow = executor.submit(time.sleep, 30)
        assert executor.submit(work, 1).result() == 1
        assert slow.cancel()
        assert executor.options(retry=2).submit(work, 2).result() == 2
        assert times_called(executor.profile) == {"work": 2, "helper": 2}


def test_a_call_that_has_an_executor() -> None:
    """What the inner executor runs is part of the profile of the call."""
    with Executor(1, profile="cpu") as executor:
        assert executor.submit(outer, 1).result() == 1
        found = times_called(executor.profile)
        assert found == {"outer": 1, "work": 1, "helper": 1}


def test_inline() -> None:
    """Without children likewise."""
    with InlineExecutor(profile="cpu") as executor:
        assert list(executor.map(work, range(3))) == [0, 1, 2]
        assert times_called(executor.profile) == {"work": 3, "helper": 3}


def test_no_profile(kind: dict[str, Any]) -> None:
    """Without the option there is none."""
    with Executor(1, **kind) as executor:
        future = executor.submit(work, 1)
        assert future.result() == 1
        assert executor.profile is None
        assert future.outcome is not None
        assert future.outcome.profile is None


@pytest.mark.parametrize("kind", [Executor, InlineExecutor])
def test_a_wrong_kind_is_refused(kind: Any) -> None:
    """The text names the argument and the valid values."""
    with pytest.raises(ValueError, match="profile must be 'cpu', 'memory' or None, not 'time'"):
        kind(profile="time")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("tasks", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("profile", ["cpu", "memory"])
def test_iter(tasks: int | None, workers: int, profile: Literal["cpu", "memory"]) -> None:
    """The iterator has the profile over all calls, and each outcome that of its call."""
    kind = Pcall.options(
        profile=profile, max_workers=workers, max_tasks_per_child=tasks, return_outcomes=True
    )
    results = kind.iter(work, x=range(3))
    expected = CpuProfile if profile == "cpu" else MemoryProfile
    for outcome in results:
        assert outcome.ok
        assert isinstance(outcome.profile, expected)
    assert isinstance(results.profile, expected)
    if profile == "cpu":
        assert times_called(results.profile) == {"work": 3, "helper": 3}


def test_iter_without_profile() -> None:
    """Without the option there is none."""
    results = Pcall.options(max_workers=1).iter(work, x=[1])
    assert list(results) == [1]
    assert results.profile is None
