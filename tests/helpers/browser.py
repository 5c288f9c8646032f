"""A headless browser of the Chromium family, driven through its debugging pipe; nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]


def find_browser() -> str | None:
    """``PCALL_TEST_BROWSER``, or one that is installed."""
    found = [os.environ.get("PCALL_TEST_BROWSER"), *map(shutil.which, NAMES)]
    return next(filter(None, found), None)


class Browser:
    """One page in a browser without a network."""

    def __init__(self, program: str, folder: Path) -> None:
        self._numbers = 0
        self._input = b""
        self.requests: list[str] = []
        # Out of the way of 3 and 4, where the browser wants them.
        pipes = [*os.pipe(), *os.pipe()]
        theirs_in, self._to, self._from, theirs_out = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in pipes
        )
        for fd in pipes:
            os.close(fd)

        def in_place() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        arguments += ["--no-first-run", "--window-size=1100,700", f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=in_place,
            pass_fds=(3, 4),
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.send("Network.enable")
        offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.send("Network.emulateNetworkConditions", offline=True, **offline)
        self.send("Page.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._numbers += 1
        message = {"id": self._numbers, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 30
        while True:
            answer = self._message(end)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._numbers:
                if "error" in answer:
                    raise LookupError(answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._input:
            if not select.select([self._from], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise EOFError("the browser is gone")
            self._input += data
        message, self._input = self._input.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, path: Path) -> None:
        """Load the page."""
        self.send("Page.navigate", url=path.as_uri())
        self.until("document.readyState == 'complete' && location.protocol == 'file:'")

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives in the page."""
        end = time.monotonic() + 20
        while True:
            try:
                result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
                assert "exceptionDetails" not in result, result
                return result["result"].get("value")
            except LookupError:  # just between two pages
                assert time.monotonic() < end
                time.sleep(0.05)

    def until(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press and release the mouse's button where this element is."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.value(f"{element}.getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + 12, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def picture(self) -> str:
        """The window as a PNG, in base64."""
        return str(self.send("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """End the browser and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        os.close(self._to)
        os.close(self._from)
