"""A measurement in the documents: kept as JSON, drawn, and put into their text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pictures import beside_peers, curves
from records import Record, from_json, points_of, rows_of, to_json
from tables import rst_of_rows

__all__ = ["Measured", "load", "write"]

_BEGIN = ".. measured: what follows is written by benchmarks/run.py --write\n"
_END = ".. measured: end\n"


@dataclass
class Measured:
    """The records of each workload, and the conditions that they were measured under.

    Attributes:
        records: by workload.
        taken: when each workload ran, and the load before it.
        on: the environment and the number of rounds, which all records share.
        missing: peers that are not installed.
    """

    records: dict[str, list[Record]]
    taken: dict[str, dict[str, str]]
    on: dict[str, str]
    missing: list[str]

    def over(self, before: Measured) -> Measured:
        """These records, and the earlier ones of the workloads that were not run."""
        records = {**before.records, **self.records}
        return Measured(records, {**before.taken, **self.taken}, self.on, self.missing)

    def note(self) -> str:
        """The environment in one line."""
        on = self.on
        days = sorted({each["date"] for each in self.taken.values()})
        when = " to ".join(days[:1] + days[1:][-1:])
        return ", ".join([on["python"], on["kernel"], f"{on['cores']} cores", on["rounds"], when])

    def busy(self) -> str:
        """A sentence about the load of the machine, which an earlier workload may have left."""
        loads = [float(each["load"].split(",")[0]) for each in self.taken.values()]
        return f"The load when a workload began was {min(loads)} to {max(loads)}."


def load(folder: Path) -> Measured | None:
    """The measurement that was written there; None when there is none."""
    path = folder / "performance.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    records = {
        name: [from_json(each) for each in listed] for name, listed in found["records"].items()
    }
    return Measured(records, found["taken"], found["on"], found["missing"])


def write(measured: Measured, folder: Path, order: Sequence[str]) -> None:
    """Write the records, the pictures, and the tables in ``performance.rst``, if it exists."""
    records = {name: measured.records[name] for name in order if name in measured.records}
    every = [record for found in records.values() for record in found]
    note = measured.note()
    content = {
        "on": measured.on,
        "missing": measured.missing,
        "taken": {name: measured.taken[name] for name in records},
        "records": {name: [to_json(each) for each in found] for name, found in records.items()},
    }
    files = {
        "performance.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        "performance.svg": beside_peers(rows_of(every), note),
        "growth.svg": curves(points_of(every), note),
    }
    document = folder / "performance.rst"
    if document.exists():
        files[document.name] = _replaced(document.read_text(), _section(measured, records))
    for name, text in files.items():
        (folder / name).write_text(text)


def _section(measured: Measured, records: Mapping[str, Sequence[Record]]) -> str:
    missing = ", ".join(measured.missing) or "none"
    said = (
        f"Measured on {measured.note()}. {measured.busy()} Peers that were missing: {missing}.\n\n"
    )
    return said + rst_of_rows({name: rows_of(found) for name, found in records.items()})


def _replaced(text: str, section: str) -> str:
    """The text, with the section between the two marks."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise SystemExit("performance.rst has no place for the tables: it has lost its marks")
    return f"{before}{_BEGIN}\n{section}\n{_END}{after}"
