"""docs/design.rst: calls work in a child, a thread, a loop, pytest and a notebook."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback

import pytest

from pcall import ChildProcessException, Pcall, PcallTimeout, pcall
from tests.helpers.scripts import missed_by_coverage, run_python, use_the_same_system, write_script

pytestmark = pytest.mark.usefixtures("each_system")
fork = multiprocessing.get_context("fork")


def square(x):
    return x * x


def squares(*numbers):
    """Calls within a call, and what an error within them looks like."""
    if numbers == (13,):
        raise LookupError(f"no square of {numbers[0]}")
    return pcall(square, x=numbers)


def assert_calls_work():
    """Results, errors and timeouts, as they are everywhere else."""
    assert pcall(squares, iargs=[range(3), range(4, 6)]) == ((0, 1, 4), (16, 25))
    with pytest.raises(ChildProcessException, match="no square of 13") as caught:
        pcall(squares, iargs=[(1,), (13,)])
    assert type(caught.value.__cause__) is LookupError
    assert [o.index for o in caught.value.failures] == [1]
    with pytest.raises(PcallTimeout):
        pcall(time.sleep, 0.1, iargs=[(60,)])
    return True


# ------------------------------------------------------------ within calls


def tree(depth, path=()):
    if depth == 0:
        return path
    return pcall(tree, depth=[depth - 1] * 3, path=[(*path, n) for n in range(3)])


@pytest.mark.fast
def test_results_of_calls_three_deep():
    """Calls within calls within calls return each result to its place."""
    expected = tuple(tuple(tuple((a, b, c) for c in range(3)) for b in range(3)) for a in range(3))
    assert tree(3) == expected


def fail_at(depth):
    if depth == 0:
        raise LookupError("at the bottom")
    pcall(fail_at, depth=[depth - 1, depth - 1])


def test_errors_of_calls_three_deep():
    """An error comes home from three levels down, each level from the one below it."""
    with pytest.raises(ChildProcessException, match="at the bottom") as caught:
        fail_at(3)
    chain, error = [], caught.value
    while error is not None:
        chain.append(type(error))
        last, error = error, error.__cause__
    assert chain == [ChildProcessException] * 3 + [LookupError]
    (frame,) = traceback.extract_tb(last.__traceback__)
    assert (frame.name, frame.line) == ("fail_at", 'raise LookupError("at the bottom")')
    outer = caught.value.failures
    inner = outer[0].error.failures
    assert len(outer) == len(inner) == len(inner[0].error.failures) == 2
    assert inner[0].error.failures[0].pid not in (None, os.getpid(), outer[0].pid, inner[0].pid)


def test_a_timeout_ends_all_levels(tmp_path):
    """When an outer call runs out of time, nothing of the calls within it is left."""

    def nested(depth):
        (tmp_path / str(os.getpid())).touch()
        if depth == 3:
            time.sleep(60)
        pcall(nested, depth=[depth + 1] * 2)

    with pytest.raises(PcallTimeout):
        pcall(nested, 1.5, depth=[1])
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 1 + 2 + 4
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_a_timeout_within_a_call():
    """A timeout of inner calls is the outer call's error, and names what was running."""
    with pytest.raises(ChildProcessException, match="still running after") as caught:
        pcall(lambda: pcall(time.sleep, 0.2, iargs=[(60,), (0,)]))
    inner = caught.value.__cause__
    assert isinstance(inner, PcallTimeout)
    assert [o.index for o in inner.running] == [0]


# ------------------------------------------------------------ threads and loops


def test_from_a_thread():
    """Calls work from a thread that is not the main one."""
    found = []
    thread = threading.Thread(target=lambda: found.append(assert_calls_work()))
    thread.start()
    thread.join()
    assert found == [True]


def test_from_eight_threads_at_once():
    """Eight threads at once get each its own results and errors, run after run."""

    def work(n):
        for i in range(3):
            assert pcall(square, x=range(n, n + 6)) == tuple(x * x for x in range(n, n + 6))
            with pytest.raises(ChildProcessException) as caught:
                pcall({}.pop, iargs=[((n, i),)])
            assert caught.value.__cause__.args == ((n, i),)
        return n

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


def test_one_run_seen_by_eight_threads():
    """Threads that poll, wait for and join one run all see the same end of it."""
    run = Pcall.options(max_workers=3)(lambda i: time.sleep(0.02) or i, i=range(40))
    run.start()

    def poll(n):
        while not run.done:
            assert len(run.livings) <= 3
            run.wait(0.01)
        run.join()
        return run.results

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(poll, range(8))) == {tuple(range(40))}


def test_from_a_coroutine():
    """Calls that block can be made in a coroutine, and in an executor of its loop."""

    async def main():
        here = assert_calls_work()
        loop = asyncio.get_running_loop()
        return here, await loop.run_in_executor(None, assert_calls_work)

    assert asyncio.run(main()) == (True, True)


def test_a_coroutine_within_a_coroutine():
    """A child of a run that a loop awaits has a loop of its own, and awaits in it."""

    async def inner(n):
        await asyncio.sleep(0.01)
        return await pcall.aio(square, x=range(n))

    async def main():
        return await pcall.aio(inner, n=[2, 3])

    assert asyncio.run(main()) == ((0, 1), (0, 1, 4))


# ------------------------------------------------------------ processes of others


def test_from_a_daemonic_process():
    """A daemonic multiprocessing process, which may have no children of its own, makes calls."""
    reader, writer = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: writer.send(assert_calls_work()), daemon=True)
    process.start()
    try:
        assert reader.poll(60)
        assert reader.recv() is True
        process.join()
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()
        reader.close()
        writer.close()


def work_in_pool(n):
    return assert_calls_work() and squares(n, n + 1)


# Python 3.12 warns that such pools fork beside threads of their own.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_from_workers_of_a_process_pool(kind):
    """Workers of a multiprocessing.Pool and of a ProcessPoolExecutor make calls."""
    if kind == "pool":
        with fork.Pool(2) as pool:
            found = pool.map(work_in_pool, range(3))
            pool.close()
            pool.join()
    else:
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as executor:
            found = list(executor.map(work_in_pool, range(3)))
    assert found == [(0, 1), (1, 4), (4, 9)]


# ------------------------------------------------------------ pytest and coverage


def test_with_capfd(capfd):
    """pytest's capfd sees what children and their programs print, once each."""

    def target(n):
        print(f"child {n}")
        print(f"child {n}", file=sys.stderr)
        subprocess.run(["echo", f"program {n}"], check=True)

    print("before")
    pcall(target, n=range(3))
    print("after")
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == sorted(
        ["before", "after", *(f"{kind} {n}" for kind in ("child", "program") for n in range(3))]
    )
    assert sorted(err.splitlines()) == [f"child {n}" for n in range(3)]
    assert_calls_work()


def test_with_capsys(capsys):
    """Under pytest's capsys calls work, and the parent's own text is there once."""
    print("before")
    assert pcall(lambda n: print("child") or n, n=range(3)) == (0, 1, 2)
    assert_calls_work()
    print("after")
    out, _ = capsys.readouterr()
    assert out.startswith("before\n")
    assert out.endswith("after\n")
    assert out.count("before") == out.count("after") == 1


def test_with_caplog(caplog):
    """Under pytest's caplog children log freely, and the parent's record of a timeout is there."""
    caplog.set_level(logging.DEBUG)

    def target(n):
        logging.getLogger("of.a.child").warning("child %d", n)
        return n

    logging.getLogger("of.the.parent").warning("before")
    assert pcall(target, n=range(3)) == (0, 1, 2)
    with pytest.raises(PcallTimeout):
        pcall(time.sleep, 0.2, iargs=[(60,)])
    assert caplog.record_tuples.count(("of.the.parent", logging.WARNING, "before")) == 1
    (record,) = [r for r in caplog.records if r.name == "pcall" and r.process == os.getpid()]
    assert record.levelno == logging.ERROR
    assert "sleep(60)" in record.getMessage()


COVERED = """\
import sys, time
from pcall import ChildProcessException, PcallTimeout, pcall

def target(n):
    if n == 0:
        return "first"
    if n == 1:
        raise ValueError("second")
    return pcall(nested, n=[n])

def nested(n):
    if n < 0:
        return "never"
    return "third"

def slow():
    try:
        time.sleep(60)
    finally:
        cleaned = True

try:
    pcall(target, n=range(3))
except ChildProcessException:
    pass
try:
    pcall(slow, 1)
except PcallTimeout:
    pass
"""


SETTINGS = ["", "concurrency = multiprocessing", "patch = _exit", "patch = fork"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_under_coverage(tmp_path, setting):
    """Lines run in children, nested ones, failed ones and cancelled ones too, count as covered."""
    source = use_the_same_system() + COVERED
    missing, told = missed_by_coverage(tmp_path, source, setting=setting)
    assert told == ""
    assert missing == ['return "never"']


# ------------------------------------------------------------ without a file

LOOSE = """
import os
from pcall import ChildProcessException, pcall

class Problem(Exception):
    pass

def target(n):
    if n == 3:
        raise Problem("three")
    return n * factor

factor = 10
assert pcall(target, n=range(3)) == (0, 10, 20)
assert pcall(lambda n: pcall(target, n=[n]), n=[1, 2]) == ((10,), (20,))
try:
    pcall(target, n=[3])
except ChildProcessException as error:
    assert type(error.__cause__) is Problem, error.__cause__
    assert str(error) == "three"
    assert error.__cause__.__traceback__.tb_frame.f_code.co_name == "target"
else:
    raise AssertionError("no error")
done = True
"""


def test_in_a_namespace_without_a_module():
    """Functions and classes of a bare exec, as in a notebook's cells, work as targets."""
    for name in ("__main__", "cell", None):
        namespace = {"__name__": name} if name else {}
        exec(compile(LOOSE, "<cell 1>", "exec"), namespace)
        assert namespace["done"]


@pytest.mark.parametrize("way", ["-c", "-"])
def test_in_code_from_the_command_line_and_from_stdin(tmp_path, way):
    """The same in python -c, and in a script that python reads from its stdin."""
    code = use_the_same_system() + LOOSE + "print('done')\n"
    arguments = [way, code] if way == "-c" else [way]
    found = run_python(*arguments, input=code if way == "-" else "", cwd=tmp_path)
    assert (found.stdout, found.stderr) == ("done\n", "")


def test_in_an_interactive_session(tmp_path):
    """Typed into the interpreter line by line, calls work, and no line is read twice."""
    lines = [
        *use_the_same_system().splitlines(),
        "from pcall import pcall",
        "def target(n): return n * 10",
        "",
        "print(pcall(target, n=range(3)))",
        "print(pcall(target, n=range(4)))",
        "print('end')",
    ]
    found = run_python("-i", "-q", input="\n".join(lines) + "\n", cwd=tmp_path)
    assert found.stdout.split("\n") == ["(0, 10, 20)", "(0, 10, 20, 30)", "end", ""]


def test_the_module_that_runs_as_a_script(tmp_path):
    """A script without `if __name__ == "__main__"` is run once, not once for each child."""
    code = """
    from pcall import pcall
    print("run")
    print(pcall(lambda n: n, n=range(3)))
    """
    found = run_python(write_script(tmp_path, use_the_same_system(), code), cwd=tmp_path)
    assert (found.stdout, found.stderr) == ("run\n(0, 1, 2)\n", "")
