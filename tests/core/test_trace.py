"""The fields that a mail gains and loses, and that the next server reads the rest as it would without us."""

from __future__ import annotations

import email

import pytest

from relay_mta.core import mime, trace
from relay_mta.core.edit import apply
from relay_mta.core.message import index

RECEIVED = b"Received: by relay.example.jp with ESMTP id 1;\r\n\tMon, 2 Nov 2026 10:00:00 +0900\r\n"
MAIL = b"From: hr@acme.example.jp\r\nSubject: lunch\r\n\r\nAt noon?\r\n"


def sent(raw: bytes, received: bytes = RECEIVED) -> bytes:
    return b"".join(apply(raw, trace.edits(index(raw), received)))


@pytest.mark.parametrize("raw", [MAIL, b"\r\nno header\r\n", b"no field\r\n" + MAIL, b"Fromage: x\r\n" + MAIL, b""])
def test_received_stands_on_top(raw: bytes) -> None:
    assert sent(raw) == RECEIVED + raw


@pytest.mark.parametrize(
    "top",
    [
        b"From hr@acme.example.jp Mon Nov  2 10:00:00 2026\r\n",
        b">From hr@acme.example.jp Mon Nov  2 10:00:00 2026\r\n",
        b"From a\r\n>>From b\r\n",
        b"From : hr@acme.example.jp\r\n",
    ],
)
def test_mbox_lines_stay_the_first_lines(top: bytes) -> None:
    """Behind a field such a line ends the header for Postfix: From and Subject would be shown as body."""
    assert sent(top + MAIL) == top + RECEIVED + MAIL


@pytest.mark.parametrize("first", [b" x: y\r\n", b"\tx: y\r\n", b"  \r\n"])
@pytest.mark.parametrize("top", [b"", b"From a\r\n"])
def test_a_first_line_that_begins_with_a_blank_is_no_fold_of_received(top: bytes, first: bytes) -> None:
    raw = top + first + MAIL
    assert sent(raw) == top + RECEIVED + b"\r\n" + first + MAIL
    assert "x: y" not in (email.message_from_bytes(sent(raw))["received"] or "")
    assert sent(raw, b"") == top + b"\r\n" + first + MAIL


def test_the_senders_switch_is_removed_wherever_it_stands() -> None:
    raw = b"X-Career-Relay: on\r\n" + MAIL.replace(b"Subject", b"x-career-relay:\r\n off\r\nSubject")
    assert sent(raw) == RECEIVED + MAIL


def test_a_field_that_the_header_limit_cuts_is_not_half_removed() -> None:
    field = b"X-Career-Relay: " + b"o" * 40 + b"\r\n"
    filler = b"X-Filler: " + b"x" * 58 + b"\r\n"
    head = filler * (mime.MAX_HEADER // len(filler) - 1)
    head += b"X: " + b"y" * (mime.MAX_HEADER - len(head) - 30) + b"\r\n"
    raw = head + field + b"\r\nbody\r\n"
    assert index(raw).trouble == "limit:header"
    assert sent(raw) == RECEIVED + raw


def test_a_switch_among_too_many_fields_stays_as_its_twins_behind_them_do() -> None:
    raw = b"X-Career-Relay: on\r\n" + b"X: y\r\n" * mime.MAX_FIELDS + b"X-Career-Relay: on\r\n\r\nbody\r\n"
    assert index(raw).trouble == "limit:fields"
    assert sent(raw) == RECEIVED + raw


def test_hops_are_counted() -> None:
    assert trace.hops(index(b"Received: a\r\nreceived: b\r\nX: y\r\n" + MAIL)) == 2


PROOF = b"X-Acme-Relay: s3cret\r\n"


@pytest.mark.parametrize("proof", [PROOF, PROOF.upper(), PROOF.replace(b": ", b":\r\n\t"), b"X-Acme-Relay :x\r\n"])
@pytest.mark.parametrize("filler", [b"", b"X-Filler: " + b"x" * 100 + b"\r\n"])
def test_the_proof_is_taken_out_of_any_header(proof: bytes, filler: bytes) -> None:
    """Also where the header is not read to its end: a secret that goes out once is none any more."""
    long = filler * (mime.MAX_HEADER // 100)
    raw = proof + b"X-Acme-Relay-Not: kept\r\n" + long + proof + MAIL + PROOF
    edited = b"".join(apply(raw, trace.edits(index(raw), RECEIVED, proof="x-acme-relay")))
    assert edited == RECEIVED + b"X-Acme-Relay-Not: kept\r\n" + long + MAIL + PROOF
    assert b"s3cret" not in trace.quoted(index(raw), proof="x-acme-relay").lower()


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_report_quotes_no_piece_of_a_proof_that_the_limit_cuts(cut: int) -> None:
    head = b"X-Filler: x\r\n" * (mime.MAX_HEADER // 13 - 1)
    head += b"Y: " + b"y" * (mime.MAX_HEADER - len(head) - 5 - cut) + b"\r\n"
    raw = head + b"X-Acme-Relay: s3cret-s3cret-s3cret-s3cret-s3cret\r\n" + MAIL
    assert index(raw).trouble == "limit:header"
    quoted = trace.quoted(index(raw), proof="x-acme-relay")
    assert quoted.startswith(head) and b"s3" not in quoted
    assert sent(raw) == RECEIVED + raw, "without a proof nothing is taken out"


def test_our_mark_is_known_again_and_nobody_elses() -> None:
    field = trace.loop_field("0123456789abcdef")
    assert trace.marked(index(field + MAIL), "0123456789abcdef")
    assert trace.marked(index(b"x-CAREER-relay-loop:\r\n 0123456789abcdef \r\n" + MAIL), "0123456789abcdef")
    assert not trace.marked(index(field + MAIL), "fedcba9876543210")
    assert not trace.marked(index(MAIL + field), "0123456789abcdef"), "in the text it is no mark"
