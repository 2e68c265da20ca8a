"""Clients who log in with what they have at the upstream: its answers are theirs, their logins nobody else's."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from relay_mta.config import ListenerConfig
from relay_mta.smtp.tls import client_context
from tests.houses import firm, houses, mailed, own_login, secure_upstream
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OAUTH_REASON, OK, STALL, WRONG, ScriptedUpstream
from tests.smtp.test_tls import CA, CERTIFICATES
from tests.test_relay import BOSS, HANAKO, HARMLESS, HR, LINK, TARO, mail

USERS = {HR: "correct horse", "boss@acme.example.jp": "battery staple"}
NONE: tuple[str, ...] = ()
WELCOME = b"235 2.7.0 Welcome\r\n"
BY_PASSWORD_AT_UPSTREAM: dict[str, Any] = {"auth": "upstream", "networks": NONE}


def attempts(upstream: ScriptedUpstream) -> int:
    """How often a login was tried there."""
    return sum(line.startswith(b"AUTH") for line in upstream.commands)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"])
async def test_who_logs_in_at_the_upstream_may_send(tmp_path: Path, mechanism: str) -> None:
    async with secure_upstream(users=USERS) as upstream:
        async with houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay, relay.dialog() as client:
            assert b"AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER" in await client.ehlo()
            assert await client.log_in(HR, USERS[HR], mechanism) == WELCOME
            assert await mailed(client, mail(), sender=HR) == OK
            assert await mailed(client, HARMLESS, sender=HR) == OK
        assert [sent.login for sent in upstream.accepted] == [HR, HR]
        assert b"with ESMTPA id" in upstream.accepted[0].raw and LINK.search(upstream.accepted[0].raw)
        assert attempts(upstream) == 1, "one session serves both mails"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_wrong_password_is_answered_by_the_upstream_word_for_word(tmp_path: Path, mechanism: str) -> None:
    async with (
        secure_upstream(users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
        relay.dialog() as client,
    ):
        await client.ehlo()
        assert await client.log_in(HR, "wrong", mechanism) == WRONG
        assert (await client.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"530 5.7.0 ")
        assert await client.log_in(HR, USERS[HR], mechanism) == WELCOME
        assert await mailed(client, HARMLESS, sender=HR) == OK


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_the_reasons_for_a_refused_token_go_to_the_client_and_its_response_back(
    tmp_path: Path, mechanism: str
) -> None:
    async with (
        secure_upstream(users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
        relay.dialog() as client,
    ):
        await client.ehlo()
        assert await client.log_in(HR, "stale", mechanism) == b"334 " + b64encode(OAUTH_REASON) + b"\r\n"
        answer = b"" if mechanism == "XOAUTH2" else b"AQ=="  # RFC 7628 §3.2.3
        assert await client.say(answer) == WRONG
        assert upstream.peers[-1].lines[-2:] == [answer, b"QUIT"]
        assert await client.log_in(HR, USERS[HR], mechanism) == WELCOME


async def test_a_client_that_does_not_answer_the_reasons_holds_up_nobody(tmp_path: Path) -> None:
    async with secure_upstream(users=USERS) as upstream:
        acme = firm(upstream, **BY_PASSWORD_AT_UPSTREAM, to={"max_connections": 1, "wait": 2.0})
        async with houses(tmp_path, acme) as relay, relay.dialog() as silent, relay.dialog() as client:
            await silent.ehlo()
            assert (await silent.log_in(HR, "stale", "XOAUTH2")).startswith(b"334 ")
            await client.ehlo()
            assert await client.log_in(BOSS, USERS[BOSS]) == WELCOME
            assert (await silent.say(b"")).startswith(b"454 4.7.0 ")


@pytest.mark.parametrize("how", [DROP, b"rubbish\r\n", b"421 4.3.2 bye\r\n", b"454 4.7.0 later\r\n"])
async def test_trouble_in_the_login_is_temporary(tmp_path: Path, how: Any) -> None:
    async with (
        secure_upstream({b"AUTH": [how, WELCOME]}, users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
    ):
        async with relay.dialog() as client:
            await client.ehlo()
            answer = await client.log_in(HR, USERS[HR])
            assert answer == how if isinstance(how, bytes) and how[:1] == b"4" else answer.startswith(b"454 4.7.0 ")
            assert not (await client.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"2")
        async with relay.dialog() as client:
            await client.ehlo()
            assert await client.log_in(HR, USERS[HR]) == WELCOME


async def test_an_upstream_that_cannot_be_reached_for_the_login_is_temporary(tmp_path: Path) -> None:
    async with (
        secure_upstream({b"CONNECT": [b"220 probe\r\n", DROP]}, users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
        relay.dialog() as client,
    ):
        await client.ehlo()
        assert (await client.log_in(HR, USERS[HR])).startswith(b"454 4.7.0 ")
        assert relay.lines("upstream-trouble")


async def test_an_upstream_that_dies_behind_the_reasons_is_temporary(tmp_path: Path) -> None:
    async with (
        secure_upstream(users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
        relay.dialog() as client,
    ):
        await client.ehlo()
        assert (await client.log_in(HR, "stale", "XOAUTH2")).startswith(b"334 ")
        upstream.peers[-1].writer.transport.abort()
        assert (await client.say(b"")).startswith(b"454 4.7.0 ")


# --- a login on another session -------------------------------------------------------------------------------------


async def test_a_session_that_idled_out_before_mail_is_replaced_and_logged_in(tmp_path: Path) -> None:
    async with secure_upstream(users=USERS) as upstream:
        async with houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay, relay.dialog() as client:
            await client.ehlo()
            await client.log_in(HR, USERS[HR])
            upstream.peers[-1].writer.write(b"421 4.4.2 idle too long\r\n")
            upstream.peers[-1].writer.close()
            await asyncio.sleep(0.05)
            assert await mailed(client, HARMLESS, sender=HR) == OK
        assert attempts(upstream) == 2
        assert [sent.login for sent in upstream.accepted] == [HR]


async def test_a_session_that_dies_in_mid_split_is_replaced_and_logged_in(tmp_path: Path) -> None:
    bye = b"421 4.3.2 bye\r\n"
    async with secure_upstream({b"RSET": [bye, OK]}, users=USERS) as upstream:
        async with houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay, relay.dialog() as client:
            await client.ehlo()
            await client.log_in(HR, USERS[HR])
            raw = mail(to="undisclosed-recipients:;")
            assert await mailed(client, raw, TARO, HANAKO, BOSS, sender=HR) == OK
            assert await relay.kinds() == ["held", "held", "relayed", "relayed"]
        assert attempts(upstream) == 2
        assert [(sent.login, len(sent.rcpts)) for sent in upstream.accepted] == [(HR, 1)] * 3


async def test_a_password_that_was_changed_in_between_is_451(tmp_path: Path) -> None:
    async with (
        secure_upstream(users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
        relay.dialog() as client,
    ):
        await client.ehlo()
        await client.log_in(HR, USERS[HR])
        upstream.users = {HR: "another"}
        upstream.peers[-1].writer.transport.abort()
        await asyncio.sleep(0.05)
        assert (await client.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"451 4.7.0 ")
        upstream.users = USERS
        assert await mailed(client, HARMLESS, sender=HR) == OK
        assert USERS[HR] not in relay.log.getvalue()


async def test_no_mail_goes_over_a_session_of_another_login(tmp_path: Path) -> None:
    """Three people, the relay itself, and few connections: each mail arrives under the login of who sent it."""
    users = {f"u{i}@acme.example.jp": f"secret{i}" for i in range(3)}
    async with secure_upstream(users={**users, "relay@acme.example.jp": "own"}) as upstream:
        to = {"max_connections": 2, "wait": 10.0, "login": own_login(tmp_path, "relay@acme.example.jp", "own")}
        async with houses(tmp_path, firm(upstream, auth="upstream", to=to)) as relay:

            async def send(login: str | None, sender: str) -> None:
                async with relay.dialog() as client:
                    await client.ehlo()
                    if login:
                        assert await client.log_in(login, users[login]) == WELCOME
                    for _ in range(3):
                        assert await mailed(client, HARMLESS, sender=sender) == OK

            await asyncio.gather(
                *(send(login, login) for login in users), *(send(None, "relay@acme.example.jp") for _ in range(3))
            )
            await until(lambda: relay.gate("acme").upstream.open_sessions <= 2)  # type: ignore[attr-defined]
        assert len(upstream.accepted) == 18
        for sent in upstream.accepted:
            assert sent.mail == f"MAIL FROM:<{sent.login}>".encode()


async def test_a_login_has_no_more_connections_than_it_may_have(tmp_path: Path) -> None:
    async with secure_upstream(users=USERS) as upstream:
        acme = firm(upstream, **BY_PASSWORD_AT_UPSTREAM, to={"max_per_login": 1, "wait": 0.2})
        async with houses(tmp_path, acme) as relay, relay.dialog() as first, relay.dialog() as second:
            for client in (first, second):
                await client.ehlo()
                assert await client.log_in(HR, USERS[HR]) == WELCOME  # the first one's idle session makes room
            assert await first.say(f"MAIL FROM:<{HR}>".encode()) == OK
            assert (await second.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"451 4.4.5 ")
            await first.say(b"RSET")
            assert await second.say(f"MAIL FROM:<{HR}>".encode()) == OK


# --- what a client says over TLS, and what it says in clear ---------------------------------------------------------

STARTTLS = ListenerConfig("127.0.0.1", 0, "starttls", CERTIFICATES / "localhost.pem")


async def test_logins_are_offered_and_taken_over_tls_alone(tmp_path: Path) -> None:
    async with secure_upstream(users=USERS) as upstream:
        acme = firm(upstream, **BY_PASSWORD_AT_UPSTREAM)
        async with houses(tmp_path, acme, listeners=(STARTTLS,)) as relay, relay.dialog() as client:
            assert not any(line.startswith(b"AUTH") for line in await client.ehlo())
            assert (await client.log_in(HR, USERS[HR])).startswith(b"538 5.7.11 ")
            await client.start_tls(client_context(CA))
            assert any(line.startswith(b"AUTH ") for line in await client.ehlo())
            assert await client.log_in(HR, USERS[HR]) == WELCOME
            assert await mailed(client, HARMLESS, sender=HR) == OK
        assert b"with ESMTPSA id" in upstream.accepted[0].raw
        assert attempts(upstream) == 1


async def test_starttls_drops_a_login(tmp_path: Path) -> None:
    listener = ListenerConfig("127.0.0.1", 0, "starttls", CERTIFICATES / "localhost.pem", auth_in_clear=True)
    async with secure_upstream(users=USERS) as upstream:
        acme = firm(upstream, **BY_PASSWORD_AT_UPSTREAM)
        async with houses(tmp_path, acme, listeners=(listener,)) as relay, relay.dialog() as client:
            await client.ehlo()
            assert await client.log_in(HR, USERS[HR]) == WELCOME
            await client.start_tls(client_context(CA))
            await client.ehlo()
            assert (await client.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"530 5.7.0 ")
            assert await client.log_in(HR, USERS[HR]) == WELCOME
            assert await mailed(client, HARMLESS, sender=HR) == OK


async def test_no_password_reaches_an_upstream_without_tls(tmp_path: Path) -> None:
    async with ScriptedUpstream(users=USERS) as upstream:
        acme = firm(upstream, **BY_PASSWORD_AT_UPSTREAM, to={"tls": "starttls", "ca_file": CA})
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            assert (await client.log_in(HR, USERS[HR])).startswith(b"454 4.7.0 ")
        assert attempts(upstream) == 0


async def test_a_stalled_login_of_one_holds_up_no_other(tmp_path: Path) -> None:
    async with (
        secure_upstream({b"AUTH": [STALL, WELCOME]}, users=USERS) as upstream,
        houses(tmp_path, firm(upstream, **BY_PASSWORD_AT_UPSTREAM)) as relay,
        relay.dialog() as client,
    ):
        stuck = relay.dialog()
        async with stuck:
            await stuck.ehlo()
            await stuck.send(b"AUTH PLAIN " + b64encode(f"\0{HR}\0{USERS[HR]}".encode()) + b"\r\n")
            await until(lambda: attempts(upstream) == 1)
            await client.ehlo()
            assert await client.log_in(BOSS, USERS[BOSS]) == WELCOME
