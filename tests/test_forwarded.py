"""Whole Apps that tell their upstream who the client is: every mail on a session that speaks of its own client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.houses import firm, houses, own_login, secure_upstream
from tests.smtp.peers import OK, Peer, ScriptedUpstream
from tests.test_relay import HARMLESS, HR

HELLO = b"220 hello again\r\n"
OFFER = ("XCLIENT ADDR HELO", "SIZE 1000000")


async def named(peer: Peer) -> bytes:
    """The reply to a mail says whom the session was introduced for."""
    introduced = [line for line in (*peer.lines, peer.proxy) if line.startswith((b"XCLIENT", b"PROXY"))]
    return b"250 2.0.0 " + introduced[-1].strip() + b"\r\n"


@pytest.mark.parametrize("forward", ["xclient", "proxy"])
async def test_each_mail_goes_on_a_session_of_its_own_client(tmp_path: Path, forward: str) -> None:
    script: dict[bytes, Any] = {b"XCLIENT": HELLO, b".": named}
    async with ScriptedUpstream(script, extensions=OFFER, proxy=forward == "proxy") as upstream:
        acme = firm(upstream, to={"forward": forward, "max_connections": 2, "host": "127.0.0.1"})
        async with houses(tmp_path, acme) as relay:

            async def send(number: int) -> None:
                source = f"127.0.0.{number}"
                answer = await relay.send(HARMLESS, sender=HR, source=source)
                assert answer.startswith(b"250") and f"{source} ".encode() in answer

            await asyncio.gather(*(send(number) for number in range(2, 12)))


@pytest.mark.parametrize("answer", [None, b"550 5.7.0 not for you\r\n", b"421 4.3.2 bye\r\n"])
async def test_an_upstream_that_takes_no_xclient_is_451_and_said_clearly(tmp_path: Path, answer: bytes | None) -> None:
    script = {b"XCLIENT": [HELLO, answer]} if answer else {}
    upstream = ScriptedUpstream(script, extensions=OFFER if answer else ())
    async with upstream, houses(tmp_path, firm(upstream, to={"forward": "xclient"})) as relay:
        assert (await relay.send(HARMLESS, sender=HR)).startswith(b"451 4.4.1 ")
        assert ("XCLIENT was refused" if answer else "not offered to us") in relay.lines("upstream-trouble")[-1]
        assert b"MAIL" not in b"".join(upstream.commands)


async def test_the_relays_login_follows_the_introduction(tmp_path: Path) -> None:
    script = {b"XCLIENT": HELLO}
    async with secure_upstream(script, extensions=OFFER, users={"relay@x": "pw"}) as upstream:
        acme = firm(upstream, to={"forward": "xclient", "login": own_login(tmp_path, "relay@x", "pw")})
        async with houses(tmp_path, acme) as relay:
            assert await relay.send(HARMLESS, sender=HR) == OK
        verbs = [line.split(b" ")[0] for line in upstream.peers[-1].lines]
        assert verbs[:6] == [b"EHLO", b"STARTTLS", b"EHLO", b"XCLIENT", b"EHLO", b"AUTH"]
        assert upstream.accepted[0].login == "relay@x"
