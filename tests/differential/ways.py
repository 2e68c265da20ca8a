"""The two ways: a real Postfix directly, and the same Postfix behind a real relay process.

Postfix ends a mail at CR LF . CR LF only, as its newer versions do by default, refuses two recipients and two senders,
and takes everything else for every domain. What would make the test slow is eased for both ways alike: there is no
sleep behind an error.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.differential.client import Transcript, hold
from tests.differential.dialog import Dialog, of, read, topics
from tests.differential.mails import sorted_out
from tests.e2e.process import BASE_CONFIG, Relay
from tests.peers.postfix import Postfix

AT_ONCE = 16
STRANGER = "127.16.255.1"
"""A client's address that belongs to no dialog."""

_MAIN_CF = """\
smtpd_tls_security_level = none
message_size_limit = 1000000
smtputf8_enable = yes
smtpd_forbid_bare_newline = normalize
smtpd_forbid_bare_newline_exclusions =
smtpd_error_sleep_time = 0
smtpd_authorized_xclient_hosts = 127.0.0.1
local_header_rewrite_clients = permit_mynetworks
default_transport = virtual
relay_transport = virtual
smtpd_sender_restrictions = check_sender_access texthash:{place}/conf/senders
smtpd_recipient_restrictions = check_recipient_access texthash:{place}/conf/recipients
"""
# Postfix knows the client's address on both ways, and every client has a connection of its own to it.
_CONFIG = BASE_CONFIG
_SENDERS = """\
refused@acme.example.jp 550 5.7.1 Not from you
later@acme.example.jp 450 4.7.1 Not from you now
"""
_RECIPIENTS = """\
refused@test.example 550 5.1.1 No such person here
later@test.example 450 4.2.1 This person is away for a moment
"""
_QUEUES = ("maildrop", "incoming", "active", "deferred", "hold")
_HOST = re.compile(r"\b(?:outbound|relay)\.example\.jp\b")
_ADDRESS = re.compile(r"\b127(?:\.\d+){3}\b")
_QUEUED_AS = re.compile(r"queued as [0-9A-F]+")

AS_EVER = "(as ever)"
THE_OFFER = replace(of("@ehlo"), topic="greeting", name="what the server says of itself")
"""Greeting and reply to EHLO are compared once, here; elsewhere only whether they are those."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a dialog led to on one way: the replies, and a text for each mail that arrived."""

    transcript: Transcript
    arrived: tuple[str, ...]

    def answers(self) -> dict[str, str]:
        """By place. The mails that arrived are the answer at "arrived"."""
        return {**dict(self.transcript), "arrived": "\n".join(self.arrived)}


@dataclass(frozen=True, slots=True)
class Pair:
    """One dialog, both ways."""

    dialog: Dialog
    direct: Told
    relayed: Told


def run() -> list[Pair]:
    """Hold every dialog both ways. Raises `AssertionError` if mail arrived that belongs to none, or got stuck."""
    dialogs = [dialog for topic in topics() for dialog in read(topic)]
    with real_postfix() as postfix, relay_before(postfix.port) as relay:
        ports = (postfix.port, relay.smtp_port)
        offers = _offers(ports)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tasks = [
                [pool.submit(hold, dialog, port, _source(way, i)) for way, port in enumerate(ports)]
                for i, dialog in enumerate(dialogs)
            ]
            said = [tuple(task.result() for task in both) for both in tasks]
        _wait_for_empty_queues(postfix)
        arrived, strays = sorted_out(postfix.as_delivered())
        assert not strays, strays
        assert relay.process is not None and relay.process.poll() is None, relay.said()
    pairs = [Pair(THE_OFFER, *(Told(_normal(offer, ()), ()) for offer in offers))]
    for i, dialog in enumerate(dialogs):
        direct, relayed = (
            Told(_normal(transcript, offers[way]), tuple(arrived.get(_source(way, i), ())))
            for way, transcript in enumerate(said[i])
        )
        pairs.append(Pair(dialog, direct, relayed))
    return pairs


def _source(way: int, number: int) -> str:
    """The loopback address that a dialog is held from."""
    return f"127.{16 + way}.{number // 200}.{number % 200 + 1}"


def _offers(ports: tuple[int, int]) -> list[Transcript]:
    """What the servers say of themselves, the relay from when it has asked its upstream what that offers."""
    deadline = time.monotonic() + 30
    while True:
        offers = [hold(THE_OFFER, port, STRANGER) for port in ports]
        if all("SIZE 1000000" in dict(offer)[THE_OFFER.steps[0].place] for offer in offers):
            return offers
        assert time.monotonic() < deadline, offers
        time.sleep(0.05)


def _normal(transcript: Transcript, offer: Transcript | tuple[()]) -> Transcript:
    """With the same word for what must differ, and for greeting and offer if they are what this server's were."""
    known = dict(offer[:2])
    greeting = known.pop("greeting", None)
    out: Transcript = []
    for place, said in transcript:
        answer = AS_EVER if place == "greeting" and said == greeting else said
        for hello in known.values():
            answer = answer.replace(hello, AS_EVER)
        out.append((place, _HOST.sub("HOST", _ADDRESS.sub("ADDRESS", _QUEUED_AS.sub("queued as ID", answer)))))
    return out


@contextlib.contextmanager
def real_postfix() -> Iterator[Postfix]:
    tables = {"senders": _SENDERS, "recipients": _RECIPIENTS}
    with Postfix(settings=_MAIN_CF, tables=tables) as server:
        yield server


@contextlib.contextmanager
def relay_before(upstream_port: int, config: str = _CONFIG) -> Iterator[Relay]:
    with tempfile.TemporaryDirectory(prefix="relay-mta-differential-") as folder:
        relay = Relay(Path(folder), config, upstream_port=upstream_port)
        relay.start()
        try:
            yield relay
        finally:
            relay.stop()


def _wait_for_empty_queues(postfix: Postfix) -> None:
    deadline = time.monotonic() + 60
    while left := [
        path for queue in _QUEUES for path in (postfix.place / "queue" / queue).rglob("*") if path.is_file()
    ]:
        assert time.monotonic() < deadline, f"{len(left)} mails are stuck: {left[:3]}\n{postfix.said()[-5000:]}"
        time.sleep(0.1)
