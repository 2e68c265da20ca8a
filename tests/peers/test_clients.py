"""Real mail clients send through a real relay to a real Postfix, in clear and under TLS, and notice nothing."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.process import without_received
from tests.peers import clients
from tests.peers.clients import Client, Way
from tests.peers.doors import Door, ManyDoors
from tests.peers.mails import INVOICE, REJECTION, fresh_address, letter, sample, text, token_put_in, tokens
from tests.peers.postfix import Postfix

pytestmark = pytest.mark.real("postfix")

SENDER = "saiyo@acme.example.jp"
NODEMAILER = [pytest.mark.real("node"), pytest.mark.real("tests/peers/node_modules/nodemailer")]
FINISHED = [
    pytest.param(clients.swaks, id="swaks", marks=pytest.mark.real("swaks")),
    pytest.param(clients.msmtp, id="msmtp", marks=pytest.mark.real("msmtp")),
    pytest.param(clients.curl, id="curl", marks=pytest.mark.real("curl")),
    pytest.param(clients.python, id="python"),
    pytest.param(clients.nodemailer, id="nodemailer", marks=NODEMAILER),
]


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    with Postfix() as server:
        yield server


@pytest.fixture(scope="module")
def relay(postfix: Postfix, open_doors: Callable[[Sequence[Door]], ManyDoors]) -> ManyDoors:
    return open_doors([Door("acme", "127.0.0.1", postfix.port)])


@pytest.fixture(params=["none", "starttls", "implicit"])
def way(request: pytest.FixtureRequest, relay: ManyDoors) -> Way:
    """Each of the relay's listeners."""
    ports = {"none": relay.smtp_port, "starttls": relay.starttls_port, "implicit": relay.implicit_port}
    return Way(ports[request.param], request.param)


@pytest.mark.parametrize("client", FINISHED)
def test_mails_arrive_whole(client: Client, way: Way, postfix: Postfix, tmp_path: Path) -> None:
    untouched, someone = sample("11-attachment-ja")
    rejection, candidate = sample("03-rejection-ja-gmail")
    colleague = fresh_address("acme.example.jp")
    client(way, untouched, SENDER, [someone, colleague], tmp_path)
    client(way, rejection, SENDER, [candidate], tmp_path)
    for address in (someone, colleague):
        assert without_received(postfix.received(address)) == untouched
    token_put_in(postfix.received(candidate), rejection)


@pytest.mark.real("s-nail")
def test_mails_that_s_nail_writes_itself(way: Way, postfix: Postfix, tmp_path: Path) -> None:
    for body, links in ((INVOICE, 0), (REJECTION, 1)):
        address = fresh_address()
        raw = letter(address, body=text(body))
        clients.s_nail(way, raw, SENDER, [address], tmp_path)
        arrived = postfix.received(address)
        message = email.message_from_bytes(without_received(arrived), policy=email.policy.default)
        assert (
            message["Subject"] == "ご連絡" and message["To"] == address and message["User-Agent"].startswith("s-nail")
        )
        assert message.get_content().replace("\r\n", "\n").startswith(body)
        assert len(tokens(arrived)) == links
