"""docs/design.rst: a large result is in memory once in the child and once in the parent."""

from __future__ import annotations

import gc
import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pcall import pcall
from tests.helpers.processes import nameless_files
from tests.helpers.scripts import run_case, system_name

MB = 1 << 20
SIZE = 64 * MB


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


def memory(kind: str, folder: Path) -> tuple[float, float]:
    """Return by how many times its size a value makes the child grow, and its parent."""
    # In a process of its own: what this one has freed it takes again, and nothing is seen of that.
    ran = run_case("large_results.py", "measure", kind, SIZE, system=system_name(), folder=folder)
    child, parent = json.loads(ran.stdout)
    return child / SIZE, parent / SIZE


ARRAYS = [
    pytest.param("array", marks=needs("numpy")),
    pytest.param("frame", marks=needs("pandas")),
    pytest.param("nested", marks=needs("numpy")),
]


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_not_copied(kind: str, tmp_path: Path) -> None:
    """Neither sending arrays nor reading all of them makes a copy: the child's is in the file."""
    child, parent = memory(kind, tmp_path)
    assert 0.9 < child < 1.5
    assert parent < 0.3


@pytest.mark.parametrize("kind", ["bytes", "bytearray"])
def test_bytes_are_copied_once(kind: str, tmp_path: Path) -> None:
    """Bytes have to lie where Python puts them: the parent has one copy, and keeps no file."""
    child, parent = memory(kind, tmp_path)
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


@needs("numpy")
def test_what_a_signal_handler_raises_while_a_result_is_freed_is_not_lost(monkeypatch) -> None:
    """No Python function is called where a large result goes: its exception would be lost."""

    class Broken(Exception):
        pass

    def handler(number: int, frame: Any) -> None:
        raise Broken

    def interrupt(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and Path(frame.f_code.co_filename).name == "weakref.py":
            signal.raise_signal(signal.SIGUSR1)

    lost: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: lost.append(repr(found.exc_value)))
    results = pcall(array, x=(1, 2))
    assert nameless_files() > SIZE
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        sys.setprofile(interrupt)
        del results
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, before)
    assert not lost
    assert nameless_files() == 0


def array(x: int) -> Any:
    import numpy

    return numpy.full(SIZE // 8, x, dtype=float)
