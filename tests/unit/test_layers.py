"""Imports point one way between the rooms of the package (docs/design.rst), without a cycle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import pcall

PACKAGE = Path(pcall.__file__).parent

# From top to bottom: a room imports the rooms below it alone. A folder is a room, and so is a file
# that stands beside the folders; a module belongs to the longest name that fits.
ROOMS = [
    "__init__",  # the public names
    "cluster",
    "_executing",  # a job of a cluster
    "tasklog",
    "profiling",
    "_function",
    "_pcall",  # the faces: pcall and Pcall, and ...
    "plan",  # ... plans, and ...
    "executor",  # ... executors
    "exceptions",
    "_faces",  # what the faces share
    "engines.dask",  # the cluster, from the caller's side to its workers'
    "_run",  # state and engine, composed
    "engines.inline",
    "engines.inline_profile",
    "engines.local.parent",
    "engines.local.child",
    "engines.local",  # what both sides of a fork share
    "engines",  # the protocol, and the call of a target
    "progress",
    "_logs",
    "_core",
    "_profiles",  # how they are taken, merged and printed
    "_wire",
    "_os",
    "_lazy",
    "_tuning",
    "_errors",
    "_types",
    "_version",
]

# (module, what it imports inside a function): for those who use it, and have it, alone.
INSIDE_FUNCTIONS = {
    ("_lazy", "importlib"),
    ("_core.options", "difflib"),
    ("_faces.entry", "inspect"),
    # What a run needs is imported with it.
    ("_function", "_pcall"),
    ("_pcall", "_faces.asyncio_turns"),
    ("_pcall", "_faces.result_stream"),
    ("_faces.result_stream", "_faces.asyncio_turns"),
    ("_faces.completed_outcomes", "_faces.asyncio_turns"),
    ("_faces.make_run", "_core.chunk_outcomes"),
    ("_faces.make_run", "_faces.cluster_run"),
    ("_faces.use_profiles", "_profiles.run_profile"),
    ("_faces.make_run", "engines.inline"),
    ("_faces.make_run", "engines.local.parent.pool_engine"),
    ("_faces.make_run", "engines.local.parent.workload"),
    ("_faces.run_observers", "progress.choosing"),
    ("_os.linux", "ctypes"),
    ("_os.portable", "tempfile"),
    # These lines run elsewhere, and go there by value.
    ("engines.dask.link", "sys"),
    # A node loads them if its caller draws random numbers.
    ("engines.dask.node_engine", "random"),
    ("engines.dask.node_engine", "engines.local.parent.profile_files"),
    ("_wire.mapping", "ctypes"),
    ("engines.inline", "engines.inline_profile"),
    ("engines.invoke", "asyncio"),
    ("plan.plan_run", "plan.cluster_plan"),
    ("engines.local.parent.local_engine", "engines.local.parent.profile_files"),
    ("engines.local.parent.run_resources", "engines.local.child.profiled_calls"),
    ("progress.pretty", "rich"),
    ("progress.notebook", "IPython"),
}

DEPENDENCIES = {"tblib"}
# Of rooms that nobody enters who has not installed an extra.
EXTRAS = {"cluster": {"distributed"}, "engines.dask": {"cloudpickle", "dask", "distributed"}}
# Imported inside the functions above alone.
OPTIONAL = {"rich", "IPython"}
# Type checkers bring it along.
TYPES = {"typing_extensions"}


class Import(NamedTuple):
    """A module that another one imports."""

    name: str
    line: int
    inside: bool  # a function
    types: bool = False  # read by type checkers alone


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def sources() -> dict[str, str]:
    return {name_of(path): path.read_text() for path in PACKAGE.rglob("*.py")}


def room_of(module: str) -> str | None:
    fitting = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def statements(
    tree: ast.AST, inside: bool = False, types: bool = False
) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """The import statements, whether each stands in a function, and whether it is for types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside, types
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(ast.Module(node.body, []), inside, True)
            yield from statements(ast.Module(node.orelse, []), inside, types)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(node, inside or function, types)


def imports(source: str, modules: set[str]) -> Iterator[Import]:
    """What a source imports: names of our modules without ``pcall.``, or of other packages."""
    for node, inside, types in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.ImportFrom)
            if node.level:
                yield Import("a relative import", node.lineno, inside, types)
                continue
            # Of "from a import b", b may be a module or a name of a's.
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [
                each if each.removeprefix("pcall.") in modules else str(node.module)
                for each in found
            ]
        for name in found:
            package, _, rest = name.partition(".")
            ours = (rest or "__init__") if package == "pcall" else package
            yield Import(ours, node.lineno, inside, types)


def faults(modules: dict[str, str]) -> list[str]:
    """What in these modules goes against the rules."""
    found = []
    known = set(sources()) | set(modules)
    for module, source in modules.items():
        room = room_of(module)
        if room is None:
            found.append(f"{module} is in no room")
            continue
        for each in imports(source, known):
            where = f"{module}, line {each.line}, imports {each.name}"
            allowed = TYPES if each.types else set()
            if each.inside and (module, each.name) not in INSIDE_FUNCTIONS:
                found.append(f"{where} inside a function")
            if each.name in known:
                below = room_of(each.name)
                assert below is not None
                if ROOMS.index(below) < ROOMS.index(room):
                    found.append(f"{where}, whose room is not below")
            elif (each.name in OPTIONAL and (each.inside or each.types)) or each.name in allowed:
                pass
            elif each.name not in sys.stdlib_module_names | DEPENDENCIES | EXTRAS.get(room, set()):
                found.append(f"{where}, which is not known")
    return found


def graph(modules: dict[str, str]) -> dict[str, set[str]]:
    """By module, those of ours that it imports."""
    return {
        module: {each.name for each in imports(source, set(modules)) if each.name in modules}
        - {module}
        for module, source in modules.items()
    }


def floors(needs: dict[str, set[str]]) -> dict[str, int]:
    """By module, one more than the highest floor of those that it imports.

    Raises:
        ValueError: some import each other; the text names them.
    """
    placed: dict[str, int] = {}
    while len(placed) < len(needs):
        free = [m for m in needs if m not in placed and needs[m] <= placed.keys()]
        if not free:
            raise ValueError(f"a cycle among {sorted(needs.keys() - placed.keys())}")
        for module in free:
            placed[module] = 1 + max((placed[each] for each in needs[module]), default=0)
    return placed


def test_imports_point_one_way():
    """Each module imports from its own room and from rooms below it alone, at its top."""
    assert faults(sources()) == []


def test_no_module_imports_itself_through_others():
    """There is no cycle, neither within a room nor for types alone."""
    floors(graph(sources()))


def test_the_rooms_are_few_and_exist():
    """Every room has a module, and the package keeps to about a dozen floors of rooms."""
    modules = sources()
    assert {room_of(module) for module in modules} == set(ROOMS)
    by_room: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, needs in graph(modules).items():
        room = room_of(module)
        by_room[str(room)] |= {str(room_of(each)) for each in needs} - {str(room)}
    assert max(floors(by_room).values()) <= 14


def test_no_two_modules_have_one_name():
    """A file is found by its name alone."""
    names = [path.stem for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("_core.records", "from pcall._pcall import Pcall", "imports _pcall, whose room is not"),
        ("_core.records", "from pcall import _pcall", "imports _pcall, whose room is not below"),
        ("_core.records", "from pcall import Pcall", "imports __init__, whose room is not below"),
        ("_core.records", "import pcall", "imports __init__, whose room is not below"),
        ("_core.records", "import os, pcall._pcall as p", "imports _pcall, whose room is not"),
        ("_core.records", "from . import _pcall", "imports a relative import"),
        ("_core.records", "from pcall._core.new import x", "imports _core.new, which is not known"),
        ("_core.records", "import numpy.random", "imports numpy, which is not known"),
        ("_core.records", "from typing_extensions import TypeVar", "imports typing_extensions"),
        ("_core.records", "try:\n import rich\nexcept ImportError: pass", "imports rich"),
        ("_core.records", "def f():\n  import os", "imports os inside a function"),
        ("_core.records", "class A:\n  async def f(self):\n    import os", "os inside a function"),
        ("_core.records", "if TYPE_CHECKING:\n  from pcall._run import Run", "imports _run, whose"),
        ("engines.local.child.main", "from pcall.engines.local.parent import fork", "not below"),
        ("_new", "", "_new is in no room"),
    ],
)
def test_the_check_sees_what_is_forbidden(module, source, fault):
    """The check above fails for each thing that it forbids."""
    (found,) = faults({module: source}) or [""]
    assert fault in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_pcall", "from pcall._core.records import Call"),
        ("_pcall", "async def f():\n  from pcall._faces.asyncio_turns import finish"),
        ("_core.records", "import tblib, os.path"),
        ("engines.local.parent.fork", "from pcall.engines.local.child.child_main import live"),
    ],
)
def test_the_check_allows_what_is_allowed(module, source):
    """The check above lets pass what the rules allow."""
    assert faults({module: source}) == []


def test_the_check_sees_a_cycle():
    """Modules that import each other are named."""
    with pytest.raises(ValueError, match=r"a cycle among \['a', 'b'\]"):
        floors({"a": {"b"}, "b": {"a"}, "c": set()})


HEAVY = ["asyncio", "ctypes", "numpy", "rich", "IPython", "distributed", "pandas", "concurrent"]

SCRIPT = """
import sys
{body}
print([name for name in {heavy} if name in sys.modules])
"""


def loaded(body: str) -> str:
    script = SCRIPT.format(body=body, heavy=HEAVY)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_import_is_light():
    """``import pcall`` imports nothing that only some of its users need."""
    assert loaded("import pcall") == "[]"


def test_the_check_of_what_is_loaded_sees_it():
    """The check above fails for a module that is loaded."""
    assert loaded("import pcall, asyncio") == "['asyncio', 'concurrent']"


def test_a_run_imports_no_asyncio_and_no_numpy():
    """A run without coroutines and arrays imports neither asyncio nor numpy, in no process."""
    body = (
        "from pcall import pcall\n"
        "def f(x): return [name for name in ('asyncio', 'numpy') if name in sys.modules]\n"
        "assert pcall(f, x=(1, 2)) == ([], []), pcall(f, x=(1, 2))\n"
    )
    assert "asyncio" not in loaded(body)
    assert "numpy" not in loaded(body)
