"""docs/design.rst: a large result is in memory once in the child and once in the parent."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from pcall import pcall
from tests.helpers.processes import nameless_files

MB = 1 << 20
SIZE = 64 * MB


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


# How a value of so many bytes is made, and an array in it. The frame holds the array as it is.
ARRAY = pytest.param("numpy.ones(size // 8)", "value", id="array", marks=needs("numpy"))
FRAME = pytest.param(
    "pandas.DataFrame(numpy.ones((8, size // 64)).T, copy=False)",
    "value[3]",
    id="frame",
    marks=needs("pandas"),
)
NESTED = pytest.param(
    "{'one': [numpy.ones(size // 16)], 'two': (numpy.ones(size // 16), 'little')}",
    "value['one'][0]",
    id="nested",
    marks=needs("numpy"),
)
BYTES = pytest.param("b'x' * size", "value", id="bytes")
BYTEARRAY = pytest.param("bytearray(b'x') * size", "value", id="bytearray")

# In a process of its own: what this one has freed it takes again, and nothing is seen of that.
SCRIPT = """
import gc, json, re
try:
    import numpy
    import pandas
except ImportError:
    pass  # whoever needs it is skipped
from pcall import Pcall

def own():
    "Bytes that this process alone has: what is mapped from a file is not counted."
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1]) << 10

def measure(size):
    before = own()
    run = Pcall(lambda: MAKE)
    run.start()
    run.join()
    (value,), (outcome,) = run.results, run.outcomes
    sum(PART[::512])
    gc.collect()
    return outcome.rss_growth, own() - before

measure(100_000)  # imports, caches
print(json.dumps(measure(SIZE)))
"""


def memory(make: str, part: str) -> tuple[float, float]:
    """By how many times its size a value makes the child grow, and the parent that has read it."""
    script = textwrap.dedent(SCRIPT).replace("MAKE", make).replace("PART", part)
    ran = subprocess.run(
        [sys.executable, "-c", script.replace("SIZE", str(SIZE))],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    child, parent = json.loads(ran.stdout)
    return child / SIZE, parent / SIZE


@pytest.mark.parametrize(("make", "part"), [ARRAY, FRAME, NESTED])
def test_arrays_are_not_copied(make: str, part: str) -> None:
    """Neither sending arrays nor reading all of them makes a copy: the child's is in the file."""
    child, parent = memory(make, part)
    assert 0.9 < child < 1.5
    assert parent < 0.3


@pytest.mark.parametrize(("make", "part"), [BYTES, BYTEARRAY])
def test_bytes_are_copied_once(make: str, part: str) -> None:
    """Bytes have to lie where Python puts them: the parent has one copy, and keeps no file."""
    child, parent = memory(make, part)
    assert 0.9 < child < 1.5
    assert 0.9 < parent < 1.3


@needs("pandas")
@pytest.mark.parametrize("kind", ["numbers", "mixed", "series", "index", "nested"])
def test_kinds_of_frames(each_system: str, kind: str) -> None:
    """What pandas has comes home equal, wherever it is in the result."""
    import numpy
    import pandas

    count = 20_000
    mixed = pandas.DataFrame(
        {
            "number": numpy.arange(count),
            "part": numpy.linspace(0, 1, count),
            "word": [f"word {number % 7}" for number in range(count)],
            "day": pandas.date_range("2020-01-01", periods=count, freq="min"),
            "kind": pandas.Categorical(["a", "b"] * (count // 2)),
        }
    )
    made: dict[str, Any] = {
        "numbers": pandas.DataFrame(numpy.ones((count, 5)), columns=list("abcde")),
        "mixed": mixed,
        "series": mixed["day"],
        "index": mixed.set_index(["word", "number"]),
        "nested": {"frames": [mixed, (mixed["part"], numpy.ones(count))]},
    }
    (found,) = pcall(lambda: made[kind])
    if kind == "series":
        pandas.testing.assert_series_equal(found, made[kind])
    elif kind == "nested":
        frame, (series, array) = found["frames"]
        pandas.testing.assert_frame_equal(frame, mixed)
        pandas.testing.assert_series_equal(series, mixed["part"])
        assert array.sum() == count
    else:
        pandas.testing.assert_frame_equal(found, made[kind])


@needs("pandas")
def test_frames_are_writable(each_system: str) -> None:
    """A frame that a call made is changed in place like one made here."""
    import numpy
    import pandas

    (frame,) = pcall(lambda: pandas.DataFrame({"a": numpy.zeros(MB), "b": numpy.ones(MB)}))
    frame.loc[5, "a"] = 3.5
    frame["b"] *= 2
    frame["c"] = frame["a"] + frame["b"]
    assert (frame["a"].sum(), frame["b"].sum(), frame["c"].sum()) == (3.5, 2 * MB, 2 * MB + 3.5)


@needs("pandas")
def test_a_frame_gives_its_memory_back(each_system: str) -> None:
    """What is mapped for a frame is unmapped when the last that has a part of it goes."""
    import numpy
    import pandas

    before = nameless_files()
    (frame,) = pcall(lambda: pandas.DataFrame({"a": numpy.ones(4 * MB), "b": numpy.zeros(4 * MB)}))
    assert nameless_files() > before
    part = frame["a"].iloc[10:20]
    del frame
    gc.collect()
    assert part.sum() == 10
    assert nameless_files() > before
    del part
    gc.collect()
    assert nameless_files() == before
