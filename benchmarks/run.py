"""Run workloads, each in a fresh interpreter, and print one table.

python benchmarks/run.py [names] [--quick]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import peers
from measure import Row, print_table, surroundings

WORKLOADS = ["fork", "fork500", "reused", "arrays", "cpu", "idle", "logs", "plan"]


def main() -> None:
    """Measure, and tell what was met and what was missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(WORKLOADS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(WORKLOADS))
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")

    print(surroundings())
    rows: list[Row] = []
    broken = []
    for name in arguments.names or WORKLOADS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py"), "--json"]
        command += ["--quick"] * arguments.quick
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        rows += [Row(**json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode != 0:
            broken.append(name)
    print_table(rows)
    print()
    targets = [row for row in rows if row.met is not None]
    print(f"{sum(row.met is True for row in targets)} of {len(targets)} targets met")
    print(f"peers that are not installed: {', '.join(peers.MISSING) or 'none'}")
    if broken:
        sys.exit(f"did not run to their end: {', '.join(broken)}")


if __name__ == "__main__":
    main()
