r"""Transparency of the dot, and line ends (RFC 5321 §4.5.2, §2.3.8), for mails that come and go in pieces.

`Unstuffer` turns what a client sent between 354 and the end of data into the mail: one dot is taken from every line
that starts with one. Only CR LF ends a line on the wire; a bare CR or LF is content that the next server may take for a
line end (SMTP smuggling), so it is mended to CR LF here, once, *after* the end of data was found, and `normalised` says
so.

`Stuffer` is the way out: every line that starts with a dot gets one more. Its input has CR LF line ends only, and it
raises rather than let anything else leave.

For every mail of CR LF lines, cut anywhere: unstuffing what was stuffed gives the mail back. Neither holds more than
the piece in hand.
"""

from __future__ import annotations

from relay_mta.core.newline import has_bare, mended


class BareNewlineError(ValueError):
    """A mail on its way out has a CR or LF that is not part of a CR LF."""


class _Lines:
    """Holds back a line end at the end of a piece, so that no CR LF or CR LF dot is ever seen in two halves.

    The stream starts with a virtual CR LF, which makes the first line a line like the others; it is never given out.
    """

    def __init__(self) -> None:
        self._tail = b"\r\n"
        self._begun = False

    def _cut(self, data: bytes) -> bytes:
        data = self._tail + data
        held = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        self._tail = data[len(data) - held :]
        return data[: len(data) - held]

    def _begin(self, piece: bytes) -> bytes:
        """`piece` without the virtual line end, which stands at the start of the first one."""
        if self._begun or not piece:
            return piece
        self._begun = True
        return piece[2:]


class Unstuffer(_Lines):
    """From the wire: `feed` what stands between 354 and the final dot, in pieces, then `finish`."""

    def __init__(self) -> None:
        super().__init__()
        self.normalised = False

    def feed(self, data: bytes) -> bytes:
        """The mail's bytes that are certain so far."""
        return self._begin(self._mend(self._cut(data).replace(b"\r\n.", b"\r\n")))

    def finish(self) -> bytes:
        """The mail's last bytes: its last line end, or nothing if the mail is empty."""
        tail, self._tail = self._tail, b""
        return self._begin(self._mend(tail))

    def _mend(self, piece: bytes) -> bytes:
        whole = mended(piece)
        self.normalised = self.normalised or whole is not piece
        return whole


class Stuffer(_Lines):
    """To the wire: `feed` the mail in pieces, then `finish`. Raises `BareNewlineError`."""

    def feed(self, data: bytes) -> bytes:
        """What may be sent so far."""
        piece = self._cut(data)
        if has_bare(piece):
            raise BareNewlineError("a mail with a bare CR or LF must not leave")
        return self._begin(piece.replace(b"\r\n.", b"\r\n.."))

    def finish(self) -> bytes:
        """The last line end, added where the mail lacks it, and the end of data: what ends the transaction."""
        tail, self._tail = self._tail, b""
        if tail == b"\r":
            raise BareNewlineError("a mail with a bare CR must not leave")
        if not self._begun:  # nothing but the virtual line end: an empty mail
            return b".\r\n"
        return b"\r\n.\r\n"
