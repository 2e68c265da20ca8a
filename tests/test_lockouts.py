"""Refused logins are counted: no forgotten telephone gets the relay's address banned, nor may a guesser ask for ever.

The upstream's connections are the measure of who was asked.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay_mta.conversation import TRIES_OF_A_CLIENT, Relay
from relay_mta.core.envelope import Client
from relay_mta.core.lockout import TRIES, Lockout
from relay_mta.core.sasl import plain
from tests.houses import Houses, firm, houses, secure_upstream
from tests.smtp.peers import WRONG, ScriptedUpstream
from tests.test_relay import HR

USERS = {HR: "correct horse", "boss@acme.example.jp": "battery staple"}
BOSS = "boss@acme.example.jp"
LOCALLY = b"535 5.7.8 Authentication credentials invalid\r\n"
WELCOME = b"235 2.7.0 Welcome\r\n"


class Entrance:
    """A company whose people log in at its upstream. Each try is a session of its own."""

    def __init__(self, relay: Houses, upstream: ScriptedUpstream) -> None:
        self.relay = relay
        self.upstream = upstream

    async def tries(self, login: str, secret: str, mechanism: str = "PLAIN", source: str = "127.0.0.1") -> bytes:
        async with self.relay.dialog(source=source) as client:
            await client.ehlo()
            answer = await client.log_in(login, secret, mechanism)
            return await client.say(b"") if answer.startswith(b"334") else answer

    @property
    def asked(self) -> int:
        """Connections to the upstream, but for the probe's."""
        return len(self.upstream.peers) - 1

    @property
    def front(self) -> Relay:
        return self.relay.app._listeners[0]._state.front  # type: ignore[return-value]


@asynccontextmanager
async def entrance(place: Path, script: dict[bytes, Any] | None = None):
    upstream = secure_upstream(script, users=USERS)
    async with upstream, houses(place, firm(upstream, auth="upstream", networks=())) as relay:
        yield Entrance(relay, upstream)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
async def test_the_fourth_try_of_the_same_password_asks_nobody(tmp_path: Path, mechanism: str) -> None:
    async with entrance(tmp_path) as door:
        for _ in range(TRIES):
            assert await door.tries(HR, "last month's", mechanism) == WRONG
        assert door.asked == TRIES
        assert await door.tries(HR, "last month's", mechanism) == LOCALLY
        assert door.asked == TRIES
        assert await door.tries(HR, "another", mechanism) == WRONG
        assert await door.tries(BOSS, "last month's", mechanism) == WRONG
        assert await door.tries(HR, USERS[HR], mechanism) == WELCOME
        assert door.asked == TRIES + 3
        assert "locally=true" in door.relay.lines("login")[TRIES].lower()
        assert all("last month" not in line and HR not in line for line in door.relay.log.getvalue().splitlines())


async def test_behind_the_pause_the_upstream_is_asked_again(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        door.front.logins = Lockout(first=0.0)
        for number in range(TRIES + 2):
            assert await door.tries(HR, "wrong") == WRONG
            assert door.asked == number + 1


async def test_a_login_that_turns_out_good_is_forgotten(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        for _ in range(2):
            door.upstream.users = {}
            for _ in range(TRIES - 1):
                assert await door.tries(HR, USERS[HR]) == WRONG
            door.upstream.users = USERS
            assert await door.tries(HR, USERS[HR]) == WELCOME


async def test_temporary_trouble_is_not_counted(tmp_path: Path) -> None:
    async with entrance(tmp_path, {b"AUTH": b"454 4.7.0 later\r\n"}) as door:
        for number in range(2 * TRIES):
            assert (await door.tries(HR, "any")).startswith(b"454 ")
            assert door.asked == number + 1


async def test_who_guesses_from_one_address_is_refused_whatever_comes_next(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        for number in range(TRIES_OF_A_CLIENT):
            assert await door.tries(f"u{number}@acme.example.jp", f"guess{number}") == WRONG
        assert await door.tries(HR, USERS[HR]) == LOCALLY
        assert door.asked == TRIES_OF_A_CLIENT
        assert await door.tries(HR, USERS[HR], source="127.0.0.2") == WELCOME


async def test_a_good_login_clears_its_address(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        for _ in range(2):
            for number in range(TRIES_OF_A_CLIENT - 1):
                assert await door.tries(f"u{number}@acme.example.jp", "guess") in (WRONG, LOCALLY)
            assert await door.tries(HR, USERS[HR]) == WELCOME


async def test_a_locked_out_client_may_still_send_from_its_network(tmp_path: Path) -> None:
    async with secure_upstream(users=None) as upstream, houses(tmp_path, firm(upstream, auth="upstream")) as relay:
        front: Relay = relay.app._listeners[0]._state.front  # type: ignore[assignment]
        for _ in range(TRIES_OF_A_CLIENT):
            front.clients.refused(b"127.0.0.1", 0.0)
        async with relay.dialog() as client:
            await client.ehlo()
            assert (await client.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"250")


@pytest.mark.parametrize(
    ("first", "then", "locked"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
async def test_all_addresses_of_one_household_are_one_guesser(
    tmp_path: Path, first: str, then: str, locked: bool
) -> None:
    """Whoever has one IPv6 address has 2^64 of them."""
    async with entrance(tmp_path) as door:

        async def guess(address: str, number: int) -> bytes:
            client = Client(address, listener="127.0.0.1:0")
            conversation = door.front.conversation(client)
            answer = await conversation.auth(client, plain(f"u{number}@acme.example.jp", b"guess"))  # type: ignore[union-attr]
            return answer.wire()

        for number in range(TRIES_OF_A_CLIENT):
            assert await guess(first, number) == WRONG
        assert await guess(then, 99) == (LOCALLY if locked else WRONG)
