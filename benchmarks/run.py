"""Run workloads, each in a fresh interpreter, and print one table; with --write, for the documents.

python benchmarks/run.py [names] [--quick] [--write docs]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import peers
from records import Record, environment, from_json, moment, points_of, rows_of
from tables import text_of_points, text_of_rows
from written import Measured, load, write

WORKLOADS = [
    *("fork", "fork500", "reused", "arrays", "with_pyats", "cpu", "plan", "idle", "logs"),
    *("import", "executor", "growth", "sizes"),
    *("profiles", "cluster", "cluster_growth"),
]
LONGEST = 600  # seconds: a workload that takes longer hangs, or the machine is busy


def run_workload(python: str, name: str, quick: bool) -> tuple[list[Record], str]:
    """Run one workload: its records, and what went wrong. Leave nothing of it behind."""
    here = Path(__file__).resolve().parent
    command = [python, str(here / f"{name}.py"), "--json", *["--quick"] * quick]
    path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        process_group=0,
    )
    wrong = ""
    try:
        out, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        wrong = f"took longer than {LONGEST} s"
    finally:
        # Also the processes that a peer has left behind, which would disturb the next workloads.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if wrong:
        out, _ = process.communicate()
    elif process.returncode:
        wrong = f"ended with {process.returncode}"
    whole = out[: out.rfind("\n") + 1]
    return [from_json(json.loads(line)) for line in whole.splitlines()], wrong


def conditions(quick: bool) -> dict[str, str]:
    """The conditions that figures must share to stand in one table."""
    return {**environment(), "rounds": "few rounds" if quick else "all rounds"}


def measure(names: list[str], quick: bool) -> tuple[Measured, list[str]]:
    """Run all of these workloads; return their records, and why some did not run to their end."""
    measured = Measured({}, {}, conditions(quick), list(peers.MISSING))
    broken = []
    with_pyats = peers.pyats_python()
    if with_pyats is None:
        measured.missing.append("pyATS")
    for name in names:
        python = with_pyats if name == "with_pyats" else sys.executable
        if python is None:
            continue
        measured.taken[name] = moment()
        begin = time.monotonic()
        measured.records[name], wrong = run_workload(python, name, quick)
        took = time.monotonic() - begin
        print(f"{name}: {wrong or 'done'} ({took:.0f} s)", file=sys.stderr, flush=True)
        if wrong:
            broken.append(f"{name} {wrong}")
    return measured, broken


def main() -> None:
    """Measure, report missed targets and missing peers, and write the files that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(WORKLOADS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="performance.json, the pictures, the tables"
    )
    parser.add_argument(
        "--redraw", type=Path, metavar="FOLDER", help="the same from its performance.json"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(WORKLOADS))
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if arguments.redraw:
        found = load(arguments.redraw)
        if found is None:
            parser.error(f"nothing was written to {arguments.redraw} yet")
        write(found, arguments.redraw, WORKLOADS)
        return
    if arguments.write and not arguments.write.is_dir():
        parser.error(f"no such folder: {arguments.write}")
    before = load(arguments.write) if arguments.write and arguments.names else None
    if before and before.on != conditions(arguments.quick):
        parser.error(f"the rest was measured otherwise: {before.note()}; run all workloads")

    # As with Ctrl-C: the running workload ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    measured, broken = measure(arguments.names or WORKLOADS, arguments.quick)
    records = [record for found in measured.records.values() for record in found]
    print(f"{measured.note()}. {measured.busy()}")
    rows = rows_of(records)
    print(text_of_rows(rows))
    print(text_of_points(points_of(records)))
    aimed = [row for row in rows if row.target is not None]
    print(f"{sum(row.met is True for row in aimed)} of {len(aimed)} targets met")
    print(f"peers that are missing: {', '.join(measured.missing) or 'none'}")
    if broken:
        sys.exit(f"did not run to their end: {', '.join(broken)}")
    if arguments.write:
        write(measured.over(before) if before else measured, arguments.write, WORKLOADS)


if __name__ == "__main__":
    main()
