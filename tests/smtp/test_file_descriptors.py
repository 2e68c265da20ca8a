"""A real relay that runs out of file descriptors: what it cannot serve comes back later, and it recovers by itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.process import BASE_CONFIG, Relay
from tests.smtp.clients import Dialog
from tests.smtp.peers import ScriptedUpstream

FILES = 64
TRIED = 200
SECONDS, PAUSE = 30.0, 0.05


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def relay(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Relay]:
    config = BASE_CONFIG + "\n[limits]\nmax_connections_per_client = 400\n"
    relay = Relay(tmp_path, config, upstream_port=upstream.port, files=FILES)
    await asyncio.to_thread(relay.start)
    try:
        yield relay
    finally:
        await asyncio.to_thread(relay.stop)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(round(SECONDS / PAUSE)):
        if await true():
            return
        await asyncio.sleep(PAUSE)
    raise AssertionError(f"not within {SECONDS:g} s")


async def test_it_recovers_when_file_descriptors_ran_out(relay: Relay, upstream: ScriptedUpstream) -> None:
    async def ran_out() -> bool:
        return "out of system resource" in relay.said()

    async def free_again() -> bool:
        return (await early.say(b"MAIL FROM:<hr@acme.example.jp>")).startswith(b"250")

    async with Dialog(relay.smtp_port) as early:
        await early.ehlo()
        with ExitStack() as crowd:
            for _ in range(TRIED):
                crowd.enter_context(socket.create_connection(("127.0.0.1", relay.smtp_port)))
            await until(ran_out)
            # There is no file left for the upstream: the client keeps its mail, and is not cut off.
            assert not await free_again()
            assert (await early.say(b"NOOP")).startswith(b"250")
        await until(free_again)
    async with Dialog(relay.smtp_port) as late:
        replies = await late.envelope(b"sato@other.example")
        assert replies[-1].startswith(b"354"), replies
        assert (await late.say(b"Subject: x\r\n\r\nafter it all\r\n.")).startswith(b"250")
    assert [mail.raw.endswith(b"after it all\r\n") for mail in upstream.accepted] == [True]
