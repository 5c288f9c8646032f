"""What every test is held against: nothing is left behind, and no test takes for ever."""

from __future__ import annotations

import ctypes
import gc
import glob
import os
import tempfile
import threading
import time
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from pcall._os.capacity import resident_memory
from pcall._os.current import use_system
from pcall._os.portable import PortableSystem

# A busy machine may be late with any example.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--portable",
        action="store_true",
        help="run on the ways that work on any POSIX, in place of Linux's own, "
        "what does not run on both anyway",
    )


_MUCH = 16 << 20
_before = 0
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_FORK_MOST = {"test_scale.py", "test_reuse_faults.py", "test_nesting.py", "test_inheritance.py"}
# These make no call in this process: they are pure, or scripts that have Linux's own ways.
_NEED_NO_SYSTEM = {
    "test_building.py",
    "test_documents.py",
    "test_error_display.py",
    "test_examples.py",
    "test_graph_scheduling.py",
    "test_layers.py",
    "test_notebook.py",
    "test_pyats.py",
    "test_retry.py",
    "test_scheduler.py",
    "test_scheduler_property.py",
    "test_state.py",
    "test_tasklog.py",
    "test_terminal.py",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what forks most first; with --portable, leave out what it makes no difference to."""
    # A fork takes the longer the larger this process is, and other tests let it grow.
    items.sort(key=lambda item: item.path.name not in _FORK_MOST)
    if config.getoption("--portable"):
        chosen, left = [], []
        for item in items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            same = item.path.name in _NEED_NO_SYSTEM or {"system", "each_system"} & {*parameters}
            (left if same else chosen).append(item)
        config.hook.pytest_deselected(items=left)
        items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Forget what a good test printed and logged: some log megabytes, and all would be kept."""
    report = yield
    if report.passed:
        report.sections.clear()
        if report.when == "teardown":
            item._report_sections.clear()
    return report


@pytest.fixture(autouse=True)
def small_process() -> None:
    """Give back what tests have freed: each fork of those to come would copy its page tables.

    The C library keeps what it may need again, and then a test that looks at what memory is
    in use sees nothing of what it uses.
    """
    global _before
    if _malloc_trim is not None and resident_memory() - _before > _MUCH:
        gc.collect()
        _malloc_trim(0)
        _before = resident_memory()


@pytest.fixture(autouse=True)
def chosen_system(request: pytest.FixtureRequest) -> Iterator[None]:
    """Use the portable system where that was asked for."""
    use_system(PortableSystem() if request.config.getoption("--portable") else None)
    yield
    use_system(None)


@pytest.fixture(params=["linux", "portable"])
def each_system(request: pytest.FixtureRequest, chosen_system: None) -> str:
    """Run the test once on Linux's means and once on the portable ones."""
    if request.param == "portable":
        use_system(PortableSystem())
    return str(request.param)


def _children() -> set[int]:
    found = set()
    for path in glob.glob("/proc/self/task/*/children"):
        try:
            with open(path) as file:
                found.update(int(pid) for pid in file.read().split())
        except OSError:
            pass  # the thread has ended
    return found


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one that listed the folder
    return found


def _files() -> set[str]:
    return set(glob.glob(os.path.join(tempfile.gettempdir(), "pcall-*")))


@pytest.fixture(autouse=True)
def nothing_left_behind(chosen_system: None) -> Iterator[None]:
    """Fail a test that leaves a child, a descriptor, a thread or a file."""
    before = _children(), _descriptors(), set(threading.enumerate()), _files()
    yield

    def left() -> dict[str, object]:
        return {
            "children": _children() - before[0],
            "descriptors": {k: v for k, v in _descriptors().items() if k not in before[1]},
            "threads": set(threading.enumerate()) - before[2],
            "files": _files() - before[3],
        }

    end = time.monotonic() + 2
    while any(left().values()) and time.monotonic() < end:
        time.sleep(0.01)  # a thread that a test has joined may take a moment to unregister
    assert not any(left().values()), f"left behind: {left()}"
