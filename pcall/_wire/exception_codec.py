"""Exceptions to bytes and back: with their frames, causes, contexts, notes and members.

A plain pickle of an exception loses its traceback, its cause and its context. It calls
``__init__`` again with arguments that are often not the ones it takes, and it fails as a
whole for one attribute that can't be pickled. So each exception of a chain or group
travels as a *node*: the pickle to rebuild it from (its *recipe*), its frames, and the numbers
of the nodes that it refers to. The child loads each recipe once, so the parent can rebuild
whatever arrives; an exception that can't be rebuilt arrives as a
:class:`~pcall.exceptions.RemoteError`.
"""

from __future__ import annotations

import copyreg
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from pcall._errors import RemoteError, TaskCancelled
from pcall._os.signals import is_interrupt
from pcall._wire.traceback_codec import dump_traceback, load_traceback

__all__ = [
    "Unpicklable",
    "class_picklers",
    "dump_exception",
    "load_exception",
    "portable",
    "safe_str",
    "text_or_name",
    "type_name",
]


@dataclass(frozen=True)
class Unpicklable:
    """Stands in for a value that could not be pickled, and has the same ``repr()``.

    Attributes:
        type_name: of the value's type.
        text: the value's ``repr()``.
    """

    type_name: str
    text: str

    def __repr__(self) -> str:
        return self.text


def type_name(cls: type) -> str:
    """The class's qualified name, without ``builtins.``."""
    module = getattr(cls, "__module__", None)
    name = getattr(cls, "__qualname__", cls.__name__)
    return str(name) if module in ("builtins", None) else f"{module}.{name}"


def safe_str(error: BaseException) -> str:
    """``str(error)``, or a text that says so where that raises."""
    try:
        return str(error)
    except Exception as failure:
        return f"<str() of the {type(error).__name__} failed: {type(failure).__name__}>"


def text_or_name(error: BaseException) -> str:
    """The text of an exception, or the name of its class if there is none."""
    return safe_str(error) or type(error).__name__


def portable(value: Any) -> Any:
    """The value itself where it pickles and loads again, else an :class:`Unpicklable`."""
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


#: Ways to pickle a class that can't be imported by name, for a process that is no relative.
class_picklers: list[Callable[[type], bytes]] = []


def dump_exception(error: BaseException) -> bytes:
    """The exception, and all exceptions that it refers to, as bytes."""
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

    # A worklist instead of recursion: chains can be longer than the stack is deep.
    while len(nodes) < len(found):
        this = found[len(nodes)]
        group = this if isinstance(this, BaseExceptionGroup) else None
        nodes.append(
            {
                "type_name": type_name(type(this)),
                "text": safe_str(this),
                "recipe": _recipe(this),
                "frames": dump_traceback(this.__traceback__),
                "cause": refer(this.__cause__),
                "context": refer(this.__context__),
                "suppress": this.__suppress_context__,
                "members": [refer(member) for member in group.exceptions] if group else None,
                "message": group.message if group else None,
            }
        )
    return pickle.dumps(nodes, protocol=5)


def _recipe(error: BaseException) -> bytes | None:
    """The pickle to rebuild the exception from, tried out here; None when there is none."""
    cls = type(error)
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else None
    ways = [_by_fields, _by_reduce] if members is None else [_by_fields]
    if members is None and _reduces_itself(cls):
        ways.reverse()  # the class says how to pickle it
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


def _by_fields(error: BaseException) -> bytes:
    """Class, ``args``, ``__dict__`` and slots: enough to rebuild it without its ``__init__``."""
    cls = type(error)
    args: Any = error.args
    if isinstance(error, BaseExceptionGroup):
        args = (args[0], None, *args[2:])  # members travel as nodes of their own
    fields = {}
    for name in _fields(cls):
        value = getattr(error, name, None)
        # AttributeError.obj can be any object of any size, and a plain pickle drops it too.
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
        for pickled in class_picklers:
            reference = pickled(cls)
    return pickle.dumps(("fields", reference, content), protocol=5)


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
    """Rebuild the exception that :func:`dump_exception` was given, as far as possible."""
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
    # Set through the descriptors of BaseException: a frozen dataclass refuses setattr().
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
    tb = load_traceback(node["frames"])
    error: BaseException | None = None
    if node["recipe"] is not None:
        try:
            error = _rebuild(node["recipe"], members)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            # Otherwise its class is in a module that only the child has, for instance.
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
        del error, tb, members  # the traceback's frames refer to these: no reference cycle


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
    # The constructor of the nearest built-in class sets `args` and the fields that live in C. It
    # runs no code of the class itself, whose __init__ may take any arguments.
    builtin: Any = cls
    while builtin.__module__ != "builtins":
        builtin = builtin.__base__  # the one of several bases that determines the layout
    error: BaseException = builtin.__new__(cls, *args)
    try:
        builtin.__init__(error, *args)
    except TypeError:
        pass  # the class passed other arguments on (UnicodeDecodeError requires five)
    for base in cls.__mro__:
        for name, value in fields.items():
            if name in vars(base):
                try:
                    vars(base)[name].__set__(error, value)
                except (AttributeError, TypeError):
                    pass  # read-only, and set by the constructor
    vars(error).update(state)
    return error


def _local_class(address: int, module: str, name: str) -> type[BaseException]:
    """A class that can't be imported by name but existed before the fork.

    It is looked up among the living subclasses; the address alone is never trusted, since a
    class that the child defined has no counterpart here.

    Raises:
        LookupError: the class exists in the child alone.
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
