"""A delivery status notification for recipients that the upstream refused after others had been delivered (RFC 3464).

It goes to the mail's own sender, with the null reverse-path (RFC 5321 §6.1), through the same upstream, before the
client gets its reply. It carries the header of the original mail, never its body, and so never a spliced link.
"""

from __future__ import annotations

import re
from base64 import encodebytes
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.reply import Reply

_MAX_RETURNED_HEADER = 16 * 1024
"""Enough for any header a person wrote; a larger one is cut at a field's end."""

_EIGHT_BIT = re.compile(rb"[\x80-\xff]")

_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient that was not reached, and the reply that says why."""

    recipient: Recipient
    reply: Reply


def report(
    *,
    hostname: str,
    upstream: str,
    envelope: Envelope,
    failures: Sequence[Failure],
    header: bytes,
    now: datetime,
    unique: str,
) -> bytes:
    """The DSN as CRLF bytes, ASCII throughout: what is not is shown escaped (an upstream may lack 8BITMIME).

    `header` is the original mail's header block; `unique` makes the Message-ID and the boundary.
    """
    boundary = f"=_dsn_{unique}"
    fields = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{_ascii(envelope.reverse_path)}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{unique}@{hostname}>",
        "MIME-Version: 1.0",
        "Auto-Submitted: auto-replied",  # RFC 3834 §5
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
    ]
    parts = [
        ("text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64", _explanation(failures)),
        ("message/delivery-status", _status(hostname, upstream, envelope, failures)),
        ("text/rfc822-headers", _returned(header)),
    ]
    out = ["\r\n".join(fields).encode(), b"\r\n\r\n"]
    for kind, body in parts:
        out.append(f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + body + b"\r\n")
    out.append(f"--{boundary}--\r\n".encode())
    return b"".join(out)


def _explanation(failures: Sequence[Failure]) -> bytes:
    lines = [
        "Your mail was accepted for some of its recipients, but not for these:",
        "次の宛先には、メールをお届けできませんでした（ほかの宛先への送信は受け付けられました）。",
        "",
    ]
    for failure in failures:
        lines += [f"  <{_ascii(failure.recipient.forward_path)}>", f"    {failure.reply.code} {_line(failure.reply)}"]
    return encodebytes("\r\n".join(lines).encode() + b"\r\n").replace(b"\n", b"\r\n")


def _status(hostname: str, upstream: str, envelope: Envelope, failures: Sequence[Failure]) -> bytes:
    groups = [[f"Reporting-MTA: dns; {hostname}"]]
    envid = envelope.param("ENVID")
    if envid:
        groups[0].insert(0, f"Original-Envelope-Id: {_ascii(envid)}")  # RFC 3464 §2.2.1
    for failure in failures:
        group = []
        orcpt = failure.recipient.param("ORCPT")
        if orcpt:
            group.append("Original-Recipient: " + _ascii(orcpt.replace(";", "; ", 1)))  # RFC 3464 §2.3.1
        group += [
            f"Final-Recipient: rfc822; {_ascii(failure.recipient.forward_path)}",
            "Action: failed",
            f"Status: {failure.reply.enhanced}",
            f"Remote-MTA: dns; {_ascii(upstream)}",
            f"Diagnostic-Code: smtp; {failure.reply.code} {_line(failure.reply)}",
        ]
        groups.append(group)
    return "\r\n\r\n".join("\r\n".join(group) for group in groups).encode() + b"\r\n"


def _returned(header: bytes) -> bytes:
    if len(header) > _MAX_RETURNED_HEADER:
        cut = header.rfind(b"\r\n", 0, _MAX_RETURNED_HEADER) + 2
        while cut > 2 and header[cut : cut + 1] in (b" ", b"\t"):  # not between a field and its fold
            cut = header.rfind(b"\r\n", 0, cut - 2) + 2
        header = header[:cut]
    return _EIGHT_BIT.sub(b"?", header.rstrip(b"\r\n")) + b"\r\n"


def _ascii(text: str) -> str:
    """Peer text made safe for a field: no controls, and anything beyond ASCII escaped."""
    return _UNSAFE.sub(" ", text).encode("ascii", "backslashreplace").decode()


def _line(answer: Reply) -> str:
    return _ascii(answer.text)[:900]
