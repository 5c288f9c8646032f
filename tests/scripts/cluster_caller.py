"""A caller of a cluster that is disturbed at a random moment: its output says how it ended.

python cluster_caller.py [ADDRESS]    (without one: a cluster of its own)
"""

from __future__ import annotations

import subprocess
import sys
import time

from pcall import ChildProcessException, ClusterError, NoWorkers, Pcall, Plan, run
from pcall.cluster import Cluster


def busy(x: int) -> int:
    """A call with a program of its own."""
    program = subprocess.Popen(["sleep", "60"])
    time.sleep(0.02)
    program.kill()
    program.wait()
    return x


def total(values: list[int]) -> int:
    time.sleep(0.01)
    return sum(values)


def main() -> None:
    try:
        with Cluster(*sys.argv[1:]) as cluster:
            print("open", flush=True)
            for most in (1, None):
                options = Pcall.options(engine=cluster, max_tasks_per_child=most, grace_period=1)
                assert options.pcall(busy, x=range(20)) == tuple(range(20))
                plan = Plan()
                parts = [plan.call(busy, number) for number in range(8)]
                sums = [plan.call(total, parts) for _ in range(8)]
                assert run(plan, output=sums, engine=cluster, grace_period=1) == [28] * 8
        print("right")
    except KeyboardInterrupt:
        print("interrupted")
    except (ClusterError, NoWorkers, ChildProcessException, OSError) as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
