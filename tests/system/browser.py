"""A headless Chromium that tests drive through its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any

from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE_S = 30.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Browser:
    """One page of a browser. What it logs and which addresses it asks are kept."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        chromium = find_chromium()
        assert chromium is not None, "chromium is not installed"
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.logged: list[str] = []
        self.asked: list[str] = []
        self._numbers = itertools.count(1)
        self._loop = IOLoop(make_current=False)
        self._errors = Path(self._home.name, "stderr")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [chromium, *_FLAGS, f"--user-data-dir={self._home.name}", "about:blank"],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._connection: WebSocketClientConnection | None = None
        try:
            self._connection = self._connect()
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser."""
        if self._connection is not None:
            self._loop.run_sync(self._leave, timeout=PATIENCE_S)
        self._loop.close(all_fds=True)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and gives its result."""
        number = next(self._numbers)
        text = json.dumps({"id": number, "method": method, "params": parameters})

        async def write() -> None:
            assert self._connection is not None
            await self._connection.write_message(text)

        self._loop.run_sync(write, timeout=PATIENCE_S)
        end = time.monotonic() + PATIENCE_S
        while True:
            message = self._receive(end)
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result

    def go(self, url: str) -> None:
        """Opens a page."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression of the page's, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str, patience: float = PATIENCE_S) -> Any:
        """Waits until an expression is true, and gives it."""
        end = time.monotonic() + patience
        while True:
            value = self.run(script)
            if value:
                return value
            assert time.monotonic() < end, f"never true: {script}"
            self.pause(0.05)

    def wait_until(self, holds: Callable[[], bool], patience: float = PATIENCE_S) -> None:
        """Waits for something outside the page, and takes in what the page says meanwhile."""
        end = time.monotonic() + patience
        while not holds():
            assert time.monotonic() < end, "it never held"
            self.pause(0.05)

    def pause(self, seconds: float) -> None:
        """Lets the page go on."""
        time.sleep(seconds)
        self.run("0")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The size of the page, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def colours(self, scheme: str) -> None:
        """What the system prefers: light or dark."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def picture(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        """A PNG of the page."""
        data = base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        )
        if path is not None:
            path.write_bytes(data)
        return data

    def _connect(self) -> WebSocketClientConnection:
        end = time.monotonic() + PATIENCE_S
        address = None
        while address is None:
            assert time.monotonic() < end, self._errors.read_text()
            assert self._process.poll() is None, self._errors.read_text()
            address = re.search(r"ws://127\.0\.0\.1:(\d+)/\S+", self._errors.read_text())
            time.sleep(0.05)
        port = int(address[1])
        targets = self._targets(port)
        page = next(one for one in targets if one["type"] == "page")
        connection: WebSocketClientConnection = self._loop.run_sync(
            lambda: websocket_connect(page["webSocketDebuggerUrl"], max_message_size=100_000_000),
            timeout=PATIENCE_S,
        )
        return connection

    def _targets(self, port: int) -> list[dict[str, Any]]:
        link = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            link.request("GET", "/json/list")
            found: list[dict[str, Any]] = json.loads(link.getresponse().read())
        finally:
            link.close()
        return found

    async def _leave(self) -> None:
        # Inside of its loop: elsewhere Tornado makes another, which nobody would close.
        if self._connection is not None:
            self._connection.close()

    def _receive(self, end: float) -> dict[str, Any]:
        assert self._connection is not None
        text = self._loop.run_sync(self._connection.read_message, timeout=end - time.monotonic())
        assert text is not None, "the browser has gone"
        message: dict[str, Any] = json.loads(text)
        self._take(message.get("method", ""), message.get("params", {}))
        return message

    def _take(self, event: str, given: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.logged.append(str(details.get("exception", details).get("description", details)))
        elif event == "Runtime.consoleAPICalled":
            self.logged.append(" ".join(str(one.get("value")) for one in given["args"]))
        elif event == "Log.entryAdded":
            self.logged.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.asked.append(given["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.asked.append(given["url"])
