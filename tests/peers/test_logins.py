"""Real clients log in through a real relay with the passwords of a real server; nothing is different for them."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from tests.e2e.process import without_received
from tests.peers import clients
from tests.peers.clients import Client, Way
from tests.peers.doors import Door, ManyDoors
from tests.peers.exim import EXIM, Exim
from tests.peers.haraka import HARAKA, Haraka
from tests.peers.mails import INVOICE, REJECTION, fresh_address, letter, text, token_put_in
from tests.peers.postfix import Postfix
from tests.peers.server import CA, PASSWORD, USER, Server
from tests.peers.test_clients import FINISHED

CONTEXT = ssl.create_default_context(cafile=CA)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            partial(Postfix, auth=True), id="postfix", marks=[pytest.mark.real("postfix"), pytest.mark.real("dovecot")]
        ),
        pytest.param(Exim, id="exim", marks=pytest.mark.real(EXIM)),
        pytest.param(Haraka, id="haraka", marks=[pytest.mark.real("node"), pytest.mark.real(str(HARAKA))]),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made: Callable[[], Server] = request.param
    with made() as started:
        yield started


@pytest.fixture(scope="module")
def relay(server: Server, open_doors: Callable[[Sequence[Door]], ManyDoors]) -> ManyDoors:
    port = getattr(server, "submission_port", server.port)
    return open_doors([Door("acme", "", port, host="localhost", tls="starttls")])


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("client", FINISHED)
def test_a_client_sends_with_the_password_that_it_has_there(
    client: Client, tls: Literal["starttls", "implicit"], relay: ManyDoors, server: Server, tmp_path: Path
) -> None:
    port = relay.starttls_port if tls == "starttls" else relay.implicit_port
    way = Way(port, tls, USER, PASSWORD)
    for body in (INVOICE, REJECTION):
        address = fresh_address()
        raw = letter(address, body=text(body))
        client(way, raw, USER, [address], tmp_path)
        if body == INVOICE:
            assert without_received(server.received(address)) == raw
        else:
            token_put_in(server.received(address), raw)
    assert PASSWORD not in relay.said() and USER not in relay.said()


@pytest.mark.real("s-nail")
def test_s_nail_logs_in(relay: ManyDoors, server: Server, tmp_path: Path) -> None:
    address = fresh_address()
    way = Way(relay.starttls_port, "starttls", USER, PASSWORD)
    clients.s_nail(way, letter(address, body=text(INVOICE)), USER, [address], tmp_path)
    assert server.received(address)


def session(port: int) -> smtplib.SMTP:
    smtp = smtplib.SMTP("localhost", port, timeout=30)
    smtp.starttls(context=CONTEXT)
    smtp.ehlo()
    return smtp


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_what_a_wrong_password_gets_is_the_servers_answer(relay: ManyDoors, server: Server, mechanism: str) -> None:
    answers = []
    for port in (getattr(server, "submission_port", server.port), relay.starttls_port):
        with session(port) as smtp:
            # Another one for each mechanism: the third refusal of the same is the relay's own.
            smtp.user, smtp.password = USER, f"wrong-{mechanism}"
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                smtp.auth(mechanism, getattr(smtp, f"auth_{mechanism.lower()}"), initial_response_ok=False)
            answers.append((refused.value.smtp_code, refused.value.smtp_error))
    assert answers[0] == answers[1]


def test_nobody_sends_without_a_login(relay: ManyDoors, server: Server) -> None:
    with session(relay.starttls_port) as smtp:
        assert smtp.mail(USER)[0] == 530
    with smtplib.SMTP("localhost", relay.starttls_port, timeout=30) as smtp:
        smtp.ehlo()
        assert "auth" not in smtp.esmtp_features, "no password in clear"
        assert smtp.docmd("AUTH PLAIN AHgAeA==")[0] == 538


@pytest.mark.real("postfix")
@pytest.mark.parametrize("forward", ["xclient", "proxy"])
def test_postfix_sees_the_real_client(forward: str, open_doors: Callable[[Sequence[Door]], ManyDoors]) -> None:
    with Postfix() as postfix:
        port = postfix.proxy_port if forward == "proxy" else postfix.port
        relay = open_doors([Door("acme", "127.0.0.9", port, forward=forward)])
        address = fresh_address()
        raw = letter(address, body=text(INVOICE))
        with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30, source_address=("127.0.0.9", 0)) as smtp:
            smtp.sendmail(USER, [address], raw)
        assert without_received(postfix.received(address)) == raw
        postfix.wait_until_said("client=unknown[127.0.0.9]")
