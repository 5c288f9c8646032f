"""Rows of profiles: made, scaled, merged, packed, and told apart from our own."""

from __future__ import annotations

import cProfile
import os
import pstats

import pytest

from pcall._profiles.cpu_rows import OWN_FOLDER, as_rows, merge_rows, without_own
from pcall._profiles.module_filter import ModuleFilter, modules_of
from pcall._profiles.packing import pack_cpu, pack_memory, unpack_cpu, unpack_memory
from pcall._profiles.processor_time import in_processor_time
from pcall._profiles.profile_file import ProfileReader, ProfileWriter
from pcall._profiles.unfinished import Unfinished

MAIN, WORK, SLEEP = (
    ("a.py", 1, "main"),
    ("a.py", 5, "work"),
    ("~", 0, "<built-in method time.sleep>"),
)
OURS, TARGET = (f"{OWN_FOLDER}x.py", 3, "start"), (f"{OWN_FOLDER}y.py", 4, "_make")


def recursive(n):
    return n and recursive(n - 1)


def profiled():
    profile = cProfile.Profile()
    profile.runcall(lambda: (recursive(3), sorted([3, 1], key=lambda x: -x)))
    return profile


def test_rows_are_those_of_pstats():
    """The numbers, with those of callers, are what ``pstats`` has."""
    profile = profiled()
    rows = as_rows(profile.getstats())
    profile.create_stats()
    expected = profile.stats
    assert {f: row for f, row in rows.items() if f[2] != "<lambda>"} == {
        f: row for f, row in expected.items() if f[2] != "<lambda>"
    }


def test_two_functions_of_one_name_on_one_line_are_one_row():
    """Both lambdas of one line are counted, where ``pstats`` shows one of them."""
    profile = cProfile.Profile()
    profile.runcall(lambda: [(lambda: 1)(), (lambda: 2)()])
    (row,) = [row for f, row in as_rows(profile.getstats()).items() if f[2] == "<lambda>"]
    assert row[1] == 3


def test_merging_is_that_of_pstats():
    """Merged rows are what ``pstats.Stats.add`` makes."""
    first, second = profiled(), profiled()
    total = as_rows(first.getstats())
    merge_rows(total, as_rows(second.getstats()))
    stats = pstats.Stats(first).add(second).stats
    name = ("recursive",)
    (mine,) = [row for f, row in total.items() if f[2] in name]
    (theirs,) = [row for f, row in stats.items() if f[2] in name]
    assert mine[:2] == theirs[:2]
    assert mine[2:4] == pytest.approx(theirs[2:4])


def test_packed_rows_come_back():
    """What is packed is what is unpacked, and it is small."""
    rows = as_rows(profiled().getstats())
    assert unpack_cpu(pack_cpu(rows)) == rows
    memory = {("a.py", 3): (100, 2), ("b.py", 1): (-5, -1)}
    assert unpack_memory(pack_memory(memory)) == memory
    assert len(pack_cpu(rows)) < 1000


def test_seconds_become_processor_time():
    """A function that stood still half of the time is scaled; its calls are not."""
    rows = {MAIN: (1, 1, 1.0, 4.0, {}), WORK: (2, 2, 3.0, 3.0, {MAIN: (2, 2, 3.0, 3.0)})}
    scaled = in_processor_time(rows, 2.0)
    assert scaled[MAIN][:4] == (1, 1, 0.5, 2.0)
    assert scaled[WORK] == (2, 2, 1.5, 1.5, {MAIN: (2, 2, 1.5, 1.5)})


def test_waiting_is_no_processor_time():
    """The time in functions that wait is taken off them, and off those that call them."""
    rows = {
        MAIN: (1, 1, 1.0, 6.0, {}),
        WORK: (1, 1, 2.0, 5.0, {MAIN: (1, 1, 2.0, 5.0)}),
        SLEEP: (1, 1, 3.0, 3.0, {WORK: (1, 1, 3.0, 3.0)}),
    }
    scaled = in_processor_time(rows, 3.0)
    assert [scaled[f][2] for f in (MAIN, WORK, SLEEP)] == pytest.approx([1.0, 2.0, 0.0])
    assert [scaled[f][3] for f in (MAIN, WORK, SLEEP)] == pytest.approx([3.0, 2.0, 0.0])
    assert scaled[WORK][4][MAIN][3] == pytest.approx(2.0)


def test_what_waiting_functions_used_is_theirs():
    """Processor time that is left over for functions that may wait is given to them."""
    rows = {MAIN: (1, 1, 1.0, 3.0, {}), SLEEP: (1, 1, 2.0, 2.0, {MAIN: (1, 1, 2.0, 2.0)})}
    scaled = in_processor_time(rows, 1.5)
    assert scaled[MAIN][2:4] == pytest.approx((1.0, 1.5))
    assert scaled[SLEEP][2] == pytest.approx(0.5)


def test_functions_that_call_each_other_are_scaled():
    """A circle of calls with a wait in it comes to an end, with no time below zero."""
    rows = {
        MAIN: (1, 2, 1.0, 4.0, {WORK: (1, 1, 0.5, 2.0)}),
        WORK: (1, 2, 1.0, 3.5, {MAIN: (2, 2, 1.0, 3.5)}),
        SLEEP: (1, 1, 2.0, 2.0, {WORK: (1, 1, 2.0, 2.0)}),
    }
    scaled = in_processor_time(rows, 2.0)
    assert sum(row[2] for row in scaled.values()) == pytest.approx(2.0)
    assert all(0 <= row[3] <= rows[f][3] for f, row in scaled.items())


def test_our_own_functions_are_left_out():
    """Their rows are gone, and the calls that they make of functions in C are taken off."""
    rows = {
        OURS: (1, 1, 1.0, 2.0, {MAIN: (1, 1, 1.0, 2.0)}),
        TARGET: (1, 1, 1.0, 2.0, {}),
        MAIN: (1, 1, 1.0, 2.0, {TARGET: (1, 1, 1.0, 2.0)}),
        SLEEP: (3, 3, 3.0, 3.0, {OURS: (2, 2, 2.0, 2.0), MAIN: (1, 1, 1.0, 1.0)}),
        ("~", 0, "len"): (1, 1, 1.0, 1.0, {OURS: (1, 1, 1.0, 1.0)}),
        ("~", 0, "sum"): (1, 1, 1.0, 1.0, {TARGET: (1, 1, 1.0, 1.0)}),
    }
    kept = without_own(rows)
    assert kept == {
        MAIN: (1, 1, 1.0, 2.0, {}),
        SLEEP: (1, 1, 1.0, 1.0, {MAIN: (1, 1, 1.0, 1.0)}),
        ("~", 0, "sum"): (1, 1, 1.0, 1.0, {}),  # a function in C may be a target
    }


def test_a_module_of_that_prefix_is_not_ours():
    """A package beside ours whose name begins like ours is the user's."""
    file = f"{OWN_FOLDER.rstrip(os.sep)}_tools/x.py"
    assert without_own({(file, 1, "f"): (1, 1, 1.0, 1.0, {})})


class Frame:
    def __init__(self, name, line):
        self.f_code = type(
            "Code", (), {"co_filename": "a.py", "co_firstlineno": line, "co_name": name}
        )


def test_functions_that_have_not_returned_get_the_rest_of_the_time():
    """From snapshot to snapshot the seconds go to the innermost function."""
    main, work = Frame("main", 1), Frame("work", 5)
    unfinished = Unfinished(10.0)
    rows = unfinished.rows({}, [main, work], 11.0)
    assert rows[WORK] == (1, 1, 1.0, 1.0, {MAIN: (1, 1, 1.0, 1.0)})
    assert rows[MAIN] == (1, 1, 0.0, 1.0, {})
    rows = unfinished.rows({}, [main, work], 13.0)
    assert rows[WORK][:4] == (1, 1, 3.0, 3.0)
    # work has returned since, and main goes on.
    finished = {WORK: (1, 1, 3.5, 3.5, {})}
    rows = unfinished.rows(finished, [main], 14.0)
    assert rows[MAIN] == (1, 1, 0.5, 4.0, {})


def test_a_function_that_calls_itself_is_counted_once_in_total():
    """Of a recursion that has not ended, the outermost call has the total."""
    frames = [Frame("main", 1), Frame("main", 1), Frame("main", 1)]
    rows = Unfinished(0.0).rows({}, frames, 2.0)
    assert rows[MAIN][:4] == (1, 3, 2.0, 2.0)


@pytest.fixture
def files(tmp_path):
    """A writer and a reader of one file, and the descriptor."""
    fd = os.open(tmp_path / "profiles", os.O_RDWR | os.O_CREAT)
    yield ProfileWriter(fd), ProfileReader(fd, lambda *_: None), fd
    os.close(fd)


def test_profiles_are_read_call_by_call(files):
    """Each call's is there once; another's is not taken for it."""
    writer, reader, _ = files
    writer.write(4, 1, b"four", final=True)
    writer.write(5, 1, b"five", final=True)
    assert reader.take(5) is None
    assert [reader.take(4), reader.take(5), reader.take(6)] == [b"four", b"five", None]


def test_the_last_snapshot_is_taken_if_there_is_no_end(files):
    """Snapshots are read where the final profile is missing, and replaced by it where not."""
    writer, reader, _ = files
    writer.write(0, 1, b"zero", final=True)
    for number in range(5):
        writer.write(1, 1, b"%d" % number * 100_000, final=False)
    assert reader.take(0) == b"zero"
    assert reader.take(1) == b"4" * 100_000
    writer.write(1, 1, b"end", final=True)
    writer.write(2, 1, b"next", final=True)
    assert [reader.take(1), reader.take(2)] == [b"end", b"next"]


def test_snapshots_do_not_pile_up(files):
    """A call that takes hours keeps a bounded file."""
    writer, reader, fd = files
    for number in range(500):
        writer.write(1, 1, b"%d" % (number % 10) * 10_000, final=False)
    assert os.fstat(fd).st_size < 500_000
    assert reader.take(1) == b"9" * 10_000


@pytest.mark.parametrize("cut", [1, 10, 25, 30])
def test_a_profile_that_was_cut_short_is_none(files, cut):
    """What a death left half written is not read, but what stands before it is."""
    writer, reader, fd = files
    writer.write(1, 1, b"first", final=False)
    size = os.fstat(fd).st_size
    writer.write(1, 1, b"second", final=False)
    os.ftruncate(fd, size + cut)
    assert reader.take(1) == b"first"


def test_another_file_by_its_number_is_left_alone(files, tmp_path):
    """A target may have closed all files, and opened one of its own since."""
    writer, _, fd = files
    other = os.open(tmp_path / "users", os.O_RDWR | os.O_CREAT)
    os.dup2(other, fd)
    os.close(other)
    with pytest.raises(OSError, match="the file for profiles was closed"):
        writer.write(1, 1, b"first", final=True)
    assert (tmp_path / "users").read_bytes() == b""


def test_the_memory_of_what_was_read_is_given_back(tmp_path):
    """The file is freed behind the reader, many calls at a time."""
    freed = []
    fd = os.open(tmp_path / "profiles", os.O_RDWR | os.O_CREAT)
    writer, reader = ProfileWriter(fd), ProfileReader(fd, lambda _, *part: freed.append(part))
    for index in range(40):
        writer.write(index, 1, b"x" * 10_000, final=True)
        assert reader.take(index) == b"x" * 10_000
    os.close(fd)
    assert 2 <= len(freed) < 10
    assert sum(length for _, length in freed) >= 300_000


@pytest.mark.parametrize(
    ("file", "function", "names"),
    [
        (os.__file__, "walk", ("os",)),
        (pstats.__file__, "f", ("pstats",)),
        (os.path.join(os.path.dirname(os.__file__), "json", "__init__.py"), "f", ("json",)),
        (os.path.join(os.path.dirname(os.__file__), "json", "decoder.py"), "f", ("json.decoder",)),
        ("~", "<built-in method time.sleep>", ("time",)),
        ("~", "<built-in method builtins.len>", ("builtins",)),
        ("~", "<method 'append' of 'list' objects>", ("builtins",)),
        ("~", "<method 'run' of '_contextvars.Context' objects>", ("_contextvars",)),
        ("<frozen importlib._bootstrap>", "f", ("importlib._bootstrap",)),
    ],
)
def test_the_modules_of_functions(file, function, names):
    """Files and functions in C are found by the dotted name of their module."""
    assert modules_of(file, function) == names


def test_a_package_that_only_a_child_could_import(tmp_path):
    """A package outside of the path is found by its ``__init__.py``."""
    (tmp_path / "tools" / "deep").mkdir(parents=True)
    for folder in ("tools", "tools/deep"):
        (tmp_path / folder / "__init__.py").touch()
    names = modules_of(str(tmp_path / "tools" / "deep" / "one.py"))
    assert names == ("tools.deep.one",)
    chosen = ModuleFilter(["tools"], ["tools.deep"])
    assert not chosen.shows(str(tmp_path / "tools" / "deep" / "one.py"))
    assert chosen.shows(str(tmp_path / "tools" / "two.py"))
    assert not chosen.shows(os.__file__)
