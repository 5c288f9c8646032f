"""Exceptions to bytes and back: with their frames, causes, contexts, notes and members.

A plain pickle of an exception loses its traceback, its cause and its context, calls
``__init__`` again with arguments that are often not the ones it takes, and fails as a
whole for one attribute that can't be pickled. So each exception of a chain or group
travels as a *node*: what to rebuild it from, its frames, and the numbers of the nodes
that it refers to. The pickles are loaded once in the child, so that what arrives can be
rebuilt; what can't is sent as a :class:`~pcall.exceptions.RemoteError`.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from types import GetSetDescriptorType, MemberDescriptorType, SimpleNamespace, TracebackType
from typing import Any

import tblib

from pcall._errors import RemoteError, TaskCancelled
from pcall._os.signals import is_interrupt

__all__ = [
    "Unpicklable",
    "dump_exception",
    "load_exception",
    "portable",
    "safe_str",
    "type_name",
    "users_part",
]

_OWN_FOLDER = os.path.dirname(os.path.dirname(__file__)) + os.sep

# One frame: file name, function, line, and the globals that tblib keeps.
_Frame = tuple[str, str, int, dict[str, str]]


@dataclass(frozen=True)
class Unpicklable:
    """Stands where a value was that could not be pickled; shows what that one showed."""

    type_name: str
    text: str

    def __repr__(self) -> str:
        return self.text


def type_name(cls: type) -> str:
    """The name by which a reader knows the class: without ``builtins.``."""
    module = getattr(cls, "__module__", None)
    name = getattr(cls, "__qualname__", cls.__name__)
    return str(name) if module in ("builtins", None) else f"{module}.{name}"


def safe_str(error: BaseException) -> str:
    """``str(error)``, also where that itself fails."""
    try:
        return str(error)
    except Exception as failure:
        return f"<str() of the {type(error).__name__} failed: {type(failure).__name__}>"


def portable(value: Any) -> Any:
    """The value itself where it pickles and loads again, else something that shows it."""
    try:
        pickle.loads(pickle.dumps(value, protocol=5))
    except TaskCancelled:
        raise
    except BaseException:
        try:
            text = repr(value)
        except Exception:
            text = f"<{type_name(type(value))} object whose repr() failed>"
        return Unpicklable(type_name(type(value)), text)
    return value


# ------------------------------------------------------------------ in the child


def dump_exception(error: BaseException) -> bytes:
    """The exception, and all that it refers to, as bytes."""
    nodes: list[dict[str, Any]] = []
    found = [error]
    number = {id(error): 0}

    def refer(other: BaseException | None) -> int | None:
        if other is None:
            return None
        if id(other) not in number:
            number[id(other)] = len(found)
            found.append(other)
        return number[id(other)]

    # A worklist and not recursion: chains can be longer than the stack is deep.
    while len(nodes) < len(found):
        this = found[len(nodes)]
        group = this if isinstance(this, BaseExceptionGroup) else None
        nodes.append(
            {
                "type_name": type_name(type(this)),
                "text": safe_str(this),
                "recipe": _recipe(this),
                "frames": _frames(this.__traceback__),
                "cause": refer(this.__cause__),
                "context": refer(this.__context__),
                "suppress": this.__suppress_context__,
                "members": [refer(member) for member in group.exceptions] if group else None,
                "message": group.message if group else None,
            }
        )
    return pickle.dumps(nodes, protocol=5)


def users_part(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the target on: the library's frames above it tell nothing."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        tb = tb.tb_next
    return tb


def _frames(tb: TracebackType | None) -> list[_Frame]:
    frames: list[_Frame] = []
    tb = users_part(tb)
    while tb is not None:
        frame = tb.tb_frame
        code = frame.f_code
        names = {k: v for k, v in frame.f_globals.items() if k in ("__name__", "__file__")}
        frames.append((code.co_filename, code.co_name, tb.tb_lineno, names))
        tb = tb.tb_next
    return frames


def _recipe(error: BaseException) -> bytes | None:
    """The pickle to rebuild it from, tried out here; None when there is none."""
    cls = type(error)
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else None
    ways = [_by_parts, _by_reduce] if members is None else [_by_parts]
    if members is None and _reduces_itself(cls):
        ways.reverse()  # the class knows best
    for way in ways:
        try:
            recipe = way(error)
            again = _rebuild(recipe, members)
            if type(again) is cls and (safe_str(again) == safe_str(error) or way is _by_reduce):
                return recipe
        except TaskCancelled:
            raise
        except BaseException:
            continue
    return None


def _reduces_itself(cls: type) -> bool:
    for name in ("__reduce_ex__", "__reduce__", "__setstate__"):
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if owner.__module__ != "builtins":
            return True
    return cls in copyreg.dispatch_table


def _by_reduce(error: BaseException) -> bytes:
    return pickle.dumps(("reduce", error), protocol=5)


def _by_parts(error: BaseException) -> bytes:
    """Class, ``args``, ``__dict__`` and slots: what is needed to do without ``__init__``."""
    cls = type(error)
    args: Any = error.args
    if isinstance(error, BaseExceptionGroup):
        args = (args[0], None, *args[2:])  # members travel as nodes of their own
    fields = {}
    for name in _fields(cls):
        value = getattr(error, name, None)
        # The object that lacked an attribute (AttributeError.obj) can be anything,
        # of any size, and a plain pickle drops it too.
        if value is not None and name != "obj":
            fields[name] = value
    parts = (args, dict(vars(error)), fields)
    try:
        content = pickle.dumps(parts, protocol=5)
        pickle.loads(content)
    except TaskCancelled:
        raise
    except BaseException:
        content = pickle.dumps(
            (
                tuple(portable(arg) for arg in args),
                {name: portable(value) for name, value in parts[1].items()},
                {name: portable(value) for name, value in fields.items()},
            ),
            protocol=5,
        )
    try:
        reference: Any = pickle.dumps(cls, protocol=5)
    except Exception:
        reference = (id(cls), cls.__module__, cls.__qualname__)
    return pickle.dumps(("parts", reference, content), protocol=5)


def _fields(cls: type) -> list[str]:
    """Names of the C-level members and slots that classes above ``BaseException`` add."""
    return [
        name
        for base in cls.__mro__
        if base not in (BaseException, BaseExceptionGroup, object)
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType | GetSetDescriptorType)
        and not name.startswith("__")
    ]


# ------------------------------------------------------------------ in the parent


def load_exception(data: bytes | memoryview) -> BaseException:
    """The exception that :func:`dump_exception` was given, as well as it can be rebuilt."""
    nodes: list[dict[str, Any]] = pickle.loads(data)
    made: dict[int, BaseException] = {}
    todo = list(range(len(nodes)))
    while todo:  # members before their group; groups can be nested deeper than the stack is
        index = todo[-1]
        members = nodes[index]["members"]
        missing = [member for member in members or () if member not in made]
        if missing:
            todo.extend(missing)
            continue
        todo.pop()
        if index not in made:
            parts = None if members is None else [made[member] for member in members]
            made[index] = _make(nodes[index], parts)
    # Through the descriptors of BaseException: a frozen dataclass refuses setattr().
    slots = vars(BaseException)
    for index, node in enumerate(nodes):
        error = made[index]
        if node["cause"] is not None:
            slots["__cause__"].__set__(error, made[node["cause"]])
        if node["context"] is not None:
            slots["__context__"].__set__(error, made[node["context"]])
        slots["__suppress_context__"].__set__(error, node["suppress"])
    return made[0]


def _make(node: dict[str, Any], members: list[BaseException] | None) -> BaseException:
    tb = _traceback(node["frames"])
    error: BaseException | None = None
    if node["recipe"] is not None:
        try:
            error = _rebuild(node["recipe"], members)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            # Otherwise for instance a class of a module that only the child has.
    if error is None and members is not None:
        # A group of a class that can't be rebuilt is still a group.
        error = BaseExceptionGroup(node["message"], members)
        error.add_note(f"(in the child, a {node['type_name']})")
    if error is None:
        lines = [*traceback.format_tb(tb), f"{node['type_name']}: {node['text']}"]
        formatted = "Traceback (most recent call last):\n" + "".join(lines)
        error = RemoteError(node["type_name"], node["text"], formatted)
    try:
        return BaseException.with_traceback(error, tb)
    finally:
        del error, tb, members  # the frames of the traceback lead here: no circle


def _rebuild(recipe: bytes, members: Any) -> BaseException:
    kind, *rest = pickle.loads(recipe)
    if kind == "reduce":
        return rest[0]  # type: ignore[no-any-return]
    reference, content = rest
    cls: type[BaseException] = (
        pickle.loads(reference) if isinstance(reference, bytes) else _local_class(*reference)
    )
    args, state, fields = pickle.loads(content)
    if members is not None:
        args = (args[0], list(members), *args[2:])
    # The constructor of the nearest built-in class: it sets `args` and the fields that
    # live in C, and runs no code of the class, whose __init__ may take anything.
    builtin: Any = cls
    while builtin.__module__ != "builtins":
        builtin = builtin.__base__  # of several bases the one that the layout is from
    error: BaseException = builtin.__new__(cls, *args)
    try:
        builtin.__init__(error, *args)
    except TypeError:
        pass  # the class never passed these on (UnicodeDecodeError wants its five)
    for base in cls.__mro__:
        for name, value in fields.items():
            if name in vars(base):
                try:
                    vars(base)[name].__set__(error, value)
                except (AttributeError, TypeError):
                    pass  # read only, and set by the constructor
    vars(error).update(state)
    return error


def _local_class(address: int, module: str, name: str) -> type[BaseException]:
    """A class that no import finds but that was there before the fork.

    Looked up among the living subclasses, never by trusting the address alone: a class
    that came up in the child has no counterpart here.
    """
    todo: list[type[BaseException]] = [BaseException]
    seen: set[type] = set()
    while todo:
        cls = todo.pop()
        if cls in seen:
            continue
        seen.add(cls)
        if id(cls) == address and cls.__module__ == module and cls.__qualname__ == name:
            return cls
        todo.extend(type.__subclasses__(cls))
    raise LookupError(f"{module}.{name} exists in the child alone")


def _traceback(frames: list[_Frame]) -> TracebackType | None:
    following: SimpleNamespace | None = None
    # tblib's own dictionaries are built and read by recursion, which a RecursionError's
    # thousand frames overflow; its Traceback is not.
    for filename, function, line, names in reversed(frames):
        code = SimpleNamespace(co_filename=filename, co_name=function)
        frame = SimpleNamespace(f_globals=names, f_code=code, f_lineno=line)
        following = SimpleNamespace(tb_frame=frame, tb_lineno=line, tb_next=following)
    if following is None:
        return None
    whole = [tblib.Traceback(following)]
    # Each frame keeps those below it alive, with all that they have: the caller's too, and so
    # the run itself, which would then never be dropped, and its children not be ended. Below
    # the frame of a generator that waits there is none; and what it is to make keeps it waiting.
    whole[0].apart = apart = _apart(whole)
    return next(apart)


def _apart(whole: list[Any]) -> Generator[TracebackType | None, None, None]:
    yield whole.pop().as_traceback()
