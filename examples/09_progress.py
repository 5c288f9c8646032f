"""Progress: thousands of calls of a function that fails one time in six, watched as they run.

In a terminal the figures are redrawn while it runs. A page for the browser has the same figures,
and each exception can be unfolded there. Give a path to keep the page:

    python examples/09_progress.py page.html
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from pcall import Pcall
from pcall.progress import ConsoleProgress, HtmlProgress

CALLS = 3000


class NoAnswer(Exception):
    """Raised if a device does not answer."""


def probe(device):
    time.sleep(random.uniform(0.0, 0.04))
    if random.random() < 1 / 6:
        if device % 10 == 0:
            raise ZeroDivisionError("the sensor gave no samples")
        raise NoAnswer(f"device {device % 40} does not answer")
    return device


class FailuresSeen:
    """Any object with these three methods can observe a run."""

    def begin(self):
        self.failed = self.retried = 0

    def observe(self, events):
        for event in events:
            self.failed += event.count * (event.kind == "failed")
            self.retried += event.count * (event.kind == "retried")

    def end(self):
        pass


def main(page):
    random.seed(6)
    seen = FailuresSeen()
    Watched = Pcall.options(
        max_workers=32,
        max_tasks_per_child=None,  # reused workers: each takes call after call
        max_errors=None,  # however many fail, the others go on
        retry=2,
        return_outcomes=True,
        progress=[ConsoleProgress(sys.stdout), HtmlProgress(page), seen],
    )
    outcomes = Watched.pcall(probe, device=range(CALLS))

    failed = [outcome for outcome in outcomes if not outcome.ok]
    assert len(outcomes) == CALLS
    assert 0 < len(failed) < CALLS / 6  # fewer than one in six, since some succeed when retried
    assert seen.failed == len(failed)
    text = page.read_text()
    assert "100 %" in text
    assert "NoAnswer" in text
    print(f"{len(failed)} of {CALLS} calls failed twice; {seen.retried} were tried again")


if len(sys.argv) > 1:
    main(Path(sys.argv[1]))
    print("see", sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder, "page.html"))
