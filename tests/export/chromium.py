"""A Chromium without head or network, driven through a pipe with its DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # WebGL in software
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # no network: names resolve to nothing, and what goes by address meets a dead proxy
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
    "--remote-debugging-pipe",
)

# The browser reads commands from descriptor 3 and writes answers to 4.
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """The one page of a browser.

    Attributes:
        problems: What the console, the page's policy and uncaught exceptions said, warnings left out.
        requests: Every address the page asked for.
    """

    def __init__(self, read: BinaryIO, write: BinaryIO) -> None:
        self._read, self._write = read, write
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to one command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self._note(answer.get("method", ""), answer.get("params", {}))

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        """Set the size of what is seen, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def open(self, path: Path, *, until: str, seconds: float = 100) -> None:
        """Open a file and wait until an expression is true."""
        self.resize(1200, 900)
        self.ask("Page.navigate", url=path.as_uri())
        self.wait(until, seconds)

    def wait(self, until: str, seconds: float = 100) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(until):
            assert time.monotonic() < end, f"never true: {until}; {self.problems}"
            time.sleep(0.1)

    def screenshot(self, path: Path) -> Path:
        """Save what is seen as a PNG."""
        shot = self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def close(self) -> None:
        self._session = None
        self.ask("Browser.close")

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (letter := self._read.read(1)) != b"\0":
            assert letter, "the browser is gone"
            message += letter
        return dict(json.loads(message))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


def find_chromium() -> str | None:
    """Return the browser's program, if one is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Yield an empty page of a new browser; `profile` is a folder for its files."""
    program = find_chromium()
    assert program
    to_us, from_browser = os.pipe()
    to_browser, from_us = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]
    for end in (to_browser, from_browser):
        os.close(end)
    command = [sys.executable, "-c", _LAUNCH, *map(str, ends), program, *_FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=ends, stderr=subprocess.DEVNULL)
    for end in ends:
        os.close(end)
    try:
        with os.fdopen(to_us, "rb") as read, os.fdopen(from_us, "wb") as write:
            page = Page(read, write)
            yield page
            page.close()
    finally:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
