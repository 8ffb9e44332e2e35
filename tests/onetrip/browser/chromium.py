"""A real browser, driven over its DevTools protocol: the one on PATH, or Debian's unpacked into `.tools`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.onetrip import debian

UNPACKED = Path(__file__).parents[3] / ".tools" / "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chromium-headless-shell")
PATIENCE_SECONDS = 60


def program() -> tuple[list[str], dict[str, str]]:
    """The command that starts the browser, and its environment."""
    installed = next(filter(None, map(shutil.which, NAMES)), None)
    if installed:
        return [installed, "--headless"], dict(os.environ)
    install()
    return [str(UNPACKED / "usr/lib/chromium/chromium-headless-shell")], debian.environment(UNPACKED)


def install() -> None:
    """Unpack Debian's headless shell and what it needs into `.tools`, without touching the system."""
    if UNPACKED.exists() or any(map(shutil.which, NAMES)):
        return
    print("Fetching Chromium into .tools (100 MB)", flush=True)
    if not debian.is_there():
        raise RuntimeError("The status page is tested in a browser. Install Chromium or Google Chrome.")
    debian.unpack("chromium-headless-shell", UNPACKED)


class Tab:
    """One page of the browser, and what went wrong in it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._loaded = False
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := self._received()).get("id") != number:
            self._note(message)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def open(self, url: str, width: int, height: int, *, dark: bool = False) -> None:
        """Show `url` in a window of that size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(self._received())

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        wait = (
            f"new Promise((done, fail) => {{ const end = Date.now() + {PATIENCE_SECONDS}000;"
            " (function look() {"
            f" if ({expression}) done(true); else if (Date.now() > end) fail(document.body.innerText);"
            " else setTimeout(look, 20); })(); })"
        )
        self.ask(wait)

    def press(self, key: str, code: int = 0) -> None:
        """Press a key and let it go."""
        text = {"text": "\r"} if key == "Enter" else {}
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def picture(self, file: Path) -> None:
        """Write what the whole page looks like into a PNG file."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _received(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
        return message

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown" | "Audits.issueAdded":
                self.complaints.append(json.dumps(parameters))
            case "Log.entryAdded" if parameters["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(json.dumps(parameters))
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "warning", "assert"}:
                self.complaints.append(json.dumps(parameters))
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self._events.append(parameters)

    @property
    def requested(self) -> list[str]:
        """The URLs that the page asked for."""
        self.ask("1")
        return [event["request"]["url"] for event in self._events]


@contextmanager
def opened() -> Iterator[Tab]:
    """An empty tab of a browser with a profile of its own, for the block."""
    command, environment = program()
    profile = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-chromium-"))
    options = [
        *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-port=0"),
    ]
    process = subprocess.Popen(
        [*command, *options, "about:blank"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        with connect(_page_socket(process), max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(profile, ignore_errors=True)


def _page_socket(process: subprocess.Popen[str]) -> str:
    """The address of the first page, asked of the browser once it says where it listens."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("DevTools listening on "):
            address = line.split()[-1]
            with connect(address) as browser:
                browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
                targets = json.loads(browser.recv(timeout=PATIENCE_SECONDS))["result"]["targetInfos"]
            page = next(target["targetId"] for target in targets if target["type"] == "page")
            return f"{address.partition('/devtools')[0]}/devtools/page/{page}"
    raise RuntimeError(f"the browser did not start:\n{''.join(said)}")


if __name__ == "__main__":
    install()
