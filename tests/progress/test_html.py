"""docs/progress.rst: progress as one self-contained page that is whole at any moment."""

from __future__ import annotations

import html.parser
import os
import re
import stat
import threading
import time

import pytest

from pcall._core.records import Event
from pcall.progress import HtmlProgress
from tests.helpers.progress_runs import PROBE, failed, live_run, show, small_run

HOSTILE = "</pre><script>window.owned=1</script><img src=x onerror='window.owned=1'> & \x1b[2J \x00"


class Page(html.parser.HTMLParser):
    """The tags of a page, with their attributes, and whether they nest as they should."""

    EMPTY = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.tags)


def page_of(path, events) -> Page:
    show(HtmlProgress(path), events)
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.fast
def test_the_page_is_self_contained(tmp_path):
    """The page loads nothing: no script, style, picture or font from anywhere."""
    page = page_of(tmp_path / "page.html", small_run([0, 1]))
    for _, attributes in page.tags:
        assert not {"src", "href", "data", "srcset"} & set(attributes)
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?:|@import|url\(", text)
    assert "default-src 'none'" in text


def test_the_page_has_every_figure(tmp_path):
    """The table has a row for each scope with all its figures."""
    events = [
        Event("planned", ("load", "big"), time.monotonic(), 20),
        Event("planned", ("merge",), time.monotonic(), 5),
        Event("started", ("load", "big"), time.monotonic(), 10),
        Event("done", ("load", "big"), time.monotonic(), 4, 8.0, 2.0, 3_000_000),
        failed(0, scope=("load", "big")),
        failed(0, scope=("load", "big"), kind="retried"),
        Event("skipped", ("load", "big"), time.monotonic(), 7),
    ]
    page = page_of(tmp_path / "page.html", events)
    text = " ".join(page.texts)
    heads = "total done running failed retried skipped rate left elapsed"
    assert heads in text
    row = (tmp_path / "page.html").read_text().partition('title="load/big"')[2].partition("</tr>")
    cells = re.findall(r"<td>(.*?)</td>", row[0])
    assert cells[:6] == ["20", "4", "4", "1", "1", "7"]
    assert cells[9:] == ["8.5 s (1.4 s)", "2.0 s (0.34 s)", "3 MB"]
    assert page.count("td", **{"class": "name", "title": "merge"}) == 1
    assert page.count("td", **{"class": "name", "title": "all"}) == 1


def test_each_exception_can_be_opened(tmp_path):
    """Equal exceptions are one group with a count, and in it there is each by itself."""
    page = page_of(tmp_path / "page.html", small_run([2] * 5 + [0] * 3))
    assert page.count("details", **{"class": "group"}) == 2
    assert page.count("details", **{"class": "one"}) == 8
    assert page.count("details", open="") == 0
    text = "".join(page.texts)
    assert re.search(r"5 x\s+ConnectionError: refused in probe: 5 failed", text)
    assert re.search(r"3 x\s+ZeroDivisionError: division by zero in probe: 3 failed", text)


def test_exceptions_are_kept_up_to_a_bound(tmp_path):
    """A thousand exceptions can be opened, and the page says how many more were counted."""
    page = page_of(tmp_path / "page.html", small_run([2] * 1500, total=1500))
    assert page.count("details", **{"class": "one"}) == 1001
    assert "and 499 more, which were only counted" in "".join(page.texts)
    assert os.path.getsize(tmp_path / "page.html") < 2_000_000


def test_everything_is_escaped(tmp_path):
    """Names, arguments and texts of exceptions are text, whatever is in them."""
    events = [
        Event("planned", (HOSTILE, '"><b>'), time.monotonic(), 2),
        failed(ValueError(HOSTILE), args=(HOSTILE,), scope=(HOSTILE, '"><b>')),
        failed(type(HOSTILE.replace("\0", ""), (Exception,), {})(HOSTILE), scope=('" onclick="',)),
    ]
    page = page_of(tmp_path / "page.html", events)
    assert page.count("script") == 1
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    text = (tmp_path / "page.html").read_bytes()
    assert b"\x1b" not in text
    assert b"\x00" not in text


def test_a_lone_half_of_a_pair_can_be_written(tmp_path):
    """Text that no encoding can hold does not keep the page from being written."""
    page = page_of(tmp_path / "page.html", small_run([ValueError("\ud800 日本")]))
    assert r"\ud800 日本" in "".join(page.texts)


def test_the_page_is_replaced_atomically(tmp_path):
    """Whoever reads the file while the run goes on finds a whole page."""
    path = tmp_path / "page.html"
    seen: list[str] = []
    over = threading.Event()

    def read():
        while not over.is_set():
            if path.exists():
                seen.append(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        live_run(HtmlProgress(path), 2.5, total=500)
    finally:
        over.set()
        reader.join()
    assert len(set(seen)) >= 4
    assert all(text.startswith("<!DOCTYPE html>") for text in seen)
    assert all(text.endswith("</html>\n") for text in seen)
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_link_in_the_place_of_a_page_that_is_being_written(tmp_path):
    """The page is made under a name that nobody can guess: no link leads the writing elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("old")
    display = HtmlProgress(tmp_path / "page.html")
    os.symlink(victim, f"{tmp_path}/page.html.{os.getpid()}-{id(display):x}.tmp")
    show(display, small_run([0, 1]))
    assert victim.read_text() == "old"
    assert not (tmp_path / "page.html").is_symlink()


def test_a_failure_is_on_the_page_within_a_second(tmp_path):
    """A failure is written to the page within a second, and the page looks for news as often."""
    path = tmp_path / "page.html"
    observer = HtmlProgress(path)
    observer.begin()
    observer.observe([Event("planned", PROBE, time.monotonic(), 3)])
    observer.observe([failed(0)])
    begun = time.monotonic()
    while "ZeroDivisionError" not in path.read_text():
        observer.observe([])
        time.sleep(0.02)
    assert time.monotonic() - begun < 1.0
    assert "data-live" in path.read_text()
    observer.end()
    assert "data-live" not in path.read_text()
    assert 'http-equiv="refresh"' not in path.read_text()


def test_a_run_that_makes_the_page_anew(tmp_path):
    """The next run replaces the page of the one before."""
    observer = HtmlProgress(tmp_path / "page.html")
    show(observer, small_run([0]))
    show(observer, small_run(total=7))
    text = (tmp_path / "page.html").read_text()
    assert "7 of 7" in text
    assert "ZeroDivisionError" not in text


def test_the_path_is_that_of_the_time_of_the_making(tmp_path, monkeypatch):
    """A relative path is not followed into a folder that the run changes to."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    observer = HtmlProgress("page.html")
    monkeypatch.chdir(tmp_path / "other")
    show(observer, small_run())
    assert sorted(os.listdir(tmp_path)) == ["other", "page.html"]


@pytest.mark.parametrize("path", [None, 3, b"page.html"])
def test_what_is_no_path(path):
    """Something that is no path is a TypeError that shows it."""
    with pytest.raises(TypeError, match=f"path must be that of a file, not {path!r}"):
        HtmlProgress(path)


def test_a_path_that_is_no_files(tmp_path):
    """A folder, a device or nothing is refused, before it could be replaced by a page."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("", tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="path must be that of a"):
            HtmlProgress(path)
    observer = HtmlProgress(tmp_path / "page.html")
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ValueError, match="path must be that of a"):
        observer.begin()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_that_is_not_there(tmp_path):
    """A page that nobody could write is refused before anything runs."""
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        HtmlProgress(tmp_path / "nowhere" / "page.html")


def test_a_folder_that_has_gone(tmp_path):
    """A page that cannot be written is told when the run starts, and nothing is left of it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    observer = HtmlProgress(folder / "page.html")
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        observer.begin()
    observer.end()
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------ in a real browser


def test_bars_are_drawn(browser, tmp_path):
    """In a browser a bar's parts are as wide as their share of the calls, each in its colour."""
    events = [
        Event("planned", PROBE, time.monotonic(), 100),
        Event("started", PROBE, time.monotonic(), 60),
        Event("done", PROBE, time.monotonic(), 40),
        Event("failed", PROBE, time.monotonic(), 20),
    ]
    path = tmp_path / "page.html"
    show(HtmlProgress(path), events)
    browser.open(path)
    bar = "document.querySelector('.bar').getBoundingClientRect()"
    assert browser.value(f"{bar}.width") > 100
    assert browser.value(f"{bar}.height") > 8
    for kind, share, colour in (("done", 0.4, (47, 158, 91)), ("failed", 0.2, (214, 64, 74))):
        part = f"document.querySelector('.bar .{kind}')"
        width = browser.value(f"{part}.getBoundingClientRect().width / {bar}.width")
        assert width == pytest.approx(share, abs=0.01)
        assert browser.value(f"getComputedStyle({part}).backgroundColor") == f"rgb{colour}"


def test_groups_open_and_collapse_on_a_click(browser, tmp_path):
    """A click opens a group, another one of its exceptions, and a third closes the group."""
    path = tmp_path / "page.html"
    show(HtmlProgress(path), small_run([1, 4, 7]))
    browser.open(path)
    shown = "document.querySelector('#f0-1 pre').checkVisibility()"
    assert not browser.value(shown)
    browser.click("#g0 > summary")
    browser.until("document.querySelector('#g0').open")
    assert not browser.value(shown)
    browser.click("#f0-1 > summary")
    browser.until(shown)
    text = browser.value("document.querySelector('#f0-1 pre').innerText")
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: no answer from host-4")
    browser.click("#g0 > summary")
    browser.until(f"!{shown}")


def test_hostile_text_is_inert(browser, tmp_path):
    """Text that would be a script, or a picture with a handler, is shown, and does nothing."""
    path = tmp_path / "page.html"
    events = [failed(ValueError(HOSTILE), args=(HOSTILE,), scope=(HOSTILE,))]
    show(HtmlProgress(path), events)
    browser.open(path)
    browser.click("#g0 > summary")
    browser.until("document.querySelector('#g0').open")
    time.sleep(0.3)
    assert browser.value("typeof window.owned") == "undefined"
    assert browser.value("document.querySelectorAll('script').length") == 1
    assert browser.value("document.images.length") == 0
    assert "<script>window.owned=1</script>" in browser.value("document.body.innerText")


def test_the_page_refreshes_itself_until_the_end(browser, tmp_path):
    """The page follows the run, what was opened stays open, and it rests once the run is over."""
    path = tmp_path / "page.html"
    observer = HtmlProgress(path)
    observer.begin()
    observer.observe([Event("planned", PROBE, time.monotonic(), 10), failed(0)])
    time.sleep(0.5)
    observer.observe([])
    browser.open(path)
    browser.until("document.querySelector('#g0')")
    browser.click("#g0 > summary")
    browser.until("document.querySelector('#g0').open")
    browser.value("window.old = 1")
    for number in range(3):
        time.sleep(0.5)
        observer.observe([failed(0, index=number)])
    browser.until("!window.old && document.querySelector('#f0-3')")
    assert browser.value("document.querySelector('#g0').open")
    browser.until("document.querySelector('h1')?.innerText.includes('running for')")
    observer.end()
    browser.until("document.querySelector('h1')?.innerText.includes('over after')")
    browser.value("window.old = 2")
    time.sleep(2.0)
    assert browser.value("window.old") == 2
    assert browser.value("document.querySelector('#g0').open")
    assert set(browser.requests) == {path.as_uri()}
