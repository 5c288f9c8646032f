"""docs/policy.rst: ``retry`` as a run's policy: attempts, waits, and what ends them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from pcall import ChildDied, ChildProcessException, NotStarted, Pcall, PcallTimeout, Retry
from tests.helpers.waiting import until

LONG = 600  # seconds that no test waits: pytest-timeout would end it

WAYS = {
    "raise": lambda: int("no number"),
    "exit": lambda: os._exit(3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(LONG),
}


class Flaky:
    """A target that fails so many times for each argument, and returns it then.

    Attempts are written down in files, since each is made in a process of its own.
    """

    def __init__(self, folder: Path, failures: int, how: str = "raise") -> None:
        self.folder, self.failures, self.how = folder, failures, how

    def attempts(self) -> list[tuple[int, int, float]]:
        """Argument, process and time of each attempt, as they were made."""
        names = (path.name.split() for path in self.folder.iterdir())
        made = [(int(x), int(pid), float(when)) for when, x, pid in names]
        return sorted(made, key=lambda attempt: attempt[2])

    def __call__(self, x):
        (self.folder / f"{time.monotonic():.9f} {x} {os.getpid()}").touch()
        if sum(of == x for of, _, _ in self.attempts()) <= self.failures:
            WAYS[self.how]()
        return x


def outcomes_of(target, x, timeout=None, **policy):
    return Pcall.options(return_outcomes=True, **policy).pcall(target, timeout, x=x)


# ------------------------------------------------------------------ attempts


@pytest.mark.fast
@pytest.mark.parametrize("max_workers", [None, 2, 0])
@pytest.mark.parametrize("retry", [3, Retry(3), Retry(3, on=ValueError, jitter=0.01)], ids=str)
def test_a_call_is_tried_until_it_succeeds(tmp_path, retry, max_workers):
    """A call is tried up to so many times, and what it returned at last is its result."""
    flaky = Flaky(tmp_path, 2)
    assert Pcall.options(retry=retry, max_workers=max_workers).pcall(flaky, x=(5, 6)) == (5, 6)
    assert sorted(x for x, _, _ in flaky.attempts()) == [5, 5, 5, 6, 6, 6]


@pytest.mark.parametrize(
    "max_workers", [pytest.param(None, marks=pytest.mark.needs("no queue")), 1, 0]
)
def test_the_outcome_counts_the_attempts(tmp_path, max_workers):
    """Each outcome tells how many attempts its call took, a failed one's as well."""

    def target(x):
        return Flaky(tmp_path, x)(x)

    outcomes = outcomes_of(target, range(4), retry=3, max_workers=max_workers)
    assert [(o.ok, o.attempts) for o in outcomes] == [(True, 1), (True, 2), (True, 3), (False, 3)]


@pytest.mark.needs("processes")
def test_each_attempt_is_a_fresh_child(tmp_path):
    """Each attempt is made in another process, and the outcome is the last one's."""
    flaky = Flaky(tmp_path, 2)
    run = Pcall.options(retry=3)(flaky, x=[0])
    with run:
        pass
    pids = [pid for _, pid, _ in flaky.attempts()]
    assert len({*pids, os.getpid()}) == 4
    assert run.outcomes[0].pid == run.pids[0] == pids[-1]


def test_each_attempt_draws_other_random_numbers(tmp_path):
    """A call that failed for the random numbers it drew draws others in its next attempt."""

    def draw(x):
        (tmp_path / repr(random.random())).touch()
        raise ValueError

    outcomes_of(draw, [0], retry=3)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.needs("processes")
def test_a_call_that_never_succeeds_raises_its_last_error(tmp_path):
    """When all attempts have failed, the error of the last one is raised."""

    def count(x):
        (tmp_path / str(os.getpid())).touch()
        raise ValueError(f"attempt {len(list(tmp_path.iterdir()))}")

    with pytest.raises(ChildProcessException) as caught:
        Pcall.options(retry=3).pcall(count, x=[0])
    assert str(caught.value) == "attempt 3"
    assert [o.attempts for o in caught.value.failures] == [3]


@pytest.mark.needs("isolation")
@pytest.mark.parametrize("how", ["exit", "killed"])
def test_a_lost_child_can_be_retried(each_system, tmp_path, how):
    """A child that dies without answering costs an attempt, and the call is tried again."""
    outcomes = outcomes_of(Flaky(tmp_path, 1, how), (0, 1), retry=2, max_workers=1)
    assert [(o.value, o.attempts) for o in outcomes] == [(0, 2), (1, 2)]


@pytest.mark.needs("timeouts")
def test_a_timeout_can_be_retried(each_system, tmp_path):
    """A timeout costs an attempt; neither the call nor those beside it fail for it."""
    outcomes = outcomes_of(Flaky(tmp_path, 1, "hang"), (0, 1), 1.5, retry=2)
    assert [(o.value, o.error, o.attempts) for o in outcomes] == [(0, None, 2), (1, None, 2)]


@pytest.mark.needs("timeouts")
@pytest.mark.parametrize(("how", "error"), [("exit", ChildDied), ("hang", PcallTimeout)])
def test_attempts_that_are_lost_or_late_run_out(tmp_path, how, error):
    """A call whose attempts are all lost, or all late, fails as with a single one."""
    with pytest.raises(error) as caught:
        Pcall.options(retry=2).pcall(Flaky(tmp_path, 9, how), 0.5, x=[0])
    assert [o.attempts for o in caught.value.failures] == [2]


# ------------------------------------------------------------------ which errors


@pytest.mark.parametrize("max_workers", [1, 0])
def test_on_decides_in_a_run(tmp_path, max_workers):
    """What on= does not name is not tried again."""
    policy = {"max_workers": max_workers, "retry": Retry(3, on=(OSError, KeyError))}
    (outcome,) = outcomes_of(Flaky(tmp_path, 1), [0], **policy)
    assert (type(outcome.error), outcome.attempts) == (ValueError, 1)


@pytest.mark.parametrize("max_workers", [1, 0])
def test_a_predicate_sees_the_error_itself(max_workers):
    """A function given as on= is given, in this process, the very error of each attempt."""
    seen = []

    def busy():
        raise OSError(16, "busy")

    rule = Retry(3, on=lambda error: seen.append(error) or error.errno == 16)
    with pytest.raises(ChildProcessException):
        Pcall.options(retry=rule, max_workers=max_workers).pcall(busy)
    assert [(type(error), error.errno) for error in seen] == [(OSError, 16)] * 2


@pytest.mark.parametrize("max_workers", [1, 0])
def test_a_predicate_that_fails_hides_nothing(tmp_path, max_workers):
    """When the function given as on= raises, the call's own error is raised, with a note."""
    rule = Retry(3, on=lambda error: error.no_such_name)
    with pytest.raises(ChildProcessException, match="no number") as caught:
        Pcall.options(retry=rule, max_workers=max_workers).pcall(Flaky(tmp_path, 9), x=[0])
    assert any("no_such_name" in note for note in caught.value.__cause__.__notes__)


# ------------------------------------------------------------------ a decorator


def twice(target):
    @functools.wraps(target)
    def again(*args, **kwargs):
        try:
            return target(*args, **kwargs)
        except ValueError:
            return target(*args, **kwargs)

    return again


@pytest.mark.parametrize("max_workers", [1, 0])
def test_a_decorator_tries_again_in_the_child(tmp_path, max_workers):
    """A decorator is put around the target: its attempts share a child, and count as one."""
    flaky = Flaky(tmp_path, 1)

    def target(x):
        return flaky(x)

    outcomes = outcomes_of(target, (0, 1), retry=twice, max_workers=max_workers)
    assert [(o.value, o.attempts) for o in outcomes] == [(0, 1), (1, 1)]
    for x in (0, 1):
        assert len({pid for of, pid, _ in flaky.attempts() if of == x}) == 1


def test_each_of_several_targets_is_decorated():
    """Of several targets each is decorated, and the run shows what it was built with."""
    targets = [min, max]
    run = Pcall.options(retry=lambda target: lambda *args: -target(*args))(targets, cargs=(2, 3))
    with run:
        pass
    assert run.results == (-2, -3)
    assert run.targets is targets


@pytest.mark.engines(why="no run is made")
def test_a_decorator_that_returns_nothing_is_told_at_once(monkeypatch):
    """A decorator whose result can't be called raises before anything is forked."""
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("something was forked"))
    with pytest.raises(TypeError, match=r"^retry=<function .* not None$"):

        def nothing(target):
            pass

        Pcall.options(retry=nothing).pcall(min, x=[1])


# ------------------------------------------------------------------ the wait


@pytest.mark.parametrize("max_workers", [1, 0])
def test_the_wait_blocks_no_worker(tmp_path, max_workers):
    """While a call waits for its next attempt, its worker takes other calls."""
    flaky = Flaky(tmp_path, 1)
    policy = {"max_workers": max_workers, "retry": Retry(2, wait=2)}
    assert [o.value for o in outcomes_of(flaky, range(3), **policy)] == [0, 1, 2]
    assert [x for x, _, _ in flaky.attempts()] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("max_workers", [1, 0])
def test_what_is_due_goes_first(tmp_path, max_workers):
    """An attempt that is due goes before the calls that were never tried."""
    flaky = Flaky(tmp_path, 1)
    outcomes_of(flaky, range(3), max_workers=max_workers, retry=2)
    assert [x for x, _, _ in flaky.attempts()] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("max_workers", [None, 0])
def test_the_wait_grows(tmp_path, max_workers):
    """Each wait is twice as long as the one before, up to the longest."""
    flaky = Flaky(tmp_path, 3)
    outcomes_of(flaky, [0], retry=Retry(4, wait=0.2, max_wait=0.4), max_workers=max_workers)
    times = [when for _, _, when in flaky.attempts()]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(wait >= least for wait, least in zip(waits, (0.2, 0.4, 0.4), strict=True))


# ------------------------------------------------------------------ the error limit


@pytest.mark.parametrize("max_workers", [1, 0])
def test_max_errors_counts_calls_not_attempts(tmp_path, max_workers):
    """A call counts as failed once all its attempts have failed."""
    policy = {"max_workers": max_workers, "max_errors": 1, "retry": 3}
    outcomes = outcomes_of(Flaky(tmp_path, 9), range(4), **policy)
    kinds = [ValueError, ValueError, NotStarted, NotStarted]
    assert [type(o.error) for o in outcomes] == kinds
    assert [o.attempts for o in outcomes] == [3, 3, 0, 0]


@pytest.mark.parametrize("max_workers", [1, 0])
def test_the_error_limit_gives_up_what_waits(max_workers):
    """After too many failures a call that waits is not tried again, and shows how it failed."""

    def target(x):
        raise (OSError if x == 0 else ValueError)(x)

    policy = {"max_workers": max_workers, "retry": Retry(2, on=OSError, wait=LONG)}
    outcomes = outcomes_of(target, range(3), **policy)
    assert [type(o.error) for o in outcomes] == [OSError, ValueError, NotStarted]
    assert [o.attempts for o in outcomes] == [1, 1, 0]


# ------------------------------------------------------------------ ending a run that waits


def waiting_run(folder):
    """A started run whose one call has failed, and waits for its next attempt."""
    flaky = Flaky(folder, 1)
    run = Pcall.options(retry=Retry(2, wait=LONG))(flaky, x=[0])
    run.start()
    assert until(lambda: flaky.attempts() and not run.livings, 60)
    assert (run.done, run.outcomes, run.pids) == (False, (None,), (None,))
    return run


def check_given_up(run):
    run.join()
    (outcome,) = run.outcomes
    assert (type(outcome.error), outcome.attempts) == (ValueError, 1)
    assert run.done
    assert run.results is None


@pytest.mark.needs("a fresh child")
@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_to_end_a_run_ends_the_wait(each_system, tmp_path, end):
    """terminate() and kill() give up a call that waits; join() does not raise for it."""
    run = waiting_run(tmp_path)
    getattr(run, end)()
    check_given_up(run)


@pytest.fixture
def ctrl_c():
    """Have SIGINT raise KeyboardInterrupt, as at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda error: signal.raise_signal(signal.SIGINT) or True
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("max_workers", [None, 0])
def test_ctrl_c_while_the_rule_is_asked(tmp_path, ctrl_c, max_workers):
    """Ctrl-C as a call is about to wait goes on at once as KeyboardInterrupt."""
    rule = Retry(2, on=ctrl_c, wait=LONG)
    run = Pcall.options(retry=rule, max_workers=max_workers)(Flaky(tmp_path, 1), x=[0])
    with pytest.raises(KeyboardInterrupt):
        run.start()
        run.join()
    run.join()
    assert run.done
    assert run.outcomes[0].attempts == 1
    assert run.results is None


@pytest.mark.engines("inline", why="it is about this engine")
def test_ctrl_c_while_a_call_waits_inline(tmp_path, monkeypatch):
    """Ctrl-C in the wait of a run without children ends that run."""

    def interrupted(event, seconds):
        raise KeyboardInterrupt

    run = Pcall.options(retry=Retry(2, wait=LONG), max_workers=0)(Flaky(tmp_path, 1), x=[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Event, "wait", interrupted)
        run.start()
    check_given_up(run)


@pytest.mark.needs("a fresh child")
def test_cancelling_an_await_ends_the_wait(tmp_path):
    """Cancelling an await gives up a call that waits for its next attempt."""
    run = waiting_run(tmp_path)

    async def cancel():
        await asyncio.wait_for(run, 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(cancel())
    check_given_up(run)


# ------------------------------------------------------------------ seeing it


def test_as_completed_names_a_call_once(tmp_path):
    """as_completed() yields a call when it is over, not after each attempt."""
    with Pcall.options(retry=3)(Flaky(tmp_path, 2), x=range(3)) as run:
        seen = [(o.index, o.attempts) for o in run.as_completed()]
    assert sorted(seen) == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("max_workers", [1, 0])
def test_each_failed_attempt_is_logged(tmp_path, max_workers):
    """Each attempt that fails is logged through the logger pcall at ERROR with its traceback."""
    log = tmp_path / "log"
    (tmp_path / "attempts").mkdir()
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logging.getLogger("pcall").addHandler(handler)
    try:
        flaky = Flaky(tmp_path / "attempts", 2)
        outcomes_of(flaky, [7], retry=3, max_workers=max_workers)
    finally:
        logging.getLogger("pcall").removeHandler(handler)
        handler.close()
    text = log.read_text()
    assert text.count("pcall ERROR call 0 failed: Flaky(x=7)") == 2
    assert text.count("ValueError: invalid literal") == 2


@pytest.mark.needs("timeouts")
def test_each_late_attempt_is_logged(tmp_path, caplog):
    """Each attempt that runs out of time is logged in the parent with its process."""
    flaky = Flaky(tmp_path, 2, "hang")
    outcomes_of(flaky, [7], 0.5, retry=2)
    texts = [r.getMessage() for r in caplog.records if r.getMessage().startswith("timeout of")]
    assert len(texts) == 2
    for text, (_, pid, _) in zip(texts, flaky.attempts(), strict=True):
        assert f"Flaky(x=7), is still running in process {pid}" in text
