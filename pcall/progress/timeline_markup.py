"""Makes HTML of a timeline's bars: a picture that the keyboard can read. Pure."""

from __future__ import annotations

from pcall.progress.markup import escaped
from pcall.progress.timeline_bars import WINDOW, Bar, TimelineBars
from pcall.progress.wording import amount, duration, plural

__all__ = ["TIMELINE_SCRIPT", "TIMELINE_STYLE", "timeline_markup"]

_HEIGHT = 16  # pixels of a row
_MARKS = 4  # parts of the axis

TIMELINE_STYLE = """
.pcall .timeline { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 8px;
  margin: 6px 0; }
.pcall .timeline .rows span { display: block; overflow: hidden; max-width: 12em;
  text-overflow: ellipsis; white-space: nowrap; font-size: 11px; color: #687076; }
.pcall .timeline svg { display: block; width: 100%; background: #8882; border-radius: 3px; }
.pcall .timeline .axis { grid-column: 2; display: flex; justify-content: space-between;
  font-size: 11px; color: #687076; font-variant-numeric: tabular-nums; }
.pcall rect.done { fill: #2f9e5b; stroke: #2f9e5b; }
.pcall rect.failed { fill: #d6404a; stroke: #d6404a; }
.pcall rect.retried { fill: #e0803a; stroke: #e0803a; }
.pcall rect.running { fill: #4f8fd6; stroke: #4f8fd6; }
.pcall rect.waits { fill: #d9a514; stroke: #d9a514; }
.pcall rect { stroke-width: 1px; vector-effect: non-scaling-stroke; }
.pcall rect.part { stroke: none; pointer-events: none; }
.pcall rect:focus { outline: none; stroke: #1c2024; stroke-width: 3px; }
.pcall .retried { background: #e0803a; } .pcall .waits { background: #d9a514; }
.pcall .legend span { display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin: 0 4px 0 12px; }
.pcall #bar { min-height: 1.45em; margin: 2px 0; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { .pcall rect:focus { stroke: #fff; }
  .pcall .timeline .rows span, .pcall .timeline .axis { color: #9ba1a6; } }
"""

# One bar is in the order of the tabulator key; the arrows go from bar to bar of a row, and from row
# to row. What the bar stands for is written below. The bar stays in focus after a reload.
TIMELINE_SCRIPT = """
(function () {
  var svg = document.querySelector(".timeline svg"), line = document.getElementById("bar");
  if (!svg) return;
  var box = svg.parentNode;  // a picture with listeners of its own could be focused itself
  var key = "pcall bar " + document.body.dataset.run, rows = {}, last = null;
  svg.querySelectorAll("rect[data-r]").forEach(function (each) {
    (rows[each.dataset.r] = rows[each.dataset.r] || []).push(each);
  });
  function begin(bar) { return Number(bar.getAttribute("x")); }
  function keep(value) { try { sessionStorage.setItem(key, value); } catch (error) {} }
  Object.keys(rows).forEach(function (row) {
    rows[row].sort(function (a, b) { return begin(a) - begin(b); });
  });
  function show(bar) { line.textContent = bar.querySelector("title").textContent; }
  function go(bar) {
    if (!bar) return;
    if (last) last.setAttribute("tabindex", "-1");
    bar.setAttribute("tabindex", "0");
    bar.focus({ preventScroll: true });
    last = bar;
  }
  box.addEventListener("focusin", function (event) {
    last = event.target; show(last); keep(last.dataset.k);
  });
  box.addEventListener("focusout", function () { keep(""); });
  box.addEventListener("mouseover", function (event) {
    if (event.target.tagName === "rect") show(event.target);
  });
  box.addEventListener("keydown", function (event) {
    var bar = event.target, row = rows[bar.dataset.r], place = row.indexOf(bar), to = null;
    var names = Object.keys(rows).map(Number).sort(function (a, b) { return a - b; });
    var step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === "ArrowLeft") to = row[place - 1];
    else if (event.key === "ArrowRight") to = row[place + 1];
    else if (event.key === "Home") to = row[0];
    else if (event.key === "End") to = row[row.length - 1];
    else if (step) {
      var other = rows[names[names.indexOf(Number(bar.dataset.r)) + step]];
      if (other) to = other.reduce(function (a, b) {
        return Math.abs(begin(b) - begin(bar)) < Math.abs(begin(a) - begin(bar)) ? b : a;
      });
    } else return;
    event.preventDefault();
    go(to);
  });
  var kept = null;
  try { kept = sessionStorage.getItem(key); } catch (error) {}
  if (kept) go(svg.querySelector('[data-k="' + kept + '"]'));
})();
"""


def timeline_markup(bars: TimelineBars, begun: float, now: float) -> str:
    """The timeline as HTML; empty if no call has begun.

    Args:
        bars: its bars.
        begun: when the run began, on the monotonic clock.
        now: the time, or the end of the run.
    """
    shown = bars.bars(now)
    if not shown:
        return ""
    left = max(min(begun, *(bar.began for bar in shown)), now - WINDOW)
    length = max(now - left, 1e-6)
    names = bars.row_names
    height = _HEIGHT * len(names)
    labels = "".join(f'<span style="height:{_HEIGHT}px">{escaped(each)}</span>' for each in names)
    rects = "".join(_rect(bar, begun) for bar in shown)
    first = rects.replace('tabindex="-1"', 'tabindex="0"', 1)
    marks = "".join(
        f"<span>{duration(left - begun + part * length / _MARKS)}</span>"
        for part in range(_MARKS + 1)
    )
    legend = "".join(
        f'<span class="{kind}"></span>{text}'
        for kind, text in (
            ("done", "done"),
            ("failed", "failed"),
            ("retried", "failed, tried again"),
            ("waits", "waits for the next attempt"),
            ("running", "running"),
        )
    )
    return (
        f"<h2>Timeline</h2>\n"
        f'<p class="note legend">a bar is a call; arrow keys go from bar to bar{legend}</p>\n'
        f'<div class="timeline"><div class="rows" aria-hidden="true">{labels}</div>'
        f'<svg role="group" aria-label="timeline, {plural(len(shown), "bar")}" '
        f'style="height:{height}px" preserveAspectRatio="none" '
        f'viewBox="{left - begun:.6f} 0 {length:.6f} {len(names)}">{first}</svg>'
        f'<div class="axis" aria-hidden="true">{marks}</div></div>\n'
        f'<p class="note" id="bar" aria-live="polite"></p>\n'
    )


def _rect(bar: Bar, begun: float) -> str:
    if bar.markup:  # a bar that has ended does not change
        return bar.markup[0]
    top, height = (0.82, 0.12) if bar.kind == "waits" else (0.12, 0.66)
    name = f"{bar.span.index}.{bar.span.attempt}{'w' * (bar.kind == 'waits')}"
    x = f'x="{bar.began - begun:.6f}" width="{bar.ended - bar.began:.6f}"'
    kind = "done" if bar.kind == "mixed" else bar.kind
    made = (
        f'<rect class="{kind}" {x} y="{bar.row + top:.2f}" height="{height}" data-r="{bar.row}" '
        f'data-k="{name}" role="img" tabindex="-1"><title>{escaped(_text(bar))}</title></rect>'
    )
    if bar.kind == "mixed" and bar.failed:
        # The share of the attempts that failed, as a part of the bar's height.
        part = height * bar.failed / bar.count
        made += (
            f'<rect class="failed part" {x} y="{bar.row + top + height - part:.3f}" '
            f'height="{part:.3f}"></rect>'
        )
    if bar.kind != "running":
        bar.markup.append(made)
    return made


def _text(bar: Bar) -> str:
    span, seconds = bar.span, duration(bar.ended - bar.began)
    if bar.kind == "waits":
        return f"call {span.index}, {span.name}, waited {seconds} for its next attempt"
    if bar.count > 1:
        failed = f", {bar.failed} of them failed" if bar.failed else ""
        return (
            f"{bar.count} calls from call {span.index}, {span.name}, on{failed}: "
            f"{duration(bar.busy)} in {seconds}"
        )
    attempt = f", attempt {span.attempt}" if span.attempt > 1 or bar.kind == "retried" else ""
    how = {"done": "done in", "failed": "failed after", "retried": "failed after"}
    facts = [f"{how.get(bar.kind, 'running for')} {seconds}"]
    facts += [] if span.cpu is None else [f"cpu {duration(span.cpu)}"]
    facts += [] if span.max_rss is None else [f"peak {amount(span.max_rss)}"]
    facts += [] if span.pid is None else [f"process {span.pid}"]
    return f"call {span.index}, {span.name}{attempt}: {', '.join(facts)}"
