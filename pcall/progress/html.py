"""Progress as a self-contained HTML page in a file: for any browser, without network or server."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from pcall._core.records import Event
from pcall.progress.display import Display
from pcall.progress.markup import STYLE, FailuresMarkup, escaped, figures_markup
from pcall.progress.page_paths import check_replaceable, checked_path
from pcall.progress.plain import one_line
from pcall.progress.timeline_bars import TimelineBars
from pcall.progress.timeline_markup import TIMELINE_SCRIPT, TIMELINE_STYLE, timeline_markup
from pcall.progress.wording import duration, plural

__all__ = ["HtmlProgress"]

# The groups that the reader has opened stay open after a reload. The script waits while text is
# selected, waits longer if the page takes long to load, and says if the page has not been updated
# for a while.
_SCRIPT = """
(function () {
  var body = document.body.dataset, key = "pcall " + body.run, open = {};
  try { open = JSON.parse(sessionStorage.getItem(key)) || {}; } catch (error) {}
  document.querySelectorAll("details").forEach(function (each) {
    if (each.id in open) each.open = open[each.id];
    each.addEventListener("toggle", function () {
      open[each.id] = each.open;
      try { sessionStorage.setItem(key, JSON.stringify(open)); } catch (error) {}
    });
  });
  if (!("live" in body)) return;
  var silent = Date.now() / 1000 - Number(body.written);
  if (silent > 15) document.getElementById("silent").hidden = false;
  function again() {
    if (getSelection().isCollapsed) location.reload();
    else setTimeout(again, 500);
  }
  setTimeout(again, silent > 15 ? 3000 : Math.max(400, 4 * performance.now()));
})();
"""


class HtmlProgress(Display):
    """Progress as an HTML page.

    Below the figures is a timeline of the last ten minutes, with at most 2000 bars: then neighbours
    are merged.

    The file is replaced as a whole, so that readers always get a complete page. The page refreshes
    itself while the run lasts. Each group of equal exceptions can be opened, and in it each
    exception, up to 1000 in all.

    Args:
        path: of the file. Its folder must exist.

    Raises:
        TypeError: the path is neither a string nor path-like.
        ValueError: the path is empty or not that of a regular file, or its folder does not exist.
    """

    wants_spans = True

    _interval = 0.4
    _keep = 1000

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = checked_path(path)

    def _open(self) -> None:
        check_replaceable(self._path)
        self._failures = FailuresMarkup()
        self._bars = TimelineBars()
        self._run = f"{os.getpid()} {time.time()}"
        self._write(time.monotonic())  # now, so that a problem with the path is reported at once
        self._drawn = time.monotonic()

    def _take(self, events: Sequence[Event]) -> None:
        self._bars.add(events)

    def _draw(self, now: float) -> None:
        self._write(now)

    def _close(self, now: float) -> None:
        self._write(now)

    def _write(self, now: float) -> None:
        # In a folder that others may write to, nobody can have put a link in this place.
        other = f"{self._path}.{os.urandom(8).hex()}.tmp"
        try:
            with open(other, "x", encoding="utf-8") as file:
                file.write(self._page(now))
            os.replace(other, self._path)
        except FileExistsError:
            raise  # it is somebody else's
        except BaseException:
            try:
                os.unlink(other)
            except OSError:
                pass  # it was not created, or has been renamed
            raise

    def _page(self, now: float) -> str:
        state = self._state
        live = state.ended is None
        total = state.total(now)
        share = 100 * total.over // max(1, total.total)
        failures = self._failures.make(state.failures)
        timeline = timeline_markup(self._bars, state.begun, now if live else state.ended or now)
        # A script runs only with the nonce, so text from a call can't run as one.
        nonce = os.urandom(16).hex()
        policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'"
        reload = '<noscript><meta http-equiv="refresh" content="1"></noscript>' if live else ""
        what = f"{'running for' if live else 'over after'} {duration(state.elapsed(now))}"
        return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">{reload}
<title>{share} % - {escaped(one_line(state, now).partition(":")[0])}</title>
<style>:root {{ color-scheme: light dark; }}
body {{ margin: 24px; }} .pcall h1 {{ font-size: 18px; }} .pcall h2 {{ font-size: 15px; }}
{STYLE}{TIMELINE_STYLE}</style></head>
<body class="pcall" data-run="{self._run}" data-written="{time.time():.1f}"{" data-live" * live}>
<h1>{share} %, {what}</h1>
<p class="note">written {time.strftime("%Y-%m-%d %H:%M:%S")}
<b id="silent" hidden>There has been no news for a while: nobody waits for the run, or it was
killed.</b></p>
{figures_markup(state, now)}
{timeline}<h2>{plural(state.failures.count, "failed attempt") if failures else "No failures"}</h2>
{failures}
<script nonce="{nonce}">{_SCRIPT}{TIMELINE_SCRIPT}</script>
</body></html>
"""
