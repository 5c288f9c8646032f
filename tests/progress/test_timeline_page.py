"""docs/progress.rst, "A page": the timeline below the figures of the page."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from pcall import Pcall, Plan, run
from pcall._core.records import Event
from pcall._core.spans import Span
from pcall.progress import HtmlProgress
from pcall.progress.timeline_bars import MAX_BARS, MAX_ROWS, WINDOW, TimelineBars
from pcall.progress.timeline_markup import timeline_markup

NAME = ("work",)
HOSTILE = '</title><script>window.owned=1</script>"'


def started(index, at, worker=None, pid=None):
    return Event("started", NAME, at, spans=[Span(index, "work", 1, at, None, pid, worker)])


def ended(kind, index, began, at, worker=None, pid=None, attempt=1, name="work"):
    span = Span(index, name, attempt, began, at, pid, worker, 0.25, 3_000_000)
    return Event(kind, NAME, at, spans=[span])


def made_of(events, most=MAX_BARS):
    bars = TimelineBars(most)
    bars.add(events)
    return bars


def shown(bars, now):
    return [(bar.row, bar.kind, bar.began, bar.ended) for bar in bars.bars(now)]


@pytest.mark.fast
def test_a_bar_for_each_attempt():
    """Calls that are done, failed, retried, wait and run have a bar each, in their row."""
    bars = made_of(
        [
            started(0, 0.0, pid=10),
            started(1, 0.0, pid=11),
            ended("done", 0, 0.0, 2.0, pid=10),
            started(2, 2.0, pid=12),
            ended("retried", 1, 0.0, 3.0, pid=11),
            started(1, 4.0, pid=13),
            ended("failed", 1, 4.0, 5.0, pid=13, attempt=2),
        ]
    )
    assert shown(bars, 6.0) == [
        (0, "done", 0.0, 2.0),
        (1, "retried", 0.0, 3.0),
        (1, "waits", 3.0, 4.0),
        (1, "failed", 4.0, 5.0),
        (0, "running", 2.0, 6.0),
    ]
    assert bars.row_names == ["process 1", "process 2"]


def test_reused_workers_have_a_row_each():
    """A worker's calls are in its row, whoever runs meanwhile."""
    events = [ended("done", i, float(i), i + 1.0, f"worker {i % 3}", i % 3) for i in range(9)]
    bars = made_of(events)
    assert [row for row, *_ in shown(bars, 9.0)] == [0, 1, 2] * 3
    assert bars.row_names == ["worker 0", "worker 1", "worker 2"]


def test_a_call_that_was_taken_back_does_not_run():
    """A start that is taken back leaves no bar."""
    back = Event("started", NAME, 1.0, -1, spans=[Span(0, "work", 1, 0.0, None, 5, None)])
    assert shown(made_of([started(0, 0.0, pid=5), back]), 2.0) == []


def test_neighbours_merge_when_there_are_many():
    """There are never more bars than may be; merged ones keep their counts and times."""
    bars = TimelineBars()
    for i in range(30_000):
        kind = "failed" if i % 7 == 0 else "done"
        bars.add([ended(kind, i, i / 100, i / 100 + 0.03, f"worker {i % 4}", i % 4)])
    found = bars.bars(300.0)
    assert MAX_BARS // 4 < len(found) <= MAX_BARS
    assert sum(bar.count for bar in found) == 30_000
    assert sum(bar.failed for bar in found) == len(range(0, 30_000, 7))
    assert min(bar.began for bar in found) == 0.0
    assert max(bar.ended for bar in found) == pytest.approx(300.02)
    # The resolution is the same at the begin as at the end.
    first = [bar for bar in found if bar.began < 30]
    assert len(first) > len(found) / 30
    assert all(bar.ended - bar.began < 5 for bar in found)


def test_long_bars_stay_when_short_ones_merge():
    """A call that takes long is seen as it was."""
    events = [ended("done", i, i / 1000, i / 1000 + 0.001, "worker 0", 1) for i in range(10_000)]
    bars = made_of([ended("failed", 77_777, 0.0, 9.0, "worker 1", 2), *events])
    assert (0, "failed", 0.0, 9.0) in shown(bars, 10.0)


def test_old_bars_are_dropped():
    """The timeline goes back for some minutes."""
    events = [ended("done", i, i * 10.0, i * 10.0 + 1, "worker 0", 1) for i in range(1000)]
    found = made_of(events).bars(10_000.0)
    assert all(bar.ended >= 10_000 - WINDOW for bar in found)
    assert 50 < len(found) <= 61


def test_thousands_of_calls_at_once():
    """Rows are bounded, too: the last one stands for all further ones."""
    bars = made_of([started(i, 0.0, pid=i) for i in range(5_000)])
    found = bars.bars(1.0)
    assert len(found) <= MAX_BARS
    assert max(bar.row for bar in found) == MAX_ROWS - 1
    assert len(bars.row_names) == MAX_ROWS
    assert bars.row_names[-1] == "4941 more"


def test_texts():
    """Each bar says what it stands for, and nothing in it is markup."""
    events = [
        ended("retried", 3, 0.0, 1.0, pid=77, name=HOSTILE),
        ended("done", 3, 2.0, 4.0, pid=78, attempt=2, name=HOSTILE),
    ]
    text = timeline_markup(made_of(events), 0.0, 5.0)
    titles = re.findall(r"<title>(.*?)</title>", text)
    assert len(titles) == 3
    assert "<script" not in text
    assert titles[0].startswith("call 3, &lt;/title&gt;&lt;script&gt;")
    assert titles[0].endswith(", attempt 1: failed after 1.0 s, cpu 0.25 s, peak 3 MB, process 77")
    assert titles[1].endswith("waited 1.0 s for its next attempt")
    assert titles[2].endswith("attempt 2: done in 2.0 s, cpu 0.25 s, peak 3 MB, process 78")
    assert text.count('tabindex="0"') == 1
    assert timeline_markup(TimelineBars(), 0.0, 5.0) == ""


def nap(seconds):
    time.sleep(seconds)


def twice(path):
    with open(path, "a") as file:
        file.write("x")
    if path.stat().st_size < 2:
        raise LookupError("not yet")


POLICIES = {
    "fresh": {"max_workers": 3},
    "reused": {"max_workers": 3, "max_tasks_per_child": None},
    "inline": {"max_workers": 0},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_real_runs(tmp_path, policy):
    """The page of a run has its calls, attempts and workers."""
    path = tmp_path / "page.html"
    made = Pcall.options(progress=HtmlProgress(path), retry=2, max_errors=None, **policy)
    made.pcall([nap] * 5 + [twice], iargs=[(0.01,)] * 5 + [(tmp_path / "file",)])
    text = path.read_text()
    kinds = re.findall(r'<rect class="(\w+)"', text)
    assert kinds.count("done") == 6
    assert kinds.count("retried") == 1
    rows = set(re.findall(r'data-r="(\d+)"', text))
    assert 1 <= len(rows) <= 3


def test_plans(tmp_path):
    """So has the page of a plan."""
    plan = Plan()
    first = plan.call(nap, 0.01)
    plan.add_dependency(first, plan.call(nap, 0.01))
    path = tmp_path / "page.html"
    run(plan, progress=HtmlProgress(path))
    assert path.read_text().count('<rect class="done"') == 2


def page_with(path, count):
    """A page with so many calls, one of which failed, one of which was retried, and one runs."""
    display = HtmlProgress(path)
    display.begin()
    now = time.monotonic()
    display.observe([Event("planned", NAME, now, count + 3)])
    for i, w in zip(range(count), itertools.cycle(range(4)), strict=False):
        display.observe([ended("done", i, now + i * 0.01, now + i * 0.01 + 0.02, f"worker {w}", w)])
    last = now + count * 0.01 + 0.1
    display.observe(
        [
            ended("failed", count, last, last + 0.5, "worker 0", 0),
            ended("retried", count + 1, last, last + 0.5, "worker 1", 1),
            started(count + 2, now, "worker 5", 5),
        ]
    )
    display._write(last + 1.0)
    return display


@pytest.mark.parametrize("count", [3, 300, 30_000])
def test_the_picture_in_a_browser(browser, tmp_path, count):
    """At two sizes, light and dark, all bars are in the picture, and can be told apart."""
    display = page_with(tmp_path / "page.html", count)
    for width, dark in ((1100, False), (480, True)):
        size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
        browser.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.send("Emulation.setEmulatedMedia", features=[scheme])
        browser.open(tmp_path / "page.html")
        bars = browser.value("document.querySelectorAll('.timeline rect[data-r]').length")
        assert min(count, MAX_BARS // 4) < bars <= MAX_BARS
        outside = browser.value(
            "(function () { var box = document.querySelector('.timeline svg')"
            ".getBoundingClientRect(); return [...document.querySelectorAll('.timeline rect')]"
            ".filter(each => { var r = each.getBoundingClientRect();"
            " return r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 1"
            " || r.bottom > box.bottom + 1; }).length; })()"
        )
        assert outside == 0
        assert browser.value("document.querySelector('.timeline').scrollWidth <= innerWidth")
        colours = browser.value(
            "['failed', 'retried', 'running', 'done'].map(kind =>"
            " getComputedStyle(document.querySelector('.timeline rect.' + kind)).fill)"
        )
        assert len(set(colours)) == 4
        back = browser.value("getComputedStyle(document.body).color")
        assert back == ("rgb(230, 232, 234)" if dark else "rgb(28, 32, 36)")
        assert browser.value("matchMedia('(prefers-color-scheme: dark)').matches") is dark
        assert (
            browser.value("getComputedStyle(document.documentElement).colorScheme") == "light dark"
        )
    assert not [url for url in browser.requests if not url.startswith("file:")]
    display.end()


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def test_the_keyboard(browser, tmp_path):
    """The tabulator key leads to the timeline, arrows from bar to bar; each is told as text."""
    page_with(tmp_path / "page.html", 40).end()
    browser.open(tmp_path / "page.html")
    press(browser, "Tab")
    assert browser.value("document.activeElement.tagName") == "rect"
    told = "document.getElementById('bar').textContent"
    assert browser.value(told).startswith("call 0, work: done in")
    press(browser, "ArrowRight")
    assert browser.value(told).startswith("call 4, work")
    press(browser, "ArrowDown")
    assert browser.value(told).startswith("call 5, work")
    press(browser, "ArrowUp")
    press(browser, "End")
    assert browser.value(told).startswith("call 40, work: failed after 0.50 s")
    press(browser, "Home")
    press(browser, "ArrowLeft")
    assert browser.value(told).startswith("call 0, work")
    browser.value("location.reload()")
    browser.until("document.readyState == 'complete' && document.activeElement.dataset.k == '0.1'")


def test_the_mouse(browser, tmp_path):
    """Pointing at a bar tells it, too."""
    page_with(tmp_path / "page.html", 3).end()
    browser.open(tmp_path / "page.html")
    browser.click(".timeline rect.failed")
    browser.until("document.getElementById('bar').textContent.startsWith('call 3, work: failed')")
