"""A company's outbound server, over SMTP: fulfils `core.ports.Upstream`.

aiosmtplib connects, negotiates TLS and says EHLO; from then on the connection is `wire.Wire`'s, which reads replies
strictly and knows when the final dot was sent.

`tls`: "none"; "opportunistic" (STARTTLS where it is offered, RFC 7435; an attacker on the line can take the offer
away); "starttls" and "implicit" (nothing is ever said in clear beyond EHLO). Certificates are verified in all three.

RFCs: 5321 §4.5.3.2 (time-outs); 3207 (STARTTLS); 8314 §3.3 (implicit TLS).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import aiosmtplib

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamError
from relay_mta.core.ports import Chunks
from relay_mta.core.reply import Reply
from relay_mta.smtp.tls import client_context
from relay_mta.smtp.wire import Timeouts, Wire

UpstreamTls = Literal["none", "opportunistic", "starttls", "implicit"]


class SmtpUpstream:
    """`hostname` is what we call ourselves in EHLO. Raises `OSError` if `ca_file` cannot be read."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        hostname: str,
        tls: UpstreamTls = "none",
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._hostname = hostname
        self._tls = tls
        self._context = client_context(ca_file) if tls != "none" else None
        self._timeouts = timeouts or Timeouts()

    @property
    def name(self) -> str:
        """Host and port, for the log."""
        return f"{self._host}:{self._port}"

    async def open(self, client: Client) -> SmtpSession:
        """As `core.ports.Upstream.open`."""
        connection = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._hostname,
            timeout=self._timeouts.connect,
            use_tls=self._tls == "implicit",
            start_tls=False,  # done in _secure: what fails there should be said clearly
            tls_context=self._context,
        )
        try:
            await connection.connect()
            await self._secure(connection)
            return self._take_over(connection)
        except BaseException as error:
            # Not close(): a STARTTLS that failed leaves a transport that would wait for a handshake.
            if connection.transport is not None and isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()
            connection.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError)):
                raise UpstreamError(f"{self.name}: {_reason(error)}") from error
            raise

    async def _secure(self, connection: aiosmtplib.SMTP) -> None:
        await _greet(connection)
        if self._tls == "starttls" or (self._tls == "opportunistic" and connection.supports_extension("starttls")):
            if not connection.supports_extension("starttls"):
                raise UpstreamError(f"{self.name}: STARTTLS is required and not offered")
            await connection.starttls()
            await _greet(connection)

    def _take_over(self, connection: aiosmtplib.SMTP) -> SmtpSession:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise UpstreamError(f"{self.name}: connection lost after EHLO")
        if protocol._buffer:  # a second reply stood behind that to EHLO
            raise UpstreamError(f"{self.name}: more than one reply to EHLO")
        extensions = {keyword.upper(): value for keyword, value in connection.esmtp_extensions.items()}
        return SmtpSession(Wire(transport, self.name, self._timeouts), extensions)


class SmtpSession:
    """Fulfils `core.ports.UpstreamSession`."""

    def __init__(self, wire: Wire, extensions: Mapping[str, str]) -> None:
        self._wire = wire
        self.extensions = extensions

    @property
    def alive(self) -> bool:
        """As the port says."""
        return self._wire.alive

    async def command(self, line: bytes) -> Reply:
        """As the port says."""
        return await self._wire.command(line)

    async def data(self, chunks: Chunks) -> Reply:
        """As the port says."""
        return await self._wire.data(chunks)

    async def quit(self) -> None:
        """As the port says."""
        await self._wire.quit()

    def abort(self) -> None:
        """As the port says."""
        self._wire.abort()


async def _greet(connection: aiosmtplib.SMTP) -> None:
    """EHLO, or HELO for a server that knows no EHLO (RFC 5321 §3.2)."""
    try:
        await connection.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not connection.is_connected:
            raise
        await connection.helo()


def _reason(error: Exception) -> str:
    """One line for the log, without the upstream's words: they may quote anything."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    cause = error.__cause__
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(cause, OSError):
        return _reason(cause)
    if isinstance(error, aiosmtplib.SMTPConnectTimeoutError):
        return "timed out while connecting"
    if isinstance(error, aiosmtplib.SMTPTimeoutError):
        return "timed out while greeting"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return "malformed greeting" if error.code < 200 else f"refused to serve us, with {error.code}"
    if isinstance(error, aiosmtplib.SMTPException):
        return f"connection lost while greeting ({type(error).__name__})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot connect: {error.strerror}"
    return f"cannot connect: {type(error).__name__}"
