"""The real chain: swaks or msmtp → relay-mta serve → a real Postfix → Maildir.

The server and the clients are those of tests/peers.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, Relay, without_received
from tests.peers.clients import Client, Way, msmtp, swaks
from tests.peers.postfix import Postfix

pytestmark = [pytest.mark.real("postfix"), pytest.mark.real("swaks"), pytest.mark.real("msmtp")]

SAMPLES = ROOT / "relay_mta" / "samples"
LINK = re.compile(r"https://relay\.example\.jp/r/([a-z2-7]{26})(?![a-z2-7])")


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    with Postfix() as server:
        yield server


@pytest.fixture
def relay(make_relay: Callable[..., Relay], postfix: Postfix) -> Relay:
    postfix.empty()
    made = make_relay(upstream_port=postfix.port)
    made.start()
    return made


def send(client: Client, relay: Relay, path: Path, recipients: list[str]) -> None:
    """Send a mail's file with a real client."""
    client(Way(relay.smtp_port), path.read_bytes(), "saiyo@acme.example.jp", recipients, relay.folder)


@pytest.mark.parametrize("client", [swaks, msmtp])
@pytest.mark.parametrize("name", ["06-offer-ja", "08-vendor-decline-ja", "11-attachment-ja", "13-invitation-ja"])
def test_an_untouched_mail_is_byte_identical_behind_one_received(
    relay: Relay, postfix: Postfix, client: Client, name: str
) -> None:
    path = SAMPLES / f"{name}.eml"
    address = "someone@mail.example.net"
    send(client, relay, path, [address])
    mail = postfix.received(address)
    assert without_received(mail) == path.read_bytes()
    assert relay.entries() == []


@pytest.mark.parametrize("client", [swaks, msmtp])
@pytest.mark.parametrize(
    "name",
    ["02-rejection-ja-outlook", "03-rejection-ja-gmail", "04-rejection-en-ats-html", "12-rejection-ja-attachment"],
)
def test_a_rejection_has_the_link_and_is_otherwise_identical(
    relay: Relay, postfix: Postfix, client: Client, name: str
) -> None:
    path = SAMPLES / f"{name}.eml"
    original = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(original, EmailMessage)
    address = str(original["To"].addresses[0].addr_spec)
    colleague = "kimura@acme.example.jp"
    send(client, relay, path, [address, colleague])

    plain = postfix.received(colleague)
    assert without_received(plain) == path.read_bytes()
    mail = postfix.received(address)
    raw = without_received(mail)
    assert header(raw) == header(path.read_bytes())
    arrived = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(arrived, EmailMessage)

    tokens = set()
    parts = list(zip(original.walk(), arrived.walk(), strict=True))
    for before, after in parts:
        assert before.items() == after.items()  # each part's own header, too
        if before.is_multipart():
            continue
        if before.get_content_maintype() == "text":
            was, now = before.get_content(), after.get_content()
            found = LINK.findall(now)
            assert found and not LINK.search(was)
            tokens |= set(found)
            assert is_one_insertion(was, now), f"{before.get_content_type()}: more than one block was put in"
        else:
            assert after.get_payload() == before.get_payload()
    (token,) = tokens
    status, page = relay.get(f"/r/{token}")
    assert status == 200
    assert "株式会社アクメ" in page and "サンプル人材紹介株式会社" in page
    assert relay.get(f"/r/{token[:-1]}{'a' if token[-1] != 'a' else 'b'}")[0] == 404
    assert relay.stop() == 0
    assert [entry["kind"] for entry in relay.entries()] == ["held", "relayed"]


def header(raw: bytes) -> bytes:
    return raw[: raw.index(b"\r\n\r\n")]


def is_one_insertion(before: str, after: str) -> bool:
    """Whether `after` is `before` with one stretch put in."""
    kept = next((i for i, (x, y) in enumerate(zip(before, after, strict=False)) if x != y), len(before))
    return len(after) > len(before) and after.endswith(before[kept:])
