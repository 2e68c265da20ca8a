"""Proof that a mail from a network of strangers is the company's own.

Every customer of Microsoft 365 or Google Workspace sends from the same addresses, so an address proves nothing there.
The company's own mail-flow rule sets a header field with a secret value, which nobody else knows and which is taken out
on the way; and the mail must speak for the company, in From and in the reverse-path. The null reverse-path is
everybody's (RFC 5321 §4.5.5): there From and the secret have to do.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from relay_mta.core.address import listed
from relay_mta.core.exemption import named
from relay_mta.core.message import Message


@dataclass(frozen=True, slots=True)
class Proof:
    """The field's `name` in lower case, and the `value` that it has to have."""

    name: str
    value: bytes = field(repr=False)


def proven(message: Message, reverse_path: str, domains: tuple[str, ...], proof: Proof) -> bool:
    """Whether a mail is from the company that has these domains and this proof."""
    values = [each.value.strip() for each in message.fields if each.name.lower() == proof.name]
    # Each is looked at, and in the same time, whatever stands in it.
    if not any([hmac.compare_digest(value, proof.value) for value in values]):
        return False
    authors = named(message, "from")
    if authors.odd or not authors.paths or not all(listed(path, domains) for path in authors.paths):
        return False
    return reverse_path == "" or listed(reverse_path, domains)
