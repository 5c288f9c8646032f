"""Draws a plan: Graphviz text, coloured by the states of the calls, and SVG made from it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pcall._core.records import show
from pcall.plan.call_states import DONE, FAILED, SKIPPED
from pcall.plan.graph import Graph

__all__ = ["Box", "dot_text", "svg_text"]

_COLOURS = {DONE: "palegreen", FAILED: "lightcoral", SKIPPED: "lightgrey"}
# The time limit of a layout, in seconds.
_LAYOUT_TIMEOUT = 60


class Box(NamedTuple):
    """How a call is drawn.

    Attributes:
        name: the text in the box.
        tooltip: the text that a browser shows under the mouse pointer.
        scope: the names of the frame that the box is in; empty: no frame.
        state: the state of the call; it selects the colour.
    """

    name: str
    tooltip: str
    scope: tuple[object, ...]
    state: int


def dot_text(graph: Graph, boxes: Sequence[Box]) -> str:
    """The graph in the language of Graphviz.

    Args:
        graph: the calls and gathers.
        boxes: how each call is drawn.
    """
    lines = [*_boxes(boxes), *_gathers(graph), *_edges(graph)]
    return "\n".join(["digraph plan {", *lines, "}", ""])


def svg_text(dot: str) -> str:
    """Graphviz text as SVG, made by the program ``dot``.

    Raises:
        RuntimeError: ``dot`` is not installed, or failed.
    """
    try:
        made = subprocess.run(
            ["dot", "-Tsvg"], input=dot, capture_output=True, text=True, timeout=_LAYOUT_TIMEOUT
        )
    except FileNotFoundError:
        raise RuntimeError(
            "SVG is drawn by the program dot of Graphviz, which is not installed; "
            "render() without it returns text"
        ) from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"dot took longer than {_LAYOUT_TIMEOUT} s; the plan is too large"
        ) from None
    if made.returncode:
        raise RuntimeError(f"dot failed: {made.stderr.strip()}")
    return made.stdout


def _boxes(boxes: Sequence[Box]) -> Iterator[str]:
    yield '  node [shape=box, style="rounded,filled", fillcolor=white, fontname=sans];'
    scopes: dict[tuple[object, ...], list[int]] = {}
    for index, box in enumerate(boxes):
        scopes.setdefault(box.scope, []).append(index)
    for number, (scope, indices) in enumerate(scopes.items()):
        indent = "  "
        if scope:
            indent = "    "
            yield f"  subgraph cluster_{number} {{"
            yield f"    label={_quoted(' / '.join(map(_text, scope)))};"
        for index in indices:
            box = boxes[index]
            colour = _COLOURS.get(box.state)
            filled = f", fillcolor={colour}" if colour else ""
            tip = _quoted(box.tooltip)
            yield f"{indent}c{index} [label={_quoted(box.name)}, tooltip={tip}{filled}];"
        if scope:
            yield "  }"


def _gathers(graph: Graph) -> Iterator[str]:
    for number in range(1, len(graph.gather_needs) + 1):
        yield f"  g{number} [shape=point];"


def _edges(graph: Graph) -> Iterator[str]:
    for number, needs in enumerate(graph.gather_needs, 1):
        for vertex in needs:
            yield f"  {_vertex(vertex)} -> g{number};"
    for index, needs in enumerate(graph.needs):
        for vertex in needs:
            yield f"  {_vertex(vertex)} -> c{index};"


def _vertex(vertex: int) -> str:
    return f"c{vertex}" if vertex >= 0 else f"g{-vertex}"


def _text(name: object) -> str:
    return name if isinstance(name, str) else show(name)


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
