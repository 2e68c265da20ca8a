"""Listeners: where clients connect, and how the process stops without losing a mail.

`listen` binds at once and serves from then on. `Listener.drain` stops accepting, says 421 to sessions that are between
transactions, lets transactions under way come to their end for a while, and aborts what is left: their clients keep
their mails. The sessions themselves are `session.Session`.
"""

from __future__ import annotations

import asyncio
import ssl

from relay_mta.core.ports import Front
from relay_mta.smtp.budget import Budget
from relay_mta.smtp.census import Census
from relay_mta.smtp.connection import ListenerState, OnError, Tls
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.session import Session

_LAST_WORDS = 5.0
"""Seconds for aborted sessions to close their side of the relay."""


class Listener:
    """One bound address."""

    def __init__(self, state: ListenerState, server: asyncio.Server) -> None:
        self._state = state
        self._server = server
        self.sockets = tuple(server.sockets)

    @property
    def name(self) -> str:
        """As given to `listen`."""
        return self._state.name

    @property
    def port(self) -> int:
        """The TCP port that is really bound (0 was asked for in tests and demos)."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    @property
    def sessions(self) -> int:
        """Connected clients at this moment."""
        return len(self._state.sessions)

    async def drain(self, seconds: float) -> int:
        """Stop. Returns how many sessions had to be aborted after `seconds`."""
        self._state.draining = True
        self._server.close()
        for session in tuple(self._state.sessions):
            session.shut_down_if_idle()
        sessions = {task: session for session, task in self._state.sessions.items()}
        if not sessions:
            return 0
        _, running = await asyncio.wait(sessions, timeout=seconds)
        for task in running:
            sessions[task].abort()
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_LAST_WORDS)
        return len(running)


async def listen(
    *,
    host: str,
    port: int,
    hostname: str,
    front: Front,
    budget: Budget,
    tls: Tls = "none",
    ssl_context: ssl.SSLContext | None = None,
    max_size: int,
    on_error: OnError,
    limits: Limits | None = None,
    census: Census | None = None,
    refuse_bare_newline: bool = False,
    auth_in_clear: bool = False,
    name: str = "",
) -> Listener:
    """Bind and serve. `max_size` is in bytes; `name` reaches `Client.listener`; `census` counts clients, those of other
    listeners too; `auth_in_clear`: AUTH is offered without TLS.

    `on_error` gets every exception that was ours (the client has its 451 by then or soon). Raises `OSError` if the
    address cannot be bound and `ValueError` if TLS is asked for without a context.
    """
    if tls != "none" and ssl_context is None:
        raise ValueError("TLS needs a context")
    state = ListenerState(
        name=name,
        hostname=hostname,
        front=front,
        budget=budget,
        tls=tls,
        ssl_context=ssl_context,
        max_size=max_size,
        limits=limits or Limits(),
        on_error=on_error,
        census=census or Census(2500, 2500),
        refuse_bare_newline=refuse_bare_newline,
        auth_in_clear=auth_in_clear,
    )
    server = await asyncio.get_running_loop().create_server(
        lambda: Session(state),
        host,
        port,
        backlog=1024,
    )
    return Listener(state, server)
