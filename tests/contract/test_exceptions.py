"""docs/errors.rst: any exception comes home as itself, with its frames and attributes."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcall import (
    ChildProcessException,
    RemoteError,
    TaskCancelled,
    pcall,
)


class TwoArguments(Exception):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host} has nothing on port {port}")
        self.host, self.port = host, port


class ChangesText(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text.upper() + "!")


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    host: str
    port: int = 22


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    host: str
    port: int = 22


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


class Reduces(Exception):
    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right

    def __reduce__(self) -> Any:
        return Reduces, (self.left, self.right)


class OddOSError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "not here", path)
        self.path = path


class NewAndInit(Exception):
    def __new__(cls, *, name: str) -> NewAndInit:
        return super().__new__(cls)

    def __init__(self, *, name: str) -> None:
        super().__init__("hello " + name)


class TwoBases(RuntimeError, TimeoutError):
    def __init__(self, host: str, seconds: int) -> None:
        super().__init__(f"{host} took {seconds} s")
        self.host = host


class StrFails(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def local_class() -> type[Exception]:
    class Local(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first}/{second}")
            self.first = first

    return Local


Local = local_class()


def syntax_error() -> None:
    compile("x = (1,\n  2", "some file.py", "exec")


def raised_by(function: Callable[..., Any], *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error.with_traceback(None)
    raise AssertionError(f"{function} raised nothing")


def with_notes(error: Exception, *notes: str) -> Exception:
    for note in notes:
        error.add_note(note)
    return error


MAKERS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("text", 2),
    "two arguments": lambda: TwoArguments("here", 80),
    "changes its text": lambda: ChangesText("text"),
    "keyword only": lambda: KeywordOnly(code=3),
    "frozen": lambda: Frozen("here"),
    "frozen with slots": lambda: FrozenSlots("here"),
    "slots": lambda: Slotted(3),
    "own __reduce__": lambda: Reduces(1, 2),
    "own __new__": lambda: NewAndInit(name="you"),
    "two built-in bases": lambda: TwoBases("here", 3),
    "local": lambda: Local(1, 2),
    "str() fails": lambda: StrFails(3),
    "notes": lambda: with_notes(ValueError("text"), "one", "two\nlines"),
    "SystemExit int": lambda: SystemExit(3),
    "SystemExit str": lambda: SystemExit("text"),
    "SystemExit None": lambda: SystemExit(None),
    "SystemExit 0": lambda: SystemExit(0),
    "SystemExit without": lambda: SystemExit(),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("text"),
    "GeneratorExit": lambda: GeneratorExit(),
    "StopIteration": lambda: StopIteration(3),
    "StopAsyncIteration": lambda: StopAsyncIteration("text"),
    "CancelledError": lambda: asyncio.CancelledError("text"),
    "TaskCancelled": lambda: TaskCancelled("text"),
    "UnicodeDecodeError": lambda: raised_by(b"ab\xffc".decode),
    "UnicodeEncodeError": lambda: raised_by("ab\xff".encode, "ascii"),
    "SyntaxError": lambda: raised_by(syntax_error),
    "OSError": lambda: OSError(5, "text"),
    "OSError with file": lambda: raised_by(os.open, "/no such file", os.O_RDONLY),
    "OSError with files": lambda: raised_by(os.rename, "/no such file", "/nor this"),
    "ConnectionResetError": lambda: ConnectionResetError(104, "gone"),
    "OSError of one's own": lambda: OddOSError("/no such file"),
    "BlockingIOError": lambda: BlockingIOError(11, "text", 5),
    "UnsupportedOperation": lambda: io.UnsupportedOperation("fileno"),
    "ImportError": lambda: ImportError("text", name="some", path="/some.py"),
    "ModuleNotFoundError": lambda: raised_by(__import__, "no_such_module"),
    "KeyError": lambda: KeyError("key"),
    "NameError": lambda: NameError("text", name="some"),
    "AttributeError": lambda: raised_by(getattr, object(), "some"),
    "JSONDecodeError": lambda: raised_by(json.loads, "{"),
    "CalledProcessError": lambda: subprocess.CalledProcessError(3, ["cmd"], b"out", b"err"),
    "TimeoutExpired": lambda: subprocess.TimeoutExpired("cmd", 2.5, b"out"),
    "RemoteError": lambda: RemoteError("some.Error", "text", "Traceback"),
}


def throw(error: BaseException | Callable[[], BaseException]) -> None:
    raise error if isinstance(error, BaseException) else error()


def failure(target: Callable[..., Any], *args: Any) -> ChildProcessException:
    """What pcall raises for a call that fails."""
    with pytest.raises(ChildProcessException) as info:
        pcall(target, cargs=args)
    return info.value


def original(target: Callable[..., Any], *args: Any) -> Any:
    return failure(target, *args).__cause__


def facts(error: BaseException) -> dict[str, str]:
    """All that can be read of an exception."""
    # The object that lacked an attribute stays behind, as pickle does it, too.
    left_out = ("obj",)
    names = [name for name in dir(error) if not name.startswith("_") and name not in left_out]
    found = {name: repr(getattr(error, name, "missing")) for name in names}
    found = {name: text for name, text in found.items() if " object at 0x" not in text}
    notes = getattr(error, "__notes__", [])
    found["notes"] = repr([note for note in notes if not note.startswith("in call 0, ")])
    return found


IN_A_CHILD = {"KeyboardInterrupt"}  # in this process it is an interrupt of the run


@pytest.mark.fast
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.needs("processes")) if name in IN_A_CHILD else name
        for name in MAKERS
    ],
)
def test_it_comes_home_as_itself(name: str) -> None:
    """Same type, same attributes, same text, real frames; the text is the raised one's, too."""
    expected = MAKERS[name]()
    error = failure(throw, MAKERS[name])
    cause = error.__cause__
    assert type(cause) is type(expected)
    assert facts(cause) == facts(expected)
    if name != "str() fails":
        assert str(cause) == str(expected)
        assert str(error) == (str(expected) or type(expected).__name__)
    assert "throw" in [frame.name for frame in traceback.extract_tb(cause.__traceback__)]


def test_a_text_that_fails() -> None:
    """An exception whose ``str()`` fails is told without it."""
    assert "StrFails" in str(failure(throw, StrFails()))


@pytest.mark.needs("transport", "inheritance")
def test_a_local_class_of_the_child() -> None:
    """A class that came up in the child arrives as RemoteError with name, text, traceback."""

    def define_and_raise() -> None:
        throw(local_class()(1, 2))

    error = original(define_and_raise)
    assert type(error) is RemoteError
    assert error.type_name.endswith("local_class.<locals>.Local")
    assert error.text == "1/2"
    assert error.type_name in str(error)
    assert "throw(local_class()(1, 2))" in error.traceback
    assert error.traceback.rstrip().endswith("Local: 1/2")
    assert "define_and_raise" in [f.name for f in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize(
    "importable", [True, pytest.param(False, marks=pytest.mark.needs("transport"))]
)
def test_a_module_that_only_the_child_imported(
    importable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error comes as itself where the parent can import it too, else as RemoteError."""
    module = f"module_of_{'both' if importable else 'child'}"
    (tmp_path / f"{module}.py").write_text("class Error(Exception):\n    code = 3\n")
    if importable:
        monkeypatch.syspath_prepend(tmp_path)

    def import_and_raise() -> None:
        sys.path.insert(0, str(tmp_path))
        raise __import__(module).Error("text")

    error = original(import_and_raise)
    if importable:
        assert (type(error).__module__, error.code, str(error)) == (module, 3, "text")
    else:
        assert (type(error), error.type_name) == (RemoteError, f"{module}.Error")
    sys.modules.pop(module, None)


@pytest.mark.parametrize("where", ["attribute", "argument"])
def test_one_that_holds_a_lock(where: str) -> None:
    """What can't be pickled is replaced by what shows it; all else comes home."""

    def hold() -> None:
        if where == "argument":
            raise TwoArguments("here", 80) from KeyError("text", threading.Lock())
        error = TwoArguments("here", 80)
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    error = original(hold)
    assert (type(error), error.host, error.port) == (TwoArguments, "here", 80)
    held = error.lock if where == "attribute" else error.__cause__.args[1]
    assert "lock object" in repr(held)
