"""A headless Chromium, by its DevTools protocol: it shows a page, reports what that fetches, and measures and photographs it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
WITHIN_S = 60
# No sandbox: tests run as root, and the page is our own.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip


class Tab:
    """A tab. `requests` are the URLs that its pages asked for, `complaints` what the browser logged about them."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._calls = socket, 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol; events that come before its answer are noted."""
        self._calls += 1
        call = self._calls
        await self._socket.send_json({"id": call, "method": method, "params": params})
        while (message := await self._receive()).get("id") != call:
            pass
        assert "error" not in message, message
        return message["result"]

    async def open(self, path: Path, width: int, height: int = 900) -> None:
        """Show a file in a window of this size, until it and its images are loaded."""
        for domain in ("Network", "Page", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        self._loaded = False
        await self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            await self._receive()

    async def evaluate(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"]["value"]

    async def photograph(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json()
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(message["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(message["params"]["exceptionDetails"]))
            case "Page.loadEventFired":
                self._loaded = True
        return message


@asynccontextmanager
async def open_tab() -> AsyncIterator[Tab]:
    """Start a browser with one tab; both are gone at the end."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = await asyncio.create_subprocess_exec(
            CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as session:
                url = await _tab_url(session, Path(folder))
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    yield Tab(socket)
        finally:
            with suppress(ProcessLookupError):
                browser.kill()
            await browser.wait()


async def _tab_url(session: aiohttp.ClientSession, folder: Path) -> str:
    """The address of the first tab, once the browser has started."""
    ready = folder / "DevToolsActivePort"
    while not ready.exists() or not ready.read_text():
        await asyncio.sleep(0.05)
    port = ready.read_text().split()[0]
    while True:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = [tab for tab in await answer.json(content_type=None) if tab["type"] == "page"]
        if tabs:
            return str(tabs[0]["webSocketDebuggerUrl"])
        await asyncio.sleep(0.05)
