"""The sessions to one upstream: never more than it allows, in the order of asking, and no place ever lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.errors import UpstreamBusyError, UpstreamError
from relay_mta.smtp.pool import PooledSession
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, STALL, Peer
from tests.smtp.pools import CLIENT, mailed, pooled

# --- never too many, and nothing leaks ------------------------------------------------------------------------------

CONNECTIONS, PER_LOGIN = 3, 2
ACTIONS = ("noop", "mail", "park", "421", "drop", "wait")
ENDS = ("park", "quit", "abort")
VISIT = st.tuples(
    st.sampled_from((None, None, "a", "b", "A")),
    st.booleans(),
    st.lists(st.sampled_from(ACTIONS), max_size=4),
    st.sampled_from(ENDS),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(VISIT, min_size=1, max_size=4), min_size=2, max_size=8), st.booleans())
def test_whatever_happens_there_are_never_too_many_and_no_place_is_lost(visitors: list[list[Any]], rude: bool) -> None:
    """`rude`: some of them cut their connections, or lose their patience."""
    asyncio.run(_visits(visitors, rude=rude))


async def _visits(visitors: list[list[Any]], *, rude: bool) -> None:
    there: list[int] = []

    async def came(peer: Peer) -> bytes:
        there.append(sum(not each.closed for each in peer.upstream.peers))
        return b"220 hello\r\n"

    async def bye(_: Peer) -> bytes:
        await asyncio.sleep(0.001)
        return b"221 bye\r\n"

    script = {b"CONNECT": came, b"QUIT": bye, b"X421": b"421 4.3.2 bye\r\n", b"XDROP": DROP}
    async with pooled(script, connections=CONNECTIONS, per_login=PER_LOGIN) as (pool, _):
        held: set[PooledSession] = set()

        def look() -> None:
            assert pool.open_sessions <= CONNECTIONS
            logins = Counter(place.login for place in pool._taken if place.login is not None)
            assert all(count <= PER_LOGIN for count in logins.values())

        async def visit(login: str | None, fresh: bool, actions: list[str], end: str, hasty: bool) -> None:
            session: PooledSession | None = None
            try:
                async with asyncio.timeout(0.004 if hasty and rude else None):
                    session = await pool.open(CLIENT, login=login, fresh=fresh)
                    assert session not in held, "two have the same session"
                    assert not (fresh and session.reused)
                    held.add(session)
                    for action in actions:
                        look()
                        if action == "park":
                            held.discard(session)
                            if await session.park(share=True):
                                session = None
                                return
                            held.add(session)
                        elif action == "mail":
                            await mailed(session)
                        elif action == "wait":
                            await asyncio.sleep(0.002)
                        else:
                            await session.command({"noop": b"NOOP", "421": b"X421", "drop": b"XDROP"}[action])
            except UpstreamBusyError:
                raise AssertionError("everybody leaves again, so everybody's turn comes") from None
            except (UpstreamError, TimeoutError):
                pass
            finally:
                if session is not None:
                    held.discard(session)
                    if end == "abort" and rude:
                        session.abort()
                    elif end != "park" or not await session.park(share=True):
                        await session.quit()
                look()

        async def stay(visits: list[Any]) -> None:
            for each in visits:
                await visit(*each)

        async with asyncio.timeout(20):
            await asyncio.gather(*(stay(visits) for visits in visitors))
        assert not pool._waiting
        await pool.close()
        await until(lambda: pool.open_sessions == 0)
        assert not pool._parked
        if not rude:  # of a connection that we cut, the upstream hears in its own time
            assert max(there) <= CONNECTIONS, "the upstream saw more than it allows"


async def test_an_evicted_session_is_gone_before_another_comes() -> None:
    """Microsoft 365 counts what is connected, and refuses the fourth."""
    there: list[int] = []

    async def came(peer: Peer) -> bytes:
        there.append(sum(not each.closed for each in peer.upstream.peers))
        return b"220 hello\r\n"

    async def slowly(_: Peer) -> bytes:
        await asyncio.sleep(0.05)
        return b"221 bye\r\n"

    async with pooled({b"CONNECT": came, b"QUIT": slowly}, connections=1) as (pool, upstream):
        for login in ("a", "b", "c", None):
            session = await pool.open(CLIENT, login=login)
            await session.park(share=True)
        assert there == [1, 1, 1, 1]
        assert upstream.commands.count(b"QUIT") == 3


async def test_an_upstream_that_answers_no_quit_does_not_keep_the_place() -> None:
    async with pooled({b"QUIT": STALL}, connections=1) as (pool, _):
        await (await pool.open(CLIENT, login="a")).park(share=True)
        session = await pool.open(CLIENT, login="b")
        assert session.alive and pool.open_sessions == 1
        session.abort()


@pytest.mark.parametrize("trouble", [DROP, b"554 5.7.1 no\r\n", b"421 4.3.2 later\r\n", b"nonsense\r\n"])
async def test_a_failed_connect_gives_its_place_back(trouble: Any) -> None:
    async with pooled({b"CONNECT": [trouble, trouble, trouble, b"220 hello\r\n"]}, connections=1) as (pool, _):
        for _ in range(3):
            with pytest.raises(UpstreamError):
                await pool.open(CLIENT)
            assert pool.open_sessions == 0
        (await pool.open(CLIENT)).abort()


async def test_an_interrupted_connect_gives_its_place_back() -> None:
    async with pooled({b"CONNECT": [STALL, b"220 hello\r\n"]}, connections=1) as (pool, upstream):
        opening = asyncio.create_task(pool.open(CLIENT))
        await until(lambda: upstream.peers)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert pool.open_sessions == 0
        (await pool.open(CLIENT)).abort()


# --- waiting --------------------------------------------------------------------------------------------------------


async def test_places_are_given_in_the_order_of_asking() -> None:
    came: list[str] = []

    async with pooled(connections=1) as (pool, _):
        first = await pool.open(CLIENT, login="first")

        async def ask(login: str) -> None:
            session = await pool.open(CLIENT, login=login)
            came.append(login)
            await session.quit()

        asking = []
        for login in "dabc":
            asking.append(asyncio.create_task(ask(login)))
            await asyncio.sleep(0)
        await first.quit()
        await asyncio.gather(*asking)
    assert came == ["d", "a", "b", "c"]


async def test_nobody_takes_the_place_of_one_who_waits_and_has_not_been_told_yet() -> None:
    async with pooled(connections=1, wait=0.3) as (pool, _):
        first = await pool.open(CLIENT, login="first")
        waiting = asyncio.create_task(pool.open(CLIENT, login="second"))
        await asyncio.sleep(0)
        first.abort()
        with pytest.raises(UpstreamBusyError):
            await pool.open(CLIENT, login="third")
        (await waiting).abort()


async def test_a_login_that_has_all_it_may_have_holds_up_nobody_else() -> None:
    async with pooled(connections=5, per_login=1, wait=0.3) as (pool, _):
        first = await pool.open(CLIENT, login="a")
        waiting = asyncio.create_task(pool.open(CLIENT, login="a"))
        await asyncio.sleep(0)
        (await pool.open(CLIENT, login="b")).abort()
        (await pool.open(CLIENT)).abort()
        with pytest.raises(UpstreamBusyError):
            await waiting
        first.abort()


async def test_a_login_is_counted_once_however_it_is_written() -> None:
    async with pooled(per_login=1, own="Relay@X.test", wait=0.1) as (pool, _):
        session = await pool.open(CLIENT, login="relay@x.test")
        with pytest.raises(UpstreamBusyError):
            await pool.open(CLIENT)
        session.abort()


async def test_busy_after_the_wait_and_not_later() -> None:
    async with pooled(connections=1, wait=0.2) as (pool, upstream):
        session = await pool.open(CLIENT, login="a")
        start = asyncio.get_running_loop().time()
        with pytest.raises(UpstreamBusyError, match=rf"127\.0\.0\.1:{upstream.port}: all its connections are in use"):
            await pool.open(CLIENT, login="secretive@x.test")
        assert 0.15 < asyncio.get_running_loop().time() - start < 1.5
        assert not pool._waiting
        session.abort()
        (await pool.open(CLIENT)).abort()


@pytest.mark.parametrize("when", ["waiting", "given"])
async def test_who_gives_up_waiting_leaves_the_place_to_the_next(when: str) -> None:
    async with pooled(connections=1) as (pool, _):
        first = await pool.open(CLIENT, login="a")
        waiting = asyncio.create_task(pool.open(CLIENT, login="b"))
        behind = asyncio.create_task(pool.open(CLIENT, login="c"))
        await asyncio.sleep(0)
        if when == "given":
            first.abort()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        first.abort()
        session = await behind
        session.abort()
        assert pool.open_sessions == 0 and not pool._waiting


async def test_who_gives_up_a_parked_session_leaves_it_to_the_next() -> None:
    async with pooled(connections=1) as (pool, upstream):
        first = await pool.open(CLIENT)
        waiting = asyncio.create_task(pool.open(CLIENT))
        behind = asyncio.create_task(pool.open(CLIENT))
        await asyncio.sleep(0)
        await first.park(share=True)
        waiting.cancel()
        assert (await behind).reused
        assert len(upstream.peers) == 1


async def test_a_parked_session_goes_to_who_waits_for_one() -> None:
    """Where every place is taken, closing a session only to open the next would cost each mail a handshake."""
    async with pooled(connections=1) as (pool, upstream):
        first = await mailed(await pool.open(CLIENT))
        waiting = [asyncio.create_task(pool.open(CLIENT)) for _ in range(3)]
        await asyncio.sleep(0)
        session: PooledSession = first
        for each in waiting:
            await session.park(share=True)
            session = await mailed(await each)
            assert session.reused
        session.abort()
        assert len(upstream.peers) == 1 and b"QUIT" not in upstream.commands


async def test_a_parked_session_is_closed_for_a_login_that_waits_longer() -> None:
    async with pooled(connections=1) as (pool, upstream):
        first = await pool.open(CLIENT)
        login = asyncio.create_task(pool.open(CLIENT, login="a"))
        await asyncio.sleep(0)
        own = asyncio.create_task(pool.open(CLIENT))
        await asyncio.sleep(0)
        await first.park(share=True)
        session = await login
        assert not own.done() and not session.reused and upstream.peers[0].lines[-1] == b"QUIT"
        session.abort()
        (await own).abort()


async def test_a_session_that_dies_leaves_its_place_to_who_waits() -> None:
    async with pooled(connections=1) as (pool, upstream):
        await pool.open(CLIENT)
        waiting = asyncio.create_task(pool.open(CLIENT, login="a"))
        await asyncio.sleep(0)
        upstream.peers[0].writer.transport.abort()
        (await waiting).abort()
