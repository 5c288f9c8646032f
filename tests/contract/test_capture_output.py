"""docs/policy.rst, "Output": ``capture_output`` keeps what calls write to stdout and stderr."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pcall import ChildDied, ChildProcessException, Pcall, PcallTimeout, Plan, pcall, run, run_iter
from tests.helpers.processes import descriptors
from tests.helpers.waiting import until

pytestmark = pytest.mark.engines(why="each test chooses the engines itself")

POLICIES = {
    "fresh": {},
    "reused": {"max_tasks_per_child": None},
    "two a worker": {"max_tasks_per_child": 2},
    "inline": {"max_workers": 0},
}
FORKING = {name: options for name, options in POLICIES.items() if name != "inline"}
Captured = Pcall.options(capture_output=True, return_outcomes=True, max_errors=None)


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def policy(request):
    """One of each engine, with captured output."""
    return Captured.options(**request.param)


@pytest.fixture(params=FORKING.values(), ids=FORKING)
def forking(request):
    """One of each engine with children, with captured output."""
    return Captured.options(**request.param)


def talk(i):
    print(f"print {i}")
    print(f"error {i}", file=sys.stderr)
    os.write(1, f"write {i}\n".encode())
    subprocess.run(["sh", "-c", f"echo program {i}; echo its error {i} >&2"], check=True)
    print(f"unfinished {i}", end="")
    return i


def expected(i):
    return f"print {i}\nwrite {i}\nprogram {i}\nunfinished {i}", f"error {i}\nits error {i}\n"


@pytest.mark.fast
def test_all_that_a_call_writes(each_system, policy, capfd):
    """The outcome has what a call and its programs have written, and nothing else gets it."""
    outcomes = policy.pcall(talk, i=range(5))
    assert [(each.stdout, each.stderr) for each in outcomes] == [expected(i) for i in range(5)]
    assert [each.value for each in outcomes] == list(range(5))
    assert capfd.readouterr() == ("", "")


def test_a_silent_call(policy):
    """A call that writes nothing has empty texts; without the option there are none."""
    assert {(each.stdout, each.stderr) for each in policy.pcall(abs, iargs=[(1,)] * 5)} == {
        ("", "")
    }
    plain = policy.options(capture_output=False).pcall(abs, iargs=[(1,)])
    assert (plain[0].stdout, plain[0].stderr) == (None, None)


def test_where_the_parents_streams_are_objects(each_system, policy):
    """What is captured does not go to the objects of the parent as well."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        (outcome,) = policy.pcall(talk, i=[7])
    assert (outcome.stdout, outcome.stderr) == expected(7)
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_the_last_lines_are_a_note(each_system, policy):
    """The error of a failed call has its last lines as a note."""

    def target():
        print("the line before the failure")
        print("complaint", file=sys.stderr)
        raise LookupError("here")

    (outcome,) = policy.pcall(target)
    notes = "\n".join(outcome.error.__notes__)
    assert "the line before the failure" in notes
    assert "complaint" in notes
    with pytest.raises(ChildProcessException) as caught:
        policy.options(return_outcomes=False, max_errors=0).pcall(target)
    assert "the line before the failure" in "\n".join(caught.value.__cause__.__notes__)


def test_what_was_written_before_a_kill(each_system, forking):
    """Text without the end of its line is there though the child was killed just after it."""

    def target(i):
        print("before", i, end="")
        sys.stderr.write("and")
        if i == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    outcomes = forking.options(max_workers=1).pcall(target, i=range(5))
    assert [(each.stdout, each.stderr) for each in outcomes] == [
        (f"before {i}", "and") for i in range(5)
    ]
    assert type(outcomes[2].error) is ChildDied
    assert "before 2" in "\n".join(outcomes[2].error.__notes__)


def test_of_a_call_that_ran_out_of_time(forking):
    """A call that is ended for its timeout has its text."""

    def target(i):
        print("begun", i)
        time.sleep(60 * (i == 1))

    outcomes = forking.options(grace_period=0.3).pcall(target, 1, i=range(3))
    assert [each.stdout for each in outcomes] == [f"begun {i}\n" for i in range(3)]
    assert type(outcomes[1].error) is PcallTimeout


def test_of_several_attempts(policy, tmp_path):
    """The text is that of the last attempt."""

    def target(i):
        with open(tmp_path / str(i), "a+") as file:
            file.write("x")
        attempt = (tmp_path / str(i)).stat().st_size
        print("attempt", attempt)
        if attempt < 3:
            raise LookupError

    outcomes = policy.options(retry=3).pcall(target, i=range(3))
    assert [(each.stdout, each.attempts) for each in outcomes] == [("attempt 3\n", 3)] * 3


def test_of_nested_calls(each_system, forking):
    """Nested calls have their own texts; without the option theirs are the outer call's."""

    def inner(i):
        print("inner", i)

    def target(i):
        print("begin")
        found = [each.stdout for each in forking.pcall(inner, i=[i])]
        pcall(inner, i=[10 + i])
        return found

    outcomes = forking.pcall(target, i=range(2))
    assert [each.value for each in outcomes] == [["inner 0\n"], ["inner 1\n"]]
    assert [each.stdout for each in outcomes] == [f"begin\ninner {10 + i}\n" for i in range(2)]


def test_bytes_that_are_no_text(policy):
    """Any bytes come home, shown as Python shows them."""
    (outcome,) = policy.pcall(os.write, iargs=[(1, b"\xff\xc3\xa9")])
    assert outcome.stdout == "\\xff\xe9"


def test_much_text(each_system, forking):
    """Megabytes of text come home, and each call of a worker has its own."""

    def target(i):
        print(str(i) * 1_000_000)

    outcomes = forking.options(max_workers=2).pcall(target, i=range(8))
    assert [each.stdout == str(i) * 1_000_000 + "\n" for i, each in enumerate(outcomes)] == [
        True
    ] * 8


def test_many_short_calls():
    """Of many calls in few workers each has its own text."""
    outcomes = Captured.options(max_tasks_per_child=None).pcall(print, iargs=zip(range(3000)))
    assert [each.stdout for each in outcomes] == [f"{i}\n" for i in range(3000)]


def test_a_call_that_closes_the_streams(each_system, policy):
    """A call may close its streams and its descriptors: what it wrote before is there."""
    if policy._options.max_workers == 0:
        pytest.skip("they would be this process's")

    def target(i):
        print("before", i)
        os.close(1)

    outcomes = policy.options(max_workers=3).pcall(target, i=range(3))
    assert outcomes[0].stdout == "before 0\n"


def test_while_threads_print(forking):
    """Threads of the parent that print meanwhile keep their text, and calls keep theirs."""
    stop = threading.Event()
    out = io.StringIO()

    def chatter():
        while not stop.wait(0.001):
            print("of the parent", file=out)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        outcomes = forking.pcall(talk, i=range(5))
    finally:
        stop.set()
        thread.join()
    assert [(each.stdout, each.stderr) for each in outcomes] == [expected(i) for i in range(5)]


# ------------------------------------------------------------ in groups


def slow(i, wait=0.0):
    print("out", i)
    print("err", i, file=sys.stderr)
    time.sleep(wait)
    print("end", i)


def in_order(count):
    return "".join(f"out {i}\nend {i}\n" for i in range(count))


def test_a_group_is_written_whole(each_system, policy, capfd):
    """With ``"group"`` the parent writes each call's text whole, in call order."""
    print("before")
    outcomes = policy.options(capture_output="group").pcall(
        slow, i=range(4), wait=[0.3, 0.2, 0.1, 0.0]
    )
    print("after")
    found = capfd.readouterr()
    assert found.out == f"before\n{in_order(4)}after\n"
    assert found.err == "".join(f"err {i}\n" for i in range(4))
    assert outcomes[1].stdout == "out 1\nend 1\n"


def test_a_group_goes_to_an_object(each_system, policy):
    """The text of a group goes to the parent's object, where it has one."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        policy.options(capture_output="group").pcall(slow, i=range(3))
    assert out.getvalue() == in_order(3)


def test_a_group_comes_as_soon_as_that_is_possible(each_system, tmp_path):
    """The text of the first calls is there while a later one runs."""
    out, begun = io.StringIO(), tmp_path / "begun"

    def target(i):
        print("out", i)
        if i == 2:
            begun.touch()
            time.sleep(60)
        print("end", i)

    with contextlib.redirect_stdout(out):
        job = Captured.options(capture_output="group")(target, i=range(3))
        job.start()
        until(lambda: job.wait(0.05) or (begun.exists() and "end 1" in out.getvalue()))
        assert out.getvalue() == in_order(2)
        job.kill()
        job.join()
    assert out.getvalue() == in_order(2) + "out 2\n"


# ------------------------------------------------------------ plans, and the option itself


@pytest.mark.parametrize("max_workers", [0, 2])
def test_of_a_plan(max_workers, capfd):
    """``run`` and ``run_iter`` have the option, too."""

    def planned():
        plan = Plan()
        first = plan.call(slow, 0, 0.2)
        plan.call(slow, 1)
        plan.add_dependency(first, plan.call(slow, 2))
        return plan

    outcomes = list(run_iter(planned(), max_workers=max_workers, capture_output=True))
    assert [each.stdout for each in outcomes] == [f"out {i}\nend {i}\n" for i in range(3)]
    assert capfd.readouterr().out == ""
    run(planned(), max_workers=max_workers, capture_output="group")
    assert capfd.readouterr().out == in_order(3)


@pytest.mark.parametrize(
    ("value", "kind"), [("all", ValueError), (1, TypeError), (None, TypeError)]
)
def test_a_wrong_value(value, kind):
    """Any other value is an error at once, which names the right ones."""
    with pytest.raises(kind, match="capture_output must be True, False or 'group', not"):
        Pcall.options(capture_output=value)
    with pytest.raises(kind, match="capture_output must be"):
        run(Plan(), capture_output=value)


def test_no_descriptor_is_left(each_system, forking):
    """The files are closed with the run, also when it is abandoned."""
    before = descriptors()
    with contextlib.suppress(ZeroDivisionError), forking(slow, i=range(3), wait=[60] * 3):
        time.sleep(0.2)
        raise ZeroDivisionError
    assert descriptors() == before
