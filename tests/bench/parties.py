"""Who takes part in a measurement: a client that times itself, smtp-sink, a slow upstream, a process's memory.

The client is blocking and made of as little as possible, so that what is measured is the server. Whoever makes load in
the meantime is a process of its own (`elsewhere`): two threads of one Python would disturb each other's clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import multiprocessing
import os
import resource
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.e2e.process import ROOT, Relay, free_port

CERTIFICATES = ROOT / "tests" / "smtp" / "certificates"
SINK = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SECONDS = 300.0
"""For any one reply: benchmarks run on busy machines."""


class Client:
    """One connection past EHLO. `tls`: after STARTTLS."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS, source_address=(source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        self.reply()
        self._sized = b"SIZE" in self.say(b"EHLO client.example")
        if tls is not None:
            self.say(b"STARTTLS")
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
            self.say(b"EHLO client.example")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def send(self, data: bytes | memoryview) -> None:
        """Bytes as they are."""
        self._socket.sendall(data)

    def reply(self) -> bytes:
        """One whole reply."""
        lines = b""
        while True:
            line, found, rest = self._unread.partition(b"\n")
            if not found:
                if not (more := self._socket.recv(4096)):
                    raise ConnectionError("the server closed")
                self._unread += more
                continue
            self._unread = rest
            lines += line + found
            if line[3:4] != b"-":
                return lines

    def say(self, line: bytes) -> bytes:
        """A command; its reply."""
        self.send(line + b"\r\n")
        return self.reply()

    def begin(self, size: int, recipient: str) -> bytes:
        """MAIL, RCPT and DATA; the first reply that is not a yes, or the 354."""
        sized = f" SIZE={size}" if self._sized else ""
        for line in (f"MAIL FROM:<hr@acme.example.jp>{sized}", f"RCPT TO:<{recipient}>", "DATA"):
            answer = self.say(line.encode())
            if answer[:1] != b"2":
                break
        return answer

    def mail(self, raw: bytes, recipient: str = "sato@other.example") -> float:
        """Send one mail; the seconds from its final dot to the 250."""
        answer = self.begin(len(raw), recipient)
        if answer[:3] == b"354":
            self.send(raw)
            start = time.perf_counter()
            answer = self.say(b".")
            if answer[:3] == b"250":
                return time.perf_counter() - start
        raise AssertionError(answer)


def whole(port: int, raw: bytes, tls: ssl.SSLContext | None = None) -> float:
    """The seconds that one mail takes on a connection of its own, from connecting to the 250."""
    start = time.perf_counter()
    with Client(port, tls=tls) as client:
        client.mail(raw)
        return time.perf_counter() - start


def at(times: Sequence[float], share: float) -> float:
    """A percentile, in milliseconds."""
    return sorted(times)[max(0, math.ceil(share * len(times)) - 1)] * 1e3


def trusting() -> ssl.SSLContext:
    """A client's side of TLS that trusts the tests' authority."""
    return ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")


def allow_files() -> None:
    """As many sockets as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# --- the relay ---


def configured(config: str, **values: object) -> str:
    """A configuration with keys of `[limits]`, and with `upstream_connections` and `starttls`, which are not there."""
    places = values.pop("upstream_connections", None)
    if places is not None:
        config = config.replace('tls = "none" }', f'tls = "none", max_connections = {places} }}')
    if values.pop("starttls", False):
        file = CERTIFICATES / "localhost.pem"
        config = config.replace('tls = "none"\n', f'tls = "starttls"\ncert = "{file}"\nkey = "{file}"\n', 1)
    return config + "\n[limits]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


@contextlib.contextmanager
def serving(relay: Relay) -> Iterator[Relay]:
    """A relay that has started; it is stopped, or killed if it will not, when the measurement ends."""
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()


def memory(relay: Relay, name: str = "VmRSS") -> int:
    """Bytes that a relay has in memory: now (VmRSS), or at most until now (VmHWM)."""
    assert relay.process is not None
    for line in Path(f"/proc/{relay.process.pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def cpu(relay: Relay) -> float:
    """Seconds of CPU time that a relay has taken; the kernel counts in hundredths."""
    assert relay.process is not None
    fields = Path(f"/proc/{relay.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled(relay: Relay) -> int:
    """Its memory once that does not change any more: everything that was sent has arrived."""
    before, now = -1, memory(relay)
    while abs(now - before) > 64 * 1024:
        time.sleep(1)
        before, now = now, memory(relay)
    return now


# --- others ---


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """The port of an smtp-sink of our own."""
    assert SINK, "smtp-sink is not installed; it is in Debian's postfix"
    port = free_port()
    command = [SINK, *(["-u", "nobody"] if os.geteuid() == 0 else []), "-m", "4000", f"127.0.0.1:{port}", "1024"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None, f"smtp-sink ended with {process.returncode}"
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def elsewhere(run: Callable[..., None], *arguments: object) -> Iterator[BaseProcess]:
    """Something that runs in a process of its own until the measurement ends."""
    process = multiprocessing.get_context("fork").Process(target=run, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def stream(port: int, raw: bytes) -> None:
    """One mail after the other on one connection."""
    with Client(port) as client:
        while True:
            client.mail(raw)


@contextlib.contextmanager
def slow_upstream(rate: int) -> Iterator[int]:
    """The port of an upstream that reads `rate` bytes a second on each connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # Else the kernel would take megabytes at once, whatever the upstream reads.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    with listener, elsewhere(_read_slowly, listener, rate):
        yield listener.getsockname()[1]


def _read_slowly(listener: socket.socket, rate: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            writer.write(b"220 slow ESMTP\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    await take(reader)
                writer.write(b"250-slow\r\n250 SIZE 0\r\n" if verb == b"EHLO" else b"250 2.0.0 ok\r\n")
                if verb == b"QUIT":
                    break
            writer.close()

    async def take(reader: asyncio.StreamReader) -> None:
        tail, due = b"", time.monotonic()
        while not tail.endswith(b"\r\n.\r\n"):
            if not (piece := await reader.read(64 * 1024)):
                raise EOFError
            tail = (tail + piece)[-5:]
            due = max(due, time.monotonic() - 0.5) + len(piece) / rate
            await asyncio.sleep(due - time.monotonic())

    async def run() -> None:
        server = await asyncio.start_server(serve, sock=listener)
        await server.serve_forever()

    asyncio.run(run())
