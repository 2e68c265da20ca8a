"""Clients who log in as users of the relay's own; what they send goes under the relay's own login, or under none."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from relay_mta import users
from tests.houses import firm, houses, mailed, own_login, secure_upstream
from tests.smtp.peers import OK, ScriptedUpstream
from tests.test_relay import HARMLESS, HR

WELCOME = b"235 2.7.0 Authentication successful\r\n"
REFUSED = b"535 5.7.8 Authentication credentials invalid\r\n"


@pytest.fixture(scope="module")
def hash_of_horse() -> str:
    return users.hashed("correct horse")


@pytest.fixture
def file(tmp_path: Path, hash_of_horse: str) -> Path:
    users.write(tmp_path / "users-acme", {HR: hash_of_horse})
    return tmp_path / "users-acme"


def spoil(file: Path) -> None:
    file.write_text("hr without a hash\n")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_user_sends_and_the_upstream_never_hears_of_the_login(
    tmp_path: Path, file: Path, mechanism: str
) -> None:
    async with ScriptedUpstream() as upstream:
        acme = firm(upstream, auth="users", users=file, networks=())
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            assert b"AUTH PLAIN LOGIN" in await client.ehlo()
            assert await client.log_in(HR.upper(), "correct horse", mechanism) == WELCOME
            assert await mailed(client, HARMLESS, sender=HR) == OK
        assert not any(line.startswith(b"AUTH") for line in upstream.commands)
        assert b"with ESMTPA id" in upstream.accepted[0].raw


@pytest.mark.parametrize(("acts_for", "answer"), [("boss@acme.example.jp", REFUSED), (HR, WELCOME)])
async def test_a_user_is_nobody_else(tmp_path: Path, file: Path, acts_for: str, answer: bytes) -> None:
    """RFC 4616 §2: a PLAIN login may ask to be somebody else; nobody here may."""
    async with ScriptedUpstream() as upstream:
        acme = firm(upstream, auth="users", users=file, networks=())
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            response = base64.b64encode(f"{acts_for}\0{HR}\0correct horse".encode())
            assert await client.say(b"AUTH PLAIN " + response) == answer


async def test_a_user_sends_under_the_relays_own_login(tmp_path: Path, file: Path) -> None:
    async with secure_upstream(users={"relay@acme.example.jp": "own"}) as upstream:
        to = {"login": own_login(tmp_path, "relay@acme.example.jp", "own")}
        acme = firm(upstream, auth="users", users=file, networks=(), to=to)
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            assert await client.log_in(HR, "correct horse") == WELCOME
            assert await mailed(client, HARMLESS, sender=HR) == OK
        assert [sent.login for sent in upstream.accepted] == ["relay@acme.example.jp"]


@pytest.mark.parametrize(
    ("login", "password"), [(HR, "wrong"), ("nobody@acme.example.jp", "correct horse"), (HR, "x" * 2000)]
)
async def test_who_is_no_user_or_mistypes_is_refused_and_nothing_goes_up(
    tmp_path: Path, file: Path, login: str, password: str
) -> None:
    async with ScriptedUpstream() as upstream:
        acme = firm(upstream, auth="users", users=file, networks=())
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            assert await client.log_in(login, password) == REFUSED
            assert (await client.say(f"MAIL FROM:<{HR}>".encode())).startswith(b"530 5.7.0 ")
            assert password not in relay.log.getvalue() and login not in relay.log.getvalue()
        assert len(upstream.peers) == 1, "the probe alone"


async def test_oauth_is_not_taken_where_the_relay_knows_passwords_only(tmp_path: Path, file: Path) -> None:
    async with ScriptedUpstream() as upstream:
        acme = firm(upstream, auth="users", users=file, networks=())
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            assert (await client.log_in(HR, "token", "XOAUTH2")).startswith(b"504 ")


async def test_a_file_of_users_that_is_broken_is_temporary_trouble(tmp_path: Path, file: Path) -> None:
    good = users.read(file)
    async with ScriptedUpstream() as upstream:
        acme = firm(upstream, auth="users", users=file, networks=())
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            spoil(file)
            assert (await client.log_in(HR, "correct horse")).startswith(b"454 4.7.0 ")
            users.write(file, good)
            assert await client.log_in(HR, "correct horse") == WELCOME


async def test_a_mail_of_a_user_may_say_whose_it_is_to_an_upstream_without_logins(tmp_path: Path, file: Path) -> None:
    """RFC 4954 §5: who offers AUTH takes AUTH= on MAIL, and passes it on to those alone who offer AUTH as well."""
    unknown = b"555 5.5.4 Unsupported option: AUTH=<>\r\n"

    async def strict(peer) -> bytes:
        return unknown if b"AUTH=" in peer.lines[-1] else OK

    async with ScriptedUpstream({b"MAIL": strict}) as upstream:
        acme = firm(upstream, auth="users", users=file, networks=())
        async with houses(tmp_path, acme) as relay, relay.dialog() as client:
            await client.ehlo()
            await client.log_in(HR, "correct horse")
            assert await client.say(f"MAIL FROM:<{HR}> BODY=8BITMIME AUTH=<>".encode()) == OK
            assert upstream.commands[-1] == f"MAIL FROM:<{HR}> BODY=8BITMIME".encode()
