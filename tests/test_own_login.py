"""The relay's own login at an upstream: over TLS, with the password of today, and never a word of it elsewhere."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.houses import firm, houses, kept, own_login, secure_upstream
from tests.smtp.peers import OK, ScriptedUpstream
from tests.smtp.test_tls import CA, certificate
from tests.test_relay import BOSS, HANAKO, HARMLESS, HR, TARO, mail

RELAY, PASSWORD = "relay@acme.example.jp", "pass=word with blanks 秘密"
USERS = {RELAY: PASSWORD}
REFUSED = b"451 4.7.0 The outbound server does not let this relay in at present, please try again later\r\n"


def attempts(upstream: ScriptedUpstream) -> list[bytes]:
    return [line for line in upstream.commands if line.startswith(b"AUTH")]


@pytest.mark.parametrize(
    ("mechanism", "offered", "used"),
    [
        (None, ("PLAIN", "LOGIN", "CRAM-MD5"), b"AUTH PLAIN "),
        (None, ("LOGIN", "CRAM-MD5"), b"AUTH LOGIN"),
        (None, ("CRAM-MD5",), b"AUTH CRAM-MD5"),
        ("PLAIN", ("CRAM-MD5", "PLAIN"), b"AUTH PLAIN "),
        ("LOGIN", ("PLAIN", "LOGIN"), b"AUTH LOGIN"),
        ("CRAM-MD5", ("PLAIN", "CRAM-MD5"), b"AUTH CRAM-MD5"),
    ],
)
@pytest.mark.parametrize("implicit", [False, True])
async def test_every_mail_goes_under_the_relays_login_and_one_login_serves_many(
    tmp_path: Path, mechanism: Any, offered: tuple[str, ...], used: bytes, implicit: bool
) -> None:
    upstream = secure_upstream(users=USERS, mechanisms=offered, implicit_tls=implicit)
    async with upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, PASSWORD, mechanism)})
        async with houses(tmp_path, acme) as relay:
            for _ in range(3):
                assert await relay.send(HARMLESS, sender=HR) == OK
            raw = mail(to="undisclosed-recipients:;")
            assert await relay.send(raw, TARO, HANAKO, BOSS, sender=HR) == OK
        assert [sent.login for sent in upstream.accepted] == [RELAY] * 6
        (attempt,) = attempts(upstream)
        assert attempt.startswith(used)


async def test_a_wrong_password_is_temporary_for_the_client_and_clear_for_the_operator(tmp_path: Path) -> None:
    async with secure_upstream(users={RELAY: "another"}) as upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, PASSWORD)})
        async with houses(tmp_path, acme) as relay:
            assert await relay.send(HARMLESS, sender=HR) == REFUSED
            (line,) = relay.lines("upstream-trouble")
            assert "our login at the upstream: " in line and "password is wrong" in line
            secrets = (PASSWORD, b64encode(f"\0{RELAY}\0{PASSWORD}".encode()).decode(), "See https://")
            assert not any(secret in relay.log.getvalue() for secret in secrets)
        assert upstream.mails == []


async def test_a_refused_password_is_not_shown_again_and_again(tmp_path: Path) -> None:
    """One old password must not get the relay's address banned; a new one is taken at once."""
    async with secure_upstream(users={RELAY: "another"}) as upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, PASSWORD)})
        async with houses(tmp_path, acme) as relay:
            for _ in range(6):
                assert await relay.send(HARMLESS, sender=HR) == REFUSED
            assert len(attempts(upstream)) == 3
            assert "correct it, or it is not tried for" in relay.lines("upstream-trouble")[-1]
            own_login(tmp_path, RELAY, "another")
            assert await relay.send(HARMLESS, sender=HR) == OK
            assert len(attempts(upstream)) == 4


@pytest.mark.parametrize("answer", [b"454 4.7.0 later\r\n", b"334 \r\n", b"530 5.7.0 no\r\n", b"421 4.3.2 bye\r\n"])
async def test_whatever_else_the_login_is_answered_is_temporary(tmp_path: Path, answer: bytes) -> None:
    script = {b"AUTH": [answer, b"235 2.7.0 ok\r\n"], b"": b"535 5.7.8 no\r\n", b"MAIL": OK}
    async with secure_upstream(script, users=USERS, mechanisms=("PLAIN",)) as upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, PASSWORD)})
        async with houses(tmp_path, acme) as relay:
            assert (await relay.send(HARMLESS, sender=HR))[:4] in (b"451 ", b"250 ")
            assert await relay.send(HARMLESS, sender=HR) == OK


async def test_a_password_that_was_changed_is_taken_by_the_next_session(tmp_path: Path) -> None:
    async with secure_upstream(users={RELAY: "new"}) as upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, "old")})
        async with houses(tmp_path, acme) as relay:
            assert await relay.send(HARMLESS, sender=HR) == REFUSED
            kept(tmp_path, f"password-{RELAY}", "new\n")
            assert await relay.send(HARMLESS, sender=HR) == OK


async def test_a_password_that_cannot_be_read_is_temporary_and_says_where_it_was(tmp_path: Path) -> None:
    async with secure_upstream(users=USERS) as upstream:
        login = own_login(tmp_path, RELAY, PASSWORD)
        async with houses(tmp_path, firm(upstream, to={"login": login})) as relay:
            kept(tmp_path, f"password-{RELAY}", "")
            assert await relay.send(HARMLESS, sender=HR) == REFUSED
            assert f"password-{RELAY}: the secret is missing or empty" in relay.lines("upstream-trouble")[0]
        assert attempts(upstream) == []


async def test_a_login_that_is_not_offered_is_said_clearly(tmp_path: Path) -> None:
    async with secure_upstream(users=USERS, mechanisms=("CRAM-MD5",)) as upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, PASSWORD, "PLAIN")})
        async with houses(tmp_path, acme) as relay:
            assert await relay.send(HARMLESS, sender=HR) == REFUSED
            assert "it does not offer PLAIN" in relay.lines("upstream-trouble")[0]
        assert attempts(upstream) == []


@pytest.mark.parametrize("trouble", ["none", "refused", "broken", "stranger"])
async def test_the_login_is_never_said_in_clear(tmp_path: Path, trouble: str) -> None:
    """STARTTLS that is not offered, is refused, fails, or leads to somebody else."""

    async def no_handshake(peer) -> bytes:
        await peer.say(b"220 go ahead\r\n")
        await asyncio.sleep(0.05)
        await peer.say(b"this is no handshake\r\n" * 20)
        return b""

    script: dict[str, Any] = {"refused": {b"STARTTLS": b"454 4.7.0 no TLS\r\n"}, "broken": {b"STARTTLS": no_handshake}}
    context = None if trouble == "none" else certificate("elsewhere" if trouble == "stranger" else "localhost")
    async with ScriptedUpstream(script.get(trouble), users=USERS, ssl_context=context) as upstream:
        to = {"login": own_login(tmp_path, RELAY, PASSWORD), "tls": "starttls", "ca_file": CA}
        async with houses(tmp_path, firm(upstream, to=to)) as relay:
            assert (await relay.send(HARMLESS, sender=HR)).startswith(b"451 4.4.1 ")
            assert PASSWORD not in relay.log.getvalue()
        assert attempts(upstream) == [] and upstream.mails == []


async def test_a_pooled_session_that_was_lost_is_replaced_with_a_login(tmp_path: Path) -> None:
    bye = b"421 4.3.2 bye\r\n"
    async with secure_upstream({b"MAIL": [OK, bye, OK]}, users=USERS) as upstream:
        acme = firm(upstream, to={"login": own_login(tmp_path, RELAY, PASSWORD)})
        async with houses(tmp_path, acme) as relay:
            assert await relay.send(HARMLESS, sender=HR) == OK
            assert await relay.send(HARMLESS, sender=HR) == OK
        assert len(attempts(upstream)) == 2
        assert [sent.login for sent in upstream.accepted] == [RELAY] * 2
