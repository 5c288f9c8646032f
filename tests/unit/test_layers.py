"""Contract, section 9: imports point one way, and what is not needed is not imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pcall

PACKAGE = Path(pcall.__file__).parent

# From top to bottom: a module imports those below it alone. A new one has to be put in its
# place here.
RANKED = [
    "__init__",
    "tasklog",
    "_pcall",
    "plan",
    "plan.running",
    "plan.report",
    "plan.supervisor",
    "plan.inline",
    "plan.settling",
    "plan.child",
    "plan.worker",
    "plan.values",
    "plan.carrying",
    "plan.outcomes",
    "plan.calls",
    "plan.rerunning",
    "plan.scheduler",
    "plan.chunks",
    "plan.uses",
    "plan.links",
    "plan.graph",
    "plan.picture",
    "plan.states",
    "plan.gathering",
    "plan.nodes",
    "_aio",
    "_inline",
    "_fresh",
    "_reuse",
    "_handing_out",
    "_reused",
    "_supervisor",
    "_children",
    "_accounts",
    "_logs",
    "_log_plan",
    "_log_merge",
    "_terminator",
    "_resources",
    "_forks",
    "_outcome",
    "_ledger",
    "_events",
    "_process",
    "_child",
    "_worker",
    "_log_child",
    "_log_frames",
    "_bootstrap",
    "_invoke",
    "_arguments",
    "_calls",
    "_scheduler",
    "_report",
    "_table",
    "_sending",
    "_transport",
    "_mapping",
    "_options",
    "_retry",
    "_seconds",
    "_observers",
    "progress.choosing",
    "progress",
    "progress.console",
    "progress.pretty",
    "progress.log",
    "progress.notebook",
    "progress.html",
    "progress.display",
    "progress.markup",
    "progress.terminal",
    "progress.plain",
    "progress.state",
    "progress.failures",
    "progress.wording",
    "_records",
    "_exception_pickling",
    "_randomness",
    "_streams",
    "_capacity",
    "_cgroups",
    "_system",
    "_guard",
    "_forking",
    "_signals",
    "exceptions",
    "_version",
]

# (module, what it imports inside a function): for those who use it, and have it, alone.
INSIDE_FUNCTIONS = {
    ("_invoke", "asyncio"),
    ("_system", "ctypes"),
    ("_mapping", "ctypes"),
    ("_system", "tempfile"),
    ("_pcall", "_aio"),
    ("_observers", "progress.choosing"),
    ("progress.pretty", "rich"),
    ("progress.notebook", "IPython"),
}

DEPENDENCIES = {"tblib"}
# Imported inside the functions above alone.
OPTIONAL = {"rich", "IPython"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def sources() -> dict[str, str]:
    return {name_of(path): path.read_text() for path in PACKAGE.rglob("*.py")}


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """The import statements, and whether each stands inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            # Read by type checkers alone; at run time nothing is imported.
            yield from imports(ast.Module(node.orelse, []), inside)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, inside or function)


def imported(node: ast.stmt) -> list[str]:
    """What a statement imports: names of our modules without ``pcall.``, or of packages."""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    else:
        assert isinstance(node, ast.ImportFrom)
        if node.level:
            return ["a relative import"]
        found = [node.module or ""]
        if node.module == "pcall":
            found = [f"pcall.{alias.name}" for alias in node.names]
            known = {f"pcall.{name}" for name in RANKED}
            # A name that is no module is one of the package's, which is the top.
            found = [name if name in known else "pcall" for name in found]
    ours = [name for name in found if name.partition(".")[0] == "pcall"]
    others = [name.partition(".")[0] for name in found if name not in ours]
    return [name.partition(".")[2] or "__init__" for name in ours] + others


def faults(modules: dict[str, str]) -> list[str]:
    """What in these modules goes against the rules."""
    found = []
    for module, source in modules.items():
        if module not in RANKED:
            found.append(f"{module} has no place in the ranking")
            continue
        for node, inside in imports(ast.parse(source)):
            for name in imported(node):
                where = f"{module}, line {node.lineno}, imports {name}"
                if inside and (module, name) not in INSIDE_FUNCTIONS:
                    found.append(f"{where} inside a function")
                if name in RANKED:
                    if RANKED.index(name) <= RANKED.index(module):
                        found.append(f"{where}, which is not below it")
                elif name in OPTIONAL and inside:
                    pass
                elif name not in sys.stdlib_module_names | DEPENDENCIES:
                    found.append(f"{where}, which is not known")
    return found


def test_imports_point_one_way():
    """Each module imports those below it alone, at its top."""
    assert faults(sources()) == []


def test_the_ranking_has_no_module_that_is_gone():
    """The ranking names the modules that exist, each once."""
    assert sorted(RANKED) == sorted(sources())


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("_records", "from pcall._pcall import Pcall", "imports _pcall, which is not below"),
        ("_records", "from pcall import _pcall", "imports _pcall, which is not below"),
        ("_records", "from pcall import Pcall", "imports __init__, which is not below"),
        ("_records", "import pcall", "imports __init__, which is not below"),
        ("_records", "import os, pcall._pcall as p", "imports _pcall, which is not below"),
        ("_records", "from . import _pcall", "imports a relative import"),
        ("_records", "from pcall._new import x", "imports _new, which is not known"),
        ("_records", "import numpy.random", "imports numpy, which is not known"),
        ("_records", "try:\n import rich\nexcept ImportError: pass", "imports rich"),
        ("_records", "def f():\n  import os", "imports os inside a function"),
        ("_records", "class A:\n  async def f(self):\n    import os", "os inside a function"),
        ("_records", "if TYPE_CHECKING: pass\nelse: import pcall._pcall", "imports _pcall"),
        ("_new", "", "_new has no place in the ranking"),
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
        ("_pcall", "from pcall import _records, exceptions"),
        ("_pcall", "async def f():\n  from pcall._aio import finish"),
        ("_records", "import tblib, os.path"),
        ("exceptions", "if TYPE_CHECKING:\n  from pcall._core.records import Outcome"),
    ],
)
def test_the_check_allows_what_is_allowed(module, source):
    """The check above lets pass what the rules allow."""
    assert faults({module: source}) == []


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
