"""The connection to an upstream once aiosmtplib has opened it: strict replies in, commands and stuffed mails out.

The reason for an own protocol: aiosmtplib joins reply lines of different codes, drops what arrives unasked for, writes
a mail without waiting for the socket and times the whole upload with one timer. Here

* bytes that no command asked for make the connection useless (a stray reply would answer the next command);
* a mail is written only as fast as the upstream takes it, and only a *stall* is timed;
* a refusal that arrives during the upload is the reply, and the rest of the mail is not sent;
* it is always known whether the final dot was handed over: that is the line between "nothing was delivered" and
  "nobody knows" (`UpstreamError`, `OutcomeUnknownError`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from relay_mta.core.errors import OutcomeUnknownError, UpstreamError
from relay_mta.core.ports import Chunks
from relay_mta.core.reply import Reply
from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.dots import BareNewlineError, Stuffer
from relay_mta.smtp.replies import ReplyError, ReplyReader

BLOCK = 64 * 1024
"""Bytes of a mail that are stuffed and written at a time."""


class Wire(asyncio.Protocol):
    """Takes over an open `transport`. `name` says whose it is, for the log. Not for concurrent use."""

    def __init__(self, transport: asyncio.Transport, name: str, timeouts: Timeouts) -> None:
        self._transport = transport
        self._name = name
        self._timeouts = timeouts
        self._reader = ReplyReader()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._asking = False
        self._trouble: str | None = None
        self.farewell: Reply | None = None
        self._more = False
        self._when_lost: Callable[[], None] | None = None
        transport.set_protocol(self)
        if transport.is_closing():
            self._trouble = "connection lost"

    # --- what asyncio tells us ---

    def data_received(self, data: bytes) -> None:
        """Bytes of a reply, or bytes that nobody asked for."""
        self._reader.feed(data)
        if self._asking:
            self._arrived.set()
        else:
            self._part()

    def _part(self) -> None:
        """Bytes that no command asked for: mostly a 421, before the upstream closes a session that was idle for too
        long, or had too many errors. They end the session in any case."""
        with contextlib.suppress(ReplyError):
            said = self._reader.take()
            if said is not None and said.code == 421:
                self.farewell = said
        self._give_up("reply without a command" if self.farewell is None else "421 from the upstream")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._give_up("connection lost" if exc is None else f"connection lost ({type(exc).__name__})")
        if self._when_lost is not None:
            self._when_lost()

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the connection is gone, for whatever reason."""
        self._when_lost = tell
        if self._transport.is_closing():
            tell()

    def pause_writing(self) -> None:
        """The upstream takes less than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The upstream took some."""
        self._writable.set()

    # --- state ---

    @property
    def alive(self) -> bool:
        """The connection may carry another command, as far as is known."""
        return self._trouble is None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once."""
        self._give_up("closed by us")

    def close(self) -> None:
        """Close when what was written is out."""
        self._trouble = self._trouble or "closed by us"
        self._transport.close()

    def _give_up(self, why: str) -> None:
        """The connection is of no use any more; the first reason stays."""
        self._trouble = self._trouble or why
        self._transport.abort()
        self._arrived.set()
        self._writable.set()

    def _error(self) -> UpstreamError:
        return UpstreamError(f"{self._name}: {self._trouble or 'connection lost'}", farewell=self.farewell)

    # --- replies ---

    def _take(self, classes: str) -> Reply | None:
        """A whole reply that has arrived, if its class is one of `classes`. Gives up the connection if it is not."""
        try:
            answer = self._reader.take()
        except ReplyError as error:
            self._give_up(f"malformed reply: {error}")
            return None
        if answer is None:
            return None
        if str(answer.code)[0] not in classes:
            self._give_up(f"reply {answer.code} makes no sense here")
            return None
        return answer

    async def _answer(self, classes: str, seconds: float) -> Reply:
        """Wait for the reply. Raises `UpstreamError`; the caller knows what was sent before."""
        try:
            async with asyncio.timeout(seconds):
                while (answer := self._take(classes)) is None:
                    if not self.alive:
                        raise self._error()
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            self._give_up(f"no reply within {seconds:g} s")
            raise self._error() from None
        self._asking = False
        if self._reader.pending and answer.code != 354:  # behind a 354 it may be the refusal of the mail: see _upload
            self._part()
        elif answer.code == 421:  # RFC 5321 §3.8: the upstream closes
            self._give_up("421 from the upstream")
        return answer

    # --- commands ---

    async def command(self, line: bytes) -> Reply:
        """As `core.ports.UpstreamSession.command`. A 3yz is taken only for AUTH and what follows it (RFC 4954 §4)."""
        if any(byte in line for byte in b"\r\n\0"):
            raise ValueError("a command is one line without NUL")
        verb = line.partition(b" ")[0].upper()
        classes = "2345" if verb == b"AUTH" or self._more else "245"
        answer = await self._ask(line, classes, self._timeouts.of(verb))
        self._more = answer.intermediate
        return answer

    async def _ask(self, line: bytes, classes: str, seconds: float) -> Reply:
        if not self.alive:
            raise self._error()
        self._asking = True
        try:
            self._transport.write(line + b"\r\n")
            return await self._answer(classes, seconds)
        except asyncio.CancelledError:  # its reply would answer the next command
            self._give_up("interrupted by us")
            raise

    async def data(self, chunks: Chunks) -> Reply:
        """As `core.ports.UpstreamSession.data`."""
        answer = await self._ask(b"DATA", "345", self._timeouts.data_start)
        if not answer.intermediate:
            return answer
        if answer.code != 354:
            self._give_up(f"reply {answer.code} makes no sense here")
            raise self._error()
        self._asking = True
        try:
            last, early = await self._upload(chunks)
            if early is not None:
                return early
            if not self.alive:
                raise self._error()
            self._transport.write(last)
            try:
                return await self._answer("245", self._timeouts.data_end)
            except UpstreamError as error:
                raise OutcomeUnknownError(f"{error}, after the final dot") from None
        except asyncio.CancelledError:
            self._give_up("interrupted by us")
            raise
        except BareNewlineError as error:
            self._give_up(str(error))
            raise self._error() from None

    async def _upload(self, chunks: Chunks) -> tuple[bytes, Reply | None]:
        """Write all of the mail but its last block, which is returned with the final dot, or the upstream's early
        reply, after which nothing more may be sent."""
        stuffer = Stuffer()
        block = b""
        for chunk in chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), BLOCK):
                if block:
                    self._transport.write(block)
                    # One turn of the loop, so that an early reply or a loss is seen before more is written.
                    await asyncio.sleep(0)
                    if (early := self._early_reply()) is not None:
                        return b"", early
                    await self._drain()
                block = stuffer.feed(bytes(view[start : start + BLOCK]))
        if (early := self._early_reply()) is not None:
            return b"", early
        return block + stuffer.finish(), None

    def _early_reply(self) -> Reply | None:
        """A refusal that came before the final dot ends the transaction: without the dot nothing is accepted, and only
        a new connection is certain to be in step again."""
        early = self._take("45")
        if early is not None:
            self._give_up("the upstream replied in the middle of a mail")
        elif not self.alive:
            raise self._error()
        return early

    async def _drain(self) -> None:
        """Wait until the upstream took enough. Only a stall is an error, however long the whole takes."""
        while not self._writable.is_set():
            before = self._transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._timeouts.data_block):
                    await self._writable.wait()
            except TimeoutError:
                if self._transport.get_write_buffer_size() >= before:
                    self._give_up(f"nothing of the mail was taken for {self._timeouts.data_block:g} s")
                    raise self._error() from None

    async def quit(self) -> None:
        """As `core.ports.UpstreamSession.quit`."""
        if not self.alive:
            return
        try:
            await self._ask(b"QUIT", "245", self._timeouts.quit)
        except UpstreamError:
            pass
        finally:
            self.close()
