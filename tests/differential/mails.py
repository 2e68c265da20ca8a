"""What arrived: the mails that Postfix delivered, each with the dialog it came from, without what each hop wrote.

Every dialog is held from a loopback address of its own, once for each way, and the first hop's `Received` names it;
so a smuggled mail, or one nobody was told of, is found too. Postfix's DSNs are told by the mail that they report on.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256

_ENVELOPE = re.compile(
    rb"Return-Path: <(?P<sender>[^\n]*)>\nX-Original-To: (?P<recipient>[^\n]*)\nDelivered-To: (?P<final>[^\n]*)\n"
)
_BY_POSTFIX = re.compile(
    rb"^Received: (?:from [^\n]*\((?:unknown )?\[(?P<address>[0-9.]+)\]\)\n\t)?by outbound\.example\.jp \(Postfix\)"
    rb"(?: with \w+)?\s+id (?P<id>[0-9A-F]+)(?:\s+for [^\n]*)?;\s+[^\n]*\n",
    re.MULTILINE,
)
_BY_RELAY = re.compile(
    rb"^Received: from [^\n]*\(\[(?P<address>[0-9.]+)\]\)\n\tby relay\.example\.jp with \w+"
    rb" id [^\n]*;\n\t[^\n]*\n",
    re.MULTILINE,
)
_OWN_ID = re.compile(rb"^(Message-Id: <)\d{14}\.[0-9A-F]+(@outbound\.example\.jp>)$", re.MULTILINE | re.IGNORECASE)
_DATE = re.compile(rb"^Date: ([^\n]*)$", re.MULTILINE)
_REPORT_ON = re.compile(rb"^X-Postfix-Queue-ID: ([0-9A-F]+)\n", re.MULTILINE)
_STATUS = re.compile(rb"\nContent-Type: message/(?:global-)?delivery-status\n(.*?)\n--", re.DOTALL)
_PARTS = re.compile(rb"^Content-Type: ([^;\n]*)", re.MULTILINE)
_VOLATILE = (b"X-Postfix-Queue-ID:", b"Arrival-Date:", b"Content-")
_SHOWN = 400


def sorted_out(mails: Iterable[bytes]) -> tuple[dict[str, list[str]], list[bytes]]:
    """For each client address a text for each mail that came from it, and the mails that came from none."""
    arrived: dict[str, list[str]] = defaultdict(list)
    addresses: dict[bytes, str] = {}
    reports: list[bytes] = []
    strays: list[bytes] = []
    for mail in mails:
        first = _BY_POSTFIX.search(mail)
        if first is None:
            strays.append(mail)
        elif first["address"] is None:
            reports.append(mail)
        else:
            address, text = _described(mail, first)
            addresses[first["id"]] = address
            arrived[address].append(text)
    for report in reports:
        on = _REPORT_ON.search(report)
        if on is None or on[1] not in addresses:
            strays.append(report)
        else:
            arrived[addresses[on[1]]].append(_report(report))
    return {address: sorted(texts) for address, texts in arrived.items()}, strays


def _described(mail: bytes, first: re.Match[bytes]) -> tuple[str, str]:
    """The client's address, and envelope and bytes of an ordinary mail."""
    ours = _BY_RELAY.search(mail, first.end())
    origin = ours or first
    rest = mail[: first.start()] + mail[first.end() :]
    if ours is not None:
        rest = mail[: first.start()] + mail[first.end() : ours.start()] + mail[ours.end() :]
    envelope = _ENVELOPE.match(rest)
    assert envelope, mail[:500]
    content = _without_stamps(rest[envelope.end() :])
    path = f"<{_text(envelope['sender'])}> → {_text(envelope['recipient'])}"
    return origin["address"].decode(), f"{path}: {_content(content)}"


def _without_stamps(content: bytes) -> bytes:
    """Without the id and the date of now that Postfix gives to a mail that has none."""

    def now(found: re.Match[bytes]) -> bytes:
        try:
            date = parsedate_to_datetime(found[1].decode("ascii", "replace"))
            return b"Date: now" if abs(datetime.now(UTC) - date) < timedelta(days=1) else found[0]
        except (TypeError, ValueError):
            return found[0]

    return _DATE.sub(now, _OWN_ID.sub(rb"\1ID\2", content))


def _content(content: bytes) -> str:
    """All bytes of a short mail; of a longer one the beginning, the length and a digest."""
    if len(content) <= _SHOWN:
        return _text(content)
    return f"{_text(content[:_SHOWN])}… {len(content)} bytes, sha256 {sha256(content).hexdigest()[:16]}"


def _report(mail: bytes) -> str:
    """What a DSN of Postfix's says: to whom, its machine-readable fields, and how much of the mail it quotes."""
    envelope = _ENVELOPE.match(mail)
    status = _STATUS.search(mail)
    assert envelope and status, mail[:500]
    fields = [line for line in status[1].split(b"\n") if line and not line.startswith(_VOLATILE)]
    quoted = _PARTS.findall(mail)[3]
    return f"report to {_text(envelope['recipient'])}: {_text(b' | '.join(fields))}, with {_text(quoted)}"


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").encode("unicode_escape").decode("ascii")
