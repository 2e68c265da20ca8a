"""The SMTP session that a client meets: a command loop that keeps out of the way between it and a `Conversation`.

What it promises:

* MAIL, RCPT and the mail reach the `Conversation` as the client wrote them; its replies reach the client as they are.
* Only CR LF . CR LF ends a mail (RFC 5321 §4.1.1.4), and lines may have any length and any bytes.
* A client that leaves does not interrupt `Conversation.data`: a delivery under way gets to its end. `written` follows
  only if the final reply went out to a client that was still there, `reset` otherwise.
* An exception of ours is 451 4.3.0 for the client and the exception for `on_error`; never a 5yz and never its text.
* A mail is held in memory once, under the shared budget, and everything a client can make us wait for or hold is
  bounded by `Limits`.
* A login is taken over TLS only, unless the listener was told otherwise.

What it does not: BDAT, PROXY, nor any judgement of addresses, parameters and logins.

RFCs: 5321; 2920 (PIPELINING); 2034 (ENHANCEDSTATUSCODES); 3207 (STARTTLS); 4954 (AUTH); 8314 §3 (implicit TLS).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay_mta.core import sasl
from relay_mta.core.ports import Conversation
from relay_mta.core.reply import NO_MEMORY, START_DATA, TROUBLE, Reply
from relay_mta.smtp.answers import (
    BAD_ARGUMENT,
    BAD_BYTES,
    BAD_FORWARD_PATH,
    BAD_REVERSE_PATH,
    BARE_NEWLINE,
    BYE,
    HELLO_FIRST,
    HELP,
    MAIL_FIRST,
    NESTED_MAIL,
    NO_RECIPIENTS,
    NO_VRFY,
    NOT_IMPLEMENTED,
    OK,
    RCPT_FIRST,
    SHUTTING_DOWN,
    TOO_BIG,
    TOO_LONG,
    TOO_MANY_COMMANDS,
    TOO_MANY_RECIPIENTS,
    TOO_MANY_SESSIONS,
    TOO_SLOW,
    UNKNOWN,
)
from relay_mta.smtp.budget import Lease
from relay_mta.smtp.commands import PROTOCOLS_OF_OTHERS, path_argument, split
from relay_mta.smtp.connection import CLIENT_GONE, ListenerState
from relay_mta.smtp.data import MailTooSlowError, receive
from relay_mta.smtp.introduction import Introduction, close, reset


async def _written(conversation: Conversation) -> None:
    await conversation.written()


class Session(Introduction):
    """One connection. `smtp_VERB` methods are found by their names (aiosmtpd's command table)."""

    def __init__(self, listener: ListenerState) -> None:
        super().__init__(listener)
        self._commands = 0  # since the last mail that was accepted

    def _forget(self) -> None:
        super()._forget()
        self._declared_size: int | None = None
        self._accepted = 0
        self._refused = 0

    # --- the session ---

    async def _handle_client(self) -> None:
        """The session's task, from the greeting to the end. Replaces aiosmtpd's loop."""
        address, census = self._client.address, self._listener.census
        counted = census.enter(address)
        try:
            if counted:
                await self._converse()
            elif self._listener.tls != "implicit":  # there a word in clear would be noise
                await self._send(TOO_MANY_SESSIONS)
        except Exception as error:
            self._listener.on_error(error)
            await self._send(TROUBLE)
        finally:
            self._hang_up()
            try:
                await self._tell(close)
            finally:
                if counted:
                    census.leave(address)
                self._listener.sessions.pop(self, None)
                # Tables of our own methods: without them the session is gone now, and not at some collection.
                self._smtp_methods.clear()
                self._auth_methods.clear()

    async def _converse(self) -> None:
        if self._listener.tls == "implicit" and self._listener.ssl_context is not None:
            await self._handshake(self._listener.ssl_context)
        if not self._connected or not await self._begin():
            return
        await self._send(Reply(220, (f"{self._listener.hostname} ESMTP".encode(),)))
        while not self._ending and self._connected:
            if self._listener.draining and not self._in_transaction:
                await self._send(SHUTTING_DOWN)
                return
            line = await self._read_command()
            if line is None:
                return
            try:
                await self._obey(line)
            except Exception as error:
                self._listener.on_error(error)
                await self._drop_transaction()
                await self._send(TROUBLE)

    async def _obey(self, line: bytes) -> None:
        self._commands += 1
        if self._commands > self._limits.commands:
            await self._send(TOO_MANY_COMMANDS)
            return
        # An initial response has the length of its own (RFC 4954 §4): OAuth tokens are long.
        if len(line) > (sasl.MAX_RESPONSE if line[:5].upper() == b"AUTH " else self._limits.line):
            await self._fault(TOO_LONG)
            return
        if b"\0" in line or b"\r" in line:
            await self._fault(BAD_BYTES)
            return
        verb, argument = split(line)
        # A header field is no command either: somebody talked us into obeying a mail's text.
        if verb in PROTOCOLS_OF_OTHERS or verb.endswith(":"):
            self.abort()
            return
        method: Callable[[str], Awaitable[None]] | None = self._smtp_methods.get(verb)
        await (method(argument) if method is not None else self._fault(UNKNOWN))

    # --- commands (RFC 5321 §4.1.1) ---

    async def smtp_MAIL(self, argument: str) -> None:
        if not self._helo:
            await self._fault(HELLO_FIRST)
            return
        if self._in_transaction:
            await self._fault(NESTED_MAIL)
            return
        if self._listener.draining:
            await self._send(SHUTTING_DOWN)
            return
        try:
            path = path_argument(argument, "FROM:")
        except ValueError:
            await self._fault(BAD_REVERSE_PATH)
            return
        if path is None:
            await self._fault(BAD_ARGUMENT)
            return
        if path.size is not None and path.size > self._listener.max_size:
            await self._send(TOO_BIG)  # RFC 1870 §6.1
            return
        answer = await self._talk.mail(self._client, path.path, path.params)
        if answer.accepted:
            self._in_transaction = True
            self._declared_size = path.size
        await self._send(answer)

    async def smtp_RCPT(self, argument: str) -> None:
        if not self._in_transaction:
            await self._fault(MAIL_FIRST if self._helo else HELLO_FIRST)
            return
        if self._accepted + self._refused >= self._limits.recipients:
            await self._send(TOO_MANY_RECIPIENTS)
            return
        try:
            path = path_argument(argument, "TO:")
        except ValueError:
            path = None
            answer = BAD_FORWARD_PATH
        else:
            answer = BAD_ARGUMENT
        if path is None or not path.path:
            self._refused += 1
            await self._fault(answer if path is None else BAD_FORWARD_PATH)
            return
        answer = await self._talk.rcpt(path.path, path.params)
        if answer.accepted:
            self._accepted += 1
        else:
            self._refused += 1
        await self._send(answer)

    async def smtp_DATA(self, argument: str) -> None:
        if self._talks_too_early():
            await self._send_off()
        elif argument:
            await self._fault(BAD_ARGUMENT)
        elif not self._in_transaction:
            await self._fault(MAIL_FIRST if self._helo else HELLO_FIRST)
        elif not self._accepted:
            await self._fault(NO_RECIPIENTS if self._refused else RCPT_FIRST)
        else:
            lease = self._listener.budget.reserve(self._declared_size or self._limits.reserve)
            if lease is None:
                await self._send(NO_MEMORY)
                return
            with lease:
                await self._take_mail(lease)

    async def _take_mail(self, lease: Lease) -> None:
        """From the 354 to the final reply."""
        if not await self._send(START_DATA):
            await self._drop_transaction()
            return
        try:
            received = await receive(
                self._reader,
                lambda: self._bytes_in,
                lease=lease,
                max_size=self._listener.max_size,
                limits=self._limits,
            )
        except MailTooSlowError:
            await self._drop_transaction()
            await self._send(TOO_SLOW)
            return
        except CLIENT_GONE:
            self._ending = True
            await self._drop_transaction()
            return
        if received.raw is None:
            await self._drop_transaction()
            await self._send(TOO_BIG if received.too_big else NO_MEMORY)
            return
        if received.normalised and self._listener.refuse_bare_newline:
            await self._drop_transaction()
            await self._send(BARE_NEWLINE)
            return
        raw, normalised = received.raw, received.normalised
        del received
        answer = await self._talk.data(raw, normalised=normalised)
        del raw
        self._forget()
        if answer.accepted:
            self._bad = self._commands = 0
        # A client that closed its side may be gone or may be waiting for the reply: it gets one, but nothing that
        # depends on its having read it is done.
        if await self._send(answer) and not self._client_ended:
            await self._tell(_written)
        else:
            await self._tell(reset)

    async def smtp_RSET(self, argument: str) -> None:
        if argument:
            await self._fault(BAD_ARGUMENT)
            return
        await self._drop_transaction()
        await self._send(OK)

    async def smtp_NOOP(self, argument: str) -> None:
        await self._send(OK)

    async def smtp_QUIT(self, argument: str) -> None:
        if argument:
            await self._fault(BAD_ARGUMENT)
            return
        await self._send(BYE)
        self._ending = True

    async def smtp_VRFY(self, argument: str) -> None:
        await (self._send(NO_VRFY) if argument else self._fault(BAD_ARGUMENT))

    async def smtp_HELP(self, argument: str) -> None:
        await self._send(HELP)

    async def smtp_EXPN(self, argument: str) -> None:
        await self._fault(NOT_IMPLEMENTED)

    async def smtp_BDAT(self, argument: str) -> None:
        # Not offered. A chunk that stands behind it is not commands: reading on would obey a mail's text.
        await (self._send_off() if self._talks_too_early() else self._fault(NOT_IMPLEMENTED))
