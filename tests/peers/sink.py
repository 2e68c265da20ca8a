"""Postfix's smtp-sink: takes everything, or fails as its flags say (smtp-sink(1))."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Sequence

from tests.peers.server import Delivered, ForegroundServer

SINK = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "smtp-sink"

_RCPT = re.compile(rb"X-Rcpt-Args: <([^>]*)>")
_OWN_FIELDS = re.compile(rb"\A(?:X-[^\n]*\n)+Received: [^\n]*\n(?:\t[^\n]*\n)+")


class Sink(ForegroundServer):
    """One smtp-sink; its dumps are files in `mail/`. No TLS, no AUTH. `port`: take this one."""

    name = "sink"
    offers_tls = False

    def __init__(self, flags: Sequence[str] = (), port: int | None = None) -> None:
        super().__init__()
        self.flags = flags
        if port is not None:
            self.port = port

    def start(self) -> None:
        user = []
        if os.geteuid() == 0:
            user = ["-u", "nobody"]
            shutil.chown(self.place / "mail", "nobody")
        self.run([SINK, *user, *self.flags, "-d", f"{self.place}/mail/%H%M%S.", f"127.0.0.1:{self.port}", "64"])

    def greets(self) -> bool:
        # Its greeting may be what it fails at: an open port is enough.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def delivered(self) -> list[Delivered]:
        found = []
        for path in (self.place / "mail").iterdir():
            # The dump has LF, no dot-stuffing, pseudo fields and Received in front, and an empty line at its end.
            dump = path.read_bytes().removesuffix(b"\n")
            if own := _OWN_FIELDS.match(dump):
                raw = dump[own.end() :].replace(b"\n", b"\r\n")
                found += [Delivered(each.decode(), raw) for each in _RCPT.findall(own[0])]
        return found
