"""A real browser without a window, spoken to by its DevTools protocol through a pipe: no port, one start for all."""

from __future__ import annotations

import base64
import json
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60.0


class Browser:
    """Chromium with an empty profile, without a network. `close` ends it."""

    def __init__(self, folder: Path) -> None:
        # It reads commands on descriptor 3 and answers on 4, each message behind which a NUL stands.
        command = [
            *("sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >&2', "sh", "chromium", "--remote-debugging-pipe"),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--force-device-scale-factor=1", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}"),
        ]
        self._log = folder.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
        self._buffer = b""
        self._number = 0

    def screenshot(self, page: Path, width: int, height: int) -> bytes:
        """A page's upper left corner as a PNG, in a tab of its own."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        tab = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable", tab)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", tab, **size)
        went = self._ask("Page.navigate", tab, url=page.as_uri())
        assert "errorText" not in went, went
        self._until(lambda said: said.get("method") == "Page.loadEventFired" and said.get("sessionId") == tab)
        picture = self._ask("Page.captureScreenshot", tab, format="png", optimizeForSpeed=True)["data"]
        self._ask("Target.closeTarget", targetId=target)
        return base64.b64decode(picture)

    def close(self) -> None:
        try:
            self._ask("Browser.close")
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def _ask(self, method: str, tab: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **({"sessionId": tab} if tab else {})}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda said: said.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that is wanted; those before it are events that nobody asked for."""
        deadline = time.monotonic() + SECONDS
        while True:
            message, found, rest = self._buffer.partition(b"\0")
            if not found:
                self._read(deadline)
                continue
            self._buffer = rest
            said: dict[str, Any] = json.loads(message)
            if wanted(said):
                return said

    def _read(self, deadline: float) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"the browser does not answer: {self._log.read_text(errors='replace')}"
        more = pipe.read(1 << 16)
        assert more, f"the browser has ended: {self._log.read_text(errors='replace')}"
        self._buffer += more
