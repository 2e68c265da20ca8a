"""Real mail servers behind a real relay: what each of them gets, and what the client hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.process import without_received
from tests.peers.dialog import Dialog, tell
from tests.peers.doors import Door, ManyDoors
from tests.peers.exim import EXIM, Exim
from tests.peers.haraka import HARAKA, Haraka
from tests.peers.mails import AWKWARD, INVOICE, REJECTION, fresh_address, letter, sample, text, token_put_in
from tests.peers.postfix import Postfix
from tests.peers.server import CERTIFICATES, MAX_SIZE, REFUSED, Server
from tests.peers.sink import Sink
from tests.peers.tap import Tap

COLLEAGUE_DOMAIN = "acme.example.jp"
HANDSHAKE = b"\x16\x03"  # RFC 8446 §5.1: the record that a ClientHello comes in

REAL = {
    "postfix": pytest.param(Postfix, id="postfix", marks=pytest.mark.real("postfix")),
    "exim": pytest.param(Exim, id="exim", marks=pytest.mark.real(EXIM)),
    "haraka": pytest.param(Haraka, id="haraka", marks=[pytest.mark.real("node"), pytest.mark.real(str(HARAKA))]),
    "sink": pytest.param(Sink, id="sink", marks=pytest.mark.real("smtp-sink")),
}
NO_SINK = [REAL["postfix"], REAL["exim"], REAL["haraka"]]


@dataclass
class Stand:
    """A server, a relay in front of it, and wire-taps between the two: one for each company whose upstream has TLS."""

    server: Server
    relay: ManyDoors
    taps: dict[str, Tap]


@pytest.fixture(scope="module", params=REAL.values())
def stand(request: pytest.FixtureRequest, open_doors: Callable[[Sequence[Door]], ManyDoors]) -> Iterator[Stand]:
    with ExitStack() as stack:
        server: Server = stack.enter_context(request.param())
        doors, taps = [Door("plain", "127.0.0.1", server.port)], {}
        stranger = CERTIFICATES / "elsewhere.pem"  # has signed nothing
        for number, (company, tls, host, more) in enumerate(
            [
                ("starttls", "starttls", "127.0.0.1", {}),
                ("implicit", "implicit", "127.0.0.1", {}),
                ("starttls-ca", "starttls", "127.0.0.1", {"ca_file": stranger}),
                ("implicit-ca", "implicit", "127.0.0.1", {"ca_file": stranger}),
                ("starttls-name", "starttls", "127.0.0.9", {}),  # an address that the certificate does not name
                ("implicit-name", "implicit", "127.0.0.9", {}),
            ],
            start=2,
        ):
            port = server.port if tls == "starttls" else server.tls_port
            if port is not None:
                taps[company] = tap = stack.enter_context(Tap(port, host))
                doors.append(Door(company, f"127.0.0.{number}", tap.port, host, tls, **more))
        relay = open_doors(doors)
        for tap in taps.values():
            tap.wait_for(1)  # the relay asks at its start what the upstreams offer
        yield Stand(server, relay, taps)


def client_of(stand: Stand, company: str) -> str:
    """The address from which clients of this company come."""
    (client,) = [door.client for door in stand.relay.doors if door.company == company]
    return client


def test_many_untouched_mails_in_one_session(stand: Stand) -> None:
    dialog = Dialog(stand.relay.smtp_port)
    assert dialog.hello().accepted
    sent = {}
    for body in AWKWARD.values():
        address = fresh_address()
        sent[address] = letter(address, body=body)
    for name in ("06-offer-ja", "08-vendor-decline-ja", "11-attachment-ja", "13-invitation-ja"):
        raw, address = sample(name)
        sent[address] = raw
    for address, raw in sent.items():
        answer = dialog.mail(raw, [address])
        assert (answer.stage, answer.code) == (".", 250), answer
    assert dialog.quit().code == 221
    for address, raw in sent.items():
        assert without_received(stand.server.received(address)) == raw


def test_rejections_have_their_link_once(stand: Stand) -> None:
    before = stand.relay.kinds("plain")
    names = ("02-rejection-ja-outlook", "03-rejection-ja-gmail", "04-rejection-en-ats-html", "05-rejection-en-text")
    sent = [sample(name) for name in names]
    dialog = Dialog(stand.relay.smtp_port)
    dialog.hello()
    assert [dialog.mail(raw, [candidate]).code for raw, candidate in sent] == [250] * len(sent)
    dialog.quit()
    found = {token_put_in(stand.server.received(candidate), raw) for raw, candidate in sent}
    assert len(found) == len(sent)
    assert {stand.relay.get(f"/r/{token}")[0] for token in found} == {200}
    assert stand.relay.kinds("plain") == [*before, *["held", "relayed"] * len(sent)]


def test_two_candidates_one_of_them_in_bcc(stand: Stand) -> None:
    before = stand.relay.kinds("plain")
    candidate, hidden, colleague = fresh_address(), fresh_address("mail.example.org"), fresh_address(COLLEAGUE_DOMAIN)
    raw = letter(candidate, body=text(REJECTION))
    assert tell(stand.relay.smtp_port, raw, [candidate, colleague, hidden]).code == 250
    found = {token_put_in(stand.server.received(each), raw) for each in (candidate, hidden)}
    assert len(found) == 2
    assert without_received(stand.server.received(colleague)) == raw
    assert stand.relay.kinds("plain") == [*before, "held", "held", "relayed", "relayed"]


@pytest.mark.parametrize("stand", NO_SINK, indirect=True)
def test_a_refused_recipient_hears_the_server_s_own_words(stand: Stand) -> None:
    address = fresh_address()
    raw = letter(address, body=text(INVOICE))
    wanted = tell(stand.server.port, raw, [REFUSED])
    assert wanted.stage == "RCPT" and wanted.code >= 550
    dialog = Dialog(stand.relay.smtp_port)
    dialog.hello()
    assert dialog.mail(raw, [address, REFUSED]) == wanted
    assert dialog.command("RSET").code == 250
    assert dialog.mail(raw, [address]).code == 250
    dialog.quit()
    assert without_received(stand.server.received(address)) == raw


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@pytest.mark.parametrize("stand", NO_SINK, indirect=True)
def test_a_mail_over_the_server_s_size(stand: Stand, *, declared: bool) -> None:
    address = fresh_address()
    raw = letter(address, body=b"x" * 70 + b"\r\n") + (b"y" * 70 + b"\r\n") * (MAX_SIZE // 60)
    params = f"SIZE={len(raw)}" if declared else ""
    wanted = tell(stand.server.port, raw, [address], params=params)
    dialog = Dialog(stand.relay.smtp_port)
    dialog.hello()
    answer = dialog.mail(raw, [address], params=params)
    assert dialog.extensions["size"] == str(MAX_SIZE)
    assert 550 <= wanted.code <= 552
    assert (answer.stage, answer.code) == (wanted.stage, wanted.code)
    if declared:
        assert answer.text == wanted.text
    # The session goes on, and nothing of that mail is in the next one.
    small = letter(address, body=text(INVOICE))
    assert dialog.mail(small, [address]).code == 250
    dialog.quit()
    assert without_received(stand.server.received(address)) == small


@pytest.mark.parametrize("company", ["starttls", "implicit"])
@pytest.mark.parametrize("stand", NO_SINK, indirect=True)
def test_the_way_to_the_server_is_under_tls(stand: Stand, company: str) -> None:
    address, candidate = fresh_address(), fresh_address()
    untouched, rejection = letter(address, body=text(INVOICE)), letter(candidate, body=text(REJECTION))
    tap = stand.taps[company]
    for raw, recipient in ((untouched, address), (rejection, candidate)):
        assert tell(stand.relay.smtp_port, raw, [recipient], client=client_of(stand, company)).code == 250
    assert without_received(stand.server.received(address)) == untouched
    token_put_in(stand.server.received(candidate), rejection)
    assert stand.relay.kinds(company) == ["held", "relayed"]
    assert sum(map(len, tap.sent)) > len(untouched) + len(rejection)  # it did go this way
    for sent in tap.sent:
        assert is_under_tls(bytes(sent), company)


@pytest.mark.parametrize("wrong", ["ca", "name"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("stand", NO_SINK, indirect=True)
def test_a_wrong_certificate_keeps_the_mail_here(stand: Stand, tls: str, wrong: str) -> None:
    address, company = fresh_address(), f"{tls}-{wrong}"
    tap = stand.taps[company]
    seen = len(tap.sent)
    raw = letter(address, body=text(INVOICE))
    answer = tell(stand.relay.smtp_port, raw, [address], client=client_of(stand, company))
    assert (answer.stage, answer.code) == ("MAIL", 451)
    assert len(tap.sent) > seen
    assert is_under_tls(bytes(tap.sent[-1]), company)
    assert stand.server.copies(address) == []
    assert "its certificate was not accepted" in stand.relay.said()


@pytest.mark.parametrize("stand", [REAL["sink"]], indirect=True)
def test_starttls_that_is_not_offered_keeps_the_mail_here(stand: Stand) -> None:
    address = fresh_address()
    tap = stand.taps["starttls"]
    answer = tell(
        stand.relay.smtp_port, letter(address, body=text(INVOICE)), [address], client=client_of(stand, "starttls")
    )
    assert (answer.stage, answer.code) == ("MAIL", 451)
    assert bytes(tap.sent[-1]) == b"EHLO relay.example.jp\r\n"
    assert not any(b"MAIL" in sent for sent in tap.sent)
    assert stand.server.copies(address) == []


def is_under_tls(sent: bytes, company: str) -> bool:
    """Whether a client said nothing in clear but what has to come before TLS."""
    if company.startswith("starttls"):
        clear, _, sent = sent.partition(b"\r\nSTARTTLS\r\n")
        assert clear == b"EHLO relay.example.jp"
    return sent.startswith(HANDSHAKE)
