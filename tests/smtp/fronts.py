"""Stand-ins for what is behind a listener: one that records, one that passes everything on to an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from relay_mta.core.envelope import Client
from relay_mta.core.errors import OutcomeUnknownError, UpstreamError
from relay_mta.core.ports import Conversation, Front
from relay_mta.core.reply import AUTH_OK, TROUBLE, UPSTREAM_LOST, Reply, reply
from relay_mta.core.sasl import Credentials
from relay_mta.smtp.budget import Budget
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.server import Listener, listen
from relay_mta.smtp.upstream import SmtpSession, SmtpUpstream

MAX_SIZE = 20_000_000


@dataclass
class Recorder:
    """A `Front` and the `Conversation` of each of its clients. `events` are the calls in order; `mails` what came."""

    refuse: Reply | None = None
    offers: tuple[str, ...] = (f"SIZE {MAX_SIZE}", "8BITMIME", "DSN")
    replies: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    normalised: list[bool] = field(default_factory=list)
    before_reply: Callable[[], Any] | None = None
    sasl: tuple[str, ...] = ()
    logins: list[Credentials] = field(default_factory=list)

    def conversation(self, client: Client) -> Conversation | Reply:
        return self.refuse or self

    def extensions(self) -> tuple[str, ...]:
        return self.offers

    def mechanisms(self) -> tuple[str, ...]:
        return self.sasl

    async def auth(self, client: Client, credentials: Credentials) -> Reply:
        self.clients.append(client)
        self.logins.append(credentials)
        self.events.append(("auth", credentials.mechanism, credentials.login))
        return self._reply("auth") if "auth" in self.replies else AUTH_OK

    async def respond(self, response: bytes) -> Reply:
        self.events.append(("respond", response))
        return self._reply("respond")

    def _reply(self, stage: str) -> Reply:
        answer = self.replies.get(stage, reply(250, "2.0.0 recorded"))
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Reply)
        return answer

    async def mail(self, client: Client, reverse_path: str, params: tuple[str, ...]) -> Reply:
        self.clients.append(client)
        self.events.append(("mail", reverse_path, params))
        return self._reply("mail")

    async def rcpt(self, forward_path: str, params: tuple[str, ...]) -> Reply:
        self.events.append(("rcpt", forward_path, params))
        return self._reply("rcpt")

    async def data(self, raw: bytes, *, normalised: bool) -> Reply:
        self.events.append(("data", len(raw)))
        self.mails.append(raw)
        self.normalised.append(normalised)
        if self.before_reply is not None:
            await self.before_reply()
        return self._reply("data")

    async def written(self) -> None:
        self.events.append(("written",))

    async def reset(self) -> None:
        self.events.append(("reset",))

    async def close(self) -> None:
        self.events.append(("close",))

    @property
    def names(self) -> list[str]:
        return [event[0] for event in self.events]


class PassThrough:
    """A `Front` whose conversations mirror everything to one upstream, and nothing else."""

    def __init__(self, upstream: SmtpUpstream) -> None:
        self._upstream = upstream

    def conversation(self, client: Client) -> Conversation | Reply:
        return _Mirror(self._upstream)


class _Mirror:
    def __init__(self, upstream: SmtpUpstream) -> None:
        self._upstream = upstream
        self._session: SmtpSession | None = None

    def extensions(self) -> tuple[str, ...]:
        return (f"SIZE {MAX_SIZE}", "8BITMIME", "SMTPUTF8", "DSN")

    def mechanisms(self) -> tuple[str, ...]:
        return ()

    async def auth(self, client: Client, credentials: Credentials) -> Reply:
        raise NotImplementedError

    async def respond(self, response: bytes) -> Reply:
        raise NotImplementedError

    async def _command(self, *words: str) -> Reply:
        assert self._session is not None
        try:
            return await self._session.command(" ".join(words).encode("utf-8", "surrogateescape"))
        except UpstreamError:
            return UPSTREAM_LOST

    async def mail(self, client: Client, reverse_path: str, params: tuple[str, ...]) -> Reply:
        try:
            if self._session is None or not self._session.alive:
                self._session = await self._upstream.connect(client)
        except UpstreamError:
            return UPSTREAM_LOST
        return await self._command(f"MAIL FROM:<{reverse_path}>", *params)

    async def rcpt(self, forward_path: str, params: tuple[str, ...]) -> Reply:
        return await self._command(f"RCPT TO:<{forward_path}>", *params)

    async def data(self, raw: bytes, *, normalised: bool) -> Reply:
        assert self._session is not None
        try:
            return await self._session.data([raw])
        except UpstreamError:
            return UPSTREAM_LOST
        except OutcomeUnknownError:
            return TROUBLE

    async def written(self) -> None:
        pass

    async def reset(self) -> None:
        if self._session is not None and self._session.alive:
            await self._command("RSET")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.quit()


@dataclass
class Stand:
    """A listener under test with what it was given. No exception of ours may be left in `errors` when it ends."""

    listener: Listener
    budget: Budget
    errors: list[BaseException]

    @property
    def port(self) -> int:
        return self.listener.port


@asynccontextmanager
async def stand(
    front: Front, *, memory: int = 100_000_000, max_size: int = MAX_SIZE, limits: Limits | None = None, **more: Any
) -> AsyncIterator[Stand]:
    """A listener on loopback for the length of a test."""
    errors: list[BaseException] = []
    budget = Budget(memory)
    listener = await listen(
        host="127.0.0.1",
        port=0,
        hostname="relay.test",
        front=front,
        budget=budget,
        max_size=max_size,
        limits=limits,
        on_error=errors.append,
        **more,
    )
    it = Stand(listener, budget, errors)
    try:
        yield it
        assert errors == []
    finally:
        await listener.drain(0.2)
    assert budget.used == 0


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that another task does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for knows of no event
            await asyncio.sleep(0.005)
