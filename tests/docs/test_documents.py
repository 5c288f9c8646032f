"""What the documents show works, and what they point to is there."""

from __future__ import annotations

import doctest
import html
import inspect
import os
import re
import runpy
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import docutils.core
import docutils.nodes
import docutils.parsers.rst
import docutils.utils
import pytest

import pcall
import pcall.exceptions
import pcall.tasklog
from tests.helpers import ROOT
from tests.helpers.scripts import run_python

# The pages of ``docs/reference`` are made of directives that only Sphinx knows: see test_site.py.
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.rst", "docs/*.rst", "docs/recipes/*.rst", "benchmarks/*.rst")
    for path in ROOT.glob(pattern)
)
# What must be there, so that an empty search does not pass for a good one.
WITH_CODE = [
    "README.rst",
    "docs/coming_from.rst",
    "docs/errors.rst",
    "docs/executor.rst",
    "docs/fork_safety.rst",
    "docs/index.rst",
    "docs/logs.rst",
    "docs/plans.rst",
    "docs/policy.rst",
    "docs/profiling.rst",
    "docs/progress.rst",
    "docs/recipes/arrays.rst",
    "docs/recipes/asyncio_service.rst",
    "docs/recipes/downloads.rst",
    "docs/recipes/files.rst",
    "docs/recipes/frames.rst",
    "docs/recipes/monte_carlo.rst",
    "docs/recipes/nightly.rst",
    "docs/recipes/notebook.rst",
    "docs/recipes/pytest_devices.rst",
    "docs/side_by_side.rst",
    "docs/testing.rst",
    "docs/timeouts.rst",
    "docs/tutorial.rst",
]
# What a document needs beyond the extra ``test``. The extra ``docs`` has it.
NEEDS = {"docs/recipes/frames.rst": "pandas"}


class TableOfContents(docutils.parsers.rst.Directive):
    """Sphinx's ``toctree``, as links to its entries."""

    has_content = True
    option_spec: ClassVar = {
        "caption": docutils.parsers.rst.directives.unchanged,
        "maxdepth": docutils.parsers.rst.directives.nonnegative_int,
    }

    def run(self) -> list[docutils.nodes.Node]:
        paragraph = docutils.nodes.paragraph()
        for entry in self.content:
            paragraph += docutils.nodes.reference(entry, entry, refuri=f"{entry}.rst")
        return [paragraph]


docutils.parsers.rst.directives.register_directive("toctree", TableOfContents)


def parse(name: str) -> docutils.nodes.document:
    """The document, read strictly: whatever docutils has to complain of is an error."""
    path = ROOT / name
    return docutils.core.publish_doctree(
        path.read_text(),
        source_path=str(path),
        settings_overrides={
            "halt_level": docutils.utils.Reporter.WARNING_LEVEL,
            "report_level": docutils.utils.Reporter.WARNING_LEVEL,
            "syntax_highlight": "none",
            "warning_stream": False,
            "_disable_config": True,
        },
    )


def code_blocks(text: str, language: str = "python") -> Iterator[tuple[int, str]]:
    """The number of the first line, and the source, of each code block."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = re.fullmatch(rf"( *)\.\. code-block:: {language}", line)
        if not match:
            continue
        block = []
        for inner in lines[number + 1 :]:
            if inner.strip() and not inner.startswith(match[1] + " "):
                break
            block.append(inner)
        start = number + 2
        while block and (not block[0].strip() or block[0].lstrip().startswith(":")):
            block.pop(0)
            start += 1
        yield start, textwrap.dedent("\n".join(block)).rstrip() + "\n"


def as_script(text: str) -> str:
    """The code blocks of a document, each on the lines where it stands."""
    script: list[str] = []
    for start, source in code_blocks(text):
        script += [""] * (start - 1 - len(script))
        script += source.splitlines()
    return "\n".join(script) + "\n"


def run_document(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a file whose lines are the document's, so that tracebacks name those.

    Tests in it are run by pytest.
    """
    path = folder / "document.py"
    path.write_text(script)
    # Documents show forks of the standard library's beside ours, and those do warn. Where that is
    # an error, Python 3.15 raises it once the child is there.
    warnings = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    if re.search("^import pytest$", script, re.MULTILINE):
        pytest_options = ("-q", "-p", "no:cacheprovider", *warnings)
        return run_python("-m", "pytest", *pytest_options, path, cwd=folder, status=None)
    return run_python(*warnings, path, cwd=folder, status=None)


@pytest.mark.fast
@pytest.mark.parametrize("name", WITH_CODE)
def test_code_blocks_run(name, tmp_path):
    """The code blocks of a document, run one after another, do what they assert."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    script = as_script((ROOT / name).read_text())
    assert "pcall" in script
    done = run_document(script, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_documents_with_code_are_run():
    """No document has a code block that the test above does not run."""
    found = [name for name in DOCUMENTS if list(code_blocks((ROOT / name).read_text()))]
    assert found == WITH_CODE


def test_a_code_block_that_fails_is_seen(tmp_path):
    """The check above fails for a wrong block, with the document's line."""
    text = "Text\n\n.. code-block:: python\n\n    x = 1\n\nMore.\n\n"
    text += ".. code-block:: python\n\n    assert x == 2\n"
    done = run_document(as_script(text), tmp_path)
    assert done.returncode == 1
    assert 'document.py", line 11' in done.stderr
    assert "assert x == 2" in done.stderr


def test_results_that_the_readme_shows(tmp_path):
    """What stands in a comment beside ``print`` is what is printed, where it is always so."""
    script = as_script((ROOT / "README.rst").read_text())
    shown = re.findall(r"^ *print\((.*)\)  # (\(.*\)|\[.*\])$", script, re.MULTILINE)
    done = run_document(script, tmp_path)
    assert len(shown) >= 3
    for expression, result in shown:
        assert f"{result}\n" in done.stdout, f"{expression} does not print {result}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_renders(name):
    """Every document is plain reStructuredText without a complaint."""
    assert parse(name).astext().strip()


def source_of(node: docutils.nodes.Node | None, name: str) -> str:
    """The document that a node was read from: one that another includes has its own folder."""
    while node is not None:
        if node.source:
            return Path(os.path.relpath(node.source, ROOT)).as_posix()
        node = node.parent
    return name


def links_of(name: str) -> Iterator[tuple[str, str]]:
    """Each link to another file or section, with the document where it is written."""
    for node in parse(name).findall(docutils.nodes.reference):
        if "refuri" in node and not re.match(r"[a-z]+:", node["refuri"]):
            yield source_of(node, name), node["refuri"]


def targets_of(name: str) -> Iterator[str]:
    for _, target in links_of(name):
        yield target


def is_there(name: str, target: str) -> bool:
    file, _, anchor = target.partition("#")
    path = (ROOT / name).parent / file if file else ROOT / name
    if not anchor:
        return path.exists()
    return path.is_file() and anchor in parse(path.resolve().relative_to(ROOT).as_posix()).ids


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents(name):
    """What a document links to exists, down to the section."""
    assert [target for source, target in links_of(name) if not is_there(source, target)] == []


def test_a_broken_link_is_seen():
    """The check above fails for a file and for a section that are not there."""
    assert is_there("README.rst", "docs/design.rst#turns")
    assert not is_there("README.rst", "docs/design.rst#nowhere")
    assert not is_there("README.rst", "docs/nothing.rst")
    assert "docs/design.rst#turns" in targets_of("README.rst")


def test_documents_are_reached():
    """Every document and every example can be reached from the index of the documents."""
    reached: set[Path] = set()
    waiting = [ROOT / "docs/index.rst"]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        name = path.relative_to(ROOT).as_posix()
        if name not in DOCUMENTS:
            continue
        included = parse(name).settings.record_dependencies.list
        waiting += [Path(file).resolve() for file in included]
        waiting += [
            (ROOT / source).parent / link.partition("#")[0] for source, link in links_of(name)
        ]
        waiting = [Path(os.path.normpath(path)) for path in waiting]
    wanted = {ROOT / name for name in DOCUMENTS} | set((ROOT / "examples").glob("*.py"))
    assert wanted - reached == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_form_of_external_links(name):
    """A link to elsewhere is a whole address, encrypted, without odd characters."""
    for node in parse(name).findall(docutils.nodes.reference):
        if re.match(r"[a-z]+:", uri := node.get("refuri", "")):
            assert re.fullmatch(
                r"https://[a-z0-9.-]+\.[a-z]+(/[\w.~%/#?=&+@-]*)?|mailto:\S+@\S+", uri
            ), uri


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_documents_name(name):
    """A path of the project that a document names in literal text exists."""
    folders = "docs|examples|benchmarks|tests|pcall|\\.ci"
    for node in parse(name).findall(docutils.nodes.literal):
        if re.fullmatch(rf"({folders})/[\w./-]+", node.astext()):
            assert (ROOT / node.astext()).exists(), node.astext()


def public_docstrings() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Name, docstring and globals of all that is public."""
    modules = [pcall, pcall.exceptions, pcall.tasklog]
    for module in modules:
        yield module.__name__, inspect.getdoc(module) or "", vars(module)
    for name in pcall.__all__:
        thing = getattr(pcall, name)
        if isinstance(thing, str):
            continue
        yield name, inspect.getdoc(thing) or "", vars(pcall)
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_"):
                yield f"{name}.{member}", inspect.getdoc(value) or "", vars(pcall)


def test_docstrings_of_the_public_api():
    """The examples in docstrings give what they show, and their code blocks are Python."""
    parser = doctest.DocTestParser()
    runner = doctest.DocTestRunner(verbose=False)
    complaints: list[str] = []
    for name, text, names in public_docstrings():
        test = parser.get_doctest(text, dict(names), name, None, None)
        runner.run(test, out=complaints.append)
        for _, source in code_blocks(text):
            compile(source, name, "exec")
    assert runner.summarize(verbose=False).attempted > 0
    assert not complaints, "".join(complaints)


def test_commands_of_the_readme_are_two():
    """The two commands that a reader starts with can be told apart by name."""
    nodes = parse("README.rst").findall(docutils.nodes.literal_block)
    commands = {name: node.astext() for node in nodes for name in node["names"]}
    assert sorted(commands) == ["setup-and-run", "setup-and-test"]
    for command in commands.values():
        assert command.startswith("python3 -m venv .venv && ")
        assert "\n" not in command


def test_the_picture_of_the_readme_shows_what_is_printed():
    """The picture has the output that its script writes now, but for pids and for carets."""
    names = runpy.run_path(str(ROOT / "docs/draw_first_minute.py"))

    def lines(picture: str) -> list[str]:
        texts = (html.unescape(text) for text in re.findall(r"<text[^>]*>(.*)</text>", picture))
        return [re.sub(r"process \d+|pid \d+", "pid", text) for text in texts if text.strip(" ~^")]

    shown = lines((ROOT / "docs/first_minute.svg").read_text())
    assert "KeyError: 'router-3'" in shown
    assert shown == lines(names["draw"](names["picture_lines"]()))
