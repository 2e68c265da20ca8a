"""The sessions that are open to one company's upstream: never too many, and the relay's own ones used again.

Fulfils `core.ports.Upstream`. A session is the relay's own, with its login or with none, or a client's, with the
client's login. The first kind is shared: it is parked between mails and given to whoever has the next one. The second
belongs to its client, but one that carries no transaction is closed when somebody else needs its place.

Promises: at most `connections` sessions at a time and `per_login` of one login; who finds no place within `wait`
seconds gets an `UpstreamBusyError`; places are given in the order of asking. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamBusyError
from relay_mta.core.ports import Chunks
from relay_mta.core.reply import Reply
from relay_mta.smtp.upstream import SmtpSession


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many sessions, in all and of one login, and the seconds to wait for a place and to keep a parked one."""

    connections: int = 20
    per_login: int = 3
    wait: float = 10.0
    keep: float = 30.0
    """Less than any server's patience with a silent client, and few enough that an idle relay holds nothing open."""


class Connector(Protocol):
    """Opens sessions; `SmtpUpstream` is one. `shareable`: a session says nothing of the client it was opened for."""

    @property
    def name(self) -> str: ...

    @property
    def shareable(self) -> bool: ...

    async def connect(self, client: Client) -> SmtpSession: ...


class Pool:
    """All sessions to one upstream. `own_login`: under which the relay's own sessions are counted."""

    def __init__(self, connector: Connector, *, own_login: str | None = None, bounds: Bounds | None = None) -> None:
        self._connector = connector
        self._own_login = own_login
        self._bounds = bounds or Bounds()
        self._taken: list[_Place] = []
        self._parked: list[PooledSession] = []
        self._waiting: deque[tuple[str | None, asyncio.Future[None]]] = deque()

    @property
    def open_sessions(self) -> int:
        """Sessions that hold a place now, parked ones too."""
        return len(self._taken)

    async def open(self, client: Client, *, login: str | None = None, fresh: bool = False) -> PooledSession:
        """As `core.ports.Upstream.open`."""
        if login is None and not fresh:
            while self._parked:
                session = self._parked.pop()
                if session.alive:
                    return session.again()
        place = await self._place(login if login is not None else self._own_login)
        try:
            inner = await self._connector.connect(client)
        except BaseException:
            self._free(place)
            raise
        session = PooledSession(self, place, inner, shared=login is None and self._connector.shareable)
        place.session = session
        inner.when_lost(lambda: self._free(place))
        return session

    async def close(self) -> None:
        """Say QUIT on every parked session."""
        parked, self._parked = self._parked, []
        await asyncio.gather(*(session.quit() for session in parked))

    # -- places --

    async def _place(self, login: str | None) -> _Place:
        if not any(key == login for key, _ in self._waiting) and (place := self._take(login)):
            return place
        ready = asyncio.get_running_loop().create_future()
        asked = (login, ready)
        self._waiting.append(asked)
        try:
            async with asyncio.timeout(self._bounds.wait):
                while True:
                    await ready
                    if (place := self._take(login)) is not None:
                        return place
                    ready = asyncio.get_running_loop().create_future()
                    self._waiting[self._waiting.index(asked)] = asked = (login, ready)
        except TimeoutError:
            raise UpstreamBusyError(f"{self._connector.name}: all its connections are in use") from None
        finally:
            self._waiting.remove(asked)
            self._wake()  # what this one was woken for may be another's

    def _take(self, login: str | None) -> _Place | None:
        """A place, if need be that of a session which nobody is using at the moment."""
        same = [place for place in self._taken if place.login == login]
        if login is not None and len(same) >= self._bounds.per_login:
            if not self._evict(same):
                return None
        elif len(self._taken) >= self._bounds.connections and not self._evict(self._taken):
            return None
        place = _Place(login)
        self._taken.append(place)
        return place

    def _evict(self, places: list[_Place]) -> bool:
        """Close the one that has been idle for longest; the list is in the order of opening."""
        idle = [place.session for place in places if place.session is not None and place.session.idle_since is not None]
        if not idle:
            return False
        session = min(idle, key=lambda each: each.idle_since or 0.0)
        session.dismiss()
        return True

    def _free(self, place: _Place) -> None:
        if place in self._taken:
            self._taken.remove(place)
            if place.session in self._parked:
                self._parked.remove(place.session)
            self._wake()

    def _wake(self) -> None:
        """Let all who wait look again, in their order: there are never many."""
        for _, ready in self._waiting:
            if not ready.done():
                ready.set_result(None)

    def park(self, session: PooledSession) -> None:
        """A session has no transaction: keep it for the next mail, for a while."""
        self._parked.append(session)
        self._wake()

    def idle(self) -> None:
        """A session may be closed for another now."""
        self._wake()

    @property
    def keep(self) -> float:
        """Seconds that a parked session is kept."""
        return self._bounds.keep


@dataclass(eq=False, slots=True)
class _Place:
    login: str | None
    session: PooledSession | None = None


class PooledSession:
    """Fulfils `core.ports.UpstreamSession`."""

    def __init__(self, pool: Pool, place: _Place, inner: SmtpSession, *, shared: bool) -> None:
        self._pool = pool
        self._place = place
        self._inner = inner
        self._shared = shared
        self._reused = False
        self._expiry: asyncio.TimerHandle | None = None
        self._quitting: asyncio.Task[None] | None = None
        self.idle_since: float | None = None

    @property
    def extensions(self) -> Mapping[str, str]:
        """As the port says."""
        return self._inner.extensions

    @property
    def reused(self) -> bool:
        """As the port says."""
        return self._reused

    @property
    def alive(self) -> bool:
        """As the port says."""
        return self._quitting is None and self._inner.alive

    def again(self) -> PooledSession:
        """A parked session is in use again."""
        self._busy()
        self._reused = True
        return self

    @property
    def farewell(self) -> Reply | None:
        """As the port says."""
        return self._inner.farewell

    async def command(self, line: bytes) -> Reply:
        """As the port says."""
        self._busy()
        return await self._inner.command(line)

    async def data(self, chunks: Chunks) -> Reply:
        """As the port says."""
        self._busy()
        return await self._inner.data(chunks)

    async def park(self, *, share: bool) -> bool:
        """As the port says."""
        if not self.alive:
            self.abort()
            return True
        loop = asyncio.get_running_loop()
        self.idle_since = loop.time()
        if not (self._shared and share):
            self._pool.idle()
            return False
        self._expiry = loop.call_later(self._pool.keep, self.dismiss)
        self._pool.park(self)
        return True

    def _busy(self) -> None:
        self.idle_since = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def dismiss(self) -> None:
        """Say QUIT without anybody waiting for it; the place is free at once."""
        self._busy()
        self._pool._free(self._place)
        if self._quitting is None:
            self._quitting = asyncio.ensure_future(self._inner.quit())

    async def quit(self) -> None:
        """As the port says."""
        self._busy()
        try:
            await self._inner.quit()
        finally:
            self._pool._free(self._place)

    def abort(self) -> None:
        """As the port says."""
        self._busy()
        self._inner.abort()
        self._pool._free(self._place)
