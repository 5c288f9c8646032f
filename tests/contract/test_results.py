"""docs/design.rst: any result comes home whole, buffers out of band, and gives its memory back."""

from __future__ import annotations

import array
import collections
import dataclasses
import gc
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildProcessException, Pcall, pcall
from tests.helpers.processes import nameless_files
from tests.helpers.scripts import run_python

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]

MB = 1 << 20
GB = 1 << 30
needs_numpy = pytest.mark.skipif(numpy is None, reason="numpy is not installed")


def available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


needs_memory = pytest.mark.skipif(available_memory() < 8 * GB, reason="needs 8 GB of free memory")


@dataclasses.dataclass
class Point:
    x: float
    y: float
    data: Any = None


Named = collections.namedtuple("Named", "one two")

# Made when they are needed: each fork of other tests would copy the page tables of the large ones.
RESULTS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "an empty tuple": lambda: (),
    "bytes": lambda: bytes(range(256)) * 32 * 1024,
    "bytearray": lambda: bytearray(range(256)) * 1000,
    "str": lambda: "häß\ud800" * MB,
    "int": lambda: 1 << 100_000,
    "dict": lambda: {f"key {number}": [number, str(number)] for number in range(100_000)},
    "many bytes": lambda: [bytes(70_000)] * 100,
    "array": lambda: array.array("d", range(100_000)),
    "set": lambda: set(range(10_000)),
    "object": lambda: Point(1.5, 2.5, bytes(MB)),
    "namedtuple": lambda: Named(1, Point(2, 3)),
    "class": lambda: Point,
    "function": lambda: available_memory,
    "exception": lambda: LookupError("returned, not raised"),
    "at the edge": lambda: b"x" * (64 << 10),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", RESULTS)
def test_it_comes_home_whole(each_system: str, name: str) -> None:
    """What the call returned is what the run returns, beside results of other calls."""
    expected = RESULTS[name]()
    first, result, last = pcall([lambda: 1, lambda: expected, lambda: 2])
    assert (first, last) == (1, 2)
    assert type(result) is type(expected)
    if isinstance(result, Exception):
        assert repr(result) == repr(expected)
    else:
        assert result == expected


@pytest.mark.parametrize("around", [60 << 10, 64 << 10, MB])
def test_sizes_around_the_steps(around: int) -> None:
    """Results of every size near the sizes at which the way of sending changes."""
    sizes = [around + step for step in range(-130, 131, 10)]
    assert [len(value) for value in pcall(bytes, iargs=[(size,) for size in sizes])] == sizes


def test_the_same_object_twice() -> None:
    """References within a result stay references, also in a circle."""

    def circle() -> list[Any]:
        data = bytearray(MB)
        value: list[Any] = [data, data]
        value.append(value)
        return value

    (value,) = pcall(circle)
    assert value[0] is value[1]
    assert value[2] is value


@needs_numpy
def test_arrays_are_writable(each_system: str) -> None:
    """A numpy array that a call made is as writable and as aligned as one made here."""
    arrays = pcall(lambda n: numpy.arange(n * 100_000), n=(1, 2))
    for n, found in zip((1, 2), arrays, strict=True):
        assert found.tolist() == list(range(n * 100_000))
        assert found.flags.writeable
        assert found.flags.aligned
        found += 1
        assert (found[0], found[-1]) == (1, n * 100_000)


@needs_numpy
@pytest.mark.parametrize("kind", ["nested", "small", "empty", "fortran", "strided", "records"])
def test_kinds_of_arrays(kind: str) -> None:
    """Arrays of any layout, size and nesting come home equal."""
    big = numpy.arange(60_000.0).reshape(300, 200)
    value = {
        "nested": {"deep": [Point(1, 2, big), (big, [big * 2])]},
        "small": [numpy.arange(3), numpy.float64(3.5)],
        "empty": numpy.empty((0, 5)),
        "fortran": numpy.asfortranarray(big),
        "strided": big[::3, ::-2],
        "records": numpy.zeros(5000, dtype=[("name", "U10"), ("value", "f8")]),
    }[kind]
    (found,) = pcall(lambda: value)
    if kind == "nested":
        point, (same, (twice,)) = found["deep"]
        assert point.data is same
        assert (same == big).all()
        assert (twice == big * 2).all()
    elif kind == "small":
        assert (found[0].tolist(), found[1]) == ([0, 1, 2], 3.5)
    else:
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert (found == value).all()
        assert found.flags.f_contiguous == value.flags.f_contiguous


@pytest.mark.needs("transport")
@needs_numpy
@pytest.mark.needs("processes")
def test_memory_is_given_back_with_the_views(each_system: str) -> None:
    """What is mapped for a result is unmapped when the last view of it goes."""
    before = nameless_files()
    (arrays,) = pcall(lambda: [numpy.ones(4 * MB), numpy.ones(MB)])
    part = arrays[0][5:10]
    assert nameless_files() > before
    del arrays
    assert part.sum() == 5
    del part
    assert nameless_files() == before


@pytest.mark.needs("isolation")
@needs_numpy
def test_a_later_child_does_not_write_through(each_system: str) -> None:
    """A child inherits a copy of an earlier result: what it writes stays its own."""
    (mine,) = pcall(lambda: numpy.zeros(MB))

    def overwrite(value: float) -> float:
        mine[:] = value
        return float(mine.sum())

    assert pcall(overwrite, value=(1, 2)) == (MB, 2 * MB)
    assert mine.sum() == 0
    mine[0] = 5
    assert pcall(lambda: mine[0]) == (5,)


@pytest.mark.engines(why="a script makes the run")
@needs_numpy
def test_more_arrays_than_descriptors() -> None:
    """A result that is kept holds no descriptor: there may be more of them than those."""
    script = """
        import resource, numpy
        from pcall import pcall
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        arrays = pcall(numpy.full, cargs=(20_000,), iargs=[(n,) for n in range(200)])
        print(all((array == n).all() for n, array in enumerate(arrays)), len(arrays))
    """
    assert run_python("-c", textwrap.dedent(script)).stdout == "True 200\n"


def test_a_large_error_gives_its_memory_back() -> None:
    """What was needed to bring an exception home is not held by the exception."""

    def fail() -> None:
        raise LookupError(bytes(3 * MB))

    gc.disable()
    try:
        before = nameless_files()
        with pytest.raises(ChildProcessException) as info:
            pcall(fail)
        cause = info.value.__cause__
        assert nameless_files() == before
        assert cause is not None
        assert cause.args == (bytes(3 * MB),)
    finally:
        gc.enable()


@pytest.mark.needs("a fresh child", "processes")
def test_a_dropped_result_is_not_held_by_other_children(each_system: str) -> None:
    """The memory of a result is given back when it is dropped, though other children run on."""
    # Started first, and while the other run is in flight: one knows its file, one may not.
    sleepers = [Pcall(time.sleep, cargs=(60,)) for _ in range(2)]
    large = Pcall(lambda: time.sleep(0.5) or bytes(50 * MB))
    try:
        sleepers[0].start()
        large.start()
        sleepers[1].start()
        large.join()
        assert large.results is not None
        assert len(large.results[0]) == 50 * MB
        del large
        gc.collect()
        for sleeper in sleepers:
            assert nameless_files(sleeper.pids[0] or 0) < 50 * MB
        assert nameless_files() < 50 * MB
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.join()


def test_300_megabytes() -> None:
    """A result of 300 MB comes home whole, beside a small one."""
    large, small = pcall([lambda: b"xyz" * 100 * MB, lambda: 1])
    assert small == 1
    assert large == b"xyz" * 100 * MB


@pytest.mark.needs("transport")
@pytest.mark.slow
@needs_memory
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", ["bytes", pytest.param("array", marks=needs_numpy)])
def test_more_than_2_gigabytes(kind: str) -> None:
    """No single system call moves so much: the result comes home whole for all that."""
    size = 2 * GB + 4097

    def make() -> Any:
        value = bytearray(size) if kind == "bytes" else numpy.zeros(size, "u1")
        value[0], value[2 * GB - 1], value[2 * GB], value[-1] = 1, 2, 3, 4
        return value

    (value,) = pcall(make)
    assert len(value) == size
    assert (value[0], value[2 * GB - 1], value[2 * GB], value[-1]) == (1, 2, 3, 4)
    assert value[1] == value[2 * GB + 1] == value[-2] == 0


def test_polling_with_large_results_ends(each_system: str) -> None:
    """Polling ``livings`` ends even when each call returns 100 MB: no child waits for a reader."""
    run = Pcall(lambda n: bytes([n]) * 100 * MB, n=(1, 2, 3))
    run.start()
    end = time.monotonic() + 60
    while run.livings:
        time.sleep(0.01)
        assert time.monotonic() < end
    run.join()
    assert [(len(value), value[0], value[-1]) for value in run.results or ()] == [
        (100 * MB, n, n) for n in (1, 2, 3)
    ]
