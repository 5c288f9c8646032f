"""docs/logs.rst: text and warnings that the parent keeps in objects come home from children."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
import warnings

import pytest

from pcall import Pcall, Plan, pcall, run

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

POLICIES = {
    "fresh": {},
    "reused": {"max_tasks_per_child": None},
    "no tasklog": {"tasklog": False},
    "inline": {"max_workers": 0},
}


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request):
    """One of each engine, as a subclass of ``Pcall``."""
    return Pcall.options(**request.param)


def talk(i, wait=0.0):
    time.sleep(wait)
    print(f"out {i}")
    print(f"err {i}", file=sys.stderr)
    print(f"more {i}")


class Tee:
    """An object with no more than ``write`` and ``flush``."""

    def __init__(self):
        self.parts = []

    def write(self, text):
        self.parts.append(text)

    def flush(self):
        pass


@pytest.mark.fast
def test_redirected_text_comes_home_in_call_order(each_system, policy):
    """What calls print into ``redirect_stdout`` is there after the run, call by call."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        print("before")
        policy.pcall(talk, i=range(4), wait=[0.3, 0.2, 0.1, 0.0])
        print("after")
    lines = [line for i in range(4) for line in (f"out {i}", f"more {i}")]
    assert out.getvalue().splitlines() == ["before", *lines, "after"]
    assert err.getvalue().splitlines() == [f"err {i}" for i in range(4)]


def test_under_capsys(each_system, policy, capsys):
    """pytest's ``capsys`` sees what calls print, bytes too."""

    def target(i):
        print("text", i)
        sys.stdout.flush()
        sys.stdout.buffer.write(f"bytes {i}\n".encode())
        sys.stdout.buffer.flush()

    policy.pcall(target, i=range(3))
    expected = [line for i in range(3) for line in (f"text {i}", f"bytes {i}")]
    assert capsys.readouterr().out.splitlines() == expected


def test_any_object_will_do(policy, monkeypatch):
    """An object that has only ``write`` and ``flush`` gets the text."""
    tee = Tee()
    monkeypatch.setattr(sys, "stdout", tee)
    policy.pcall(talk, i=range(2))
    assert "".join(tee.parts).splitlines() == ["out 0", "more 0", "out 1", "more 1"]


@pytest.mark.parametrize("options", [{}, {"max_tasks_per_child": None}], ids=["fresh", "reused"])
def test_text_of_calls_that_are_killed(each_system, options):
    """What a call has printed before it is killed comes home, too; that of each attempt does."""

    def target(i):
        print("before", i)
        os.kill(os.getpid(), signal.SIGKILL)

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        entry = Pcall.options(**options, retry=2, max_errors=None, return_outcomes=True)
        entry.pcall(target, i=range(2))
    assert out.getvalue().splitlines() == ["before 0"] * 2 + ["before 1"] * 2


def test_as_soon_as_that_is_possible(each_system):
    """A call's text is there once it and all calls before it have ended."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        job = Pcall(talk, i=range(3), wait=[0.0, 0.0, 60.0])
        job.start()
        end = time.monotonic() + 10
        while "more 1" not in out.getvalue() and time.monotonic() < end:
            job.wait(0.05)
        assert out.getvalue().splitlines() == ["out 0", "more 0", "out 1", "more 1"]
        job.kill()
        job.join()


def test_of_nested_calls_and_processes(each_system):
    """What calls of calls print comes home, and what processes of a call print."""

    def target(i):
        print("begin", i)
        process = multiprocessing.get_context("fork").Process(target=print, args=("process", i))
        process.start()
        process.join()
        pcall(talk, i=[10 * i, 10 * i + 1])
        print("end", i)

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        pcall(target, i=[1, 2])
    inner = [f"{word} {i}" for i in (10, 11) for word in ("out", "more")]
    second = [f"{word} {i}" for i in (20, 21) for word in ("out", "more")]
    expected = ["begin 1", "process 1", *inner, "end 1", "begin 2", "process 2", *second, "end 2"]
    assert out.getvalue().splitlines() == expected


@pytest.mark.parametrize("max_workers", [0, 2])
def test_of_a_plan(max_workers):
    """What the calls of a plan print comes home in plan order."""
    plan = Plan()
    first = plan.call(talk, 0, 0.2)
    plan.call(talk, 1)
    plan.add_dependency(first, plan.call(talk, 2))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run(plan, max_workers=max_workers)
    assert out.getvalue().splitlines() == [
        f"{word} {i}" for i in range(3) for word in ("out", "more")
    ]


def test_a_stream_that_fails(policy, caplog, monkeypatch):
    """A stream that refuses text harms no call, and is reported once."""
    if policy._options.max_workers == 0:
        pytest.skip("there is no child")

    class Full(Tee):
        def write(self, text):
            raise OSError("no room")

    monkeypatch.setattr(sys, "stdout", Full())
    assert policy.pcall(talk, i=range(2)) == (None, None)
    (record,) = [each for each in caplog.records if each.name == "pcall"]
    assert record.getMessage() == (
        "the text that calls have written to sys.stdout is lost: no room"
    )


# ------------------------------------------------------------ warnings


class Odd(UserWarning):
    """A warning of two arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.two = two


def warn(i):
    warnings.warn(f"text {i}", RuntimeWarning, stacklevel=1)
    warnings.warn(Odd(i, "two"), stacklevel=1)


@pytest.mark.parametrize("record", ["warnings", "pytest"])
def test_recorded_warnings_come_home(each_system, policy, record):
    """Warnings of calls are recorded in call order, with their place, class and attributes."""
    if record == "pytest":
        with pytest.warns() as found:
            policy.pcall(warn, i=range(3))
    else:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            policy.pcall(warn, i=range(3))
    expected = [text for i in range(3) for text in (f"text {i}", f"{i} and two")]
    assert [str(each.message) for each in found] == expected
    assert [each.category for each in found] == [RuntimeWarning, Odd] * 3
    assert {(each.filename, type(each.message)) for each in found} == {
        (__file__, RuntimeWarning),
        (__file__, Odd),
    }
    assert found[1].message.two == "two"
    assert len({each.lineno for each in found}) == 2


def test_a_warning_of_a_local_class(each_system):
    """A warning whose class only the child has comes home as one of the nearest built-in class."""

    def target():
        local = type("Local", (DeprecationWarning,), {})
        warnings.warn("of a local class", local, stacklevel=1)

    with pytest.warns(DeprecationWarning, match="of a local class"):
        pcall(target)
