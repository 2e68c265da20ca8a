"""`relay-mta serve` as a person runs it: a process of its own, with a config file, on free loopback ports."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from pathlib import Path

from click.testing import CliRunner

from relay_mta.cli.root import root

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 40.0

BASE_CONFIG = """\
hostname = "relay.example.jp"
data_dir = "{data_dir}"
ledger = "tinydb:"

[[listener]]
address = "127.0.0.1:{smtp_port}"
tls = "none"

[web]
address = "127.0.0.1:{web_port}"
base_url = "https://relay.example.jp"

[[company]]
id = "acme"
name = "株式会社アクメ"
domains = ["acme.example.jp"]
partners = ["agent.example"]
mode = "relay"
clients = ["127.0.0.0/8"]
upstream = { host = "127.0.0.1", port = {upstream_port}, tls = "none" }
agency = { name = "サンプル人材紹介株式会社", url = "https://agency.example/register" }

[[company.credits]]
from = 2026-01-01
relays_per_credit = 10
earn_on = "relayed"
"""


_held: deque[socket.socket] = deque(maxlen=256)
"""The sockets that keep the ports of `free_port`; a test that had one of the oldest is long over."""


def free_port() -> int:
    """A loopback port that the kernel gives to nobody else: no other test, process, or outgoing connection.

    A socket stays bound to it and does not listen. Until a server that sets SO_REUSEADDR, as all of ours do, listens
    there, connections are refused; when it ends, the port is still kept for the next one.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    port: int = holder.getsockname()[1]
    return port


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def relay_mta(*arguments: str, cwd: Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one command of relay-mta to its end."""
    return subprocess.run(
        [sys.executable, "-m", "relay_mta", *arguments],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


class Relay:
    """One relay and its folder: config.toml, data_dir, log. May be started, stopped and killed many times. `files`: how
    many file descriptors it may have, if not as many as we."""

    def __init__(
        self, folder: Path, config: str = BASE_CONFIG, *, upstream_port: int, files: int | None = None
    ) -> None:
        self.folder = folder
        # sh sets the hard limit, too: the relay takes all that it may have. exec: the process stays ours to signal.
        self.limited = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
        self.smtp_port = free_port()
        self.web_port = free_port()
        self.upstream_port = upstream_port
        self.data_dir = folder / "var"
        for name, value in (
            ("smtp_port", self.smtp_port), ("web_port", self.web_port),
            ("upstream_port", upstream_port), ("data_dir", self.data_dir),
        ):  # fmt: skip
            config = config.replace("{" + name + "}", str(value))
        self.config = folder / "config.toml"
        self.config.write_text(config, "utf-8")
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it greets; fails with its own words if it ends instead."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.limited, sys.executable, "-m", "relay_mta", "serve", "--config", str(self.config)],
                cwd=self.folder, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not (self._greets() and self._healthy()):
            assert self.process.poll() is None, f"the relay ended with {self.process.returncode}\n{self.said()}"
            assert time.monotonic() < deadline, f"the relay does not greet\n{self.said()}"
            time.sleep(0.05)

    a_client = "127.0.0.1"
    """An address that it lets in."""

    def _greets(self) -> bool:
        place, own = ("127.0.0.1", self.smtp_port), (self.a_client, 0)
        try:
            with socket.create_connection(place, timeout=2, source_address=own) as client:
                client.settimeout(2)
                greeted = client.recv(3) == b"220"
                client.sendall(b"QUIT\r\n")
                return greeted
        except OSError:
            return False

    def _healthy(self) -> bool:
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """GET a page of the relay's web: status and text."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", headers={"Accept-Language": "ja"})
        try:
            with urllib.request.urlopen(request, timeout=10) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def stop(self) -> int:
        """SIGTERM: drain and end. The exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the relay did not drain\n{self.said()}") from None

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def entries(self) -> list[dict[str, object]]:
        """The ledger's entries, oldest first, as `relay-mta credits entries --json` gives them."""
        # Not in a process of its own, which takes longer to start than to answer.
        done = CliRunner().invoke(root, ["credits", "entries", "--config", str(self.config), "--json"])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


RECEIVED = re.compile(rb"\AReceived: (?:[^\r\n]*\r\n)(?:[ \t][^\r\n]*\r\n)*")


def without_received(raw: bytes) -> bytes:
    """The mail behind the relay's own trace field, which has to be there, once, and to name no recipient."""
    found = RECEIVED.match(raw)
    assert found, raw[:200]
    field = found[0]
    assert b"relay.example.jp" in field, field
    # RFC 5321 §7.6: a `for` clause would show a Bcc recipient to the others.
    assert not re.search(rb"[\s]for[\s]", field), field
    assert max(map(len, field.split(b"\r\n"))) <= 998
    return raw[found.end() :]
