"""A wire-tap: a port that passes everything on to a server and keeps what the client sent, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self


class Tap:
    """Listens on `host` on a free port while it is entered; `sent` has one entry for each connection, in order."""

    def __init__(self, server_port: int, host: str = "127.0.0.1") -> None:
        self.host = host
        self.server_port = server_port
        self.sent: list[bytearray] = []
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="tap", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        # A thread that waits in accept() or recv() is woken by shutdown() only.
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def wait_for(self, connections: int, seconds: float = 30.0) -> None:
        """Until there have been so many connections."""
        deadline = time.monotonic() + seconds
        while len(self.sent) < connections:
            assert time.monotonic() < deadline, f"{len(self.sent)} connections"
            time.sleep(0.02)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port))
                self._open += [client, server]
                self.sent.append(bytearray())
                for source, sink, kept in ((client, server, self.sent[-1]), (server, client, None)):
                    threading.Thread(target=_pass_on, args=(source, sink, kept), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if kept is not None:
                kept += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
