"""The header fields that a relayed mail gains and loses on its way through us (RFC 5321 §4.4).

Every mail gains one `Received`, without a `for` clause, since one copy may serve several recipients; and loses
`X-Career-Relay`, the sender's switch, which is nobody's business beyond us. Nothing else.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime

from relay_mta.core.envelope import Client, Envelope
from relay_mta.core.message import Message
from relay_mta.core.splice import Edit

SWITCH = "x-career-relay"
"""The sender's switch: `off` exempts the mail. Lower case, as field names are compared."""

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
    secure = "S" if client.tls else ""
    if envelope.param("SMTPUTF8") is not None:
        return f"UTF8SMTP{secure}"
    return f"ESMTP{secure}" if client.esmtp else "SMTP"


def hops(message: Message) -> int:
    """How many `Received` fields the mail carries already (RFC 5321 §6.3)."""
    return sum(field.name.lower() == "received" for field in message.fields)


def edits(message: Message, received_field: bytes) -> tuple[Edit, ...]:
    """The edits that bring the header to what goes upstream."""
    gone = (Edit(field.start, field.end, b"") for field in message.fields if field.name.lower() == SWITCH)
    return (Edit(0, 0, received_field), *gone) if received_field else tuple(gone)
