"""A client that says a dialog's bytes on a plain socket and writes down every reply, however odd either is.

No SMTP library: none of them lets a test say what dialogs here have to say, and some repair what they hear.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from itertools import groupby

from tests.differential.dialog import Dialog, Step

SECONDS = 20.0
"""For one reply. Nothing here takes that long: a reply that is missing is a finding."""

CLOSED = "(closed)"
ENDS = (CLOSED, "(no reply)", "(malformed)")
MAX_LINE = 2048

_LINE = re.compile(rb"([2-5][0-9]{2})([ -])([^\r\n\0]*)\r\n")
_LAST_WORD = ("221", "421")

Transcript = list[tuple[str, str]]
"""Each step's place and answer. An answer is the code and all text lines, and `(closed)` if that was the end."""


class _EndError(Exception):
    """The dialog is over; the text says how."""


class _Connection:
    def __init__(self, port: int, source: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self._socket.makefile("rb")

    def send(self, raw: bytes, *, bytewise: bool) -> None:
        """Send it all, unless the server is gone: what it said before that is still to be read."""
        with contextlib.suppress(ConnectionError):
            for packet in (raw[i : i + 1] for i in range(len(raw))) if bytewise else (raw,):
                self._socket.sendall(packet)

    def reply(self) -> str:
        """One reply, strictly read (RFC 5321 §4.2.1)."""
        code, lines = b"", []
        while True:
            line = self._line()
            found = _LINE.fullmatch(line)
            if found is None or (code and found[1] != code):
                raise _EndError(ENDS[2])
            code = found[1]
            lines.append(found[3].decode("ascii", "backslashreplace"))
            if found[2] == b" ":
                return f"{code.decode()} {' | '.join(lines)}"

    def _line(self) -> bytes:
        try:
            line = self._read.readline(MAX_LINE)
        except ConnectionError:  # whether the end comes as FIN or as RST depends on who was faster
            line = b""
        except TimeoutError:
            raise _EndError(ENDS[1]) from None
        if not line:
            raise _EndError(CLOSED)
        return line

    def rest(self) -> Iterator[str]:
        """All further replies to the end of the connection, and how it ended."""
        try:
            while True:
                yield self.reply()
        except _EndError as end:
            yield str(end)

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._read.close()
        self._socket.close()


def hold(dialog: Dialog, port: int, source: str) -> Transcript:
    """Hold a dialog with the server on a loopback port, from the loopback address `source`."""
    said: Transcript = []
    connection = _Connection(port, source)
    try:
        _hold(connection, dialog, said)
    except _EndError:
        pass
    finally:
        connection.close()
    return [
        (place, _text([answer for _, answer in answers])) for place, answers in groupby(said, lambda answer: answer[0])
    ]


def _hold(connection: _Connection, dialog: Dialog, said: Transcript) -> None:
    packets = list(_packets(dialog.steps))
    if dialog.early:
        connection.send(_bytes(packets[0]), bytewise=dialog.bytewise)
    _hear(connection, "greeting", said)
    for i, packet in enumerate(packets):
        if not said[-1][1].startswith(packet[0].after):
            continue
        if i or not dialog.early:
            connection.send(_bytes(packet), bytewise=dialog.bytewise)
        for step in packet:
            if step.reply:
                _hear(connection, step.place, said)
    if dialog.ending == "quit":
        connection.send(b"QUIT\r\n", bytewise=False)
    elif dialog.ending == "shut":
        connection.shut()
    if dialog.ending != "hangup":
        said += ((dialog.ending, answer) for answer in connection.rest())


def _hear(connection: _Connection, place: str, said: Transcript) -> None:
    """One reply; behind a last word everything to the end."""
    try:
        said.append((place, connection.reply()))
    except _EndError as end:
        said.append((place, str(end)))
        raise
    if said[-1][1].startswith(_LAST_WORD):
        said += ((place, answer) for answer in connection.rest())
        raise _EndError


def _packets(steps: list[Step]) -> Iterator[list[Step]]:
    packet: list[Step] = []
    for step in steps:
        if packet and not step.joined:
            yield packet
            packet = []
        packet.append(step)
    if packet:
        yield packet


def _bytes(packet: list[Step]) -> bytes:
    return b"".join(step.raw for step in packet)


def _text(answers: list[str]) -> str:
    """Several answers in one line; the same one in a row is counted."""
    counted = ((answer, len(list(group))) for answer, group in groupby(answers))
    return ", ".join(answer if times == 1 else f"{answer} ×{times}" for answer, times in counted)
