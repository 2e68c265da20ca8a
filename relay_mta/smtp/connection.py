"""One client's connection: aiosmtpd's `SMTP` with the ways of its stream changed, and no commands yet.

What aiosmtpd does and a proxy must not: cancel whatever runs when the client goes away or closes its side; time
everything with one timer that ends in silence; size commands by a mapping that all connections share. Here the
session's task is never cancelled by the client, every wait has its own limit and a reply when it ends, and TLS is
refused to a client that talked on behind STARTTLS.

aiosmtpd's methods and attributes that are overridden or used here stand in tests/smtp/test_aiosmtpd_contract.py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from aiosmtpd.smtp import SMTP

from relay_mta.core.envelope import Client
from relay_mta.core.ports import Front
from relay_mta.core.reply import Reply
from relay_mta.smtp.answers import READY_FOR_TLS, SHUTTING_DOWN, TOO_SLOW
from relay_mta.smtp.budget import Budget
from relay_mta.smtp.census import Census
from relay_mta.smtp.limits import Limits

OnError = Callable[[BaseException], None]
Tls = Literal["none", "starttls", "implicit"]

READ_AHEAD = 64 * 1024
"""The stream reader's limit: it stops reading from a client at twice this, and mail comes in pieces of about this."""

_TLS_BUFFER = bytearray(256 * 1024)
"""What asyncio's TLS reads into, `SSLProtocol.max_size` long. It is used within one callback only, and a loop runs one
callback at a time, so that all sessions can share one instead of keeping such a piece of memory each."""

CLIENT_GONE = (asyncio.IncompleteReadError, OSError)
"""What reading from a client that is gone raises."""


@dataclass(slots=True, eq=False)
class ListenerState:
    """What all sessions of one listener share."""

    name: str
    hostname: str
    front: Front
    budget: Budget
    tls: Tls
    ssl_context: ssl.SSLContext | None
    max_size: int
    limits: Limits
    on_error: OnError
    census: Census
    refuse_bare_newline: bool = False
    auth_in_clear: bool = False
    draining: bool = False
    sessions: dict[Connection, asyncio.Task[None]] = field(default_factory=dict)


class Connection(SMTP):
    """The stream and its replies. `Session` adds the conversation."""

    line_length_limit = READ_AHEAD

    def __init__(self, listener: ListenerState) -> None:
        # aiosmtpd clears this mapping for every new connection, and by default it is the class's own: shared.
        self.command_size_limits: dict[str, int] = {}
        super().__init__(
            None,
            hostname=listener.hostname,
            enable_SMTPUTF8=True,
            data_size_limit=None,
            loop=asyncio.get_running_loop(),
        )
        self._listener = listener
        self._limits = listener.limits
        self._client = Client("")
        self._client_ended = False
        self._bytes_in = 0
        self._ending = False
        self._waiting = False
        self._in_transaction = False

    # --- what asyncio tells us ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: starts the session's task, which does the handshake of implicit TLS itself. asyncio would
        do it before anybody knows of the client, and whoever only opens connections would not be counted."""
        peer = transport.get_extra_info("peername") or ("", 0)
        self._client = Client(
            str(peer[0]),
            int(peer[1]),
            listener=self._listener.name,
        )
        if self._listener.tls == "implicit" and isinstance(transport, asyncio.Transport):
            transport.pause_reading()  # what comes now is the handshake's: start_tls lets it in
        super().connection_made(transport)
        if self._handler_coroutine is not None:
            self._listener.sessions[self] = self._handler_coroutine

    def data_received(self, data: bytes) -> None:
        """Counts what arrives, for the data timer."""
        self._bytes_in += len(data)
        super().data_received(data)

    def eof_received(self) -> bool:
        """The client will send no more. Unlike aiosmtpd's, this does not cancel the session's task: whatever arrived
        before is served, and a half-closed client still gets its replies (not over TLS, where that is impossible)."""
        self._client_ended = True
        asyncio.StreamReaderProtocol.eof_received(self)
        return not self._client.tls

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. The session's task is not cancelled; it finds out when it next reads or writes."""
        asyncio.StreamReaderProtocol.connection_lost(self, error)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """aiosmtpd's one silent timer is not used: every wait below has its own, and a reply when it ends."""

    # --- replies ---

    @property
    def _connected(self) -> bool:
        return not self._writer.is_closing()

    async def _send(self, answer: Reply) -> bool:
        """Write a reply; True if it went out to a client that is still there. A 421 ends the session."""
        if answer.code == 421:
            self._ending = True
        if not self._connected:
            return False
        self._writer.write(answer.wire())
        try:
            async with asyncio.timeout(self._limits.write):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            pass
        return self._connected

    # --- reading ---

    async def _read_command(self) -> bytes | None:
        """One command line without its line end, or None if the session is over. `Limits.command` is for all of it."""
        self._waiting = True
        try:
            async with asyncio.timeout(self._limits.command):
                line = await self._read_line()
        except TimeoutError:
            await self._send(TOO_SLOW)
            return None
        except CLIENT_GONE:
            return None
        finally:
            self._waiting = False
        # A bare LF ends a command, as everywhere, and so does CR CR LF; neither ever ends a mail.
        return line[:-1].rstrip(b"\r")

    async def _read_line(self) -> bytes:
        """One line; of a line that is too long to be any command, just the beginning (still too long)."""
        beginning = b""
        while True:
            try:
                line: bytes = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                piece: bytes = await self._reader.readexactly(error.consumed)
                beginning = beginning or piece
            else:
                return beginning + line[-2:] if beginning else line

    def _talks_too_early(self) -> bool:
        """Bytes stand behind a command whose reply must be awaited: EHLO, STARTTLS, DATA (RFC 2920 §3.1)."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]  # private, held by the contract test

    # --- TLS and the end ---

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """RFC 3207, from the 220 on. Cuts the connection if the handshake fails."""
        # Bytes that came in clear behind STARTTLS would be obeyed as if they had come over TLS. No client sends any.
        if self._talks_too_early() or not await self._send(READY_FOR_TLS) or self._talks_too_early():
            self.abort()
            return
        await self._handshake(context)

    async def _handshake(self, context: ssl.SSLContext) -> None:
        """From here on TLS. Cuts the connection if the handshake fails."""
        try:
            await self._writer.start_tls(context, ssl_handshake_timeout=self._limits.handshake)
        except OSError:  # a bad handshake (ssl.SSLError is one), a time-out, or the client left
            self.abort()
            return
        tls = self._writer.transport._ssl_protocol  # type: ignore[attr-defined]  # private, held by the contract test
        tls._ssl_buffer, tls._ssl_buffer_view = _TLS_BUFFER, memoryview(_TLS_BUFFER)
        self.transport = self._writer.transport
        self._reader._transport = self._writer.transport  # type: ignore[attr-defined]  # as aiosmtpd does
        self._client = replace(self._client, helo="", esmtp=True, tls=True, authenticated=False)

    def _hang_up(self) -> None:
        transport = self._writer.transport
        if not transport.is_closing():
            transport.close()
        if transport.get_write_buffer_size():  # a client that reads nothing must not keep the connection
            self.loop.call_later(self._limits.handshake, transport.abort)

    def shut_down_if_idle(self) -> None:
        """Say 421 to a session that waits for a command outside any transaction, and end it."""
        if self._waiting and not self._in_transaction and self._connected:
            self._ending = True
            self._writer.write(SHUTTING_DOWN.wire())
            self._hang_up()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._writer.transport.abort()
