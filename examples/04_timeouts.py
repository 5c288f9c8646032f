"""Timeouts: a limit for each call that ends the process, and leaves it time to clean up."""

import pathlib
import tempfile
import time

from pcall import Pcall, PcallTimeout, pcall

folder = tempfile.TemporaryDirectory()
report = pathlib.Path(folder.name, "report")


def measure(seconds):
    try:
        time.sleep(seconds)
    finally:
        # When the time is up, the child gets SIGTERM, which raises TaskCancelled here.
        # So this runs. It has the grace period, by default 5 seconds.
        report.write_text("cleaned up")
    return seconds


# The limit counts for each call, from the moment that its process starts.
try:
    pcall(measure, timeout=1, seconds=(0, 600))
except PcallTimeout as error:
    print(error)
    assert isinstance(error, TimeoutError)  # Python's own
    assert error.running[0].index == 1  # which call it was
    assert error.outcomes[0].value == 0  # the other call's result is not lost
else:
    raise AssertionError("600 seconds are too long")
print("the slow one has", report.read_text())
assert report.read_text() == "cleaned up"


def stubborn():
    while True:
        try:
            time.sleep(600)
        except BaseException:  # so TaskCancelled, too: a bad idea
            pass


# A call that does not end within the grace period is killed.
begin = time.monotonic()
try:
    Pcall.options(grace_period=0.5).pcall(stubborn, timeout=0.5)
except PcallTimeout as error:
    print(f"the stubborn one: {error.failures[0].error.__cause__!r}")
    assert error.failures[0].exitcode == -9
print(f"and it was gone after {time.monotonic() - begin:.1f} s")

# By default one timeout ends the whole run. If errors are tolerated, only that call ends.
outcomes = Pcall.options(max_errors=None, return_outcomes=True).pcall(
    measure, timeout=1, seconds=(0.1, 600, 0.2)
)
print([outcome.ok for outcome in outcomes])
assert [outcome.ok for outcome in outcomes] == [True, False, True]

folder.cleanup()
