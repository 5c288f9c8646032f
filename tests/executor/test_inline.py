"""``InlineExecutor`` makes each call at once, in this process."""

from __future__ import annotations

import contextvars
import os
from concurrent.futures import BrokenExecutor

import pytest

from pcall import ChildProcessException, InlineExecutor, Pcall


def test_calls_are_made_at_once() -> None:
    """``submit`` returns a future that is done, with its outcome."""
    made: list[int] = []
    with InlineExecutor(4) as executor:
        future = executor.submit(made.append, 3)
        assert future.done()
        assert made == [3]
        assert executor.submit(os.getpid).result() == os.getpid() == future.pid
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        assert future.outcome is not None
        assert future.outcome.ok
        assert not future.cancel()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(made.append, 4)


def test_errors_and_retries() -> None:
    """An error is the future's, after as many attempts as the policy says."""
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise LookupError("no")

    with InlineExecutor(retry=3) as executor:
        error = executor.submit(fail).exception()
        assert isinstance(error, LookupError)
        assert len(tries) == 3
        executor.options(retry=1, timeout=3).submit(fail)
        assert len(tries) == 4


def test_an_initializer_is_called_once() -> None:
    """Before the first call."""
    made: list[int] = []
    with InlineExecutor(initializer=made.append, initargs=(1,)) as executor:
        assert made == []
        assert [executor.submit(len, made).result() for _ in range(2)] == [1, 1]


def test_an_initializer_that_fails() -> None:
    """The future and all later calls get a ``BrokenExecutor``."""
    with InlineExecutor(initializer=int, initargs=("x",)) as executor:
        error = executor.submit(abs, -1).exception()
        assert isinstance(error, BrokenExecutor)
        assert isinstance(error.__cause__, ValueError)
        with pytest.raises(BrokenExecutor, match="literal"):
            executor.submit(abs, -1)


def test_initializers_of_runs_without_children() -> None:
    """They are called once in this process, before the first call."""
    made: list[int] = []
    inline = Pcall.options(max_workers=0, initializer=made.append, initargs=(1,))
    assert inline.pcall(lambda x: len(made) + x, x=range(3)) == (1, 2, 3)
    assert list(inline.iter(lambda x: len(made) + x, x=range(3))) == [2, 3, 4]
    with pytest.raises(ChildProcessException, match="literal"):
        Pcall.options(max_workers=0, initializer=int, initargs=("x",)).pcall(abs, iargs=[(1,)])


def test_calls_do_not_change_the_context() -> None:
    """As in a child, context variables that a call sets are its own."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    with InlineExecutor() as executor:
        executor.submit(variable.set, 3).result()
    assert variable.get() == 0


def test_options_are_those_of_an_executor() -> None:
    """And are checked like those."""
    with pytest.raises(ValueError, match="max_workers"):
        InlineExecutor(0)
    with pytest.raises(TypeError, match="max_workers"):
        InlineExecutor().options(max_workers=3)
