"""Policy: parallelism, reused workers, retries, and the number of tolerated failures.

One device answers at the third attempt, one never does, one crashes the process that asks. The
options below decide how to handle this; the function knows nothing of them.
"""

import os
import tempfile
from pathlib import Path

from pcall import ChildProcessException, NotStarted, Pcall, Retry

folder = tempfile.TemporaryDirectory()


def attempts_so_far(device):
    """Count the attempts in a file: each has a process of its own."""
    path = Path(folder.name, device)
    with path.open("a") as file:
        file.write("x")
    return path.stat().st_size


def ask(device):
    attempt = attempts_so_far(device)
    if device == "slow starter" and attempt < 3:
        raise ConnectionError(f"{device} is not up yet")
    if device == "dead":
        raise ConnectionError(f"{device} does not answer")
    if device == "poisonous" and attempt == 1:
        os.abort()
    return f"{device} is fine"


DEVICES = ("good", "slow starter", "poisonous", "dead", "other")

# At most two at a time; up to three attempts each, a moment apart; however many fail, go on.
Patient = Pcall.options(
    max_workers=2,
    retry=Retry(3, on=Exception, wait=0.05),
    max_errors=None,
    return_outcomes=True,
)
for outcome in Patient.pcall(ask, device=DEVICES):
    shown = outcome.value if outcome.ok else f"{type(outcome.error).__name__}: {outcome.error}"
    print(f"{DEVICES[outcome.index]:>12}: {shown} (attempts: {outcome.attempts})")
    assert outcome.ok == (DEVICES[outcome.index] != "dead")
    assert outcome.attempts == {"good": 1, "other": 1, "poisonous": 2}.get(
        DEVICES[outcome.index], 3
    )

# No failure is tolerated: calls that have not started by then are skipped.
Strict = Pcall.options(max_workers=1, max_errors=0)
try:
    Strict.pcall(ask, device=("dead", "good", "other"))
except ChildProcessException as error:
    print("\nstopped by:", error)
    skipped = [outcome for outcome in error.outcomes if isinstance(outcome.error, NotStarted)]
    print(len(skipped), "were not started")
    assert len(skipped) == 2


# Reused workers: for many very short calls. The same guarantees hold for each call: one that
# crashes costs itself and its worker, and no other call.
def collatz(number):
    if number == 4321:
        os.abort()
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


Quick = Pcall.options(max_tasks_per_child=None, max_errors=None, return_outcomes=True)
outcomes = Quick.pcall(collatz, iargs=[(number,) for number in range(1, 20_001)])
lost = [outcome for outcome in outcomes if not outcome.ok]
children = {outcome.pid for outcome in outcomes}
print(f"\n{len(outcomes)} calls in {len(children)} processes")
print(f"lost: {lost[0].call}: {lost[0].error}")
assert [outcome.call.args for outcome in lost] == [(4321,)]
assert max(outcome.value for outcome in outcomes if outcome.ok) == 278

# In this process, one after another: for a debugger.
assert Pcall.options(max_workers=0).pcall(os.getpid) == (os.getpid(),)
folder.cleanup()
