"""What all the real servers of these tests have in common: a folder, loopback ports, a certificate, a mailbox to read.

Each server is an instance of its own in a fresh folder: nothing of a server that the machine may run is touched. It is
a context manager; its ports are open while it is entered.
"""

from __future__ import annotations

import abc
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.e2e.process import ROOT, free_port

CERTIFICATES = ROOT / "tests" / "smtp" / "certificates"
CA = CERTIFICATES / "ca.pem"
HOSTNAME = "outbound.example.jp"
MAX_SIZE = 400_000  # what the servers announce: small, so that a mail over it is made quickly
REFUSED = "somebody@refused.example"  # a recipient that no server takes
USER, PASSWORD = "saiyo@acme.example.jp", "hirakegoma"  # for AUTH, where a server has it
START_SECONDS = STOP_SECONDS = DELIVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Delivered:
    """One recipient's copy, as it came in: CRLF, without what the server put in front."""

    recipient: str
    raw: bytes


class Server(abc.ABC):
    """`port`: SMTP, with STARTTLS; `tls_port`: implicit TLS, or None: no TLS at all. The certificate is localhost's."""

    name: ClassVar[str]
    offers_tls: ClassVar[bool] = True

    def __init__(self) -> None:
        # Not pytest's tmp_path: a server's own user has to be able to walk into it.
        self.place = Path(tempfile.mkdtemp(prefix=f"relay-mta-{self.name}-"))
        self.place.chmod(0o755)
        self.port = free_port()
        self.tls_port = free_port() if self.offers_tls else None
        self.certificate = self.place / "localhost.pem"
        shutil.copy(CERTIFICATES / "localhost.pem", self.certificate)
        for name in ("mail", "log"):
            (self.place / name).mkdir(mode=0o755)

    @abc.abstractmethod
    def start(self) -> None:
        """Start the server; its ports need not be open yet."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End what `start` started."""

    @abc.abstractmethod
    def delivered(self) -> list[Delivered]:
        """All that was delivered so far."""

    def __enter__(self) -> Self:
        try:
            self.start()
            self._wait_for_greeting()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.place, ignore_errors=True)

    def _wait_for_greeting(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.greets():
            assert self.alive() and time.monotonic() < deadline, f"{self.name} does not greet\n{self.said()}"
            time.sleep(0.05)

    def greets(self) -> bool:
        """Whether it is up."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                client.settimeout(5)
                greeted = client.recv(3) == b"220"
                client.sendall(b"QUIT\r\n")
                return greeted
        except OSError:
            return False

    def alive(self) -> bool:
        """False where it is certain that it has ended."""
        return True

    def said(self) -> str:
        """Its logs."""
        return "\n".join(path.read_text("utf-8", "replace") for path in sorted((self.place / "log").iterdir()))

    def wait_until_said(self, words: str) -> None:
        """Until its logs have these words."""
        deadline = time.monotonic() + DELIVERY_SECONDS
        while words not in self.said():
            assert time.monotonic() < deadline, f"{words!r} was not said\n{self.said()}"
            time.sleep(0.02)

    def copies(self, address: str) -> list[bytes]:
        """What an address has got so far."""
        return [each.raw for each in self.delivered() if each.recipient == address]

    def received(self, address: str) -> bytes:
        """The one mail of an address; waits for it."""
        deadline = time.monotonic() + DELIVERY_SECONDS
        while not (found := self.copies(address)):
            assert time.monotonic() < deadline, f"no mail for {address}\n{self.said()}"
            time.sleep(0.02)
        assert len(found) == 1, f"{len(found)} mails for {address}"
        return found[0]


class ForegroundServer(Server):
    """A server that is one process in the foreground."""

    process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        with (self.place / "log" / "output").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        # Whatever it has started (a session, a delivery) must not write into the folder any more.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def read_maildir(folder: Path) -> list[Delivered]:
    """A Maildir whose mails say in front, in Delivered-To or Envelope-To, whose they are."""
    return [_own_fields_off(path.read_bytes().replace(b"\n", b"\r\n")) for path in (folder / "new").glob("*")]


_FOLDS = rb"(?:[ \t][^\r\n]*\r\n)*"
_OWN_FIELD = re.compile(
    rb"(?i)\A(?:(?:Return-Path|X-Original-To|(?P<whose>Delivered-To|Envelope-To)):[ ]?(?P<value>[^\r\n]*)\r\n"
    rb"|Received: from [^\r\n]*\r\n" + _FOLDS + rb"?[ \t]+by outbound\.example\.jp [^\r\n]*\r\n" + _FOLDS + rb")"
)


def _own_fields_off(mail: bytes) -> Delivered:
    recipient = ""
    while found := _OWN_FIELD.match(mail):
        if found["whose"]:
            recipient = found["value"].decode()
        mail = mail[found.end() :]
    return Delivered(recipient, mail)
