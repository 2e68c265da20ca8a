"""DKIM signatures that a mail carries already (RFC 6376): whose they are, and which a splice breaks.

Some senders sign before we see the mail (Google Workspace's outbound gateway, some connectors). Nothing here verifies
or signs; `relay_mta.signing` does the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from relay_mta.core import header
from relay_mta.core.address import listed
from relay_mta.core.company import Company
from relay_mta.core.edit import Edit
from relay_mta.core.header import Field
from relay_mta.core.message import Message

FIELD = "dkim-signature"
_DOMAIN = re.compile(r"(?:^|;)\s*d\s*=\s*([^;\s]+)")
_LENGTH = re.compile(r"(?:^|;)\s*l\s*=\s*(\d{1,76})\s*(?:;|$)")


def exempts(message: Message, company: Company) -> str | None:
    """The reason why signatures keep a company's rejection from being spliced, or None."""
    if company.dkim != "exempt":
        return None
    signers = [_domain(field) for field in _signatures(message)]
    if not signers:
        return None
    return "dkim-own" if any(_own(signer, company) for signer in signers) else "dkim-other"


def broken(message: Message, company: Company, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The edits that take out the company's own signatures, which a splice breaks; others are their owners' affair.

    One over none of the body (l=0, RFC 6376 §3.5) still holds, and stays, unless `edits`, the splice, change the mail's
    own Content-Type too.
    """
    headers = any(edit.start < message.parts[0].body_start for edit in edits)
    return tuple(
        Edit(field.start, field.end, b"")
        for field in _signatures(message)
        if _own(_domain(field), company) and (headers or not _covers_nothing(field))
    )


def _signatures(message: Message) -> Iterator[Field]:
    return (field for field in message.fields if field.name.lower() == FIELD)


def _domain(field: Field) -> str:
    """The signing domain; "" if it cannot be read."""
    found = _DOMAIN.search(header.text(field.value))
    return found[1].lower() if found else ""


def _own(domain: str, company: Company) -> bool:
    return bool(domain) and listed(f"@{domain}", company.domains)


def _covers_nothing(field: Field) -> bool:
    found = _LENGTH.search(header.text(field.value))
    return found is not None and int(found[1]) == 0
