"""The sessions that are open to one company's upstream: never too many, and the relay's own ones used again.

Fulfils `core.ports.Upstream`. A session is the relay's own, with its login or with none, or a client's, with the
client's login. The first kind is shared: it is parked between mails and given to whoever has the next one. The second
belongs to its client, but one that carries no transaction is closed when somebody else needs its place.

Promises: at most `connections` sessions at a time and `per_login` of one login, counted until the upstream has said
goodbye; who finds no place within `wait` seconds gets an `UpstreamBusyError`; places and parked sessions are given in
the order of asking, past those alone whose login has all that it may have. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamBusyError, UpstreamError
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
        self._waiting: list[_Wish] = []
        self._farewells: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def open_sessions(self) -> int:
        """Sessions that hold a place now, parked ones and those that are being closed too."""
        return len(self._taken)

    async def open(self, client: Client, *, login: str | None = None, fresh: bool = False) -> PooledSession:
        """As `core.ports.Upstream.open`."""
        given = await self._given(login if login is not None else self._own_login, parked=login is None and not fresh)
        if isinstance(given, PooledSession):
            return given
        try:
            inner = await self._connector.connect(client)
        except BaseException:
            self._free(given)
            raise
        session = given.session = PooledSession(self, given, inner, shared=login is None and self._connector.shareable)
        inner.when_lost(session.lost)
        return session

    async def close(self) -> None:
        """Say QUIT on every parked session, and on those that are parked later."""
        self._closed = True
        for session in list(self._parked):
            session.dismiss()
        await asyncio.gather(*self._farewells)

    # -- places --

    async def _given(self, login: str | None, *, parked: bool) -> _Place | PooledSession:
        """A place, or a parked session, as soon as it is this one's turn."""
        wish = _Wish(None if login is None else login.casefold(), parked)  # a mailbox, however its owner writes it
        self._waiting.append(wish)
        self._look()
        try:
            async with asyncio.timeout(self._bounds.wait):
                return await wish.given
        except BaseException as error:
            if wish in self._waiting:
                self._waiting.remove(wish)
            elif isinstance(given := wish.given.result(), _Place):  # given, and at the same moment not wanted any more
                self._free(given)
            else:
                given.give_back()
            if isinstance(error, TimeoutError):
                raise UpstreamBusyError(f"{self._connector.name}: all its connections are in use") from None
            raise

    def _look(self) -> None:
        """Give what there is to those who wait, in their order, and close idle sessions for the others."""
        leaving = [place for place in self._taken if place.session is not None and place.session.leaving]
        for wish in list(self._waiting):
            if wish.given.done():  # cancelled; its task will take it away
                continue
            if (given := self._take(wish)) is not None:
                self._waiting.remove(wish)
                wish.given.set_result(given)
                continue
            rivals = self._rivals(wish)
            coming = next((place for place in leaving if place in rivals), None)
            if coming is not None:
                leaving.remove(coming)
            else:
                self._evict(rivals)

    def _take(self, wish: _Wish) -> _Place | PooledSession | None:
        while wish.parked and self._parked:
            session = self._parked.pop()
            if session.alive:
                return session.again()
        if self._rivals(wish):
            return None
        place = _Place(wish.login)
        self._taken.append(place)
        return place

    def _rivals(self, wish: _Wish) -> list[_Place]:
        """The places of which one must become free first; none, if there is room."""
        same = [place for place in self._taken if place.login == wish.login]
        if wish.login is not None and len(same) >= self._bounds.per_login:
            return same
        return self._taken if len(self._taken) >= self._bounds.connections else []

    @staticmethod
    def _evict(places: list[_Place]) -> None:
        """Close the one that has been idle for longest."""
        idle = [place.session for place in places if place.session is not None and place.session.idle_since is not None]
        if idle:
            min(idle, key=lambda each: each.idle_since or 0.0).dismiss()

    # -- what sessions tell --

    def _free(self, place: _Place) -> None:
        """A session is over, or never came to be."""
        if place in self._taken:
            self._taken.remove(place)
            self._look()

    def _park(self, session: PooledSession) -> None:
        """A shared session has no transaction: keep it for the next mail, for a while."""
        if self._closed:
            session.dismiss()
            return
        self._parked.append(session)
        self._look()

    def _unpark(self, session: PooledSession) -> None:
        if session in self._parked:
            self._parked.remove(session)

    async def _see_off(self, place: _Place, inner: SmtpSession) -> None:
        try:
            await inner.quit()
        finally:
            self._free(place)

    def _dismiss(self, place: _Place, inner: SmtpSession) -> asyncio.Task[None]:
        """Let a session say QUIT, whoever waits for it; the place is free when that is done."""
        farewell = asyncio.ensure_future(self._see_off(place, inner))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        return farewell

    @property
    def keep(self) -> float:
        """Seconds that a parked session is kept."""
        return self._bounds.keep


@dataclass(eq=False, slots=True)
class _Place:
    login: str | None
    session: PooledSession | None = None


@dataclass(eq=False, slots=True)
class _Wish:
    """Somebody who asks for a place. `parked`: a parked session will do."""

    login: str | None
    parked: bool
    given: asyncio.Future[_Place | PooledSession] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class PooledSession:
    """Fulfils `core.ports.UpstreamSession`. `idle_since`: it may be closed for another; the loop's time."""

    def __init__(self, pool: Pool, place: _Place, inner: SmtpSession, *, shared: bool) -> None:
        self._pool = pool
        self._place = place
        self._inner = inner
        self._shared = shared
        self._reused = False
        self._expiry: asyncio.TimerHandle | None = None
        self._farewell: asyncio.Task[None] | None = None
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
    def leaving(self) -> bool:
        """It says QUIT, and must not be used any more."""
        return self._farewell is not None

    @property
    def alive(self) -> bool:
        """As the port says."""
        return not self.leaving and self._inner.alive

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
        return self.give_back(share=share)

    def give_back(self, *, share: bool = True) -> bool:
        """`park`, at once."""
        if not self.alive:
            self.abort()
            return True
        loop = asyncio.get_running_loop()
        self.idle_since = loop.time()
        if not (self._shared and share):
            self._pool._look()
            return False
        self._expiry = loop.call_later(self._pool.keep, self.dismiss)
        self._pool._park(self)
        return True

    def _busy(self) -> None:
        """It is not for others now."""
        if self.leaving:  # closed for another at the very moment
            raise UpstreamError("the session was closed to make room for another")
        self._out()

    def _out(self) -> None:
        self.idle_since = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._pool._unpark(self)

    def dismiss(self) -> asyncio.Task[None]:
        """Say QUIT without anybody waiting for it; the place is free when that is done."""
        self._out()
        if self._farewell is None:
            self._farewell = self._pool._dismiss(self._place, self._inner)
        return self._farewell

    def lost(self) -> None:
        """The connection is gone."""
        self._out()
        self._pool._free(self._place)

    async def quit(self) -> None:
        """As the port says."""
        await asyncio.shield(self.dismiss())

    def abort(self) -> None:
        """As the port says."""
        self._out()
        self._inner.abort()
        self._pool._free(self._place)
