"""docs/design.rst: what is imported when, and that names that come late are seen by all."""

from __future__ import annotations

import ast
import inspect
import pickle
import sys

import pytest

import pcall as package
import pcall.plan
import pcall.progress
from tests.helpers.scripts import run_python

PACKAGES = [package, pcall.plan, pcall.progress]
NAMES = [(each.__name__, name) for each in PACKAGES for name in each.__all__]

# What only some calls need, or none.
NOT_FOR_A_CALL = ["asyncio", "concurrent", "difflib", "numpy", "rich", "IPython"]
NOT_FOR_A_CALL += ["pcall.plan", "pcall.progress", "pcall.tasklog", "pcall._faces.asyncio_turns"]
# What nothing needs before there is a call.
NOT_FOR_THE_IMPORT = [*NOT_FOR_A_CALL, "ctypes", "dataclasses", "inspect", "multiprocessing"]
NOT_FOR_THE_IMPORT += ["pickle", "signal", "socket", "subprocess", "tblib"]

FOR_THE_IMPORT = ["faces", "faces.entry", "function", "lazy", "version"]

PEER = "import concurrent.futures.process, multiprocessing.pool"


def script(text: str) -> list[str]:
    """What it prints, word by word, in an interpreter of its own."""
    return run_python("-c", text).stdout.split()


def modules(text: str) -> set[str]:
    """What is loaded after this."""
    return set(script(f"{text}\nimport sys\nprint(*sys.modules)"))


# ------------------------------------------------------------------ what is loaded


def test_the_import_loads_the_function_alone():
    """``import pcall`` loads what defines ``pcall``, and nothing that runs calls."""
    loaded = modules("import pcall")
    ours = {name for name in loaded if name.partition(".")[0] == "pcall"}
    assert sorted(ours - {"pcall"}) == [f"pcall._{name}" for name in FOR_THE_IMPORT]
    # Since Python 3.14, logging itself loads dataclasses.
    without = modules("import logging, typing")
    assert sorted((loaded - without).intersection(NOT_FOR_THE_IMPORT)) == []


def test_the_import_loads_less_than_the_standard_librarys():
    """``import pcall`` loads fewer modules than importing the standard library's pools."""
    assert len(modules("from pcall import pcall")) < len(modules(PEER))


def test_a_call_loads_what_it_needs():
    """A call loads no plan, no display, and nothing that only some calls need."""
    loaded = modules("from pcall import pcall\nassert pcall(abs, iargs=[(-1,)] * 3) == (1, 1, 1)")
    assert "pcall._pcall" in loaded
    assert sorted(loaded.intersection(NOT_FOR_A_CALL)) == []


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("from pcall import Plan", "pcall.plan.running"),
        ("from pcall import Plan, run", "pcall.progress"),
        ("from pcall import PcallError, Retry", "multiprocessing"),
        ("from pcall.progress import ConsoleProgress", "pcall.progress.html"),
        ("from pcall.progress import HtmlProgress", "pcall.progress.console"),
        ("import pcall.tasklog", "pcall._pcall"),
    ],
)
def test_a_name_loads_what_it_needs(text, absent):
    """A name that is imported brings nothing of the others."""
    assert absent not in modules(text)


def test_the_check_of_what_is_loaded_sees_it():
    """The checks above fail for a module that is loaded."""
    assert {"difflib", "pcall.plan"} <= modules("import difflib, pcall.plan")


AUDIT = """
import os, sys, time
from pcall import Pcall, Plan, pcall, run
parent = os.getpid()

def audit(event, args):
    if event == "import" and os.getpid() != parent:
        os.write(1, f"{args[0]} ".encode())

def fail():
    raise LookupError(5)

def nest():
    return pcall(abs, iargs=[(-1,)] * 2)

def plan():
    plan = Plan()
    return run(plan, output=plan.call(sum, [plan.call(abs, -1), plan.call(abs, -2)]))

def load():
    import this_is_no_module

Reusing = Pcall.options(max_tasks_per_child=None)
sys.addaudithook(audit)
try:
"""


@pytest.mark.parametrize(
    "call",
    [
        "pcall(abs, iargs=[(-1,)] * 3)",
        "pcall(fail)",
        "pcall(sys.exit, cargs=(3,))",
        "pcall(lambda: audit)",
        "pcall(bytes, cargs=(10_000_000,))",
        "pcall(time.sleep, timeout=0.2, cargs=(60,))",
        "pcall(nest)",
        "Reusing.pcall(abs, iargs=[(-1,)] * 30)",
        "Reusing.pcall(fail)",
        "Reusing.pcall(time.sleep, timeout=0.2, cargs=(60,))",
        "plan()",
    ],
)
def test_a_child_imports_nothing(call):
    """What a child needs was imported by its parent, also where this is the first call."""
    assert script(f"{AUDIT} {call}\nexcept Exception as error: error") == []


def test_the_check_of_children_sees_imports():
    """The check above fails for a child that imports a module."""
    text = f"{AUDIT} pcall(load)\nexcept Exception as error: error"
    assert script(text) == ["this_is_no_module"]


# Tells of each attempt, also where an extra is not installed.
EXTRAS = """
import os, sys

class Extras:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("IPython", "cloudpickle", "dask", "distributed", "rich"):
            os.write(1, f"{name} ".encode())

sys.meta_path.insert(0, Extras)
from pcall import *
"""


@pytest.mark.parametrize(
    "text",
    [
        "pcall(abs, iargs=[(-1,)] * 3)",
        "Pcall.options(max_tasks_per_child=None, capture_output=True).pcall(abs, iargs=[(-1,)])",
        "assert list(pcall.iter(abs, iargs=[(-1,)])) == [1]",
        "with Executor(1) as executor: executor.submit(abs, -1).result()",
        "with Pool(1) as pool: pool.map(abs, [-1])",
        "plan = Plan()\nassert run(plan, output=plan.call(abs, -1)) == 1",
        "import pcall.tasklog, pcall.profiling, pcall.exceptions, pcall.plan, pcall.progress\n"
        "shown = pcall.progress.LogProgress()\n"
        "Pcall.options(profile='cpu', progress=shown).pcall(abs, cargs=[-1])",
        "try: pcall(abs)\nexcept ChildProcessException as error: str(error)",
    ],
)
def test_the_core_loads_no_extra(text):
    """Neither a process nor its children look for a package that only an extra has."""
    assert script(f"{EXTRAS}{text}") == []


def test_the_check_of_extras_sees_them():
    """The check above fails for an extra that a call loads, whether or not it is installed."""
    text = "def load():\n  try: import distributed\n  except ImportError: pass\npcall(load)"
    assert script(f"{EXTRAS}{text}")[0] == "distributed"


# ------------------------------------------------------------------ names that come late


def test_a_star_imports_every_name():
    """``from pcall import *`` brings what ``__all__`` names, and nothing else."""
    text = "before = {*globals(), 'before'}\nfrom pcall import *\nprint(*{*globals()} - before)"
    assert sorted(script(text)) == package.__all__


@pytest.mark.parametrize("each", PACKAGES, ids=lambda each: each.__name__)
def test_type_checkers_are_shown_every_name(each):
    """The block for type checkers imports what ``__all__`` names and comes late, and no more."""
    tree = ast.parse(inspect.getsource(each))
    shown = {
        alias.asname or alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    at_once = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert shown == set(each.__all__) - at_once


@pytest.mark.parametrize("name", [each.__name__ for each in PACKAGES])
def test_dir_lists_all_names(name):
    """``dir()`` lists every public name before any of them was used."""
    listed = script(f"import {name}\nprint(*dir({name}))")
    assert set(sys.modules[name].__all__) <= set(listed)
    assert listed == sorted(set(listed))


@pytest.mark.parametrize("name", [each.__name__ for each in PACKAGES])
def test_a_star_import_brings_all_names(name):
    """``from ... import *`` brings every public name."""
    found = script(f"from {name} import *\nprint(*globals())")
    assert set(sys.modules[name].__all__) <= set(found)


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_name_is_kept(package, name):
    """A name stands for the same object each time, and is pickled by reference."""
    value = getattr(sys.modules[package], name)
    assert vars(sys.modules[package])[name] is value
    again = pickle.loads(pickle.dumps(value))
    assert again == value


# A child for each name, forked before anything of this library was imported.
EACH_ALONE = """
import os, pickle, traceback
for package, name, data in {names!r}:
    if not os.fork():
        try:
            value = pickle.loads(data)
            exec(f"from {{package}} import {{name}}\\nassert value == {{name}}")
        except BaseException:
            print(package, name, flush=True)
            traceback.print_exc()
        os._exit(0)
    os.wait()
"""


def test_a_name_can_be_the_first():
    """Each public name can be the first that is used, and loads from a pickle before that."""
    names = [
        (where, name, pickle.dumps(getattr(sys.modules[where], name))) for where, name in NAMES
    ]
    assert script(EACH_ALONE.format(names=names)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_there_is_not(package):
    """Any other name is an AttributeError, with the text of a module that has all its names."""
    with pytest.raises(
        AttributeError, match=rf"module '{package.__name__}' has no attribute 'no_such_name'"
    ):
        package.no_such_name


def test_the_submodules_that_were_there_are_there():
    """``pcall.plan`` and ``pcall.exceptions`` are there after ``import pcall``."""
    script("import pcall\npcall.exceptions.PcallError, pcall.plan.Plan")


def test_the_function_before_its_first_call():
    """``pcall`` is ``Pcall.pcall``, and shows itself so, whichever was used first."""
    shown = script(
        "import pickle\nfrom pcall import pcall\nimport pcall as package\n"
        "data = pickle.dumps(pcall)\n"
        "assert pcall == package.Pcall.pcall == pickle.loads(data)\n"
        "assert len({pcall, package.Pcall.pcall}) == 1\n"
        "print(pcall)"
    )
    assert shown == ["<pcall._pcall.Pcall.pcall>"]


def test_the_logger_is_quiet_from_the_import_on():
    """The handler that keeps records off stderr is there before anything can log."""
    text = "import logging, pcall\nprint(logging.getLogger('pcall').handlers)"
    assert script(text) == ["[<NullHandler", "(NOTSET)>]"]
