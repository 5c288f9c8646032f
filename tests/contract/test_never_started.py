"""README.rst: a Pcall that is dropped without having been started says so."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from pcall import ChildProcessException, Pcall, pcall
from tests.helpers.scripts import run_python

pytestmark = pytest.mark.engines(why="the tests name the engines that they hold for")


def warned(build: Callable[[], Any]) -> list[str]:
    """The ResourceWarnings of what this builds and drops."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build()
        gc.collect()
    assert {warning.category for warning in caught} <= {ResourceWarning}
    return [str(warning.message) for warning in caught]


def test_a_run_that_is_built_alone() -> None:
    """It names the run, and what to do."""
    for build in (Pcall, Pcall.options(max_workers=2), Pcall.options(max_workers=0)):
        (text,) = warned(lambda build=build: build(abs, iargs=[(1,), (2,)]))
        assert text.startswith("2 calls of abs() were never made")
        assert "start()" in text
        assert "Pcall.pcall(...)" in text
    (text,) = warned(lambda: Pcall([abs, str], iargs=[(1,)]))
    assert text.startswith("1 call of abs() was never made")


def test_a_run_without_calls_says_nothing() -> None:
    """There is nothing that was not made."""
    assert warned(lambda: Pcall(abs, iargs=[])) == []


def test_runs_that_were_started_say_nothing() -> None:
    """In whatever way, and however they ended."""

    def start() -> None:
        run = Pcall(abs, iargs=[(1,)])
        run.start()
        run.join()

    def leave() -> None:
        with Pcall(abs, iargs=[(1,)]):
            pass

    def fail() -> None:
        with pytest.raises(ChildProcessException):
            pcall(abs, iargs=[("a",)])

    async def wait() -> Any:
        return await Pcall(abs, iargs=[(1,)])

    def drop() -> None:
        Pcall(abs, iargs=[(1,)]).start()

    def refuse() -> None:
        with pytest.raises(TypeError):
            Pcall(abs, iargs=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Pcall(abs, "1")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Pcall.pcall()  # type: ignore[call-arg]

    for build in (start, leave, fail, lambda: asyncio.run(wait()), drop, refuse):
        assert warned(build) == []


def test_a_copy_in_a_child_says_nothing() -> None:
    """Neither in a call, nor in another fork."""
    kept = [Pcall(abs, iargs=[(1,)])]

    def drop() -> list[str]:
        return warned(kept.clear)

    assert pcall(drop) == ([],)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, repr(drop()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader) as file:
        assert file.read() == "[]"
    assert len(warned(kept.clear)) == 1


@pytest.mark.parametrize("place", ["kept = run()", "import sys; sys.kept = run()"])
def test_the_end_of_the_interpreter_says_nothing(place: str) -> None:
    """A run that lives until then was not dropped."""
    run = "import pcall; run = lambda: pcall.Pcall(abs, iargs=[(1,)])"
    ran = run_python("-W", "always", "-c", f"{run}; {place}")
    assert (ran.stdout, ran.stderr) == ("", "")
    ran = run_python("-W", "always", "-c", f"{run}; run()")
    assert "ResourceWarning: 1 call of abs() was never made" in ran.stderr
