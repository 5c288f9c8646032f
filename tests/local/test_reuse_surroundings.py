"""docs/policy.rst: reused children in bad surroundings: nothing is lost and nothing left.

Each case is a script in a process of its own, which tells by its exit status that it came to its
end.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import time

import pytest

from tests.helpers import scripts
from tests.helpers.processes import assert_ended

pytestmark = pytest.mark.parametrize("system", ["linux", "portable"])

HEAD = """
Reused = Pcall.options(max_tasks_per_child=None, max_workers=3, grace_period=20)
Tolerant = Reused.options(return_outcomes=True, max_errors=None)

def square(x):
    return x * x

def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)

def all_of_it(count=300):
    assert Reused.pcall(square, x=range(count)) == tuple(x * x for x in range(count))
    assert Reused.pcall(str, iargs=zip(range(count))) == tuple(map(str, range(count)))
    found = Tolerant.pcall(lambda x: dies(x) if x % 10 == 3 else "x" * x, x=range(60))
    for x, outcome in enumerate(found):
        assert outcome.ok == (x % 10 != 3), outcome
        assert not outcome.ok or outcome.value == "x" * x
"""
check = functools.partial(scripts.check, head=HEAD)


# ------------------------------------------------------------ interrupts, and the parent's end


def test_interrupted_at_any_moment(tmp_path, system):
    """Ctrl-C at any moment loses no descriptor, no child and no call, and is raised once."""
    body = """
    def call(x):
        if x % 50 == 7:
            raise ValueError(x)
        return "x" * x if x % 3 else b"x" * 30_000

    class Kept(Tolerant):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            global last
            last = self

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    Tolerant.pcall(call, x=range(10))  # what is opened once is open now
    before = descriptors()
    interrupted = whole = 0
    while interrupted < 100:
        last = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.06))
            Kept.options(max_tasks_per_child=random.choice([None, 50])).pcall(call, x=range(400))
            signal.setitimer(signal.ITIMER_REAL, 0)
            whole += 1
        except KeyboardInterrupt:
            interrupted += 1
        left = {k: v for k, v in descriptors().items() if k not in before}
        assert not left, f"left after interrupt {interrupted}: {left}"
        assert not my_children(), my_children()
        if last is not None and last._started:
            last.join()
            assert last.done and all(last.outcomes), "a call was lost"
    """
    check(tmp_path, system, body)


def test_terminate_from_a_signal_handler(tmp_path, system):
    """A handler of the user's may end the run, whatever is being done just then."""
    body = """
    class Slow:
        def __reduce__(self):
            return time.sleep, (0.0005,)

    for _ in range(60):
        run = Tolerant(lambda x: Slow() if x % 5 == 0 else str(x), x=range(300))
        signal.signal(signal.SIGALRM, lambda *_: run.terminate())
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.04))
        run.start()
        run.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        for x, outcome in enumerate(run.outcomes):
            assert not outcome.ok or outcome.value == (None if x % 5 == 0 else str(x)), outcome
        assert not my_children()
    """
    check(tmp_path, system, body)


@pytest.mark.parametrize("what", ["busy", "idle", "ignores"])
def test_children_end_with_a_parent_that_is_killed(tmp_path, system, what):
    """Children of a parent that is killed with SIGKILL end, with a call or between two."""
    body = f"""
    def call(x):
        pathlib.Path(f"child-{{os.getpid()}}").touch()
        if {what!r} == "ignores":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if {what!r} != "idle" or x == 0:
            time.sleep(600)

    run = Reused.options(grace_period=1)(call, x=range(3))
    run.start()
    while len(glob.glob("child-*")) < 3:
        run.wait(0.05)
    run.wait(1)
    pathlib.Path("ready").touch()
    while True:
        run.wait(1)
    """
    script = tmp_path / "script.py"
    script.write_text(scripts.HEAD + HEAD + textwrap.dedent(body))
    parent = subprocess.Popen([sys.executable, str(script), system], cwd=tmp_path)
    try:
        end = time.monotonic() + 30
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < end
            assert parent.poll() is None
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("child-*")]
    assert len(pids) == 3
    assert_ended(pids, within=20)


# ------------------------------------------------------------ limits


@pytest.mark.fast
def test_64_descriptors(tmp_path, system):
    """With few descriptors there are fewer children, and every answer comes home."""
    body = """
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    all_of_it()
    Many = Pcall.options(max_tasks_per_child=None, max_workers=40)
    assert Many.pcall(square, x=range(500)) == tuple(x * x for x in range(500))
    large = [b"x" * (2 << 20)] * 12
    assert Many.pcall(lambda x: large[x], x=range(12)) == tuple(large)
    """
    check(tmp_path, system, body)


def test_descriptors_that_run_out(tmp_path, system):
    """Where there is room for a single child now, that one makes all calls."""
    body = """
    all_of_it()
    taken = len(os.listdir("/proc/self/fd"))
    for spare in (14, 20, 30):
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + spare, taken + 100))
        assert Reused.pcall(square, x=range(200)) == tuple(x * x for x in range(200))
    """
    check(tmp_path, system, body)


@pytest.mark.parametrize("forks", [0, 1, 2])
def test_a_fork_that_fails(tmp_path, system, forks):
    """Where a child can't be forked, the others are ended, and OSError is raised."""
    body = f"""
    made, fork = 0, os.fork

    def fails():
        global made
        if made == {forks}:
            raise OSError(errno.ENOMEM, "no memory")
        made += 1
        return fork()

    os.fork = fails
    before = descriptors()
    try:
        Reused.pcall(time.sleep, iargs=[(600,)] * 9)
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
    else:
        raise AssertionError("nothing was raised")
    assert not my_children(), my_children()
    assert descriptors().keys() == before.keys()
    """
    check(tmp_path, system, body)


def test_a_full_place_for_files(tmp_path, system, monkeypatch):
    """A full disk costs nothing on Linux; elsewhere a call that finds no room says so."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    mounts = f"mount -t tmpfs -o size=64k none {place}; mount -t tmpfs -o size=64k none /dev/shm"
    body = """
    try:
        found = Tolerant.options(max_workers=1).pcall(
            lambda x: os.urandom(3000).hex(), x=range(100)
        )
        bad = [outcome.error for outcome in found if not outcome.ok]
    except OSError as error:  # there was no room for another child
        bad = [error]
    assert len(bad) < 100, len(bad)
    assert bool(bad) == (sys.argv[1] == "portable"), bad
    for error in bad:
        assert "No space left on device" in str(error), error
    """
    check(tmp_path, system, body, within=scripts.in_namespace(mounts))


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_closed_and_full_streams(tmp_path, system, streams):
    """Closed streams, and full ones, fail no call."""
    body = """
    all_of_it()
    Reused.pcall(print, iargs=[("x",)] * 20)
    os._exit(42)  # what Python itself would do about such streams is not looked at
    """
    check(tmp_path, system, body, streams=streams)


# ------------------------------------------------------------ threads, output, tools


def test_locks_that_other_threads_hold_at_the_fork(tmp_path, system):
    """Threads of the parent that print and log all the time block no child."""
    body = """
    import logging
    logging.basicConfig(stream=open(os.devnull, "w"))
    over = False

    def talks():
        while not over:
            print("x" * 1000)
            logging.warning("y" * 1000)

    def call(x):
        print(x)
        logging.warning(x)
        return x

    threads = [threading.Thread(target=talks) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        found = Reused.options(max_tasks_per_child=20).pcall(call, 60, x=range(200))
        assert found == tuple(range(200))
    over = True
    """
    check(tmp_path, system, body, streams=">/dev/null")


def test_what_calls_print(tmp_path, system):
    """Nothing that calls print is lost or doubled, also when a later call dies."""
    body = """
    def call(x):
        print(f"out {x}")
        print(f"err {x}", file=sys.stderr)
        if x % 20 == 19:
            os._exit(1)

    print("the parent's", end=" ")
    Tolerant.pcall(call, x=range(200))
    sys.stdout.flush()
    """
    found = check(tmp_path, system, body)
    printed = [int(x) for x in found.stdout.replace("the parent's", "").split()[1::2]]
    # What a call has not flushed when it calls os._exit() is lost as anywhere.
    assert sorted(printed) == [x for x in range(200) if x % 20 != 19]
    assert found.stdout.count("the parent's") == 1
    assert sorted(int(x) for x in found.stderr.split()[1::2]) == list(range(200))


@pytest.mark.parametrize("flags", [["-W", "error"], ["-X", "dev"], ["-O"]])
def test_options_of_the_interpreter(tmp_path, system, flags):
    """Also where warnings are errors nothing is said on stderr."""
    body = "all_of_it()\nlarge = Reused.pcall(lambda x: b'x' * (2 << 20), x=range(5))"
    found = check(tmp_path, system, body, flags=flags)
    assert "Warning" not in found.stderr
    assert "Traceback" not in found.stderr


COVERED = """
def call(x):
    if x == 3:
        raise ValueError(x)
    if x == 5:
        while True:
            time.sleep(0.01)
    if x == 7:
        return "covered"
    if x == 1000:
        return "never"
    return x

found = Tolerant.options(grace_period=60).pcall(call, 3, x=range(30))
assert [outcome.index for outcome in found if not outcome.ok] == [3, 5]
"""


def test_under_coverage(tmp_path, system):
    """Lines run in reused children count as covered, also those of cancelled ones."""
    lines, _ = scripts.missed_by_coverage(tmp_path, scripts.HEAD + HEAD + COVERED, system)
    missing = set(lines)
    assert 'return "never"' in missing
    assert not missing & {"raise ValueError(x)", "time.sleep(0.01)", 'return "covered"', "return x"}
