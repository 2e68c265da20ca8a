"""A real relay with few file descriptors: what it cannot serve is told to come back, and everybody else is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.process import BASE_CONFIG, Relay
from tests.smtp.clients import Dialog
from tests.smtp.peers import ScriptedUpstream

FILES = 64
TRIED = 200


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


def greeting(connection: socket.socket) -> bytes:
    connection.settimeout(30)
    with contextlib.suppress(ConnectionError):
        return connection.recv(3)
    return b""


async def test_a_crowd_takes_the_places_that_there_are_files_for_and_no_more(
    relay: Relay, upstream: ScriptedUpstream
) -> None:
    async with Dialog(relay.smtp_port) as early:
        await early.ehlo()
        with ExitStack() as crowd:
            address = ("127.0.0.1", relay.smtp_port)
            clients = [crowd.enter_context(socket.create_connection(address)) for _ in range(TRIED)]
            met = Counter([await asyncio.to_thread(greeting, client) for client in clients])
            assert set(met) == {b"220", b"421"} and met[b"220"] < FILES / 2, met
            # Whoever has a place is served meanwhile: there are files left for the upstream.
            assert (await early.say(b"MAIL FROM:<hr@acme.example.jp>")).startswith(b"250")
    async with Dialog(relay.smtp_port) as late:
        replies = await late.envelope(b"sato@other.example")
        assert replies[-1].startswith(b"354"), replies
        assert (await late.say(b"Subject: x\r\n\r\nafter it all\r\n.")).startswith(b"250")
    assert [mail.raw.endswith(b"after it all\r\n") for mail in upstream.accepted] == [True]
    said = relay.said()
    assert "event=few-files" in said and len(said) < 10_000, "no disk is filled by refusing"
