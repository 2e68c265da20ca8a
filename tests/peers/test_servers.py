"""The servers of these tests are what the others take them for: TLS, AUTH, XCLIENT and PROXY work without the relay."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.peers.exim import EXIM, Exim
from tests.peers.haraka import HARAKA, Haraka
from tests.peers.mails import INVOICE, fresh_address, letter, text
from tests.peers.postfix import Postfix
from tests.peers.server import CA, PASSWORD, USER, Server

POSTFIX = pytest.param(
    partial(Postfix, auth=True), id="postfix", marks=[pytest.mark.real("postfix"), pytest.mark.real("dovecot")]
)
CONTEXT = ssl.create_default_context(cafile=CA)


@pytest.fixture(
    scope="module",
    params=[
        POSTFIX,
        pytest.param(Exim, id="exim", marks=pytest.mark.real(EXIM)),
        pytest.param(Haraka, id="haraka", marks=[pytest.mark.real("node"), pytest.mark.real(str(HARAKA))]),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made: Callable[[], Server] = request.param
    with made() as started:
        yield started


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_auth_under_tls(server: Server, tls: str, mechanism: str) -> None:
    if isinstance(server, Postfix) and tls == "implicit":
        return  # its submission port has STARTTLS alone
    address = fresh_address()
    raw = letter(address, body=text(INVOICE))
    with session(server, tls) as smtp:
        assert mechanism in smtp.esmtp_features["auth"]
        smtp.user, smtp.password = USER, PASSWORD
        assert smtp.auth(mechanism, getattr(smtp, f"auth_{mechanism.lower()}"))[0] == 235
        smtp.sendmail(USER, [address], raw)
    assert server.received(address) == raw


def test_a_wrong_password(server: Server) -> None:
    with session(server, "starttls") as smtp:
        smtp.user, smtp.password = USER, "wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.auth("PLAIN", smtp.auth_plain)
        assert refused.value.smtp_code == 535


def session(server: Server, tls: str) -> smtplib.SMTP:
    """A session on the port for clients that log in, past EHLO under TLS."""
    if tls == "implicit":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", server.tls_port or 0, context=CONTEXT, timeout=30)
    else:
        smtp = smtplib.SMTP("127.0.0.1", getattr(server, "submission_port", server.port), timeout=30)
        smtp.starttls(context=CONTEXT)
    smtp.ehlo()
    return smtp


@pytest.mark.parametrize("server", [POSTFIX], indirect=True)
class TestPostfix:
    """What Postfix alone has."""

    def test_nothing_without_auth_on_the_submission_port(self, server: Postfix) -> None:
        with smtplib.SMTP("127.0.0.1", server.submission_port, timeout=30) as smtp:
            smtp.ehlo()
            assert "auth" not in smtp.esmtp_features
            assert smtp.mail(USER)[0] == 250
            assert smtp.rcpt(fresh_address())[0] == 554

    def test_xclient(self, server: Postfix) -> None:
        address = fresh_address()
        with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as smtp:
            smtp.ehlo()
            assert "ADDR" in smtp.esmtp_features["xclient"]
            assert smtp.docmd("XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE] HELO=pc.example")[0] == 220
            smtp.ehlo("pc.example")
            assert smtp.mail(USER)[0] == 250
            assert smtp.rcpt(address)[0] == 554  # it is a stranger now
        server.wait_until_said("[192.0.2.7]")

    def test_proxy_line(self, server: Postfix) -> None:
        with socket.create_connection(("127.0.0.1", server.proxy_port), timeout=30) as client:
            client.sendall(b"PROXY TCP4 192.0.2.8 127.0.0.1 40000 25\r\n")
            assert client.recv(3) == b"220"
            client.sendall(b"QUIT\r\n")
        server.wait_until_said("connect from unknown[192.0.2.8]")
