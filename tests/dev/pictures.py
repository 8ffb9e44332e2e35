"""The README's pictures: a recording of `make dev`, and `/status` after some requests.

`make pictures` writes them into docs/pictures from a fresh tree, a real server and a real browser.
"""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
import time
from html import escape
from pathlib import Path
from urllib.parse import quote

import httpx2

from tests.dev.test_server import DevServer, dev_server, new_tree
from tests.onetrip.browser import chromium

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PORT = 8000
COLUMNS, LINE_PIXELS, COLUMN_PIXELS, MARGIN = 110, 19, 8.2, 16
TYPING_SECONDS, READING_SECONDS = 1.0, 1.5
ROUTES = ("tasks?sort=-priority&limit=2", "posts", "tasks/statistics", "users?limit=1", "tags", "accounts")
STYLE = """
    rect { fill: #16181d }
    text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre; opacity: 0 }
    text { animation: show 0.1s forwards }
    .typed { fill: #8fd694 }
    @keyframes show { to { opacity: 1 } }
    @media (prefers-reduced-motion) { text { animation: none; opacity: 1 } }
"""


class Recording:
    """Lines of a terminal, each with the second at which it appeared."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, str, str]] = []
        self._seconds = 0.0

    def typed(self, line: str) -> None:
        """Note a command, and the time that typing it takes."""
        self._seconds += TYPING_SECONDS
        self._note(f"$ {line}", kind="typed")

    def printed(self, text: str, seconds: float) -> None:
        """Note what appeared `seconds` after the last line."""
        self._seconds += seconds
        for line in text.splitlines():
            self._note(line)

    def write(self, file: Path) -> None:
        """Write an SVG in which the lines appear as they did."""
        height = len(self._lines) * LINE_PIXELS + 2 * MARGIN
        width = int(COLUMNS * COLUMN_PIXELS) + 2 * MARGIN
        texts = []
        for row, (at, line, kind) in enumerate(self._lines):
            place = f'x="{MARGIN}" y="{MARGIN + (row + 0.75) * LINE_PIXELS:.0f}"'
            texts.append(
                f'<text class="{kind}" {place} style="animation-delay: {at:.1f}s">{escape(line)}</text>'
            )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        title = "<title>make dev, and a request to the API that it serves</title>"
        box = f'<rect width="{width}" height="{height}" rx="8"/>'
        file.write_text("\n".join([head, title, f"<style>{STYLE}</style>", box, *texts, "</svg>", ""]))

    def _note(self, line: str, kind: str = "printed") -> None:
        for part in textwrap.wrap(line, COLUMNS, subsequent_indent="  ", break_on_hyphens=False) or [""]:
            self._lines.append((self._seconds, part, kind))


def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(exist_ok=True)
    with new_tree() as folder, dev_server(folder, port=PORT) as server:
        recording = Recording()
        command = _recorded_start(recording, server, folder)
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
        recording.typed(command)
        recording.printed(json.dumps(json.loads(answer)["items"][0], indent=2), READING_SECONDS / 3)
        recording.write(PICTURES / "make-dev.svg")
        _asked_often(f"http://127.0.0.1:{PORT}")
        with chromium.opened() as tab:
            tab.open(f"http://127.0.0.1:{PORT}/status", 1100, 900)
            time.sleep(2 * READING_SECONDS)
            tab.picture(PICTURES / "status.png")
        server.end(signal.SIGINT)


def _recorded_start(recording: Recording, server: DevServer, folder: Path) -> str:
    """Record the lines of the start; return the command that the last one tells to try."""
    recording.typed("make dev")
    assert server.process.stdout
    last = time.monotonic()
    for line in server.process.stdout:
        now = time.monotonic()
        shown = line.rstrip().replace(quote(str(folder), safe=""), "%2Fhome%2Fada%2Fapp")
        recording.printed(shown, now - last)
        last = now
        if line.strip().startswith("curl"):
            return line.strip()
    raise SystemExit("make dev ended before it was ready.")


def _asked_often(url: str) -> None:
    form = {"username": "ada", "password": "difference engine"}
    with httpx2.Client(base_url=f"{url}/api/v1/") as client:
        token = client.post("auth/token", data=form).raise_for_status().json()["access_token"]
        for number in range(60):
            client.get(ROUTES[number % len(ROUTES)], headers={"Authorization": f"Bearer {token}"})
            time.sleep(0.05)


if __name__ == "__main__":
    main()
