"""The DSN, read back by the standard library's parser."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy

from relay_mta.core.dsn import Failure, report
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.reply import Reply

HEADER = "From: 採用 <hr@acme.example>\r\nSubject: =?utf-8?b?6YG46ICD?=\r\nX-Raw: é\r\n\r\n".encode()


def build(header: bytes = HEADER) -> bytes:
    failed = Recipient("a@x.example", ("ORCPT=rfc822;a+40old@x.example", "NOTIFY=FAILURE"))
    envelope = Envelope("hr@acme.example", (failed,), ("ENVID=QQ314159",))
    answer = Reply(550, (b"5.1.1 no such user", b"5.1.1 \xe9 see \x1b[31mhelp"))
    return report(
        hostname="relay.example.jp",
        upstream="smtp.example.jp",
        envelope=envelope,
        failures=[Failure(failed, answer)],
        header=header,
        now=datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC),
        unique="0123abcd",
    )


def test_it_is_a_delivery_status_report() -> None:
    mail = message_from_bytes(build(), policy=policy.default)
    assert mail.get_content_type() == "multipart/report"
    assert mail["To"] == "hr@acme.example"
    assert mail["Auto-Submitted"] == "auto-replied"
    text, status, returned = mail.iter_parts()
    assert "a@x.example" in text.get_content()
    assert "お届けできませんでした" in text.get_content()
    about_mail, about_recipient = status.get_payload()
    assert about_mail["Original-Envelope-Id"] == "QQ314159"
    assert about_recipient["Action"] == "failed"
    assert about_recipient["Status"] == "5.1.1"
    assert about_recipient["Final-Recipient"] == "rfc822; a@x.example"
    assert about_recipient["Original-Recipient"] == "rfc822; a+40old@x.example"
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Subject: =?utf-8?b?6YG46ICD?=" in returned.get_payload()


def test_it_is_ascii_with_proper_line_ends_whatever_the_peer_said() -> None:
    raw = build()
    assert raw.isascii()
    assert b"\x1b" not in raw
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def test_a_long_header_is_cut_between_fields() -> None:
    raw = build(b"".join(b"X-%d: a\r\n b\r\n" % i for i in range(3000)) + b"\r\n")
    assert len(raw) < 24 * 1024
    returned = raw.rpartition(b"Content-Type: text/rfc822-headers\r\n\r\n")[2]
    assert returned.partition(b"\r\n\r\n--")[0].endswith(b": a\r\n b")
