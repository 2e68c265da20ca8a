"""Who the client is: EHLO, STARTTLS and AUTH, before any mail (RFC 5321 §4.1.1.1, RFC 3207, RFC 4954).

What was said in clear is forgotten with STARTTLS: the client meets the relay anew. A login is taken over TLS only,
unless the listener was told otherwise, and a client that guesses waits longer each time and then has to call again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from relay_mta.core import sasl
from relay_mta.core.ports import Conversation
from relay_mta.core.reply import Reply
from relay_mta.smtp import auth
from relay_mta.smtp.answers import (
    BAD_ARGUMENT,
    BAD_SEQUENCE,
    ENCRYPT_FIRST,
    HELLO_FIRST,
    NO_AUTH,
    NO_SYNCHRONISATION,
    NOT_IMPLEMENTED,
    SHUTTING_DOWN,
    TLS_ACTIVE,
    TOO_MANY_ERRORS,
    TOO_MANY_FAILURES,
)
from relay_mta.smtp.connection import Connection, ListenerState


async def reset(conversation: Conversation) -> None:
    """For `_tell`."""
    await conversation.reset()


async def close(conversation: Conversation) -> None:
    """For `_tell`."""
    await conversation.close()


class Introduction(Connection):
    """A connection with a conversation behind it, and the commands by which a client says who it is."""

    def __init__(self, listener: ListenerState) -> None:
        super().__init__(listener)
        self._conversation: Conversation | None = None
        self._helo = False
        self._bad = 0
        self._failures = 0
        self._forget()

    def _forget(self) -> None:
        """The transaction's state here; the conversation is told separately."""
        self._in_transaction = False

    async def _fault(self, answer: Reply) -> None:
        """Answer a command that is wrong in itself; too many of them end the session."""
        self._bad += 1
        await self._send(answer if self._bad <= self._limits.bad_commands else TOO_MANY_ERRORS)

    async def _begin(self) -> bool:
        """Meet the relay: at the greeting, and anew once the client is known to be itself by TLS (RFC 3207 §4.2)."""
        front = self._listener.front.conversation(self._client)
        if isinstance(front, Reply):
            await self._send(front)
            return False
        self._conversation = front
        return True

    async def _tell(self, method: Callable[[Conversation], Awaitable[None]]) -> None:
        """Tell the conversation something that has no reply."""
        if self._conversation is None:
            return
        try:
            await method(self._conversation)
        except Exception as error:
            self._listener.on_error(error)

    async def _drop_transaction(self) -> None:
        self._forget()
        await self._tell(reset)

    async def _send_off(self) -> None:
        """RFC 2920 violated where it is dangerous: what follows might be a mail's text, or smuggled."""
        await self._send(NO_SYNCHRONISATION)
        self._ending = True

    @property
    def _talk(self) -> Conversation:
        if self._conversation is None:
            raise RuntimeError("a command before the conversation began")
        return self._conversation

    async def smtp_EHLO(self, argument: str) -> None:
        await self._hello(argument, esmtp=True)

    async def smtp_HELO(self, argument: str) -> None:
        await self._hello(argument, esmtp=False)

    async def _hello(self, argument: str, *, esmtp: bool) -> None:
        if not argument:
            await self._fault(BAD_ARGUMENT)
            return
        if self._talks_too_early():
            await self._send_off()
            return
        if self._helo:
            await self._drop_transaction()  # RFC 5321 §4.1.4: EHLO is also a RSET
        self._helo = True
        self._client = replace(self._client, helo=argument, esmtp=esmtp)
        lines = [self._listener.hostname]
        if esmtp and self._conversation is not None:
            lines += ["PIPELINING", "ENHANCEDSTATUSCODES"]
            if self._listener.tls == "starttls" and not self._client.tls:
                lines.append("STARTTLS")
            lines += self._conversation.extensions()
            if self._may_log_in and (mechanisms := self._conversation.mechanisms()):
                lines.append(" ".join(("AUTH", *mechanisms)))
        await self._send(Reply(250, tuple(line.encode("utf-8", "surrogateescape") for line in lines)))

    async def smtp_STARTTLS(self, argument: str) -> None:
        context = self._listener.ssl_context
        if argument:
            await self._fault(BAD_ARGUMENT)
        elif self._client.tls:
            await self._fault(TLS_ACTIVE)
        elif self._listener.tls != "starttls" or context is None:
            await self._fault(NOT_IMPLEMENTED)
        else:
            # RFC 3207 §4.2: whatever was said in clear is forgotten.
            await self._drop_transaction()
            await self._tell(close)
            self._helo = False
            self._failures = 0
            await self._start_tls(context)
            if self._connected and not await self._begin():
                self._ending = True

    @property
    def _may_log_in(self) -> bool:
        return self._client.tls or self._listener.auth_in_clear

    async def smtp_AUTH(self, argument: str) -> None:
        mechanisms = self._talk.mechanisms()
        if not self._helo:
            await self._fault(HELLO_FIRST)
        elif self._in_transaction or self._client.authenticated:  # RFC 4954 §4
            await self._fault(BAD_SEQUENCE)
        elif not mechanisms:
            await self._fault(NO_AUTH)
        elif not self._may_log_in:
            await self._fault(ENCRYPT_FIRST)
        elif self._listener.draining:
            await self._send(SHUTTING_DOWN)
        else:
            await self._log_in(argument, mechanisms)

    async def _log_in(self, argument: str, mechanisms: tuple[str, ...]) -> None:
        credentials = await auth.exchange(argument, mechanisms, self._challenge)
        if credentials is None:
            return
        if isinstance(credentials, Reply):
            await self._fault(credentials)
            return
        answer = await self._talk.auth(self._client, credentials)
        del credentials
        while answer.intermediate:
            response = await self._challenge(answer)
            if response is None:
                return
            # What cannot be a response gives up the exchange instead: it is passed on as it is otherwise.
            usable = len(response) + 2 <= sasl.MAX_RESPONSE and sasl.decoded(response) is not None
            answer = await self._talk.respond(response if usable else b"*")
        if answer.accepted:
            self._client = replace(self._client, authenticated=True)
        elif answer.refused:
            self._failures += 1
            if self._failures > 1:
                pause = self._limits.auth_pause * 2.0 ** (self._failures - 2)
                await asyncio.sleep(min(pause, self._limits.auth_longest))
            if self._failures >= self._limits.auth_failures:
                await self._send(answer)
                answer = TOO_MANY_FAILURES
        await self._send(answer)

    async def _challenge(self, challenge: bytes | Reply) -> bytes | None:
        """Send a 334 and read the line behind it; None if the session is over."""
        if not await self._send(challenge if isinstance(challenge, Reply) else Reply(334, (challenge,))):
            return None
        return await self._read_command()
