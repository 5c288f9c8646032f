"""``Pool`` has the methods of ``multiprocessing.pool.Pool``, and a death is an error."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildDied, Pool
from tests.helpers.processes import assert_ended
from tests.helpers.waiting import until


def square(x: int) -> int:
    return x * x


@pytest.fixture(params=[None, 1], ids=["reused", "fresh"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = Pool(2, maxtasksperchild=request.param)
    yield pool
    pool.close()
    pool.join()


def test_all_ways_to_call(pool: Pool) -> None:
    """Each method gives what the standard library's gives."""
    assert pool.apply(pow, (2, 5)) == 32
    assert pool.apply(pow, (2,), {"exp": 5}) == 32
    assert pool.apply_async(pow, (2, 5)).get(30) == 32
    assert pool.map(lambda x: x + 1, range(20)) == list(range(1, 21))
    assert pool.map_async(square, range(20), chunksize=3).get(30) == [x * x for x in range(20)]
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert pool.starmap_async(pow, zip([2, 3], [3, 2], strict=True)).get(30) == [8, 9]
    assert list(pool.imap(square, range(20), chunksize=4)) == [x * x for x in range(20)]
    assert sorted(pool.imap_unordered(square, range(20))) == [x * x for x in range(20)]
    assert pool.map(square, []) == list(pool.imap(square, [])) == []


def test_errors_are_the_originals(pool: Pool) -> None:
    """The first one in call order is raised, once all calls are over."""
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        pool.map(lambda x: time.sleep(0.4) if x else 1 // x, range(2))
    assert time.monotonic() - began > 0.35
    results = pool.imap(lambda x: 6 // x, [1, 0, 2])
    assert next(results) == 6
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 3
    result = pool.apply_async(int, ("x",))
    result.wait(30)
    assert result.ready()
    assert not result.successful()


def test_a_killed_worker_is_an_error(pool: Pool, tmp_path: Path) -> None:
    """No result hangs, and the pool goes on."""
    result = pool.map_async(lambda x: os._exit(5) if x == 3 else x, range(6))
    with pytest.raises(ChildDied, match="status 5"):
        result.get(30)
    killed = pool.apply_async(lambda: ((tmp_path / "begun").touch(), time.sleep(60)))
    until((tmp_path / "begun").exists)
    pids = [worker.pid for worker in pool._pool]
    for pid in pids:  # one of them runs the call
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ChildDied):
        killed.get(30)
    assert_ended(pids)
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def test_callbacks(pool: Pool) -> None:
    """They get the result or the error before ``get`` returns."""
    called: list[Any] = []
    pool.map_async(square, [1, 2], callback=called.append).get(30)
    result = pool.apply_async(int, ("x",), callback=called.append, error_callback=called.append)
    result.wait(30)
    assert called[0] == [1, 4]
    assert isinstance(called[1], ValueError)


def test_results_that_are_late(pool: Pool) -> None:
    """``get`` and ``next`` with a timeout raise both kinds of ``TimeoutError``."""
    slow = pool.apply_async(time.sleep, (0.5,))
    with pytest.raises(multiprocessing.TimeoutError):
        slow.get(0.05)
    with pytest.raises(ValueError, match="not ready"):
        slow.successful()
    with pytest.raises(TimeoutError):
        pool.imap(time.sleep, [0.5]).next(0.05)  # type: ignore[attr-defined]


def test_imap_reads_ahead_and_no_further(pool: Pool) -> None:
    """An endless iterable does, and what nobody takes is run all the same."""
    with Pool(2) as endless:
        results = endless.imap(square, itertools.count())
        assert [next(results) for _ in range(20)] == [x * x for x in range(20)]
    endless.join()


def test_imap_runs_all_before_join(tmp_path: Path) -> None:
    """``close`` and ``join`` wait for the calls of an iterator that nobody reads."""
    pool = Pool(2)
    pool.imap_unordered(Path.touch, [tmp_path / str(n) for n in range(30)])
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 30


def test_an_error_of_the_iterable(pool: Pool) -> None:
    """It comes after the results of the chunks before it."""

    def broken() -> Iterator[int]:
        yield from range(5)
        raise KeyError("no more")

    for chunksize, count in ((1, 5), (2, 4)):
        results = pool.imap(square, broken(), chunksize)
        assert [next(results) for _ in range(count)] == [x * x for x in range(count)]
        with pytest.raises(KeyError):
            next(results)
    with pytest.raises(KeyError):
        pool.map(square, broken())


def test_workers_live_on_and_are_initialized() -> None:
    """The same processes make call after call, and each has called the initializer once."""
    values: list[int] = []
    with Pool(2, values.append, (1,)) as pool:
        found = pool.map(lambda _: (os.getpid(), len(values)), range(50))
        assert {count for _, count in found} == {1}
        assert len({pid for pid, _ in found}) <= 2
    pool.join()
    assert values == []


def test_terminate_ends_all() -> None:
    """Running calls die, and what waits never starts: a result of it is an error."""
    pool = Pool(2)
    result = pool.map_async(time.sleep, [60] * 1000)
    until(lambda: len(pool._pool) == 2)
    pids = [worker.pid for worker in pool._pool]
    began = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < 15
    assert_ended(pids, os.getpid())
    with pytest.raises(RuntimeError):
        result.get(1)


def test_a_block_terminates_the_pool() -> None:
    """As with the standard library's; then it takes no calls."""
    with Pool(1) as pool:
        assert pool.apply(square, (3,)) == 9
    pool.join()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (3,))
    with pytest.raises(ValueError, match="not running"):
        pool.__enter__()


def test_a_pool_that_runs_can_not_be_joined(pool: Pool) -> None:
    """Nor can it be pickled."""
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    with pytest.raises(NotImplementedError):
        pool.__reduce__()


def test_a_pool_that_nobody_ends() -> None:
    """It is warned of, and its processes end."""
    pool = Pool(1)
    pid = pool.apply(os.getpid)
    until(lambda: not any(each.name == "pcall-watcher" for each in threading.enumerate()))
    gone = weakref.ref(pool)
    with pytest.warns(ResourceWarning, match="unclosed running"):
        del pool
    gc.collect()
    assert gone() is None
    assert_ended([pid], os.getpid())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"processes": 0}, ValueError),
        ({"processes": "2"}, TypeError),
        ({"initializer": 3}, TypeError),
        ({"maxtasksperchild": 0}, ValueError),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception]) -> None:
    """They are refused at once."""
    with pytest.raises(error):
        Pool(**options)
