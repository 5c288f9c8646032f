"""docs/errors.rst: a result that can't be sent fails its call, and the error names its type."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pcall import ChildDied, ChildProcessException, Pcall, ResultError

pytestmark = pytest.mark.needs("isolation", "transport")

MB = 1 << 20
Tolerant = Pcall.options(max_errors=None)


def failed(target: Any, *args: Any) -> Any:
    """The error of a call whose result can't be sent, beside one whose result can."""
    run = Tolerant([target, int], iargs=[args, (7,)])
    with pytest.raises(ChildProcessException) as info, run:
        pass
    assert info.value.outcomes[1].value == 7
    return info.value.__cause__


def limited(size: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return b"x" * 8 * MB


def test_larger_than_a_file_may_be() -> None:
    """A write that fails is that call's error, and names the value's type."""
    error = failed(limited, MB)
    assert type(error) is ResultError
    assert isinstance(error.__cause__, OSError)
    assert "of type bytes" in str(error)
    assert "File too large" in str(error)


def test_killed_for_its_size() -> None:
    """A child that the kernel kills for the size of its answer has died without one."""

    def too_large() -> bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return limited(MB)

    assert str(failed(too_large)) == "killed by SIGXFSZ before returning"


def test_nothing_can_be_written() -> None:
    """A child that can't even answer with its error is not dropped in silence."""
    error = failed(limited, 0)
    assert type(error) is ChildDied
    assert error.exitcode not in (0, None)


def test_a_buffer_that_has_gone(tmp_path: Path) -> None:
    """A buffer whose memory can't be read while it is written is that call's error."""
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "data"
    path.write_bytes(bytes(MB))

    def truncated() -> Any:
        data = numpy.memmap(path, dtype="u1", mode="r+").view(numpy.ndarray)
        os.truncate(path, 0)
        return data

    error = failed(truncated)
    assert type(error) is ResultError
    assert isinstance(error.__cause__, OSError)
    assert "of type numpy.ndarray" in str(error)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: lambda: 1, "function"),
        (lambda: (number for number in ()), "generator"),
        (lambda: threading.Lock(), "_thread.lock"),
        (lambda: {"deep": [sys]}, "dict"),
        (lambda: type("Local", (), {})(), "Local"),
    ],
)
def test_it_can_not_be_pickled(make: Any, name: str) -> None:
    """An error while pickling the result is that call's error and names the value's type."""
    error = failed(make)
    assert type(error) is ResultError
    assert f"of type {name}" in str(error) or f"{name}," in str(error)
    assert error.__cause__ is not None


def test_it_is_nested_too_deeply() -> None:
    """Pickle's own RecursionError is that call's error."""

    def deep() -> list[Any]:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    error = failed(deep)
    assert type(error) is ResultError
    assert type(error.__cause__) is RecursionError
