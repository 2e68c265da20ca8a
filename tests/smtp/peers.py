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

With `users` (logins with their passwords or tokens) it offers AUTH, once the connection is encrypted if it can be, and
wants a login before MAIL. With `proxy` it reads a PROXY line before anything else.
"""

from __future__ import annotations

import asyncio
import enum
import hmac
import socket
import ssl
import struct
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

LIMIT = 1 << 20
OK = b"250 2.0.0 ok\r\n"
MECHANISMS = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "CRAM-MD5")
WRONG = b"535-5.7.8 Username and password not accepted.\r\n535 5.7.8 See https://upstream.test/why\r\n"
NO_LOGIN = b"530 5.7.0 Log in first\r\n"
CHALLENGE = b"<1896.697170952@upstream.test>"
OAUTH_REASON = b'{"status":"401","schemes":"bearer"}'
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
    login: str | None = None

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
    login: str | None = None
    proxy: bytes = b""

    async def ask(self, challenge: bytes) -> bytes:
        """Say a 334 and read the line behind it, which counts as a command line."""
        await self.say(b"334 " + b64encode(challenge) + b"\r\n")
        line = (await self.reader.readuntil(b"\n")).rstrip(b"\r\n")
        self.lines.append(line)
        self.upstream.commands.append(line)
        return line

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
        users: Mapping[str, str] | None = None,
        mechanisms: Sequence[str] = MECHANISMS,
        proxy: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        self.script: dict[bytes, Any] = dict(script or {})
        self.extensions = tuple(extensions)
        self.ssl_context = ssl_context
        self.implicit_tls = implicit_tls
        self.users = dict(users) if users is not None else None
        self.mechanisms = tuple(mechanisms)
        self.proxy = proxy
        self.host = host
        self.mails: list[SentMail] = []
        self.commands: list[bytes] = []
        self.peers: list[Peer] = []
        self.port = 0
        self._counts: dict[bytes, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._listening: socket.socket | None = None

    async def __aenter__(self) -> ScriptedUpstream:
        if self.proxy:
            self._listening = socket.create_server(
                (self.host, 0), family=socket.AF_INET6 if ":" in self.host else socket.AF_INET
            )
            self._listening.setblocking(False)
            self._tasks.add(asyncio.create_task(self._accept(self._listening)))
            self.port = self._listening.getsockname()[1]
            return self
        self._server = await asyncio.start_server(self._serve, self.host, 0, limit=LIMIT, ssl=self._first_tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def _first_tls(self) -> ssl.SSLContext | None:
        return self.ssl_context if self.implicit_tls else None

    async def _accept(self, listening: socket.socket) -> None:
        """Connections that begin with a PROXY line, in clear whatever comes behind it."""
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            line = b""
            while not line.endswith(b"\n"):
                line += await loop.sock_recv(sock, 1)
            reader = asyncio.StreamReader(limit=LIMIT)
            protocol = asyncio.StreamReaderProtocol(reader, partial(self._serve, proxy=line))
            await loop.connect_accepted_socket(lambda protocol=protocol: protocol, sock, ssl=self._first_tls)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    @property
    def accepted(self) -> list[SentMail]:
        """The mails that we said 2yz to."""
        return [mail for mail in self.mails if mail.accepted]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, proxy: bytes = b"") -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(self, reader, writer, proxy=proxy)
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
        mail = SentMail(peer.mail, peer.rcpts, bytes(peer.received), login=peer.login)
        self.mails.append(mail)
        mail.reply = await self._step(peer, b".", OK)

    def _default(self, peer: Peer, verb: bytes) -> Step:
        if self.users is not None and verb == b"AUTH":
            return self._log_in
        if self.users is not None and verb == b"MAIL" and peer.login is None:
            return NO_LOGIN
        if verb == b"EHLO":
            offered = list(self.extensions)
            if self.ssl_context and not peer.tls:
                offered.append("STARTTLS")
            elif self.users is not None:
                offered.append(" ".join(("AUTH", *self.mechanisms)))
            lines = ["scripted", *offered]
            return b"".join(
                f"250{' ' if i == len(lines) - 1 else '-'}{line}\r\n".encode() for i, line in enumerate(lines)
            )
        return {b"DATA": b"354 go ahead\r\n", b"QUIT": b"221 bye\r\n", b"STARTTLS": b"220 go ahead\r\n"}.get(verb, OK)

    async def _log_in(self, peer: Peer) -> bytes:
        """AUTH (RFC 4954) in each of its ways."""
        _, name, *initial = peer.lines[-1].decode().split(" ")
        if name not in self.mechanisms:
            return b"504 5.5.4 not offered\r\n"
        if name == "LOGIN":
            login = b64decode(await peer.ask(b"Username:")).decode()
            good = self._knows(login, b64decode(await peer.ask(b"Password:")).decode())
        elif name == "CRAM-MD5":
            login, _, digest = b64decode(await peer.ask(CHALLENGE)).decode().rpartition(" ")
            password = (self.users or {}).get(login, "").encode()
            good = bool(password) and hmac.new(password, CHALLENGE, "md5").hexdigest() == digest
        else:
            given = initial[0].encode() if initial else await peer.ask(b"")
            pieces = b64decode(given).decode().replace("\0", "\1").split("\1")
            if name == "PLAIN":
                _, login, secret = pieces
            else:
                login = pieces[0].removeprefix("user=").removeprefix("n,a=").removesuffix(",")
                (secret,) = (each.removeprefix("auth=Bearer ") for each in pieces if each.startswith("auth="))
            good = self._knows(login, secret)
            if not good and name != "PLAIN":
                await peer.ask(OAUTH_REASON)  # RFC 7628 §3.2.3: the reasons first, then an empty response
        peer.login = login if good else None
        return b"235 2.7.0 Welcome\r\n" if good else WRONG

    def _knows(self, login: str, secret: str) -> bool:
        return bool(self.users) and self.users.get(login) == secret

    async def _step(self, peer: Peer, stage: bytes, default: Step) -> bytes:
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
