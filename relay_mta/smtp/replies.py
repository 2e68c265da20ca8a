"""The strict reader of an upstream's replies (RFC 5321 §4.2).

A proxy that misreads a reply loses mail: a refusal taken for an acceptance, or a stray line taken for the answer to the
next command. So a reply is taken only if every line of it ends in CR LF, carries the same three-digit code of class
2 to 5, and stays within bounds; everything else is a `ReplyError`, after which the connection is of no use any more.
Texts are kept as the bytes they are, 8-bit included.

No I/O: bytes are fed in, replies are taken out.
"""

from __future__ import annotations

import re

from relay_mta.core.reply import Reply

MAX_LINE = 2048
"""Bytes of one reply line with its CR LF. RFC 5321 §4.5.3.1.5 allows 512; servers that explain themselves send more."""
MAX_LINES = 100
"""Lines of one reply: more than any EHLO or policy text, and a bound on what a hostile upstream makes us hold."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class ReplyError(Exception):
    """The upstream sent something that is not an SMTP reply. The text names the fault and quotes nothing."""


class ReplyReader:
    """Collects bytes and gives out whole replies in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bool:
        """Bytes have arrived that no reply was made of yet."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> None:
        """Add bytes as they arrived."""
        self._buffer += data

    def take(self) -> Reply | None:
        """The next whole reply, or None if more bytes are needed. Raises `ReplyError`."""
        while (line := self._line()) is not None:
            found = _LINE.fullmatch(line)
            if found is None:
                raise ReplyError("a line does not start with a reply code")
            code, mark, text = found.groups()
            if self._lines and code != self._code:
                raise ReplyError("the lines of one reply have different codes")
            self._code = code
            self._lines.append(text or b"")
            if mark != b"-":
                lines, self._lines = self._lines, []
                return Reply(int(code), tuple(lines))
            if len(self._lines) >= MAX_LINES:
                raise ReplyError("a reply has too many lines")
        return None

    def _line(self) -> bytes | None:
        """The next line without its CR LF."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            # What cannot become a line any more is refused before more of it arrives.
            if len(self._buffer) >= MAX_LINE:
                raise ReplyError("a line is too long")
            return None
        if end >= MAX_LINE:
            raise ReplyError("a line is too long")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise ReplyError("a line does not end in CR LF")
        if b"\0" in line:
            raise ReplyError("a line has a NUL")
        return line[:-2]
