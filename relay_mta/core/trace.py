"""The header fields that a relayed mail gains and loses on its way through us (RFC 5321 §4.4).

Every mail gains one `Received`, without a `for` clause, since one copy may serve several recipients, and where the
company wants it `X-Career-Relay-Loop`; and loses `X-Career-Relay`, the sender's switch, and the field by which a
company's mails prove themselves: both are nobody's business beyond us. Nothing else, but for an empty line where a mail
would otherwise be read as another one behind our fields (see `edits`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from email.utils import format_datetime

from relay_mta.core.edit import Edit, apply
from relay_mta.core.envelope import Client, Envelope
from relay_mta.core.message import Message

SWITCH = "x-career-relay"
"""The sender's switch: `off` exempts the mail. Lower case, as field names are compared."""

LOOP = "x-career-relay-loop"
"""Our own mark (`keys.loop_mark`): a rule of the company's server can tell by it that a mail has been here, and so can
we. Lower case, as field names are compared."""

# Lines that an mbox file leaves on top of a mail; no header fields, but read as such nearly everywhere.
_MBOX_LINES = re.compile(rb"(?:>*+From [^\r\n]*+\r\n)*+")
# Behind these a field may go on, or another of its name follow, that was not looked at.
_CUT_HEADERS = frozenset({"limit:header", "limit:fields"})
_FIELD_NAMED = rb"(?im)^%b[ \t]*:[^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+(?:\r\n|\Z)"
_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


def received(*, hostname: str, client: Client, envelope: Envelope, id: str, now: datetime, hide_client: bool) -> bytes:
    """One `Received` field with its CRLF. A HELO name that is not a domain or an address literal is left out."""
    helo = client.helo if _HELO.fullmatch(client.helo) else "unknown"
    address = f"IPv6:{client.address}" if ":" in client.address else client.address
    origin = "" if hide_client else f"from {helo} ([{address}])\r\n\t"
    by = f"by {hostname} with {_protocol(client, envelope)} id {id};"
    return f"Received: {origin}{by}\r\n\t{format_datetime(now)}\r\n".encode()


def _protocol(client: Client, envelope: Envelope) -> str:
    """The `with` keyword (RFC 3848, RFC 6531 §4.3)."""
    secure = ("S" if client.tls else "") + ("A" if client.authenticated else "")
    if envelope.param("SMTPUTF8") is not None:
        return f"UTF8SMTP{secure}"
    return f"ESMTP{secure}" if client.esmtp else "SMTP"


def hops(message: Message) -> int:
    """How many `Received` fields the mail carries already (RFC 5321 §6.3)."""
    return sum(field.name.lower() == "received" for field in message.fields)


def loop_field(mark: str) -> bytes:
    """Our mark as a field with its CRLF."""
    return f"X-Career-Relay-Loop: {mark}\r\n".encode()


def marked(message: Message, mark: str) -> bool:
    """The mail carries our mark: it was here before."""
    return any(value.strip() == mark for value in message.values(LOOP))


def edits(message: Message, added_fields: bytes, *, proof: str | None = None) -> tuple[Edit, ...]:
    """The edits that bring the header to what goes upstream: `added_fields` with their CRLF (may be empty) on top, and
    without the switch and the field named `proof` (lower case).

    The next server should read behind our field what it would read without us. Postfix, as the common one:

    - takes lines "From …" and ">From …" for fields of their own ("X-Mailbox-Line") only if the mail begins with them;
      further down such a line ends the header. So they stay the first lines.
    - takes a mail whose first line begins with a blank for one without a header, all of it body, and writes an empty
      line in front. Behind our field that line would be its fold (RFC 5322 §2.2.3) and the next lines a header, so we
      write that empty line.
    - ends the header at any other line that is no field. It does so wherever the line stands, and so do other servers,
      each behind the `Received` of its own: nothing is to be done.

    A header that was not read to its end for its size loses the proof alone, wherever it stands: of a switch that was
    not looked at, half or a twin might stay.
    """
    place = _mbox_end(message.raw)
    added = added_fields + (b"\r\n" if message.raw[place : place + 1] in (b" ", b"\t") else b"")
    gone = removals(message, proof=proof)
    return (Edit(place, place, added), *gone) if added else gone


def removals(message: Message, *, proof: str | None) -> tuple[Edit, ...]:
    """Those of `edits` that take something out."""
    if message.trouble not in _CUT_HEADERS:
        return tuple(Edit(each.start, each.end, b"") for each in message.fields if each.name.lower() in (SWITCH, proof))
    if proof is None:
        return ()
    end = message.raw.find(b"\r\n\r\n")
    found = re.compile(_FIELD_NAMED % re.escape(proof.encode())).finditer(
        message.raw, 0, end + 2 if end >= 0 else len(message.raw)
    )
    return tuple(Edit(each.start(), each.end(), b"") for each in found)


def quoted(message: Message, *, proof: str | None) -> bytes:
    """The header as a report may quote it: without what never goes out."""
    header = message.raw[: message.parts[0].body_start]
    gone = [each for each in removals(message, proof=proof) if each.start < len(header)]
    return b"".join(apply(header, [replace(each, end=min(each.end, len(header))) for each in gone]))


def _mbox_end(raw: bytes) -> int:
    found = _MBOX_LINES.match(raw)
    return found.end() if found else 0
