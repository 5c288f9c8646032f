"""The frames of a traceback as values, and frames made from them: the carets stand as they did."""

from __future__ import annotations

import gc
import linecache
import pickle
import sys
import traceback
import weakref
from types import CodeType, TracebackType
from typing import Any

import pytest

from pcall._wire.traceback_codec import dump_traceback, load_traceback

SOURCES = {
    "the left of two": "table['a']['b'] + table['c']",
    "a call among others": "first(1), second(first(2) / 0), first(3)",
    "behind wide characters": "'ääää€€€', '字字', (first(1) + nothing.here)",
    "far to the right": f"x = {' ' * 2000}({'1 + ' * 500}first(1).real.none)",
    "over several lines": "first(\n    1,\n).real.nowhere(\n    second(3),\n)",
    "many lines": "first(1\n" + "\n" * 300 + ").nowhere",
    "far down": "\n" * 100_000 + "table['c']['d'].e",
    "a whole line": "raise ValueError('the whole of it')",
    "a long loop": "\n".join(f"first({n})" for n in range(500)) + "\nfirst(1).x + first(2)",
}
NAMES = {"first": lambda value: value, "second": lambda value: value.none, "table": {"a": {}}}


def failing(source: str, name: str) -> BaseException:
    """The exception that this source raises."""
    filename = f"<{name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    code = compile(source, filename, "exec")
    try:
        exec(code, {**NAMES, "__name__": "named"})
    except Exception as error:
        return error
    raise AssertionError("it does not fail")


def again(tb: TracebackType | None) -> Any:
    return load_traceback(pickle.loads(pickle.dumps(dump_traceback(tb))))


def positions(tb: Any) -> list[Any]:
    found = []
    while tb is not None:
        code: CodeType = tb.tb_frame.f_code
        found.append((tb.tb_lineno, list(code.co_positions())[tb.tb_lasti // 2]))
        tb = tb.tb_next
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_positions_and_text_are_those_of_the_original(name: str) -> None:
    """Lines, columns and carets are the same, also when the copy travels once more."""
    tb = failing(SOURCES[name], name).__traceback__
    assert tb is not None
    copy = again(tb)
    assert positions(copy) == positions(tb)
    assert traceback.format_tb(copy) == traceback.format_tb(tb)
    assert traceback.format_tb(again(copy)) == traceback.format_tb(tb)


def test_the_frames_are_real() -> None:
    """They have the file, the function and the names of the module."""
    last = again(failing(SOURCES["the left of two"], "real").__traceback__)
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_code.co_filename == "<real>"
    assert last.tb_frame.f_code.co_name == "<module>"
    assert last.tb_frame.f_globals["__name__"] == "named"
    assert last.tb_frame.f_lineno == 1


def test_frames_that_pytest_hides_stay_hidden() -> None:
    """Those that are marked by a local or a global name; a condition does not travel."""

    def hidden() -> None:
        __tracebackhide__ = True
        conditional()

    def conditional() -> None:
        __tracebackhide__ = bool
        raise LookupError

    try:
        hidden()
    except LookupError as error:
        tb = again(error.__traceback__)
    found = {}
    while tb is not None:
        found[tb.tb_frame.f_code.co_name] = tb.tb_frame.f_globals.get("__tracebackhide__")
        tb = tb.tb_next
    here = "test_frames_that_pytest_hides_stay_hidden"
    assert found == {here: None, "hidden": True, "conditional": None}


def test_a_position_that_is_not_known_shows_no_carets() -> None:
    """As with ``-X no_debug_ranges``."""
    error = failing("table['a']['b'] + table['c']", "bare")
    tb = error.__traceback__
    assert tb is not None
    assert tb.tb_next is not None
    frames = dump_traceback(tb.tb_next)
    filename, function, line, _, names = frames[-1]
    made: Any = load_traceback([(filename, function, line, (line, line, None, None), names)])
    (text,) = traceback.format_tb(made)
    assert "table['a']['b'] + table['c']" in text
    assert "^" not in text


def test_a_line_that_was_chosen_is_kept() -> None:
    """Template engines make tracebacks with lines of the template."""
    tb = failing("table['a']['b']", "chosen").__traceback__
    assert tb is not None
    assert tb.tb_next is not None
    chosen = TracebackType(None, tb.tb_next.tb_frame, tb.tb_next.tb_lasti, 77)
    assert again(chosen).tb_lineno == 77
    without = TracebackType(None, tb.tb_next.tb_frame, -1, 78)
    assert traceback.format_tb(again(without)) == traceback.format_tb(without)


def test_a_deep_traceback_makes_no_cycle() -> None:
    """A thousand frames; what the caller's frame holds is not kept, and nothing is for gc."""

    class Held:
        pass

    def deep(depth: int) -> int:
        return deep(depth - 1) if depth else 1 // 0

    def read() -> tuple[Any, weakref.ref[Held]]:
        held = Held()
        try:
            deep(min(900, sys.getrecursionlimit() - 100 - len(traceback.extract_stack())))
        except ZeroDivisionError as error:
            frames = dump_traceback(error.__traceback__)
        return load_traceback(frames), weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        tb, held = read()
        assert held() is None
        del tb
        assert gc.collect() == 0
    finally:
        gc.enable()
