"""docs/timeouts.rst: whatever hits the parent, nothing that the run started outlives it.

Each parent is a process of its own. Its children write their numbers into a folder, and
/proc tells what became of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import scripts
from tests.helpers.processes import assert_ended, has_ended

SYSTEMS = ["linux", "portable"]
# Grace periods far from what is waited for: one that nobody reaches here, and a short one.
LONG, PROMPT = 90, 20

HEAD = """
folder = pathlib.Path(sys.argv[2])

def failed(kind, error, tb):
    sys.__excepthook__(kind, error, tb)
    if not issubclass(kind, KeyboardInterrupt):
        note("failed")

def note(kind, pid=None):
    (folder / f"{kind}-{pid or os.getpid()}").touch()

sys.excepthook = failed
# A job in the background starts with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)

def start_sleep():
    note("grandchild", subprocess.Popen(["sleep", "1000"]).pid)

def stay():
    note("stays")
    sys.stdin.read()
"""

SLEEPERS = """
def work(i):
    start_sleep()
    note("child")
    time.sleep(1000)

try:
    Pcall.options(grace_period=LONG).pcall(work, i=range(50))
except KeyboardInterrupt:
    assert not my_children(), my_children()
    note("interrupted")
    stay()
    raise
"""


@contextmanager
def running(folder: Path, system: str, body: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the script, and see that not even a failing test leaves anything of it."""
    script = folder / "script.py"
    script.write_text(scripts.HEAD + HEAD + body.replace("LONG", str(LONG)))
    notes = folder / "notes"
    notes.mkdir()
    command = [sys.executable, str(script), system, str(notes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
            for path in notes.iterdir():
                kind, _, pid = path.name.rpartition("-")
                if kind in ("child", "grandchild"):
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass


def noted(folder: Path, kind: str, count: int = 1) -> list[int]:
    """Wait until so many have written their numbers; return these."""
    end = time.monotonic() + 60
    while True:
        found = [int(path.name.rpartition("-")[2]) for path in folder.glob(f"notes/{kind}-*")]
        if len(found) >= count:
            assert len(found) == count
            return found
        assert not list(folder.glob("notes/failed-*")), "the script failed"
        assert time.monotonic() < end, f"{len(found)} of {count} {kind} in 60 s"
        time.sleep(0.01)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_killed_parent_takes_children_and_grandchildren_along(tmp_path, system, number):
    """A parent killed in the middle of 50 children leaves neither them nor what they started."""
    with running(tmp_path, system, SLEEPERS) as parent:
        pids = noted(tmp_path, "child", 50) + noted(tmp_path, "grandchild", 50)
        assert not any(has_ended(pid, parent.pid) for pid in pids)
        parent.send_signal(number)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_ctrl_c_ends_all_and_goes_on_as_keyboard_interrupt(tmp_path, system):
    """Ctrl-C in the parent ends 50 children and what they started, reaps them, and goes on."""
    with running(tmp_path, system, SLEEPERS) as parent:
        pids = noted(tmp_path, "child", 50) + noted(tmp_path, "grandchild", 50)
        parent.send_signal(signal.SIGINT)
        noted(tmp_path, "stays")
        assert parent.poll() is None
        assert_ended(pids, parent.pid)
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == -signal.SIGINT
        noted(tmp_path, "interrupted")


@pytest.mark.fast
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_second_ctrl_c_kills_at_once(tmp_path, system):
    """Children that take their time to clean up are killed by the second Ctrl-C."""
    body = """
def work(i):
    start_sleep()
    note("child")
    try:
        time.sleep(1000)
    finally:
        note("cleaning")
        time.sleep(1000)

try:
    Pcall.options(grace_period=LONG).pcall(work, i=range(10))
except KeyboardInterrupt:
    assert not my_children(), my_children()
    note("interrupted")
    stay()
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 10) + noted(tmp_path, "grandchild", 10)
        parent.send_signal(signal.SIGINT)
        cleaning = noted(tmp_path, "cleaning", 10)
        assert not any(has_ended(pid, parent.pid) for pid in cleaning)
        assert not list(tmp_path.glob("notes/interrupted-*"))
        parent.send_signal(signal.SIGINT)
        noted(tmp_path, "interrupted")
        assert_ended(pids, parent.pid)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name
)
def test_children_clean_up_in_finally(tmp_path, system, number):
    """However the parent is hit, the `finally` of each child runs to its end."""
    body = """
def work(i):
    note("child")
    try:
        time.sleep(1000)
    finally:
        time.sleep(1)
        note("cleaned")

Pcall.options(grace_period=LONG).pcall(work, i=range(10))
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 10)
        parent.send_signal(number)
        assert sorted(noted(tmp_path, "cleaned", 10)) == sorted(pids)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_what_ignores_sigterm_is_killed_after_the_grace_period(tmp_path, system, number):
    """Children that ignore SIGTERM are gone after the grace period, and what they started."""
    body = """
def work(i):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    start_sleep()  # it ignores SIGTERM, too: what is ignored stays so over exec
    note("child")
    time.sleep(1000)

Pcall.options(grace_period=0.5).pcall(work, i=range(10))
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 10) + noted(tmp_path, "grandchild", 10)
        parent.send_signal(number)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_children_forked_after_others_have_ended_are_killed_too(tmp_path, system):
    """The guard knows the living children of a run in which most calls have ended before."""
    body = """
def work(i):
    if i < 30:
        time.sleep(0.05)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("child")
    time.sleep(1000)

Pcall.options(max_workers=4, grace_period=0.5).pcall(work, i=range(34))
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 4)
        parent.kill()
        parent.wait(timeout=PROMPT)
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_child_deep_in_c_code_does_not_outlive_a_killed_parent(tmp_path, system):
    """A child that never comes back to the interpreter is gone after the grace period."""
    body = """
def work(i):
    note("child")
    sum(range(10**15))  # neither looks at signals nor lets go of the interpreter

Pcall.options(grace_period=0.5).pcall(work, i=range(2))
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 2)
        time.sleep(0.5)  # into the C code
        parent.kill()
        parent.wait(timeout=PROMPT)
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_nested_children_are_gone_too(tmp_path, system, number):
    """Of calls within calls within calls, no level outlives the parent."""
    body = """
def work(depth):
    note("child")
    if depth == 3:
        start_sleep()
        time.sleep(1000)
    Bounded.pcall(work, depth=[depth + 1] * 3)

Bounded = Pcall.options(grace_period=LONG)
Bounded.pcall(work, depth=[1] * 3)
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 3 + 9 + 27) + noted(tmp_path, "grandchild", 27)
        parent.send_signal(number)
        assert parent.wait(timeout=PROMPT) == -number
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_children_outlive_the_thread_that_started_them(tmp_path, system):
    """The end of the thread that called start() harms no child; that of the parent ends them."""
    body = """
def work(i):
    note("child")
    while not (folder / "go").exists():
        time.sleep(0.01)
    note("went")
    if i == 0:
        return "done"
    time.sleep(1000)

run = Pcall.options(grace_period=LONG)(work, i=range(5))
thread = threading.Thread(target=run.start)
thread.start()
thread.join()
time.sleep(0.5)  # what the kernel sends at a thread's end has arrived
(folder / "go").touch()
assert next(run.as_completed()).value == "done"
assert len(run.livings) == 4
stay()
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 5)
        noted(tmp_path, "stays")
        assert len(noted(tmp_path, "went", 5)) == 5
        parent.kill()
        parent.wait(timeout=PROMPT)
        assert_ended(pids, parent.pid, within=PROMPT)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_signal_handler_that_raises_in_join_ends_the_children(tmp_path, system):
    """An exception from the user's own SIGALRM handler ends the children and goes on."""
    body = """
class Alarm(Exception):
    pass

def handler(signum, frame):
    raise Alarm("from the handler")

def work(i):
    start_sleep()
    note("child")
    time.sleep(1000)

signal.signal(signal.SIGALRM, handler)
run = Pcall.options(grace_period=LONG)(work, i=range(20))
run.start()
while len(list(folder.glob("child-*"))) < 20:
    time.sleep(0.01)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    run.join()
except Alarm as error:
    assert str(error) == "from the handler"
    assert not my_children(), my_children()
    assert run.done and not run.livings
    assert signal.getsignal(signal.SIGALRM) is handler
    stay()
"""
    with running(tmp_path, system, body) as parent:
        pids = noted(tmp_path, "child", 20) + noted(tmp_path, "grandchild", 20)
        noted(tmp_path, "stays")
        assert_ended(pids, parent.pid)
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_ctrl_c_between_forks_loses_no_child(tmp_path, system):
    """Interrupted at any moment of starting 300 children, the parent ends all it had started."""
    body = """
def work(i):
    time.sleep(1000)

signal.signal(signal.SIGALRM, signal.default_int_handler)
for delay in [0.001 * 2**k for k in range(8)]:
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        Pcall.options(grace_period=LONG).pcall(work, i=range(300))
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("it was not interrupted")
    assert not my_children(), my_children()
stay()
"""
    with running(tmp_path, system, body) as parent:
        noted(tmp_path, "stays")
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_ctrl_c_between_forks_loses_no_descriptor(tmp_path, system):
    """Interrupted at 200 moments of starting children, the parent has no descriptor more."""
    body = """
signal.signal(signal.SIGALRM, signal.default_int_handler)
Pcall.pcall(int)  # what is opened once is open now
before = descriptors()
interrupted = 0
while interrupted < 200:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.004))
        Pcall.options(grace_period=LONG).pcall(time.sleep, iargs=[(1000,)] * 3)
    except KeyboardInterrupt:
        interrupted += 1
    left = {k: v for k, v in descriptors().items() if k not in before}
    assert not left, f"left after interrupt {interrupted}: {left}"
    assert not my_children(), my_children()
stay()
"""
    with running(tmp_path, system, body) as parent:
        noted(tmp_path, "stays")
        parent.communicate(timeout=PROMPT)
        assert parent.returncode == 0
