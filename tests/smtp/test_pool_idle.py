"""Sessions that nobody uses at the moment: given to the next, closed for another, expired, or found dead."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamBusyError, UpstreamError
from relay_mta.smtp.pool import Pool
from relay_mta.smtp.upstream import Forward
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OK, Peer
from tests.smtp.pools import CLIENT, mailed, pooled

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


async def test_a_session_that_others_may_not_have_stays_with_its_client() -> None:
    async with pooled() as (pool, upstream):
        session = await pool.open(CLIENT)
        assert not await session.park(share=False)
        other = await pool.open(CLIENT)
        assert other is not session and not other.reused
        assert (await session.command(b"NOOP")).accepted
        await session.quit()
        await other.quit()
        assert len(upstream.peers) == 2


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
