"""docs/design.rst: a lock that a thread of the parent held at the fork never blocks a child.

Each case is a script in which threads take a lock over and over, or hold it for good, while the
main thread makes 200 runs in all. A child that waits for ever is ended by the run's timeout, which
fails the script.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import scripts

RUNS = 100  # on each of two systems

HEAD = """
import importlib, logging, warnings

RUNS = int(sys.argv[2])

@contextlib.contextmanager
def threads(*targets):
    # Each target is called over and over in a thread of its own.
    over = threading.Event()
    begun = threading.Barrier(len(targets) + 1)

    def repeat(target):
        begun.wait()
        while not over.is_set():
            target()

    running = [threading.Thread(target=repeat, args=(target,)) for target in targets]
    for thread in running:
        thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()

def run_all(target):
    for n in range(RUNS):
        assert pcall(target, 20, n=[n, n + 1, n + 2]) == (n, n + 1, n + 2)
"""


def run(
    folder: Path, system: str, body: str, *flags: str, runs: int = RUNS
) -> subprocess.CompletedProcess[str]:
    """Run the script to its end; return what it and its children wrote."""
    return scripts.check(folder, system, body, str(runs), head=HEAD, flags=flags)


@pytest.fixture(params=["linux", "portable"])
def system(request) -> str:
    return request.param


def test_the_lock_of_logging(tmp_path, system):
    """Children log while a thread of the parent holds the logging module's own lock."""
    body = """
    logging.basicConfig(filename="log", level=logging.INFO)

    def hold():
        with logging._lock:
            time.sleep(0.001)
        time.sleep(0.0005)  # the fork itself waits for this lock: let it

    def target(n):
        logging.getLogger(f"new.{n}").warning("in the child")
        logging.getLogger("new").setLevel(logging.INFO)
        return n

    with threads(hold):
        run_all(target)
    """
    run(tmp_path, system, body)


def test_the_lock_of_a_handler(tmp_path, system):
    """Children log through handlers whose locks threads of the parent hold for good."""
    body = """
    handlers = [logging.FileHandler("log"), logging.StreamHandler(open("stream", "w"))]
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    over = threading.Event()
    held = threading.Barrier(len(handlers) + 1)

    def hold(handler):
        with handler.lock:
            held.wait()
            over.wait()

    def target(n):
        logging.error("in the child")
        return n

    holders = [threading.Thread(target=hold, args=(handler,)) for handler in handlers]
    for holder in holders:
        holder.start()
    held.wait()
    made = []
    try:
        for n in range(RUNS):
            made.append(Pcall(target, 20, n=[n, n + 1, n + 2]))
            made[-1].start()
            assert made[-1].wait(20)
    finally:
        over.set()
        for holder in holders:
            holder.join()
    for this in made:
        this.join()  # here, since it is the parent that needs the lock now
    assert pathlib.Path("log").read_text().count("in the child") == 3 * RUNS
    """
    run(tmp_path, system, body)


def test_threads_that_log_all_the_time(tmp_path, system):
    """Children log to a file and to stderr while threads of the parent do nothing else."""
    body = """
    logging.basicConfig(handlers=[logging.FileHandler("log"), logging.StreamHandler()])

    def log():
        logging.error("in the parent")
        time.sleep(0.0002)

    def target(n):
        logging.error("in the child")
        return n

    with threads(log, log):
        run_all(target)
    """
    run(tmp_path, system, body)


def test_the_lock_of_an_import(tmp_path, system):
    """Children import modules that a thread of the parent is importing at the fork."""
    for name in ("first", "second", "package/__init__", "package/inner"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("import time\ntime.sleep(0.002)\nwhole = True\n")
    body = """
    sys.path.insert(0, os.getcwd())
    names = ["first", "second", "package", "package.inner"]

    def load():
        for name in names:
            importlib.import_module(name)
            time.sleep(0)
        for name in names:
            sys.modules.pop(name, None)

    def target(n):
        for name in names:
            assert importlib.import_module(name).whole
        import first, second, package.inner
        return n

    with threads(load):
        run_all(target)
    """
    run(tmp_path, system, body)


def test_the_lock_of_stdout(tmp_path, system):
    """Children print while threads of the parent print, and no line of a child is lost."""
    body = """
    def write():
        print("parent", "x" * 5000)
        time.sleep(0.0002)

    def target(n):
        print("child", n, flush=n % 2 == 0)
        return n

    with threads(write, write):
        run_all(target)
    """
    text = run(tmp_path, system, body).stdout
    for n in range(RUNS):
        assert f"child {n}\n" in text


def test_a_lock_of_the_users_that_the_target_does_not_need(tmp_path, system):
    """A lock, condition and queue that threads hold are nothing to a target without them."""
    body = """
    import queue

    lock, condition, waiting = threading.RLock(), threading.Condition(), queue.Queue(1)

    def hold():
        with lock, condition, waiting.mutex:
            time.sleep(0.005)

    with threads(hold):
        run_all(lambda n: n)
    """
    run(tmp_path, system, body)


@pytest.mark.fast
def test_a_lock_of_the_users_that_the_target_needs(tmp_path, system):
    """A target that waits for a lock which nobody will release is ended by its timeout."""
    body = """
    lock = threading.Lock()

    def target(n):
        if n == 1:
            with lock:
                pass
        return n

    with lock:
        start = time.monotonic()
        try:
            pcall(target, 1, n=[0, 1, 2])
        except PcallTimeout as error:
            assert [o.index for o in error.running] == [1], error.running
            assert [o.ok for o in error.outcomes] == [True, False, True]
        else:
            raise AssertionError("no timeout")
        assert time.monotonic() - start < 10
    """
    run(tmp_path, system, body)


def test_threads_that_come_and_go(tmp_path, system):
    """Children start threads of their own while threads start and end in the parent."""
    body = """
    def come_and_go():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    def target(n):
        found = []
        thread = threading.Thread(target=found.append, args=(n,))
        thread.start()
        thread.join()
        assert threading.active_count() <= 2, threading.enumerate()
        return found[0]

    with threads(come_and_go, come_and_go):
        run_all(target)
    """
    run(tmp_path, system, body)


# ------------------------------------------------------------ warnings


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 began to warn of such forks")
def test_a_fork_with_threads_does_not_warn(tmp_path, system):
    """Where warnings are errors runs beside threads work, and nothing is written to stderr."""
    body = """
    with threads(lambda: time.sleep(0.001)):
        run_all(lambda n: n)
        thread = threading.Thread(target=run_all, args=(lambda n: n,))
        thread.start()
        run_all(lambda n: n)
        thread.join()
    """
    assert run(tmp_path, system, body, "-Werror", runs=20).stderr == ""


def test_the_filters_of_warnings_are_the_users(tmp_path, system):
    """In a child that was forked beside threads a warning is what the user made of it."""
    body = """
    def target(n):
        warnings.warn("old", DeprecationWarning)

    before = list(warnings.filters)
    with threads(lambda: time.sleep(0.001)):
        for _ in range(RUNS):
            try:
                pcall(target, n=[1, 2])
            except ChildProcessException as error:
                assert type(error.__cause__) is DeprecationWarning, error
            else:
                raise AssertionError("the child had other filters")
    assert warnings.filters == before
    """
    run(tmp_path, system, body, "-Werror", runs=10)
