"""A pool of real sessions to a scripted upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from relay_mta.core.envelope import Client
from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.pool import Bounds, Pool, PooledSession
from relay_mta.smtp.upstream import Forward, SmtpUpstream
from tests.smtp.peers import ScriptedUpstream

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
