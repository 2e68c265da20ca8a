"""An outbound server that does what a folder's script says: accepts, refuses, defers, dies, or kills the relay.

It runs in threads of the test's process and keeps every mail that it accepted, as the bytes of the wire without the
dot-stuffing. A script is a list of rules; the first rule that fits a command and is not used up answers it, and a
command that no rule fits is accepted.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

EXTENSIONS = ("PIPELINING", "SIZE 35882577", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "SMTPUTF8")

OWN_LINK = re.compile(rb"/r/[a-z2-7]{26}")


@dataclass
class Rule:
    """One thing that goes wrong.

    `at`: CONNECT, EHLO, MAIL, RCPT, DATA, DOT (the final dot) or QUIT. `to` limits it to a recipient, `copy` to a mail
    with a link in it ("linked") or without ("original"; only at DOT, and where the link's bytes stand unencoded),
    `dsn` to mails with the null reverse-path, `after` skips the first fits, `times` bounds its use.
    `do`: a reply ("550 5.7.1 No"), or "drop" (close without an answer), "take-and-drop" (accept the mail, then close
    without an answer), "kill" / "take-and-kill" (the relay's process dies here, before the answer). `wait` seconds
    pass before it is done.
    """

    at: str
    do: str = "250 2.0.0 Ok"
    to: str | None = None
    copy: str | None = None
    dsn: bool | None = None
    after: int = 0
    times: int = 1_000_000
    wait: float = 0.0
    fits: int = field(default=0, compare=False)

    def answers(self, at: str, transaction: Transaction) -> bool:
        if self.at != at:
            return False
        if self.to is not None and self.to not in transaction.recipients[-1 if at == "RCPT" else 0 :]:
            return False
        if self.copy is not None and (self.copy == "linked") != bool(OWN_LINK.search(transaction.raw)):
            return False
        if self.dsn is not None and self.dsn != (transaction.reverse_path == ""):
            return False
        self.fits += 1
        return self.after < self.fits <= self.after + self.times


@dataclass
class Transaction:
    """One MAIL, its accepted RCPTs, and the mail's bytes."""

    reverse_path: str = ""
    mail_params: str = ""
    recipients: list[str] = field(default_factory=list)
    rcpt_params: list[str] = field(default_factory=list)
    raw: bytes = b""


class ScriptedUpstream:
    """Listens on a free loopback port from construction to `stop`; `deliveries` are the accepted mails, in order."""

    def __init__(self, rules: Sequence[Rule] = (), kill: Callable[[], None] = lambda: None) -> None:
        self.rules = list(rules)
        self.kill = kill
        self.deliveries: list[Transaction] = []
        self.commands: list[str] = []
        self.sessions = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="upstream", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            connections = list(self._open)
        # A thread that waits in accept() is woken by shutdown() only.
        for each in (self._listener, *connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
                self.sessions += 1
            threading.Thread(target=self._session, args=(connection,), daemon=True).start()

    def _session(self, connection: socket.socket) -> None:
        # OSError, ValueError: the relay, or stop(), closed the connection.
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as lines:
            _Session(self, connection, lines).run()
        with self._lock:
            self._open.discard(connection)

    def rule_for(self, at: str, transaction: Transaction) -> Rule | None:
        with self._lock:
            return next((rule for rule in self.rules if rule.answers(at, transaction)), None)


class _Session:
    """One connection's dialog."""

    def __init__(self, upstream: ScriptedUpstream, connection: socket.socket, lines: BinaryIO) -> None:
        self.upstream = upstream
        self.connection = connection
        self.lines = lines
        self.now = Transaction()

    def run(self) -> None:
        if not self.answer("CONNECT", "220 upstream.example ESMTP"):
            return
        while line := self.lines.readline():
            text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            self.upstream.commands.append(text)
            verb = text.partition(" ")[0].upper()
            command = getattr(self, f"on_{verb.lower()}", None)
            goes_on = command(text) if command else self.answer(verb, "250 2.0.0 Ok")
            if not goes_on or verb == "QUIT":
                return

    def answer(self, at: str, otherwise: str) -> bool:
        """Answer as scripted, or `otherwise`; False if the connection is to end."""
        rule = self.upstream.rule_for(at, self.now)
        return self.obey(rule) if rule else self.send(otherwise)

    def obey(self, rule: Rule) -> bool:
        time.sleep(rule.wait)
        if rule.do.endswith("kill"):
            self.upstream.kill()
        if rule.do.endswith(("kill", "drop")):
            return False
        self.send(rule.do)
        return not rule.do.startswith("421")

    def send(self, *lines: str) -> bool:
        code = lines[0][:3]
        texts = [lines[0][4:], *lines[1:]]
        wire = "".join(f"{code}{' ' if i == len(texts) - 1 else '-'}{text}\r\n" for i, text in enumerate(texts))
        self.connection.sendall(wire.encode())
        return True

    def on_ehlo(self, text: str) -> bool:
        if self.upstream.rule_for("EHLO", self.now):
            return self.answer("EHLO", "502 5.5.1 No")
        return self.send("250 upstream.example", *EXTENSIONS)

    def on_mail(self, text: str) -> bool:
        path, params = _path(text)
        self.now = Transaction(path, params)
        return self.answer("MAIL", "250 2.1.0 Ok")

    def on_rcpt(self, text: str) -> bool:
        path, params = _path(text)
        self.now.recipients.append(path)
        rule = self.upstream.rule_for("RCPT", self.now)
        if rule is not None and not rule.do.startswith("2"):
            self.now.recipients.pop()
            return self.obey(rule)
        self.now.rcpt_params.append(params)
        return self.send("250 2.1.5 Ok")

    def on_rset(self, text: str) -> bool:
        self.now = Transaction()
        return self.send("250 2.0.0 Ok")

    def on_quit(self, text: str) -> bool:
        return self.answer("QUIT", "221 2.0.0 Bye")

    def on_data(self, text: str) -> bool:
        rule = self.upstream.rule_for("DATA", self.now)
        if rule is not None:
            return self.obey(rule)
        self.send("354 Go on")
        pieces = []
        while (line := self.lines.readline()) != b".\r\n":
            if not line:
                return False  # the relay went away in the middle of the mail: nothing was taken
            pieces.append(line[1:] if line.startswith(b".") else line)
        taken, self.now = self.now, Transaction()
        taken.raw = b"".join(pieces)
        rule = self.upstream.rule_for("DOT", taken)
        if rule is None or rule.do.startswith(("take-and-", "2")):
            self.upstream.deliveries.append(taken)
        return self.obey(rule) if rule else self.send("250 2.0.0 Ok: queued")


def _path(text: str) -> tuple[str, str]:
    """`MAIL FROM:<a@b> SIZE=1` → ("a@b", "SIZE=1")."""
    inner = text[text.index("<") + 1 :]
    end = inner.rindex(">")
    return inner[:end], inner[end + 1 :].strip()
