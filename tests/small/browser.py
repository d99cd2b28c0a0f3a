"""A headless Chromium, driven over its DevTools protocol: opens files, presses keys, says what it asked networks for."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from websocket import WebSocket, create_connection

LIMIT = 60  # seconds that anything may take; the machine may be busy
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


class Browser:
    """To be used in a `with`. `profile` outlives it, so that a second one finds what the first one kept."""

    def __init__(self, profile: Path, downloads: Path):
        self._profile, self._downloads = profile, downloads
        self.errors: list[str] = []  # exceptions, and what the page's policy refused
        self.asked_for: list[str] = []  # addresses, but for data: and blob:
        self._count = 0

    def __enter__(self) -> "Browser":
        executable = shutil.which(os.environ.get("CHROMIUM", "chromium"))
        if executable is None:
            pytest.skip("Chromium is not there: install it, or set CHROMIUM to it")
        command = [executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--disable-background-networking", "--remote-debugging-port=0"]
        command += [f"--user-data-dir={self._profile}", "about:blank"]
        port_file = self._profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._socket = self._connect(port_file)
        except BaseException:
            self._stop()
            raise
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self._downloads))
        return self

    def __exit__(self, *_: object) -> None:
        self.call("Browser.close")  # which writes what pages keep
        self._socket.close()
        self._stop()

    def open(self, file: Path) -> None:
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, expression: str) -> object:
        """The value of JavaScript, of JSON's types."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        end = time.monotonic() + LIMIT
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"not in {LIMIT} s: {expression}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key of the keyboard, with whatever the browser does then."""
        code, text = KEYS.get(key, (ord(key[0].upper()), key))
        keys = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **keys)
        self.call("Input.dispatchKeyEvent", type="keyUp", **keys)

    def screen(self, width: int, height: int, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, file: Path) -> None:
        """The whole page, however long."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **parameters: object) -> dict:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._count:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._hear(message.get("method"), message.get("params", {}))

    def _hear(self, event: str, told: dict) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])
        elif event == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("data:", "blob:")):
            self.asked_for.append(told["request"]["url"])

    def _connect(self, port_file: Path) -> WebSocket:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            try:
                port = int(port_file.read_text().splitlines()[0])
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LIMIT) as answer:
                    pages = [x for x in json.load(answer) if x["type"] == "page"]
                return create_connection(pages[0]["webSocketDebuggerUrl"], timeout=LIMIT, suppress_origin=True)
            except (OSError, ValueError, IndexError):
                assert self._process.poll() is None, "Chromium ended at once"
                time.sleep(0.05)
        raise AssertionError(f"Chromium did not listen in {LIMIT} s")

    def _stop(self) -> None:
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
