"""The sessions to one upstream: never more than it allows, in the order of asking, and no place ever lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamBusyError, UpstreamError
from relay_mta.smtp.pool import Bounds, Pool, PooledSession
from relay_mta.smtp.upstream import Forward, SmtpUpstream
from relay_mta.smtp.wire import Timeouts
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OK, STALL, Peer, ScriptedUpstream

CLIENT = Client("192.0.2.7", 40000, "pc.test")
QUICK = Timeouts(connect=2, mail=2, rcpt=2, data_start=2, data_block=2, data_end=2, other=2, quit=0.3)


def pool_to(port: int, *, own: str | None = None, forward: Forward = "none", **bounds: Any) -> Pool:
    upstream = SmtpUpstream("127.0.0.1", port, hostname="relay.test", forward=forward, timeouts=QUICK)
    return Pool(upstream, own_login=own, bounds=Bounds(**{"wait": 5.0, **bounds}))


@asynccontextmanager
async def pooled(
    script: dict[bytes, Any] | None = None, *, own: str | None = None, forward: Forward = "none", **bounds: Any
) -> AsyncIterator[tuple[Pool, ScriptedUpstream]]:
    extensions = ("XCLIENT NAME ADDR PORT PROTO HELO",) if forward == "xclient" else ()
    if forward == "xclient":
        script = {b"XCLIENT": b"220 hello again\r\n", **(script or {})}
    async with ScriptedUpstream(script, extensions=extensions, proxy=forward == "proxy") as upstream:
        pool = pool_to(upstream.port, own=own, forward=forward, **bounds)
        yield pool, upstream
        await pool.close()


async def mailed(session: PooledSession) -> PooledSession:
    """A session that has carried a mail."""
    assert (await session.command(b"MAIL FROM:<a@x>")).accepted
    assert (await session.command(b"RCPT TO:<b@y>")).accepted
    assert (await session.data((b"x\r\n",))).accepted
    return session


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


# --- idle sessions --------------------------------------------------------------------------------------------------


async def test_the_longest_idle_session_is_closed_for_another_and_a_busy_one_never() -> None:
    async with pooled(connections=3, wait=0.2) as (pool, _):
        a, b, busy = [await pool.open(CLIENT, login=login) for login in "abc"]
        await a.park(share=True)
        await b.park(share=True)
        await asyncio.sleep(0.01)
        await a.command(b"NOOP")
        await a.park(share=True)  # b has been idle for longer now
        d = await pool.open(CLIENT, login="d")
        assert (a.alive, b.alive, busy.alive) == (True, False, True)
        e = await pool.open(CLIENT, login="e")
        assert (a.alive, busy.alive, d.alive) == (False, True, True)
        with pytest.raises(UpstreamBusyError):
            await pool.open(CLIENT, login="f")
        for session in (busy, d, e):
            session.abort()


async def test_of_a_login_that_has_all_it_may_have_an_idle_session_is_closed() -> None:
    async with pooled(connections=5, per_login=1) as (pool, upstream):
        other, mine = await pool.open(CLIENT, login="b"), await pool.open(CLIENT, login="a")
        await other.park(share=True)
        await mine.park(share=True)
        (await pool.open(CLIENT, login="a")).abort()
        assert other.alive and not mine.alive
        assert upstream.peers[1].lines[-1] == b"QUIT"
        other.abort()


async def test_one_idle_session_is_closed_for_one_who_waits() -> None:
    async with pooled(connections=2) as (pool, _):
        a, b = await pool.open(CLIENT, login="a"), await pool.open(CLIENT, login="b")
        await a.park(share=True)
        await b.park(share=True)
        c = await pool.open(CLIENT, login="c")
        assert b.alive and not a.alive
        b.abort()
        c.abort()


async def test_a_session_closed_for_another_says_nothing_more_than_quit() -> None:
    """Its owner may begin a mail at the very moment: the goodbye must not become the answer to it."""
    async with pooled(connections=1) as (pool, upstream):
        mine = await pool.open(CLIENT, login="a")
        await mine.park(share=True)
        other = asyncio.create_task(pool.open(CLIENT, login="b"))
        await asyncio.sleep(0)
        assert not mine.alive
        with pytest.raises(UpstreamError):
            await mine.command(b"MAIL FROM:<a@x>")
        with pytest.raises(UpstreamError):
            await mine.data((b"x\r\n",))
        assert await mine.park(share=True)
        await mine.quit()
        mine.abort()
        (await other).abort()
        assert b"MAIL FROM:<a@x>" not in upstream.commands
        assert pool.open_sessions == 0


async def test_quit_twice_is_quit_once() -> None:
    async with pooled() as (pool, upstream):
        session = await pool.open(CLIENT)
        await asyncio.gather(session.quit(), session.quit())
        await session.quit()
        assert upstream.commands.count(b"QUIT") == 1 and pool.open_sessions == 0


# --- parked and used again ------------------------------------------------------------------------------------------


async def test_a_parked_session_is_used_again_and_says_so() -> None:
    async with pooled() as (pool, upstream):
        first = await mailed(await pool.open(CLIENT))
        assert not first.reused
        assert await first.park(share=True)
        again = await mailed(await pool.open(CLIENT))
        assert again.reused
        assert (len(upstream.peers), len(upstream.accepted)) == (1, 2)
        again.abort()


async def test_a_fresh_session_is_never_a_parked_one() -> None:
    async with pooled(connections=2) as (pool, upstream):
        await (await pool.open(CLIENT)).park(share=True)
        fresh = await pool.open(CLIENT, fresh=True)
        assert not fresh.reused and len(upstream.peers) == 2
        more = await pool.open(CLIENT, fresh=True)  # for which the parked one has to go
        assert not more.reused and upstream.peers[0].lines[-1] == b"QUIT"
        fresh.abort()
        more.abort()


async def test_a_clients_session_is_nobody_elses() -> None:
    async with pooled() as (pool, upstream):
        mine = await mailed(await pool.open(CLIENT, login="a"))
        assert not await mine.park(share=True)
        for login in ("a", None, "b"):
            other = await pool.open(CLIENT, login=login)
            assert not other.reused
            other.abort()
        assert len(upstream.peers) == 4
        await mailed(mine)
        mine.abort()


@pytest.mark.parametrize("forward", ["xclient", "proxy"])
async def test_a_session_that_tells_of_its_client_is_nobody_elses(forward: Forward) -> None:
    async with pooled(forward=forward) as (pool, upstream):
        mine = await mailed(await pool.open(CLIENT))
        assert not await mine.park(share=True)
        other = await pool.open(Client("192.0.2.8"))
        assert not other.reused and len(upstream.peers) == 2
        await mailed(mine)  # it stays its client's
        other.abort()
        mine.abort()


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 idle too long\r\n"])
async def test_a_session_that_dies_while_parked_is_not_used_again(farewell: bytes) -> None:
    async with pooled() as (pool, upstream):
        await (await pool.open(CLIENT)).park(share=True)
        upstream.peers[0].writer.write(farewell)
        upstream.peers[0].writer.close()
        await until(lambda: pool.open_sessions == 0)
        assert not pool._parked
        session = await pool.open(CLIENT)
        assert not session.reused
        session.abort()


async def test_a_session_that_died_a_moment_ago_is_not_used_again() -> None:
    async with pooled() as (pool, _):
        parked = await pool.open(CLIENT)
        await parked.park(share=True)
        parked._inner.abort()  # as a stray reply does: the loop has not told of the loss yet
        session = await pool.open(CLIENT)
        assert session.alive and not session.reused
        session.abort()


async def test_a_session_that_dies_in_use_frees_its_place() -> None:
    async with pooled({b"NOOP": DROP}) as (pool, _):
        session = await pool.open(CLIENT)
        with pytest.raises(UpstreamError):
            await session.command(b"NOOP")
        await until(lambda: pool.open_sessions == 0)
        assert await session.park(share=True)  # gone, and no parking of it
        assert not pool._parked


async def test_a_parked_session_expires_with_a_goodbye() -> None:
    async with pooled(keep=0.05) as (pool, upstream):
        await (await pool.open(CLIENT)).park(share=True)
        await until(lambda: pool.open_sessions == 0)
        assert upstream.commands[-1] == b"QUIT"
        session = await pool.open(CLIENT)
        assert not session.reused
        session.abort()


async def test_a_session_in_use_does_not_expire() -> None:
    async with pooled(keep=0.05) as (pool, upstream):
        await (await pool.open(CLIENT)).park(share=True)
        session = await pool.open(CLIENT)
        await asyncio.sleep(0.15)
        assert session.alive and b"QUIT" not in upstream.commands
        await mailed(session)
        session.abort()


async def test_a_session_that_expires_while_somebody_asks_is_not_given() -> None:
    async def slowly(_: Peer) -> bytes:
        await asyncio.sleep(0.05)
        return b"221 bye\r\n"

    async with pooled({b"QUIT": slowly}) as (pool, upstream):
        parked = await pool.open(CLIENT)
        await parked.park(share=True)
        parked.dismiss()
        session = await mailed(await pool.open(CLIENT))
        assert session is not parked and not session.reused
        assert len(upstream.peers) == 2
        session.abort()


async def test_close_says_goodbye_to_the_parked_ones_and_to_late_comers() -> None:
    async with pooled() as (pool, upstream):
        parked, late = await pool.open(CLIENT), await pool.open(CLIENT)
        await parked.park(share=True)
        await pool.close()
        assert upstream.peers[0].lines[-1] == b"QUIT"
        assert await late.park(share=True)
        await until(lambda: pool.open_sessions == 0)
        assert upstream.peers[1].lines[-1] == b"QUIT"


async def test_the_reply_of_one_mail_never_answers_another() -> None:
    """Many mails on few sessions, each with a reply of its own."""

    async def own_reply(peer: Peer) -> bytes:
        return b"250 2.0.0 " + peer.mail + b"\r\n"

    async def send(pool: Pool, number: int) -> None:
        line = f"MAIL FROM:<{number}@x>".encode()
        session = await pool.open(CLIENT)
        await session.command(line)
        await session.command(b"RCPT TO:<b@y>")
        assert (await session.data((b"x\r\n",))).lines == (b"2.0.0 " + line,)
        await session.park(share=True)

    async with pooled({b".": own_reply}, connections=3) as (pool, upstream):
        await asyncio.gather(*(send(pool, number) for number in range(60)))
        assert len(upstream.accepted) == 60 and len(upstream.peers) <= 3
        with contextlib.suppress(UpstreamError):
            assert (await (await pool.open(CLIENT)).command(b"NOOP")).wire() == OK
