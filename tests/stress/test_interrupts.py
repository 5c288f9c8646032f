"""docs/timeouts.rst: whenever a signal comes, its handler runs once and nothing is lost for it.

Each case is a script in a process of its own, since handlers of signals are the process's.
"""

from __future__ import annotations

import pytest

from tests.helpers.scripts import check

HEAD = """
import functools
from pcall import Plan, run

_, _, how, threads = sys.argv
signal.signal(signal.SIGINT, signal.default_int_handler)
stop = threading.Event()
if threads == "threads":
    # The kernel gives signals to these when the main thread blocks them.
    for _ in range(3):
        threading.Thread(target=stop.wait).start()

def nap(x):
    time.sleep(0.01)
    return x

def calls(count):
    if how == "plan":
        plan = Plan()
        made = [plan.call(nap, x) for x in range(count)]
        return run(plan, output=made)
    lives = None if how == "reused" else 1
    return Pcall.options(max_tasks_per_child=lives).pcall(nap, x=range(count))

def signal_me(number, after):
    # Not before the fork is over: what a handler raises in its hooks is lost.
    me, (waits, goes) = os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(waits, 1)
        time.sleep(after)
        os.kill(me, number)
        os._exit(0)
    os.write(goes, b"!")
    os.close(waits)
    os.close(goes)
    return pid

def state():
    return len(descriptors()), my_children(), signal.getsignal(signal.SIGINT)

before = state()
"""
INTERRUPTED = """
for moment in range(15):
    try:
        signal_me(signal.SIGINT, random.uniform(0.005, 0.15))
        calls(60)
        time.sleep(60)
        sys.exit("no interrupt came")
    except KeyboardInterrupt:
        pass
    os.wait()  # for the sender
    assert state() == before, (state(), before)
stop.set()
"""
COUNTED = """
seen = []
def note(number, frame):
    seen.append(threading.current_thread() is threading.main_thread())
signal.signal(signal.SIGUSR1, note)
for moment in range(15):
    sender = signal_me(signal.SIGUSR1, random.uniform(0.005, 0.1))
    assert list(calls(40)) == list(range(40))
    os.waitpid(sender, 0)
    end = time.monotonic() + 60
    while len(seen) <= moment and time.monotonic() < end:
        time.sleep(0.001)
    assert seen == [True] * (moment + 1), seen
    assert state() == before, (state(), before)
assert signal.getsignal(signal.SIGUSR1) is note
stop.set()
"""
WHILE_READING = """
class Alarm(Exception):
    pass

class Rings:
    def ring(self, number, frame):
        raise Alarm("too long")
    def __call__(self, number, frame):
        self.ring(number, frame)

def load(pid):
    if os.getpid() == parent and to_come:
        to_come.clear()
        signal.raise_signal(signal.SIGUSR1)
    return pid

class Slow:
    def __reduce__(self):
        return load, (os.getpid(),)

parent = os.getpid()
for handler in (Rings().ring, Rings(), functools.partial(Rings.ring, None)):
    signal.signal(signal.SIGUSR1, handler)
    plan, to_come = Plan(), [1]
    try:
        if how == "plan":
            run(plan, output=plan.call(Slow), max_errors=None)
        else:
            lives = None if how == "reused" else 1
            Pcall.options(max_tasks_per_child=lives, return_outcomes=True).pcall(Slow)
        sys.exit("the alarm was swallowed")
    except Alarm:
        pass
    assert state() == before, (state(), before)
stop.set()
"""
IN_CHILDREN = """
def mine(number, frame):
    raise LookupError("mine")
signal.signal(signal.SIGUSR1, mine)

def handlers(x):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGUSR1) is mine
    signal.raise_signal(signal.SIGINT if x else signal.SIGUSR1)

tolerant = Pcall.options(max_errors=None, return_outcomes=True,
                         max_tasks_per_child=None if how == "reused" else 1)
found = [type(outcome.error) for outcome in tolerant.pcall(handlers, x=(0, 1))]
assert found == [LookupError, KeyboardInterrupt], found
assert state() == before, (state(), before)
stop.set()
"""


@pytest.fixture(params=["linux", "portable"])
def play(request, tmp_path):
    def play(script: str, how: str, threads: str) -> None:
        found = check(tmp_path, request.param, script, how, threads, head=HEAD)
        assert "ignored" not in found.stderr, found.stderr

    return play


@pytest.mark.parametrize("threads", ["threads", "alone"])
@pytest.mark.parametrize("how", ["fresh", "reused", "plan"])
def test_ctrl_c_at_any_moment(play, how, threads):
    """It interrupts the call, and leaves no process and no descriptor behind."""
    play(INTERRUPTED, how, threads)


@pytest.mark.parametrize("threads", ["threads", "alone"])
@pytest.mark.parametrize("how", ["fresh", "reused", "plan"])
def test_other_handlers_are_called_once_for_a_signal(play, how, threads):
    """They are put off for some lines at most, and are in place again when the call returns."""
    play(COUNTED, how, threads)


@pytest.mark.parametrize("how", ["fresh", "reused", "plan"])
def test_what_a_handler_raises_while_a_result_is_read_is_no_fault_of_the_call(play, how):
    """It breaks into the run as it does at any other moment, whatever class it is of."""
    play(WHILE_READING, how, "alone")


@pytest.mark.parametrize("how", ["fresh", "reused"])
def test_children_have_the_handlers_of_their_parent(play, how):
    """What is put off while children are forked is not in these."""
    play(IN_CHILDREN, how, "threads")
