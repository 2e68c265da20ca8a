"""AUTH, spoken to a real listener byte by byte: when it may be used, every way of saying it, and how guessing ends."""

from __future__ import annotations

import asyncio
import base64
import logging
import smtplib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_mta.core import trace
from relay_mta.core.envelope import Envelope
from relay_mta.core.reply import AUTH_REFUSED, AUTH_TROUBLE, Reply, reply
from relay_mta.core.sasl import CARRIED, Credentials
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.tls import client_context, server_context
from tests.smtp.clients import Dialog
from tests.smtp.fronts import Recorder, Stand, stand, until

CERTIFICATES = Path(__file__).parent / "certificates"
CA = CERTIFICATES / "ca.pem"

MAIL, RCPT = b"MAIL FROM:<a@client.test>", b"RCPT TO:<b@there.test>"
PLAIN = b"AHRpbQBjYW5hcnk="  # \0tim\0canary
USERNAME, PASSWORD = b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"
TIM, CANARY = b"dGlt", b"Y2FuYXJ5"
XOAUTH2 = base64.b64encode(b"user=tim\x01auth=Bearer canary\x01\x01")
OAUTHBEARER = base64.b64encode(b"n,a=tim,\x01auth=Bearer canary\x01\x01")
REASONS = Reply(334, (base64.b64encode(b'{"status":"401"}'),))
AT_ONCE = Limits(auth_pause=0.0, auth_failures=100)


def everything(**more: Any) -> Recorder:
    return Recorder(sasl=CARRIED, **more)


@asynccontextmanager
async def door(front: Recorder, **more: Any) -> AsyncIterator[tuple[Stand, Dialog]]:
    """A client that has said EHLO, on a listener that takes logins in clear."""
    async with stand(front, auth_in_clear=True, **more) as it, Dialog(it.port) as client:
        await client.ehlo()
        yield it, client


async def in_step(client: Dialog) -> bool:
    """The next command gets its own reply."""
    return await client.say(b"NOOP") == b"250 2.0.0 Ok\r\n"


# --- where it is offered ----------------------------------------------------------------------------------------------


async def test_behind_starttls_and_not_before() -> None:
    front = everything()
    context = server_context(CERTIFICATES / "localhost.pem")
    async with stand(front, tls="starttls", ssl_context=context) as it, Dialog(it.port) as client:
        assert not any(line.startswith(b"AUTH") for line in await client.ehlo())
        assert await client.say(b"AUTH PLAIN " + PLAIN) == (
            b"538 5.7.11 Encryption is required to log in: send STARTTLS first\r\n"
        )
        assert (await client.say(b"AUTH LOGIN")).startswith(b"538 5.7.11")
        assert front.logins == []
        await client.start_tls(client_context(CA))
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"503 5.5.1")  # EHLO first, again
        assert b"AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER" in await client.ehlo()
        assert await client.say(b"AUTH PLAIN " + PLAIN) == b"235 2.7.0 Authentication successful\r\n"
    assert front.logins == [Credentials("PLAIN", "tim", b"canary", b"\0tim\0canary")]
    assert front.clients[0].tls


async def test_over_implicit_tls() -> None:
    front = Recorder(sasl=("PLAIN", "LOGIN"))
    context = server_context(CERTIFICATES / "localhost.pem")
    async with (
        stand(front, tls="implicit", ssl_context=context) as it,
        Dialog(it.port, ssl_context=client_context(CA)) as client,
    ):
        assert b"AUTH PLAIN LOGIN" in await client.ehlo()
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")


async def test_in_clear_only_where_the_listener_was_told_so() -> None:
    front = everything()
    async with door(front) as (_, client):
        assert b"AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER" in await client.ehlo()
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")
    async with stand(front) as it, Dialog(it.port) as client:
        assert not any(line.startswith(b"AUTH") for line in await client.ehlo())
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"538")
    assert len(front.logins) == 1


async def test_a_listener_without_logins_offers_none() -> None:
    async with door(Recorder()) as (_, client):
        assert not any(line.startswith(b"AUTH") for line in await client.ehlo())
        assert await client.say(b"AUTH PLAIN " + PLAIN) == b"503 5.5.1 Authentication is not offered here\r\n"


async def test_helo_offers_nothing_but_takes_it() -> None:
    front = everything()
    async with stand(front, auth_in_clear=True) as it, Dialog(it.port) as client:
        assert await client.say(b"HELO client.test") == b"250 relay.test\r\n"
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")


async def test_smtplib_is_content() -> None:
    front = everything()
    context = server_context(CERTIFICATES / "localhost.pem")

    def send(port: int) -> None:
        for method in ("auth_plain", "auth_login"):
            with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as client:
                client._host = "localhost"  # type: ignore[attr-defined]  # the name in the certificate
                client.starttls(context=client_context(CA))
                client.ehlo()
                client.user, client.password = "tim", "canary"
                for initial in (True, False):
                    mechanism = method.removeprefix("auth_").upper()
                    assert client.auth(mechanism, getattr(client, method), initial_response_ok=initial)[0] == 235
                    client.sendmail("a@client.test", ["b@there.test"], "Subject: x\r\n\r\n")
                    client.quit()
                    client.connect("127.0.0.1", port)
                    client.starttls(context=client_context(CA))
                    client.ehlo()

    async with stand(front, tls="starttls", ssl_context=context) as it:
        await asyncio.to_thread(send, it.port)
    assert {(each.login, each.secret) for each in front.logins} == {("tim", b"canary")}
    assert [(each.mechanism, each.initial) for each in front.logins] == [
        ("PLAIN", True), ("PLAIN", False), ("LOGIN", False), ("LOGIN", False),
    ]  # fmt: skip
    assert len(front.mails) == 4


# --- ways of saying it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "replies", "login"),
    [
        ([b"AUTH PLAIN " + PLAIN], [b"235"], Credentials("PLAIN", "tim", b"canary", b"\0tim\0canary")),
        (
            [b"AUTH PLAIN", PLAIN],
            [b"334 \r\n", b"235"],
            Credentials("PLAIN", "tim", b"canary", b"\0tim\0canary", False),
        ),
        ([b"auth plain " + PLAIN], [b"235"], Credentials("PLAIN", "tim", b"canary", b"\0tim\0canary")),
        ([b"Auth  Plain  " + PLAIN + b" "], [b"235"], Credentials("PLAIN", "tim", b"canary", b"\0tim\0canary")),
        (
            [b"AUTH LOGIN", TIM, CANARY],
            [USERNAME, PASSWORD, b"235"],
            Credentials("LOGIN", "tim", b"canary", b"", False),
        ),
        ([b"AUTH LOGIN " + TIM, CANARY], [PASSWORD, b"235"], Credentials("LOGIN", "tim", b"canary", b"", False)),
        (
            [b"AUTH XOAUTH2 " + XOAUTH2],
            [b"235"],
            Credentials("XOAUTH2", "tim", b"Bearer canary", b"user=tim\x01auth=Bearer canary\x01\x01"),
        ),
        (
            [b"AUTH xoauth2", XOAUTH2],
            [b"334 \r\n", b"235"],
            Credentials("XOAUTH2", "tim", b"Bearer canary", b"user=tim\x01auth=Bearer canary\x01\x01", False),
        ),
        (
            [b"AUTH OAUTHBEARER " + OAUTHBEARER],
            [b"235"],
            Credentials("OAUTHBEARER", "tim", b"Bearer canary", b"n,a=tim,\x01auth=Bearer canary\x01\x01"),
        ),
    ],
)
async def test_a_login(lines: list[bytes], replies: list[bytes], login: Credentials) -> None:
    front = everything()
    async with door(front) as (_, client):
        for line, expected in zip(lines, replies, strict=True):
            assert (await client.say(line)).startswith(expected)
        assert await in_step(client)
    assert front.logins == [login]
    assert login.response == front.logins[0].response  # to the byte


@pytest.mark.parametrize(
    ("lines", "replies"),
    [
        ([b"AUTH"], [b"501 5.5.4"]),
        ([b"AUTH PLAIN " + PLAIN + b" " + PLAIN], [b"501 5.5.4"]),
        ([b"AUTH PLAIN " + PLAIN + "\u3000x".encode()], [b"501 5.5"]),
        ([b"AUTH CRAM-MD5"], [b"504 5.5.4"]),
        ([b"AUTH GSSAPI"], [b"504 5.5.4"]),
        ([b"AUTH ANONYMOUS " + TIM], [b"504 5.5.4"]),
        ([b"AUTH " + PLAIN], [b"504 5.5.4"]),
        ([b"AUTH PLAIN\t" + PLAIN], [b"504 5.5.4"]),
        ([b"AUTH \xff\xfe"], [b"504 5.5.4"]),
        ([b"AUTH PLAIN ="], [b"501 5.5.2"]),
        ([b"AUTH PLAIN *"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN \0tim\0canary"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN AHRpbQBjYW5hcnk"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN \xff\xff\xff\xff"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN " + TIM], [b"501 5.5.2"]),
        ([b"AUTH PLAIN AHRpbQA="], [b"501 5.5.2"]),  # no password
        ([b"AUTH PLAIN", b"*"], [b"334", b"501 5.7.0"]),
        ([b"AUTH PLAIN", b""], [b"334", b"501 5.5.2"]),
        ([b"AUTH PLAIN", b"="], [b"334", b"501 5.5.2"]),
        ([b"AUTH PLAIN", b"* "], [b"334", b"501 5.5.2"]),
        ([b"AUTH PLAIN", b"tim canary"], [b"334", b"501 5.5.2"]),
        ([b"AUTH PLAIN", PLAIN + b"\rx"], [b"334", b"501 5.5.2"]),
        ([b"AUTH PLAIN", b"\0" + PLAIN], [b"334", b"501 5.5.2"]),
        ([b"AUTH LOGIN", b"*"], [USERNAME, b"501 5.7.0"]),
        ([b"AUTH LOGIN", TIM, b"*"], [USERNAME, PASSWORD, b"501 5.7.0"]),
        ([b"AUTH LOGIN", b"tim@"], [USERNAME, b"501 5.5.2"]),
        ([b"AUTH LOGIN", TIM, b"canary!"], [USERNAME, PASSWORD, b"501 5.5.2"]),
        ([b"AUTH LOGIN", b"", CANARY], [USERNAME, PASSWORD, b"501 5.5.2"]),
        ([b"AUTH LOGIN =", CANARY], [PASSWORD, b"501 5.5.2"]),
        ([b"AUTH LOGIN", TIM, b""], [USERNAME, PASSWORD, b"501 5.5.2"]),
        ([b"AUTH LOGIN", TIM, b"="], [USERNAME, PASSWORD, b"501 5.5.2"]),
        ([b"AUTH LOGIN *"], [b"501 5.5.2"]),
        ([b"AUTH XOAUTH2 " + PLAIN], [b"501 5.5.2"]),
        ([b"AUTH XOAUTH2 ="], [b"501 5.5.2"]),
        ([b"AUTH OAUTHBEARER AQ=="], [b"501 5.5.2"]),
    ],
)
async def test_what_cannot_become_a_login(lines: list[bytes], replies: list[bytes]) -> None:
    front = everything()
    async with door(front) as (_, client):
        for line, expected in zip(lines, replies, strict=True):
            assert (await client.say(line)).startswith(expected)
        assert await in_step(client)
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")  # and the right thing is taken
    assert len(front.logins) == 1


async def test_a_mechanisms_name_is_ascii() -> None:
    async with door(everything()) as (_, client):
        assert (await client.say("AUTH pla\u0131n ".encode() + PLAIN)).startswith(b"504 5.5.4")  # its upper case is "I"


async def test_a_mechanism_that_is_not_offered_is_unknown() -> None:
    async with door(Recorder(sasl=("LOGIN",))) as (_, client):
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"504 5.5.4")
        assert (await client.say(b"AUTH LOGIN")).startswith(b"334")


# --- length -----------------------------------------------------------------------------------------------------------


def plain_of(length: int) -> bytes:
    """A PLAIN response of `length` octets of base64, a multiple of four."""
    return base64.b64encode(b"\0tim\0".ljust(length // 4 * 3, b"x"))


async def test_a_response_may_have_12288_octets_with_its_line_end() -> None:
    front = everything()
    async with door(front) as (_, client):
        await client.say(b"AUTH PLAIN")
        longest = plain_of(12284)  # base64 comes in fours
        assert (await client.say(longest)).startswith(b"235")
    async with door(front) as (_, client):
        assert (await client.say(b"AUTH PLAIN " + plain_of(12276))).startswith(b"235")
    assert [len(login.response) for login in front.logins] == [9213, 9207]


@pytest.mark.parametrize("length", [12288, 20_000, 65_536, 131_072, 500_000])
async def test_a_longer_one_is_refused_and_nothing_of_it_is_a_command(length: int) -> None:
    front = everything()
    async with door(front) as (_, client):
        await client.say(b"AUTH PLAIN")
        assert (await client.say(plain_of(length))).startswith(b"500 5.5.6")
        assert await in_step(client)
        assert (await client.say(b"AUTH PLAIN " + plain_of(length))).startswith(b"500 5.5.2")
        assert await in_step(client)
        await client.say(b"AUTH LOGIN")
        await client.say(TIM)
        assert (await client.say(b"A" * length)).startswith(b"500 5.5.6")
        assert await in_step(client)
    assert front.logins == []


async def test_no_other_command_may_be_as_long() -> None:
    async with door(everything()) as (_, client):
        for line in (b"NOOP " + b"x" * 5000, b"AUTHX " + b"x" * 5000, b"MAIL FROM:<" + b"x" * 5000 + b"@y>"):
            assert (await client.say(line)).startswith(b"500 5.5.2 Command line too long")


# --- not now ----------------------------------------------------------------------------------------------------------


async def test_before_ehlo() -> None:
    front = everything()
    async with stand(front, auth_in_clear=True) as it, Dialog(it.port) as client:
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"503 5.5.1 Send HELO or EHLO first")
    assert front.logins == []


async def test_twice() -> None:
    front = everything()
    async with door(front) as (_, client):
        await client.say(b"AUTH PLAIN " + PLAIN)
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"503 5.5.1")
        assert (await client.say(b"AUTH LOGIN")).startswith(b"503 5.5.1")
        await client.ehlo()
        await client.say(b"RSET")
        assert (await client.say(b"AUTH LOGIN")).startswith(b"503 5.5.1")
    assert len(front.logins) == 1


async def test_in_a_transaction() -> None:
    front = everything()
    async with door(front) as (_, client):
        await client.say(MAIL)
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"503 5.5.1")
        await client.say(RCPT)
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"503 5.5.1")
        await client.say(b"RSET")
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")
    assert len(front.logins) == 1


# --- what follows from it ---------------------------------------------------------------------------------------------


async def test_a_mail_says_whether_its_client_logged_in() -> None:
    front = everything()
    context = server_context(CERTIFICATES / "localhost.pem")
    async with (
        stand(front, tls="implicit", ssl_context=context) as it,
        Dialog(it.port, ssl_context=client_context(CA)) as client,
    ):
        await client.ehlo()
        await client.say(MAIL)
        await client.say(b"RSET")
        await client.say(b"AUTH PLAIN " + PLAIN)
        await client.say(MAIL)
        await client.say(b"EHLO again.test")  # no reason to forget it
        await client.say(MAIL)
    kinds = [name for name in front.names if name in ("auth", "mail")]
    mails = [client for client, kind in zip(front.clients, kinds, strict=True) if kind == "mail"]
    assert [client.authenticated for client in mails] == [False, True, True]
    now = datetime(2026, 11, 2, tzinfo=UTC)
    envelope = Envelope("a@client.test", ())
    fields = [
        trace.received(hostname="relay.test", client=each, envelope=envelope, id="1", now=now, hide_client=False)
        for each in mails
    ]
    assert [field.partition(b" with ")[2].partition(b" ")[0] for field in fields] == [b"ESMTPS", b"ESMTPSA", b"ESMTPSA"]


@pytest.mark.parametrize("answer", [AUTH_REFUSED, AUTH_TROUBLE, reply(501, "5.7.0 cancelled"), reply(354, "odd")])
async def test_whoever_was_not_let_in_is_not_logged_in(answer: Reply) -> None:
    front = everything(replies={"auth": answer, "respond": AUTH_REFUSED})
    async with door(front) as (_, client):
        assert await client.say(b"AUTH PLAIN " + PLAIN) == answer.wire()
        if answer.intermediate:
            assert await client.say(b"") == AUTH_REFUSED.wire()
        await client.say(MAIL)
    assert not front.clients[-1].authenticated


async def test_starttls_forgets_a_login() -> None:
    front = everything()
    context = server_context(CERTIFICATES / "localhost.pem")
    async with door(front, tls="starttls", ssl_context=context) as (_, client):
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")
        await client.start_tls(client_context(CA))
        await client.ehlo()
        await client.say(MAIL)
        assert not front.clients[-1].authenticated
        await client.say(b"RSET")
        assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"235")
    assert len(front.logins) == 2


# --- a 334 of the conversation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"AQ==", TIM, b"*"])
async def test_a_challenge_is_passed_on_and_the_answer_passed_back(said: bytes) -> None:
    front = everything(replies={"auth": REASONS, "respond": AUTH_REFUSED})
    async with door(front) as (_, client):
        assert await client.say(b"AUTH XOAUTH2 " + XOAUTH2) == REASONS.wire()
        assert await client.say(said) == AUTH_REFUSED.wire()
        assert await in_step(client)
    assert front.events[:2] == [("auth", "XOAUTH2", "tim"), ("respond", said)]


async def test_several_challenges() -> None:
    second = Reply(334, (b"bW9yZQ==",))
    front = everything(replies={"auth": REASONS, "respond": [second, second, reply(235, "2.7.0 in")]})
    async with door(front) as (_, client):
        assert await client.say(b"AUTH XOAUTH2 " + XOAUTH2) == REASONS.wire()
        assert await client.say(TIM) == second.wire()
        assert await client.say(b"") == second.wire()
        assert await client.say(CANARY) == b"235 2.7.0 in\r\n"
        await client.say(MAIL)
    assert [event[1] for event in front.events if event[0] == "respond"] == [TIM, b"", CANARY]
    assert front.clients[-1].authenticated


@pytest.mark.parametrize(
    "garbage",
    [b"MAIL FROM:<evil@x.test>", b"*\r", b"QUIT!", b"a\0b", b"\xff\xff\xff\xff", b"AQ", b"A" * 12288, b"A" * 300_000],
    ids=["command", "cr", "shout", "nul", "8-bit", "cut", "long", "huge"],
)
async def test_garbage_for_an_answer_gives_up_the_exchange(garbage: bytes) -> None:
    """It must not reach the upstream: what is one line here may be two there."""
    front = everything(replies={"auth": REASONS, "respond": AUTH_REFUSED})
    async with door(front) as (_, client):
        await client.say(b"AUTH XOAUTH2 " + XOAUTH2)
        assert await client.say(garbage) == AUTH_REFUSED.wire()
        assert await in_step(client)
    assert front.events[1] == ("respond", b"*")
    assert "mail" not in front.names


# --- pipelining -------------------------------------------------------------------------------------------------------


async def test_commands_behind_an_initial_response_are_commands() -> None:
    front = everything()
    async with door(front) as (_, client):
        await client.send(b"AUTH PLAIN " + PLAIN + b"\r\n" + MAIL + b"\r\n" + RCPT + b"\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == [b"235", b"250", b"250"]
    assert front.names[:3] == ["auth", "mail", "rcpt"]
    assert front.clients[1].authenticated


async def test_commands_behind_a_refused_login_are_not_the_next_password() -> None:
    front = everything(replies={"auth": AUTH_REFUSED})
    async with door(front, limits=AT_ONCE) as (_, client):
        await client.send(
            b"AUTH PLAIN " + PLAIN + b"\r\n" + MAIL + b"\r\nAUTH LOGIN " + TIM + b"\r\n" + CANARY + b"\r\n"
        )
        assert [(await client.reply())[:3] for _ in range(4)] == [b"535", b"250", b"503", b"500"]
    assert not front.clients[1].authenticated


async def test_a_response_may_stand_behind_its_command() -> None:
    """Simple scripts say everything at once; the line behind AUTH without a response can only be the response."""
    front = everything()
    async with door(front) as (_, client):
        await client.send(b"AUTH LOGIN\r\n" + TIM + b"\r\n" + CANARY + b"\r\n" + MAIL + b"\r\n")
        assert [await client.reply() for _ in range(2)] == [USERNAME, PASSWORD]
        assert [(await client.reply())[:3] for _ in range(2)] == [b"235", b"250"]
    assert front.logins == [Credentials("LOGIN", "tim", b"canary", initial=False)]


@pytest.mark.parametrize("command", [b"AUTH PLAIN", b"AUTH LOGIN", b"AUTH XOAUTH2 " + XOAUTH2])
async def test_a_command_in_the_place_of_a_response_is_neither(command: bytes) -> None:
    front = everything(replies={"auth": REASONS, "respond": AUTH_REFUSED})
    async with door(front) as (_, client):
        await client.send(command + b"\r\n" + MAIL + b"\r\n" + RCPT + b"\r\nNOOP\r\n")
        codes = [(await client.reply())[:3] for _ in range(4)]
        assert codes[0] == b"334" and codes[1] in (b"501", b"535") and codes[2:] == [b"503", b"250"]
    assert not {"mail", "rcpt"} & set(front.names)


async def test_a_response_behind_an_unknown_mechanism_is_no_command() -> None:
    front = everything()
    async with door(front) as (_, client):
        await client.send(b"AUTH CRAM-MD5\r\n" + PLAIN + b"\r\nNOOP\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == [b"504", b"500", b"250"]


COMMANDS = [
    b"AUTH PLAIN",
    b"AUTH LOGIN",
    b"AUTH PLAIN " + PLAIN,
    b"AUTH LOGIN " + TIM,
    b"AUTH XOAUTH2 " + XOAUTH2,
    b"AUTH",
]
RESPONSES = [TIM, PLAIN, b"", b"=", b"*", b"\xff", b"A" * 12288]
OTHERS = [MAIL, RCPT, b"RSET", b"NOOP", b"EHLO x"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.sampled_from([*COMMANDS, *RESPONSES, *OTHERS]), max_size=14),
    answers=st.lists(st.sampled_from([335, 454, 334, 535]), max_size=4),
)
async def test_every_line_gets_one_reply_whatever_is_said(said: list[bytes], answers: list[int]) -> None:
    texts = [Reply(235 if code == 335 else code, (b"AAAA",)) for code in answers]
    front = everything(replies={"auth": [*texts, *[AUTH_REFUSED] * 20], "respond": [*texts, *[AUTH_REFUSED] * 20]})
    async with door(front, limits=AT_ONCE) as (_, client):
        for line in said:
            assert len(await client.say(line)) > 5
        while (await client.say(b"*")).startswith(b"334"):
            pass  # whatever was begun is given up
        assert await in_step(client)


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_every_refusal_takes_longer_than_the_one_before_and_the_last_one_ends_it() -> None:
    front = everything(replies={"auth": AUTH_REFUSED})
    async with door(front, limits=Limits(auth_pause=0.15, auth_failures=4)) as (_, client):
        times = []
        for _ in range(4):
            start = time.monotonic()
            assert await client.say(b"AUTH PLAIN " + PLAIN) == AUTH_REFUSED.wire()
            times.append(time.monotonic() - start)
        assert times[1] >= 0.15 and times[2] >= 0.3 and times[3] >= 0.6
        assert times[0] < times[1]
        assert (await client.reply()).startswith(b"421 4.7.0 Too many failed logins")
        assert await client.at_end()
    assert len(front.logins) == 4


async def test_no_refusal_waits_for_ever() -> None:
    """Doubled without end, the twentieth pause is three days, and a client that has left keeps its place so long."""
    front = everything(replies={"auth": AUTH_REFUSED})
    limits = Limits(auth_pause=0.02, auth_longest=0.04, auth_failures=20)
    async with stand(front, auth_in_clear=True, limits=limits) as it:
        async with Dialog(it.port) as client:
            await client.ehlo()
            await client.send((b"AUTH PLAIN " + PLAIN + b"\r\n") * 20)
        await until(lambda: it.listener.sessions == 0)
    assert Limits().auth_longest <= 60  # a client gives up on a reply after a few minutes (RFC 5321 §4.5.3.2)


async def test_three_refusals_end_a_session_by_default() -> None:
    front = everything(replies={"auth": AUTH_REFUSED})
    async with door(front, limits=Limits(auth_pause=0.0)) as (_, client):
        for _ in range(3):
            assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"535")
        assert (await client.reply()).startswith(b"421 4.7.0")
        await client.send(b"AUTH PLAIN " + PLAIN + b"\r\n")
        assert await client.at_end()


async def test_guesses_that_were_sent_ahead_are_not_tried() -> None:
    front = everything(replies={"auth": AUTH_REFUSED})
    async with door(front, limits=Limits(auth_pause=0.0, auth_failures=2)) as (_, client):
        await client.send((b"AUTH PLAIN " + PLAIN + b"\r\n") * 50)
        assert [(await client.reply())[:3] for _ in range(4)] == [b"535", b"535", b"421", b""]
    assert len(front.logins) == 2


async def test_trouble_counts_for_nothing() -> None:
    answers = [AUTH_REFUSED, *[AUTH_TROUBLE] * 10, AUTH_REFUSED, reply(235, "2.7.0 in")]
    front = everything(replies={"auth": answers})
    async with door(front, limits=Limits(auth_pause=0.0)) as (_, client):
        codes = [(await client.say(b"AUTH PLAIN " + PLAIN))[:3] for _ in range(13)]
        assert codes == [b"535", *[b"454"] * 10, b"535", b"235"]


async def test_starttls_forgets_refusals_too() -> None:
    """What was tried in clear may have been somebody else's."""
    front = everything(replies={"auth": AUTH_REFUSED})
    context = server_context(CERTIFICATES / "localhost.pem")
    limits = Limits(auth_pause=0.0, auth_failures=3)
    async with door(front, tls="starttls", ssl_context=context, limits=limits) as (_, client):
        for _ in range(2):
            assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"535")
        await client.start_tls(client_context(CA))
        await client.ehlo()
        for _ in range(3):
            assert (await client.say(b"AUTH PLAIN " + PLAIN)).startswith(b"535")
        assert (await client.reply()).startswith(b"421 4.7.0")
    assert len(front.logins) == 5


async def test_refusals_of_a_response_count_as_well() -> None:
    front = everything(replies={"auth": REASONS, "respond": AUTH_REFUSED})
    async with door(front, limits=Limits(auth_pause=0.0, auth_failures=2)) as (_, client):
        for _ in range(2):
            await client.say(b"AUTH XOAUTH2 " + XOAUTH2)
            assert (await client.say(b"")).startswith(b"535")
        assert (await client.reply()).startswith(b"421 4.7.0")
        assert await client.at_end()


async def test_what_cannot_become_a_login_is_a_bad_command() -> None:
    async with door(everything(), limits=Limits(bad_commands=2)) as (_, client):
        assert (await client.say(b"AUTH PLAIN =")).startswith(b"501")
        assert (await client.say(b"AUTH NTLM")).startswith(b"504")
        assert (await client.say(b"AUTH PLAIN =")).startswith(b"421 4.7.0")
        assert await client.at_end()


async def test_a_421_of_the_upstream_ends_the_session() -> None:
    front = everything(replies={"auth": reply(421, "4.3.2 upstream says so")})
    async with door(front) as (_, client):
        assert await client.say(b"AUTH PLAIN " + PLAIN) == b"421 4.3.2 upstream says so\r\n"
        assert await client.at_end()


# --- clients that leave, and time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[b"AUTH PLAIN"], [b"AUTH LOGIN", TIM], [b"AUTH XOAUTH2 " + XOAUTH2]])
@pytest.mark.parametrize("half", [b"", CANARY])
async def test_a_client_that_leaves_in_mid_exchange(before: list[bytes], half: bytes) -> None:
    front = everything(replies={"auth": REASONS, "respond": AUTH_REFUSED})
    async with stand(front, auth_in_clear=True) as it:
        async with Dialog(it.port) as client:
            await client.ehlo()
            for line in before:
                assert (await client.say(line)).startswith(b"334")
            await client.send(half)
        await until(lambda: it.listener.sessions == 0)
    assert front.names[-1] == "close"
    assert "respond" not in front.names


async def test_a_client_that_leaves_while_it_is_judged() -> None:
    judged = asyncio.Event()

    class Slow(Recorder):
        async def auth(self, client: Any, credentials: Credentials) -> Reply:
            await judged.wait()
            return await super().auth(client, credentials)

    front = Slow(sasl=CARRIED)
    async with stand(front, auth_in_clear=True) as it:
        async with Dialog(it.port) as client:
            await client.ehlo()
            await client.send(b"AUTH PLAIN " + PLAIN + b"\r\n")
            await asyncio.sleep(0.05)
        judged.set()
        await until(lambda: it.listener.sessions == 0)
    assert front.names == ["auth", "close"]


async def test_a_response_that_does_not_come_is_waited_for_as_a_command_is() -> None:
    front = everything(replies={"auth": REASONS})
    for before in ([b"AUTH PLAIN"], [b"AUTH LOGIN", TIM], [b"AUTH XOAUTH2 " + XOAUTH2]):
        async with door(front, limits=Limits(command=0.3)) as (_, client):
            for line in before:
                await client.say(line)
            assert (await client.reply()).startswith(b"421 4.4.2")
            assert await client.at_end()


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_no_password_in_errors_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    front = everything(replies={"auth": [KeyError("oh"), REASONS, REASONS], "respond": [KeyError("oh"), AUTH_REFUSED]})
    async with door(front) as (it, client):
        assert await client.say(b"AUTH PLAIN " + PLAIN) == (
            b"451 4.3.0 Temporary trouble here, please try again later\r\n"
        )
        await client.say(b"AUTH XOAUTH2 " + XOAUTH2)
        assert (await client.say(CANARY)).startswith(b"451 4.3.0")
        await client.say(b"AUTH LOGIN")
        await client.say(TIM)
        await client.say(CANARY)
        await client.say(CANARY)
        for line in (b"AUTH PLAIN canary", b"AUTH CANARY", PLAIN, CANARY, b"AUTH PLAIN " + b"canary" * 5000):
            assert (await client.say(line)).startswith(b"50")
        assert await in_step(client)
        assert [repr(error) for error in it.errors] == ["KeyError('oh')"] * 2
        assert not any(error.__notes__ for error in it.errors if hasattr(error, "__notes__"))
        it.errors.clear()
    secrets = ("canary", PLAIN.decode(), CANARY.decode(), XOAUTH2.decode())
    said = caplog.text.lower() + repr(front.logins).lower()
    assert not [secret for secret in secrets if secret.lower() in said]
    assert len(front.logins) == 3


# --- the other bounds of a session ------------------------------------------------------------------------------------


async def test_a_recipient_too_many_is_deferred_and_the_others_get_the_mail() -> None:
    front = Recorder()
    async with stand(front, limits=Limits(recipients=3)) as it, Dialog(it.port) as client:
        await client.ehlo()
        await client.say(MAIL)
        codes = [await client.say(b"RCPT TO:<r%d@there.test>" % n) for n in range(5)]
        assert [code[:9] for code in codes] == [b"250 2.0.0"] * 3 + [b"452 4.5.3"] * 2
        assert (await client.say(b"DATA")).startswith(b"354")
        assert (await client.say(b"x\r\n.")).startswith(b"250")
        await client.say(MAIL)
        assert (await client.say(b"RCPT TO:<r4@there.test>")).startswith(b"250")  # the others another time
    assert [event[1] for event in front.events if event[0] == "rcpt"] == [f"r{n}@there.test" for n in (0, 1, 2, 4)]
    assert front.mails == [b"x\r\n"]


async def test_refused_recipients_count_as_well() -> None:
    front = Recorder(replies={"rcpt": [*[reply(550, "5.1.1 unknown")] * 2, reply(250, "2.1.5 ok")]})
    async with stand(front, limits=Limits(recipients=3)) as it, Dialog(it.port) as client:
        await client.ehlo()
        await client.say(MAIL)
        codes = [(await client.say(RCPT))[:3] for _ in range(4)]
        assert codes == [b"550", b"550", b"250", b"452"]


async def test_commands_without_a_mail_come_to_an_end() -> None:
    front = Recorder()
    async with stand(front, limits=Limits(commands=6)) as it, Dialog(it.port) as client:
        for _ in range(3):  # a mail that was accepted starts anew
            assert (await client.envelope())[-1].startswith(b"354")
            assert (await client.say(b"x\r\n.")).startswith(b"250")
        for _ in range(6):
            assert (await client.say(b"RSET")).startswith(b"250")
        assert (await client.say(b"RSET")).startswith(b"421 4.7.0 Too many commands")
        assert await client.at_end()
    assert len(front.mails) == 3


async def test_a_mail_that_was_refused_does_not_start_the_count_anew() -> None:
    front = Recorder(replies={"data": reply(550, "5.7.1 no")})
    async with stand(front, limits=Limits(commands=6)) as it, Dialog(it.port) as client:
        assert (await client.envelope())[-1].startswith(b"354")
        assert (await client.say(b"x\r\n.")).startswith(b"550")
        codes = [(await client.say(b"NOOP"))[:3] for _ in range(3)]
        assert codes == [b"250", b"250", b"421"]


@pytest.mark.parametrize("line", [b"bare\nlf", b"bare\rcr", b"x\n.\nMAIL FROM:<evil@x>", b"x\r\n.\n", b"\r"])
async def test_a_bare_newline_is_refused_where_it_should_be_and_the_session_goes_on(line: bytes) -> None:
    front = Recorder()
    async with stand(front, refuse_bare_newline=True) as it, Dialog(it.port) as client:
        await client.envelope()
        assert (await client.say(line + b"\r\n.")).startswith(b"550 5.5.2 The mail has a bare CR or LF")
        assert front.names[-1] == "reset"
        assert (await client.say(b"DATA")).startswith(b"503")
        assert (await client.envelope())[-1].startswith(b"354")
        assert (await client.say(b"good\r\n.")).startswith(b"250")
    assert front.mails == [b"good\r\n"]
    assert front.normalised == [False]
