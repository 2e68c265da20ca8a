"""A scripted upstream for misbehaviour: an SMTP server on loopback that does as a test tells it and records every byte.

    async with ScriptedUpstream({b"RCPT": [OK, b"550 5.1.1 no such user\\r\\n"], b".": DROP}) as upstream:
        ... upstream.port ... upstream.mails ...

A script maps a stage to what happens there. Stages: b"CONNECT", a verb in upper case, b"354" (the mail is about to be
read; bytes said here are an early reply), b"." (a whole mail was read). What happens is

* bytes, sent as they are;
* an `Action`: DROP (close), RESET (close with RST), STALL (never answer);
* a coroutine function of the `Peer`, which does what it likes and returns one of these, or None for nothing;
* a list of those, one for each time the stage is reached; the last one stays.

A stage that the script does not name is answered as a well-behaved server does.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

OK = b"250 2.0.0 ok\r\n"
EXTENSIONS = ("PIPELINING", "SIZE 10240000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


class Action(enum.Enum):
    """What can be done but to answer."""

    DROP = enum.auto()
    RESET = enum.auto()
    STALL = enum.auto()


DROP, RESET, STALL = Action.DROP, Action.RESET, Action.STALL

Step = bytes | Action | Callable[["Peer"], Awaitable[bytes | Action | None]] | None
Script = Mapping[bytes, Step | Sequence[Step]]


@dataclass
class SentMail:
    """One mail that came with its final dot. `wire` is all that stood between 354 and the next command, `reply` what it
    was answered ("" if it was not)."""

    mail: bytes
    rcpts: list[bytes]
    wire: bytes
    reply: bytes = b""

    @property
    def raw(self) -> bytes:
        """The mail without the transparency of the dot."""
        lines = self.wire[: -len(b".\r\n")].split(b"\r\n")
        return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)

    @property
    def accepted(self) -> bool:
        """We said 2yz to it."""
        return self.reply.startswith(b"2")


@dataclass
class Peer:
    """One connection to the scripted upstream."""

    upstream: ScriptedUpstream
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    lines: list[bytes] = field(default_factory=list)
    mail: bytes = b""
    rcpts: list[bytes] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    closed: bool = False

    async def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    @property
    def tls(self) -> bool:
        """The connection is encrypted by now."""
        return self.writer.get_extra_info("ssl_object") is not None


class ScriptedUpstream:
    """See the module. `commands` are all command lines of all connections, in order of arrival, without CR LF."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        ssl_context: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
    ) -> None:
        self.script: dict[bytes, Any] = dict(script or {})
        self.extensions = tuple(extensions)
        self.ssl_context = ssl_context
        self.implicit_tls = implicit_tls
        self.mails: list[SentMail] = []
        self.commands: list[bytes] = []
        self.peers: list[Peer] = []
        self.port = 0
        self._counts: dict[bytes, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 20, ssl=self.ssl_context if self.implicit_tls else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def accepted(self) -> list[SentMail]:
        """The mails that we said 2yz to."""
        return [mail for mail in self.mails if mail.accepted]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        try:
            await self._session(peer)
        except (OSError, EOFError, _ClosedError, asyncio.CancelledError):
            pass  # this task ends here in any case; asyncio's streams would report its cancellation as an error
        finally:
            peer.closed = True
            self._tasks.discard(task)
            writer.close()  # not waited for: a failed handshake never reports its end

    async def _session(self, peer: Peer) -> None:
        await self._step(peer, b"CONNECT", b"220 scripted ESMTP\r\n")
        while True:
            line = (await peer.reader.readuntil(b"\n")).rstrip(b"\r\n")
            peer.lines.append(line)
            self.commands.append(line)
            verb = line.partition(b" ")[0].upper()
            said = await self._step(peer, verb, self._default(peer, verb))
            if verb == b"STARTTLS" and said.startswith(b"220") and self.ssl_context:
                await peer.writer.start_tls(self.ssl_context)
            elif verb == b"QUIT":
                return
            elif verb == b"MAIL" and said.startswith(b"2"):
                peer.mail, peer.rcpts = line, []
            elif verb == b"RCPT" and said.startswith(b"2"):
                peer.rcpts.append(line)
            elif verb == b"DATA" and said.startswith(b"354"):
                await self._mail(peer)
            if said.startswith(b"421"):
                return

    async def _mail(self, peer: Peer) -> None:
        peer.received = bytearray()
        await self._step(peer, b"354", b"")
        while not (peer.received == b".\r\n" or peer.received.endswith(b"\r\n.\r\n")):
            try:
                peer.received += await peer.reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:  # a line may have any length
                peer.received += await peer.reader.readexactly(error.consumed)
        mail = SentMail(peer.mail, peer.rcpts, bytes(peer.received))
        self.mails.append(mail)
        mail.reply = await self._step(peer, b".", OK)

    def _default(self, peer: Peer, verb: bytes) -> bytes:
        if verb == b"EHLO":
            offered = list(self.extensions)
            if self.ssl_context and not peer.tls:
                offered.append("STARTTLS")
            lines = ["scripted", *offered]
            return b"".join(
                f"250{' ' if i == len(lines) - 1 else '-'}{line}\r\n".encode() for i, line in enumerate(lines)
            )
        return {b"DATA": b"354 go ahead\r\n", b"QUIT": b"221 bye\r\n", b"STARTTLS": b"220 go ahead\r\n"}.get(verb, OK)

    async def _step(self, peer: Peer, stage: bytes, default: bytes) -> bytes:
        step: Any = self.script.get(stage, default)
        if isinstance(step, (list, tuple)):
            count = self._counts.get(stage, 0)
            self._counts[stage] = count + 1
            step = step[min(count, len(step) - 1)]
        if callable(step):
            step = await step(peer)
        if step is None:
            return b""
        if isinstance(step, bytes):
            if step:
                await peer.say(step)
            return step
        if step is STALL:
            await asyncio.sleep(3600)
        if step is RESET:
            sock = peer.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.writer.transport.abort()
        raise _ClosedError


class _ClosedError(Exception):
    """The script ended the connection."""
