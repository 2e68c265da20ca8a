"""A company's outbound server, over SMTP: how a session to it is opened.

aiosmtplib connects, negotiates TLS and says EHLO; from then on the connection is `wire.Wire`'s, which reads replies
strictly and knows when the final dot was sent. `pool` says how many there may be.

`tls`: "none"; "opportunistic" (STARTTLS where it is offered, RFC 7435; an attacker on the line can take the offer
away); "starttls" and "implicit" (nothing is ever said in clear beyond EHLO). Certificates are verified in all three.

`forward` tells the upstream who the real client is: "proxy" by a PROXY line of version 1 before anything else,
"xclient" by Postfix's XCLIENT command, which the upstream has to offer us. A session is then one client's alone.

RFCs: 5321 §4.5.3.2 (time-outs); 3207 (STARTTLS); 8314 §3.3 (implicit TLS).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

import aiosmtplib

from relay_mta.core import ip
from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamError
from relay_mta.core.ports import Chunks
from relay_mta.core.reply import Reply
from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.tls import client_context
from relay_mta.smtp.wire import Wire

UpstreamTls = Literal["none", "opportunistic", "starttls", "implicit"]
Forward = Literal["none", "xclient", "proxy"]


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
        forward: Forward = "none",
        timeouts: Timeouts | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._hostname = hostname
        self._tls = tls
        self._context = client_context(ca_file) if tls != "none" else None
        self._forward = forward
        self._timeouts = timeouts or Timeouts()

    @property
    def name(self) -> str:
        """Host and port, for the log."""
        return f"{self._host}:{self._port}"

    @property
    def shareable(self) -> bool:
        """A session says nothing of the client that it was opened for."""
        return self._forward == "none"

    async def connect(self, client: Client) -> SmtpSession:
        """A new session past EHLO. Raises `UpstreamError` with one line for the log."""
        announced = await self._announced(client) if self._forward == "proxy" else None
        connection = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port if announced is None else None,  # aiosmtplib takes a port or a socket
            local_hostname=self._hostname,
            timeout=self._timeouts.connect,
            use_tls=self._tls == "implicit",
            start_tls=False,  # done in _secure: what fails there should be said clearly
            tls_context=self._context,
            sock=announced,
        )
        try:
            await connection.connect()
            self._be_strict(connection)
            await self._secure(connection)
            if self._forward == "xclient":
                await self._introduce(connection, client)
            return self._take_over(connection)
        except BaseException as error:
            # Not close(): a STARTTLS that failed leaves a transport that would wait for a handshake.
            if connection.transport is not None and isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()
            elif announced is not None:
                announced.close()
            connection.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError)):
                raise UpstreamError(f"{self.name}: {_reason(error)}") from error
            raise

    def _be_strict(self, connection: aiosmtplib.SMTP) -> None:
        """Let nothing stand behind a reply: it would answer the next command, or, behind that to STARTTLS, be something
        that was said in clear (RFC 3207 §6; aiosmtplib throws it away and goes on)."""
        protocol = connection.protocol
        if protocol is None:
            raise UpstreamError(f"{self.name}: connection lost after the greeting")
        read = protocol.read_response

        async def read_one(timeout: float | None = None) -> aiosmtplib.SMTPResponse:  # noqa: ASYNC109  # its signature
            answer = await read(timeout=timeout)
            if protocol._buffer:
                raise UpstreamError(f"{self.name}: more than one reply to a command while greeting")
            return answer

        protocol.read_response = read_one  # type: ignore[method-assign]  # of this connection alone
        if protocol._buffer:
            raise UpstreamError(f"{self.name}: spoke on behind its greeting")

    async def _secure(self, connection: aiosmtplib.SMTP) -> None:
        await _greet(connection)
        if self._tls == "starttls" or (self._tls == "opportunistic" and connection.supports_extension("starttls")):
            if not connection.supports_extension("starttls"):
                raise UpstreamError(f"{self.name}: STARTTLS is required and not offered")
            await connection.starttls()
            await _greet(connection)

    async def _announced(self, client: Client) -> socket.socket:
        """A connection on which the PROXY line has been said."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                for number, (family, kind, protocol, _, place) in enumerate(found, 1):
                    connection = socket.socket(family, kind, protocol)
                    connection.setblocking(False)
                    try:
                        await loop.sock_connect(connection, place)
                        await loop.sock_sendall(connection, _proxy_line(client, place))
                        return connection
                    except BaseException as error:
                        connection.close()
                        if number == len(found) or not isinstance(error, OSError):
                            raise
        except TimeoutError:
            raise UpstreamError(f"{self.name}: timed out while connecting") from None
        except OSError as error:
            raise UpstreamError(f"{self.name}: {_reason(error)}") from error
        raise UpstreamError(f"{self.name}: cannot connect: no address")

    async def _introduce(self, connection: aiosmtplib.SMTP, client: Client) -> None:
        """Postfix's XCLIENT_README: what the upstream lets us say of the client; it then greets anew."""
        if not connection.supports_extension("xclient"):
            raise UpstreamError(f"{self.name}: XCLIENT is configured and not offered to us")
        offered = connection.esmtp_extensions["xclient"].upper().split()
        address = ip.parsed(client.address)
        said = {
            "NAME": "[UNAVAILABLE]",
            "ADDR": "[UNAVAILABLE]" if address is None else f"IPV6:{address}" if address.version == 6 else str(address),
            "PORT": str(client.port) if client.port else "[UNAVAILABLE]",
            "PROTO": "ESMTP" if client.esmtp else "SMTP",
            "HELO": _xtext(client.helo) or "[UNAVAILABLE]",
        }
        words = [f"{name}={value}".encode() for name, value in said.items() if name in offered]
        answer = await connection.execute_command(b"XCLIENT", *words, timeout=self._timeouts.connect)
        if answer.code != 220:
            raise UpstreamError(f"{self.name}: XCLIENT was refused, with {answer.code}")
        await _greet(connection)

    def _take_over(self, connection: aiosmtplib.SMTP) -> SmtpSession:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise UpstreamError(f"{self.name}: connection lost after EHLO")
        extensions = {keyword.upper(): value for keyword, value in connection.esmtp_extensions.items()}
        return SmtpSession(Wire(transport, self.name, self._timeouts), extensions)


class SmtpSession:
    """One session past EHLO; `pool` makes a `core.ports.UpstreamSession` of it."""

    def __init__(self, wire: Wire, extensions: Mapping[str, str]) -> None:
        self._wire = wire
        self.extensions = extensions

    @property
    def alive(self) -> bool:
        """As the port says."""
        return self._wire.alive

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the connection is gone."""
        self._wire.when_lost(tell)

    @property
    def farewell(self) -> Reply | None:
        """As the port says."""
        return self._wire.farewell

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


def _proxy_line(client: Client, place: Sequence[object]) -> bytes:
    """The PROXY protocol, version 1. Both addresses are of one family in it: an IPv4 one is mapped where need be."""
    source, target = ip.parsed(client.address), ip.parsed(str(place[0]))
    if source is None or target is None:
        return b"PROXY UNKNOWN\r\n"
    if source.version != target.version:
        source, target = _mapped(source), _mapped(target)
    return f"PROXY TCP{source.version} {source} {target} {client.port} {place[1]}\r\n".encode()


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{address}") if isinstance(address, IPv4Address) else address


def _xtext(text: str) -> str:
    """RFC 3461 §4: printable ASCII but "+" and "=" as it is, everything else as "+" and two hex digits."""
    raw = text.encode("utf-8", "surrogateescape")[:255]
    return "".join(chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}" for byte in raw)


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
