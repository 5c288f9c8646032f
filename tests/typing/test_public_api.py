"""README.rst: the public names, their kinds and their documentation."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import multiprocessing
import re
from pathlib import Path

import pytest

import pcall as package
from pcall import Call, CurrentCall, Outcome, Pcall, exceptions, pcall

HERE = Path(__file__).parent
# Most of these runs are only looked at.
pytestmark = pytest.mark.filterwarnings("ignore:.* never made:ResourceWarning")

CLASSES = [getattr(package, name) for name in package.__all__ if name[0].isupper()]


def test_all_is_sorted():
    """``__all__`` names each public name once, in order."""
    assert package.__all__ == sorted(set(package.__all__))


@pytest.mark.fast
def test_all_is_what_is_public():
    """What ``__all__`` names is there, and what is there without an underscore is named."""
    modules = {"engines", "exceptions", "executor", "plan", "profiling", "progress", "tasklog"}
    public = {name for name in dir(package) if not name.startswith("_")} - modules
    assert public | {"__version__"} == set(package.__all__)


def test_the_exceptions_are_all_public():
    """Every exception of the tree can be imported from the package."""
    assert set(exceptions.__all__) <= set(package.__all__)
    for name in exceptions.__all__:
        assert getattr(package, name) is getattr(exceptions, name)


@pytest.mark.parametrize("name", [name for name in package.__all__ if name != "__version__"])
def test_every_public_name_is_documented(name):
    """Every public name has a docstring of its own that starts with a sentence."""
    assert re.match(r"[A-Z`].*[.:]$", getattr(package, name).__doc__.strip().splitlines()[0])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_public_member_is_documented(cls):
    """Every public method and property of a public class has a docstring."""
    members = [
        (name, member)
        for name, member in vars(cls).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, property | classmethod | staticmethod))
    ]
    assert [name for name, member in members if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("cls", [Call, CurrentCall, Outcome, Pcall], ids=lambda cls: cls.__name__)
def test_every_field_is_documented(cls):
    """Every field of a public record, and what a Pcall was built with, is in its docstring."""
    fields = getattr(cls, "__dataclass_fields__", None) or [
        name for name in vars(cls("".join)) if not name.startswith("_")
    ]
    assert fields
    assert [name for name in fields if not re.search(rf"\b{name}\b.*[:,]", cls.__doc__)] == []


def test_the_version_is_the_distributions():
    """``__version__`` is that of the installed distribution."""
    try:
        version = importlib.metadata.version("pcall")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no distribution of pcall is installed")
    assert package.__version__ == version


def test_the_logger_is_quiet_by_default():
    """A script that set up no logging does not find records of pcall on its stderr."""
    handlers = logging.getLogger("pcall").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


# ------------------------------------------------------------------ pcall()

SEVEN = ["targets", "timeout", "cargs", "iargs", "ckwargs", "ikwargs"]


@pytest.mark.fast
@pytest.mark.parametrize("entry", [pcall, Pcall.pcall, pcall.aio, Pcall], ids=repr)
def test_the_signature(entry):
    """The parameters are those that the documents show, in this order, with these defaults."""
    parameters = dict(inspect.signature(entry).parameters)
    rest = parameters.pop("varkwargs")
    assert rest.kind is inspect.Parameter.VAR_KEYWORD
    assert list(parameters) == SEVEN
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
    assert parameters["targets"].default is inspect.Parameter.empty
    assert parameters["timeout"].default is None
    assert parameters["cargs"].default == ()


def test_pcall_is_the_classmethod():
    """``pcall`` is ``Pcall.pcall``."""
    assert pcall == Pcall.pcall
    assert Pcall.options(max_workers=1).pcall != pcall
    assert Pcall("".join).pcall == pcall


# ------------------------------------------------------------------ Pcall

METHODS = ["start", "join", "wait", "as_completed", "terminate", "kill", "options"]
PROPERTIES = ["results", "outcomes", "childs", "pids", "livings", "done", "profile"]
BUILT_WITH = [*SEVEN, "varkwargs"]
OUTCOME = ["index", "call", "ok", "value", "error", "pid", "exitcode", "attempts", "started"]
OUTCOME += ["duration", "cpu_time", "max_rss", "rss_growth", "log", "stdout", "stderr", "worker"]
OUTCOME += ["profile"]


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_of_the_object(name):
    """Each documented method is a method."""
    assert inspect.isroutine(getattr(Pcall, name))


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_properties_of_the_object(name):
    """Each documented property is read without a call, and can't be set."""
    assert isinstance(inspect.getattr_static(Pcall, name), property)
    with pytest.raises(AttributeError):
        setattr(Pcall("".join), name, None)


def test_the_object_is_a_context_manager_and_awaitable():
    """A Pcall can stand in a with statement and behind an await."""
    for name in ("__enter__", "__exit__", "__await__"):
        assert inspect.isfunction(getattr(Pcall, name))


def test_what_the_object_was_built_with():
    """A Pcall tells what it was built with, and keeps the very objects."""
    given = {
        "targets": [len],
        "timeout": 5,
        "cargs": [1],
        "iargs": [(2,)],
        "ckwargs": {"a": 1},
        "ikwargs": [{"b": 2}],
    }
    run = Pcall(**given, c=(columns := [3]))
    assert {name: getattr(run, name) for name in SEVEN} == given
    assert all(getattr(run, name) is given[name] for name in SEVEN)
    assert run.varkwargs == {"c": columns}
    assert run.varkwargs["c"] is columns


def test_what_the_object_was_not_given():
    """What was not given is as the documents have it."""
    run = Pcall(len)
    assert [getattr(run, name) for name in BUILT_WITH] == [len, None, (), None, {}, None, {}]


def test_the_fields_of_an_outcome():
    """An outcome has the documented fields, and a result()."""
    assert list(Outcome.__dataclass_fields__) == OUTCOME
    assert inspect.isfunction(Outcome.result)


def test_the_fields_of_a_call():
    """A call has its place, its target, its arguments, and a name."""
    call = Call(0, len, ("ab",), {})
    assert (call.index, call.target, call.args, call.kwargs, call.name) == (
        0,
        len,
        ("ab",),
        {},
        "len",
    )


def test_a_child_is_of_the_multiprocessing_family():
    """The children are objects of the ``multiprocessing.Process`` family."""
    (child,) = Pcall(len).childs
    assert isinstance(child, multiprocessing.Process)
    for name in ("pid", "name", "exitcode", "is_alive", "sentinel"):
        assert hasattr(type(child), name)


# ------------------------------------------------------------------ exceptions


def test_the_exception_tree():
    """The exceptions are of the kinds that the documents name."""
    assert issubclass(package.ChildProcessException, package.PcallError)
    assert issubclass(package.ChildDied, package.ChildProcessException)
    assert issubclass(package.PcallTimeout, package.PcallError)
    assert issubclass(package.PcallTimeout, TimeoutError)
    assert not issubclass(package.TaskCancelled, Exception)
    assert issubclass(package.TaskCancelled, BaseException)


# ------------------------------------------------------------------ types


def test_the_typed_file_uses_every_public_name():
    """The file that is type-checked names every public name and every member."""
    text = (HERE / "api.py").read_text()
    names = [*package.__all__, *METHODS, *PROPERTIES, *BUILT_WITH, *OUTCOME, "result", "aio"]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
