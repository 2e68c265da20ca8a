"""The mail between 354 and CR LF . CR LF, read in big pieces, held once, bounded in size, memory and time.

Whatever is wrong with a mail, it is read to its end before it is answered (RFC 5321 §4.1.1.4): a refusal in the middle
would leave the rest of the mail to be obeyed as commands.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass

from relay_mta.smtp.budget import Lease
from relay_mta.smtp.dots import Unstuffer
from relay_mta.smtp.limits import Limits

END = b"\r\n.\r\n"
_LEAST_WAIT = 0.05


class MailTooSlowError(Exception):
    """The mail stopped coming, or came more slowly than `Limits.data_rate`."""


@dataclass(frozen=True, slots=True)
class Received:
    """`raw` is the mail, dots unstuffed and line ends CR LF; None if it was thrown away: `too_big`, or no memory."""

    raw: bytes | None
    normalised: bool
    too_big: bool


async def receive(
    reader: asyncio.StreamReader, arrived: Callable[[], int], *, lease: Lease, max_size: int, limits: Limits
) -> Received:
    """Read one mail after the 354 was written.

    `arrived` counts the bytes that the connection has brought. On return `lease` is the size of `raw`. Raises
    `MailTooSlowError`, and what the reader raises when the client is lost.
    """
    pieces = _Pieces(reader, arrived, limits)
    unstuffer = Unstuffer()
    # Its buffer becomes the mail without being copied (CPython shares it with getvalue), so a mail is held once.
    mail = io.BytesIO()
    size, too_big, no_memory = 0, False, False
    ended = False
    while not ended:
        wire, ended = await pieces.next()
        if too_big or no_memory:
            continue
        piece = unstuffer.feed(wire)
        if ended:
            piece += unstuffer.finish()
        size += len(piece)
        too_big = size > max_size
        no_memory = not too_big and not lease.grow(size)
        if too_big or no_memory:
            mail.close()
            lease.release()
        else:
            mail.write(piece)
    if too_big or no_memory:
        return Received(None, normalised=False, too_big=too_big)
    lease.resize(size)  # never more than it held: a client may have declared more than it sent
    return Received(mail.getvalue(), normalised=unstuffer.normalised, too_big=False)


class _Pieces:
    """Cuts the stream into pieces up to the end of data, against the clock."""

    def __init__(self, reader: asyncio.StreamReader, arrived: Callable[[], int], limits: Limits) -> None:
        self._reader = reader
        self._arrived = arrived
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._start = self._clock()
        self._before = arrived()
        self._first = True

    async def next(self) -> tuple[bytes, bool]:
        """A piece, and whether it was the last one. The final dot's line is not part of it."""
        if self._first:
            # The line end of the DATA command counts as that of an empty line: a mail may be nothing but the final dot.
            self._reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]  # private, see the contract test
        piece, ended = await self._wait()
        if self._first:
            piece, self._first = piece[2:], False
        return (piece[:-3], True) if ended else (piece, False)

    async def _wait(self) -> tuple[bytes, bool]:
        while True:
            seen = self._arrived()
            # RFC 5321 §4.5.3.2.5 times the wait for a block, not the mail; the rate bounds a client that trickles.
            deadline = self._start + self._limits.data_grace + (seen - self._before) / self._limits.data_rate
            left = deadline - self._clock()
            try:
                async with asyncio.timeout(max(_LEAST_WAIT, min(self._limits.data_idle, left))):
                    return await self._reader.readuntil(END), True
            except asyncio.LimitOverrunError as overrun:
                return await self._reader.readexactly(overrun.consumed), False
            except TimeoutError:
                if left <= 0 or self._arrived() == seen:
                    raise MailTooSlowError from None
