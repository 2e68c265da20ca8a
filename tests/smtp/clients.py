"""A client that says exactly what a test tells it, byte by byte, and reads replies as RFC 5321 §4.2 has them."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from types import TracebackType


class Dialog:
    """A connection to a server on loopback. `async with Dialog(port) as client` reads the greeting first.

    `source`: the address to come from; all of 127.0.0.0/8 will do.
    """

    def __init__(self, port: int, *, ssl_context: ssl.SSLContext | None = None, source: str | None = None) -> None:
        self._port = port
        self._source = source
        self._ssl = ssl_context
        self.greeting = b""

    async def __aenter__(self) -> Dialog:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            ssl=self._ssl,
            server_hostname="localhost" if self._ssl else None,
            local_addr=(self._source, 0) if self._source else None,
        )
        self.greeting = await self.reply()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> bytes:
        """One whole reply with all its lines, or b"" if the server has closed."""
        lines = b""
        async with asyncio.timeout(10):
            while True:
                try:
                    line = await self.reader.readline()
                except ConnectionError:
                    return b""
                lines += line
                if not line or line[3:4] != b"-":
                    return lines

    async def say(self, line: bytes) -> bytes:
        """A command line; returns its reply."""
        await self.send(line + b"\r\n")
        return await self.reply()

    async def ehlo(self) -> list[bytes]:
        """EHLO; returns what is offered."""
        return [line[4:] for line in (await self.say(b"EHLO client.test")).splitlines()][1:]

    async def start_tls(self, context: ssl.SSLContext) -> bytes:
        """STARTTLS and, if it is accepted, the handshake. Returns its reply."""
        answer = await self.say(b"STARTTLS")
        if answer.startswith(b"220"):
            await self.writer.start_tls(context, server_hostname="localhost")
        return answer

    async def log_in(self, login: str, secret: str, mechanism: str = "PLAIN") -> bytes:
        """AUTH; returns the last reply, or the 334 behind which the server wants one more response."""
        if mechanism == "LOGIN":
            assert await self.say(b"AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
            assert await self.say(b64encode(login.encode())) == b"334 UGFzc3dvcmQ6\r\n"
            return await self.say(b64encode(secret.encode()))
        response = {
            "PLAIN": f"\0{login}\0{secret}",
            "XOAUTH2": f"user={login}\1auth=Bearer {secret}\1\1",
            "OAUTHBEARER": f"n,a={login},\1host=x\1port=25\1auth=Bearer {secret}\1\1",
        }[mechanism]
        return await self.say(f"AUTH {mechanism} ".encode() + b64encode(response.encode()))

    async def envelope(self, *recipients: bytes) -> list[bytes]:
        """EHLO, MAIL, RCPT for each, DATA. Returns the replies to RCPT and DATA."""
        await self.ehlo()
        assert (await self.say(b"MAIL FROM:<a@client.test>")).startswith(b"250")
        return [await self.say(b"RCPT TO:<" + path + b">") for path in recipients or (b"b@there.test",)] + [
            await self.say(b"DATA")
        ]

    async def at_end(self) -> bool:
        """The server closes without another word."""
        return await self.reply() == b""
