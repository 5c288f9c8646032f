"""docs/profiling.rst: each argument of ``print_stats`` and ``print_top``."""

from __future__ import annotations

import io
import os
import pstats
import re

import pytest

from pcall._profiles.packing import pack_cpu, pack_memory
from pcall.profiling import CpuProfile, MemoryProfile

LIBRARY = os.path.dirname(os.__file__)
JSON = os.path.join(LIBRARY, "json", "decoder.py")
PICKLE = os.path.join(LIBRARY, "pickle.py")
LONG = f"/home/somebody/{'a' * 100}/mine.py"

ROWS = {
    (JSON, 10, "decode"): (4, 4, 0.5, 2.0, {}),
    (PICKLE, 20, "dump"): (2, 6, 1.5, 1.5, {}),
    ("~", 0, "<built-in method time.sleep>"): (8, 8, 0.25, 0.25, {}),
    (LONG, 7, "mine"): (1, 1, 1.0, 3.0, {}),
}
MEMORY = {(JSON, 10): (3 << 20, 5), (JSON, 11): (2048, 1), (PICKLE, 20): (1 << 20, 100)}
DIRECTORY = os.path.dirname(JSON)


@pytest.fixture
def cpu():
    """A profile of two workers."""
    profile = CpuProfile()
    profile.add("worker 10", pack_cpu(ROWS))
    profile.add("worker 9", pack_cpu({(JSON, 10, "decode"): (1, 1, 1.0, 1.0, {})}))
    return profile


@pytest.fixture
def memory():
    """A profile of two workers."""
    profile = MemoryProfile()
    profile.add("worker 10", pack_memory(MEMORY))
    profile.add("worker 9", pack_memory({(PICKLE, 20): (1 << 20, 1)}))
    return profile


def table(profile, **arguments):
    """The lines that a profile prints."""
    stream = io.StringIO()
    method = profile.print_stats if isinstance(profile, CpuProfile) else profile.print_top
    method(file=stream, **arguments)
    return stream.getvalue().splitlines()


def names(lines):
    """The names of functions, from the first to the last row."""
    return [
        re.split(r"\s{2,}", line)[0].split()[-1].rpartition(".")[2] for line in lines[1:] if line
    ]


def test_the_table_as_it_is(cpu):
    """Columns, widths, order, and the calls of a recursive function."""
    lines = table(cpu)
    assert lines[0].split() == ["name", "ncall", "tsub", "ttot", "tavg"]
    assert [len(line) for line in lines[1:5]] == [84 + 13 + 9 + 9 + 9] * 4
    assert names(lines) == ["decode", "mine", "dump", "sleep>"]
    assert lines[1].split() == ["decoder.py:10", "decode", "5", "1.500000", "3.000000", "0.600000"]
    assert lines[3].split()[2] == "6/2"


def test_max_rows(cpu):
    """So many rows, and how many more there are; None shows all, 0 none."""
    assert names(table(cpu, max_rows=2))[:2] == ["decode", "mine"]
    assert table(cpu, max_rows=2)[3] == "... and 2 more"
    assert len(table(cpu, max_rows=None)) == 6
    assert table(cpu, max_rows=0)[1] == "... and 4 more"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("name", ["sleep>", "decode", "mine", "dump"]),
        ("ncall", ["sleep>", "dump", "decode", "mine"]),
        ("tsub", ["decode", "dump", "mine", "sleep>"]),
        ("ttot", ["decode", "mine", "dump", "sleep>"]),
        ("tavg", ["mine", "decode", "dump", "sleep>"]),
    ],
)
def test_sort_by_and_sort_dir(cpu, key, expected):
    """Each column sorts: the name upwards and the others downwards, or as told."""
    assert names(table(cpu, sort_by=key)) == expected
    usual, other = ("asc", "desc") if key == "name" else ("desc", "asc")
    assert names(table(cpu, sort_by=key, sort_dir=usual)) == expected
    if key not in ("tsub", "ttot"):  # of equals, the name decides either way
        assert names(table(cpu, sort_by=key, sort_dir=other)) == expected[::-1]


def test_columns(cpu):
    """The columns that are asked for, in this order and width; long names keep their end."""
    lines = table(cpu, columns=(("ttot", 10), ("name", 12)), include="json")
    assert lines[0] == "      ttot name"
    assert lines[1] == "  3.000000 ...10 decode"
    assert table(cpu, columns=[("tsub", 4)])[1] == "1.50"


def test_per_worker(cpu):
    """A table for each worker, in their order."""
    lines = table(cpu, per_worker=True)
    assert [line for line in lines if line.startswith("worker")] == ["worker 9", "worker 10"]
    assert cpu.workers == ("worker 9", "worker 10")
    assert lines[2].split()[2] == "1"
    assert sum("decode" in line for line in lines) == 2


def test_strip_dirs(cpu):
    """Folders are left out, unless they are wanted."""
    wide = (("name", 300),)
    assert not any(DIRECTORY in line for line in table(cpu, columns=wide))
    assert any(JSON in line for line in table(cpu, columns=wide, strip_dirs=False))


def test_include_and_exclude(cpu):
    """Modules are chosen by name, with their submodules; ``exclude`` wins."""
    assert names(table(cpu, include=["json"])) == ["decode"]
    assert names(table(cpu, include=("json.decoder", "time"))) == ["decode", "sleep>"]
    assert names(table(cpu, include="pickle")) == ["dump"]
    assert names(table(cpu, include=["jso"])) == []
    assert names(table(cpu, exclude=["json", "time"])) == ["mine", "dump"]
    assert names(table(cpu, include=["json", "pickle"], exclude=["json.decoder"])) == ["dump"]


def test_file(cpu, memory, capsys):
    """Without a stream it is stdout as it is at that time."""
    cpu.print_stats(max_rows=1)
    memory.print_top(limit=1)
    out = capsys.readouterr().out
    assert "decode" in out
    assert "#1" in out


WRONG_CPU = [
    ({"max_rows": -1}, ValueError, "max_rows must be 0 or more, or None for all, not -1"),
    ({"max_rows": "all"}, TypeError, "max_rows must be an int or None, not 'all'"),
    ({"sort_by": "time"}, ValueError, "sort_by must be 'name', 'ncall', 'tsub', 'ttot', 'tavg' or"),
    ({"sort_by": 3}, TypeError, "sort_by must be 'name', 'ncall', 'tsub', 'ttot', 'tavg' or None"),
    ({"sort_dir": "down"}, ValueError, "sort_dir must be 'asc', 'desc' or None, not 'down'"),
    ({"columns": [("time", 8)]}, ValueError, r"\(name, ncall, tsub, ttot, tavg\).*'time' is not a"),
    ({"columns": ["name"]}, TypeError, "columns must be pairs of a name"),
    ({"columns": 3}, TypeError, "columns must be pairs of a name"),
    ({"columns": ()}, ValueError, "columns must be pairs of a name"),
    ({"columns": [("name", 0)]}, ValueError, "a width must be 1 or more, not 0"),
    ({"columns": [("name", "wide")]}, TypeError, "'wide' is not a width"),
    ({"per_worker": 1}, TypeError, "per_worker must be True or False, not 1"),
    ({"strip_dirs": "no"}, TypeError, "strip_dirs must be True or False, not 'no'"),
    ({"include": 3}, TypeError, "include must be dotted names of modules, not 3"),
    ({"include": [os]}, TypeError, "include must be dotted names of modules, not .<module"),
    ({"exclude": ["a b"]}, ValueError, "exclude must be dotted names of modules.*'a b' is none"),
    ({"exclude": ["json/decoder.py"]}, ValueError, "exclude must be dotted names of modules"),
    ({"file": "out.txt"}, TypeError, "file must be a text stream or None, not 'out.txt'"),
]
WRONG_MEMORY = [
    ({"group_by": "line"}, ValueError, "group_by must be 'lineno', 'filename' or 'traceback', not"),
    ({"group_by": None}, TypeError, "group_by must be 'lineno', 'filename' or 'traceback', not"),
    ({"limit": -1}, ValueError, "limit must be 0 or more, or None for all, not -1"),
    ({"compare_to": {}}, TypeError, "compare_to must be a MemoryProfile or None, not {}"),
    *((wrong, *rest) for wrong, *rest in WRONG_CPU[11:]),
]


@pytest.mark.parametrize(("wrong", "kind", "text"), WRONG_CPU, ids=str)
def test_wrong_arguments_of_print_stats(cpu, wrong, kind, text):
    """The text names the argument, the value, and the values that there are."""
    with pytest.raises(kind, match=text):
        cpu.print_stats(**{"file": io.StringIO(), **wrong})


@pytest.mark.parametrize(("wrong", "kind", "text"), WRONG_MEMORY, ids=str)
def test_wrong_arguments_of_print_top(memory, wrong, kind, text):
    """Likewise."""
    with pytest.raises(kind, match=text):
        memory.print_top(**{"file": io.StringIO(), **wrong})


def test_stats_are_those_of_pstats(cpu, tmp_path, capsys):
    """``stats`` prints as usual, and ``save`` writes what ``pstats`` reads."""
    cpu.stats.strip_dirs().sort_stats("cumulative").print_stats(1)
    assert "20 function calls" in capsys.readouterr().out.replace("(16 primitive calls) ", "")
    cpu.save(tmp_path / "saved")
    assert pstats.Stats(str(tmp_path / "saved")).stats == cpu.stats.stats
    with pytest.raises(OSError, match="nowhere"):
        cpu.save(tmp_path / "nowhere" / "saved")


def test_merging(cpu, memory):
    """Profiles of one kind are added, worker by worker."""
    cpu.merge(cpu)
    assert cpu.stats.stats[JSON, 10, "decode"][1] == 10
    assert cpu.workers == ("worker 9", "worker 10")
    memory.merge(memory)
    assert memory.statistics()[0].size == 6 << 20
    with pytest.raises(TypeError, match="other must be a CpuProfile"):
        cpu.merge(memory)
    with pytest.raises(TypeError, match="other must be a MemoryProfile"):
        memory.merge(cpu)


def test_statistics(memory):
    """They are those of tracemalloc, by line, by file, or by the traceback of one line."""
    by_line = memory.statistics("lineno")
    assert [(each.size, each.count) for each in by_line] == [
        (3 << 20, 5),
        (2 << 20, 101),
        (2048, 1),
    ]
    assert by_line[0].traceback[0].filename == JSON
    assert by_line[0].traceback[0].lineno == 10
    by_file = memory.statistics("filename")
    assert [(each.size, each.traceback[0].filename) for each in by_file] == [
        ((3 << 20) + 2048, JSON),
        (2 << 20, PICKLE),
    ]
    assert len(memory.statistics("traceback")) == 3
    with pytest.raises(ValueError, match="group_by must be 'lineno', 'filename' or 'traceback'"):
        memory.statistics("size")


def test_print_top(memory):
    """The largest first, with their lines of source, the rest, and the total."""
    lines = table(memory, limit=2)
    assert lines[0] == "#1 decoder.py:10: 3.0 MiB in 5 blocks"
    assert any(line.startswith("#2 pickle.py:20: 2.0 MiB in 101 blocks") for line in lines)
    assert "... and 1 more: 2.0 KiB" in lines
    assert "total: 5.0 MiB" in lines
    assert not any("more" in line for line in table(memory, limit=None))
    assert table(memory, limit=0)[0].startswith("... and 3 more")


def test_print_top_by_file(memory):
    """By file there are no lines."""
    lines = table(memory, group_by="filename")
    assert lines[:2] == [
        "#1 decoder.py: 3.0 MiB in 6 blocks",
        "#2 pickle.py: 2.0 MiB in 101 blocks",
    ]


def test_print_top_compared(memory):
    """The differences to another profile, the largest first; what is gone is shown, too."""
    old = MemoryProfile()
    old.add("worker 10", pack_memory({(JSON, 10): (1 << 20, 2), ("gone.py", 1): (512 << 10, 1)}))
    lines = table(memory, compare_to=old)
    assert lines[0] == "#1 decoder.py:10: 3.0 MiB (+2.0 MiB) in 5 (+3) blocks"
    assert any(line.startswith("#2 pickle.py:20: 2.0 MiB (+2.0 MiB)") for line in lines)
    assert "#3 gone.py:1: 0 B (-512.0 KiB) in 0 (-1) blocks" in lines
    each = table(memory, compare_to=old, per_worker=True)
    assert "#1 decoder.py:10: 3.0 MiB (+2.0 MiB) in 5 (+3) blocks" in each


def test_print_top_per_worker_strip_dirs_include_exclude(memory):
    """As for the processor's profile."""
    lines = table(memory, per_worker=True)
    assert [line for line in lines if line.startswith("worker")] == ["worker 9", "worker 10"]
    assert table(memory, strip_dirs=False)[0].startswith(f"#1 {JSON}:10")
    assert not any("pickle" in line for line in table(memory, include=["json"]))
    assert not any("decoder" in line for line in table(memory, exclude=["json"]))


def test_workers_beyond_some_are_put_together():
    """Memory does not grow with the number of processes."""
    profile = CpuProfile()
    for number in range(1_000):
        profile.add(f"worker {number}", pack_cpu({(JSON, 10, "decode"): (1, 1, 1.0, 1.0, {})}))
    assert len(profile.workers) == 257
    assert "other workers" in profile.workers
    assert profile.stats.stats[JSON, 10, "decode"][1] == 1_000
