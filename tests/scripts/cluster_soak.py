"""Ends callers and schedulers of clusters at random moments, and looks for what they leave.

python cluster_soak.py ROUNDS [SEED]

Each round picks who is hit, how and when. It fails if a wrong result, a traceback, a process, a
file or a task of dask is left, or if it lasts too long.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CALLER = Path(__file__).with_name("cluster_caller.py")
MARK = "PCALL_SOAK_ROUND"
PATIENCE = 30.0
KINDS = ("kill the caller", "interrupt the caller", "kill the scheduler")


def marked(mark: str) -> dict[int, str]:
    """The processes that a round has started, and their command lines."""
    found = {}
    for each in os.listdir("/proc"):
        try:
            with open(f"/proc/{each}/environ", "rb") as file:
                there = f"{MARK}={mark}\0".encode() in file.read() + b"\0"
            with open(f"/proc/{each}/stat") as status:
                ended = status.read().rpartition(")")[2].split()[0] == "Z"
            if there and not ended:
                with open(f"/proc/{each}/cmdline") as line:
                    found[int(each)] = line.read().replace("\0", " ")[:120]
        except (OSError, ValueError):
            continue
    return found


def round_(mark: str, kind: str, delay: float, shared: Any) -> dict[str, Any]:
    """One round: what the caller said, and what was left of it."""
    own = kind == "kill the scheduler"
    with tempfile.TemporaryDirectory() as folder:
        caller = subprocess.Popen(
            [sys.executable, str(CALLER), *([] if own else [shared.address])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: mark, "TMPDIR": folder},
        )
        assert caller.stdout is not None
        caller.stdout.readline()  # it has its cluster
        time.sleep(delay)
        if own:
            for pid, line in marked(mark).items():
                if "import scheduler" in line:
                    os.kill(pid, signal.SIGKILL)
        else:
            caller.send_signal(signal.SIGKILL if kind.startswith("kill") else signal.SIGINT)
        try:
            said, errors = caller.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            caller.kill()
            said, errors = caller.communicate()
            errors += "\nit did not end"
        end = time.monotonic() + 15

        def left() -> dict[str, Any]:
            return {
                "processes": marked(mark),
                "files": [str(each) for each in Path(folder).iterdir()],
                "tasks": [] if own else shared.tasks(),
                "calls": [] if own else shared.calls(),
            }

        while any(left().values()) and time.monotonic() < end:
            time.sleep(0.05)
        found = {name: what for name, what in left().items() if what}
    good = {
        "kill the caller": ("", "right"),
        "interrupt the caller": ("interrupted", "right"),
        "kill the scheduler": ("ClusterError", "NoWorkers", "right", "OSError", "CommClosedError"),
    }[kind]
    if not said.strip().startswith(tuple(filter(None, good))) and not ("" in good and not said):
        found["said"] = said
    if "Traceback" in errors or "did not end" in errors:
        found["errors"] = errors[-3000:]
    return found


class Shared:
    """A cluster that outlives its callers."""

    def __init__(self) -> None:
        from distributed import Client

        from pcall.engines.dask.local_workers import LocalWorkers

        self.workers = LocalWorkers(2)
        self.address = self.workers.address
        self.client: Any = Client(self.address, set_as_default=False)
        self.client.wait_for_workers(2, timeout=60)

    def tasks(self) -> list[str]:
        def count(dask_scheduler: Any) -> list[str]:
            return [str(key) for key in dask_scheduler.tasks]

        return list(self.client.run_on_scheduler(count))

    def calls(self) -> list[int]:
        """The processes below the nodes of the workers."""
        found = []
        for worker in self.workers.pids[1:]:
            for node in _children(worker):
                found += _children(node)
        return found

    def close(self) -> None:
        self.client.close(timeout=5)
        self.workers.close()


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [*map(int, file.read().split())]
    except OSError:
        return []


def main() -> None:
    rounds = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    numbers, bad = random.Random(seed), []
    shared = Shared()
    try:
        for number in range(rounds):
            kind, delay = KINDS[number % len(KINDS)], numbers.uniform(0, 1.5)
            found = round_(f"{seed}-{number}", kind, delay, shared)
            if found:
                bad.append({"round": number, "kind": kind, "delay": delay, **found})
                print(json.dumps(bad[-1]), file=sys.stderr, flush=True)
    finally:
        shared.close()
    print(json.dumps({"seed": seed, "rounds": rounds, "bad": bad}))


if __name__ == "__main__":
    main()
