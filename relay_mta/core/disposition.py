"""What is to become of a mail: pass, relay or exempt, and who of its recipients is a candidate.

Exemptions that need no content come before judging. The others come after it, so that an exempt rejection is counted as
one and an operator learns what is being missed. Each has a stable reason word:

    before judging   mode-off, bare-newline, ambiguous:…, limit:…, unsupported:…, null-sender, signed, encrypted,
                     calendar, report, tnef, resent, mailing-list, auto-reply, switched-off, no-text
    after judging    own-link, dkim-own, dkim-other, pgp-inline, ambiguous:recipients, several-to, no-candidate,
                     max-copies, smtputf8

When in doubt, exempt: a link in the wrong mail is the worst thing this program can do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay_mta.core.address import Addresses, addresses, listed, person, same_path
from relay_mta.core.company import Company
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.header import MAX_VALUE
from relay_mta.core.link import own_links
from relay_mta.core.message import Message
from relay_mta.core.rules import RuleSet
from relay_mta.core.trace import SWITCH
from relay_mta.core.verdict import Verdict

Role = Literal["candidate", "own", "partner", "cc"]
Kind = Literal["pass", "relay", "exempt"]

# Both are linear on any bytes: possessive, and no two neighbours can take the same character.
_EMPTY_GROUP = re.compile(r"""[^:;<>@",()]*+:\s*+;\s*+""")  # "undisclosed-recipients:;" names nobody, clearly
# Raw ISO-2022-JP: its bytes look like commas and brackets. The group is missing where it does not return to ASCII.
_JIS = re.compile(rb"(?:\x1b(?:\$[@B]|\(I)[^\x1b]*+)++(\x1b\([BJ])?+")
_DKIM_DOMAIN = re.compile(r"(?:^|;)\s*d\s*=\s*([^;\s]+)")

_UNTOUCHABLE = {
    "multipart/signed": "signed",
    "multipart/encrypted": "encrypted",
    "application/pkcs7-mime": "encrypted",
    "application/x-pkcs7-mime": "encrypted",
    "application/pgp-encrypted": "encrypted",
    "application/pkcs7-signature": "signed",
    "application/x-pkcs7-signature": "signed",
    "application/pgp-signature": "signed",
    "text/calendar": "calendar",
    "multipart/report": "report",
    "message/delivery-status": "report",
    "message/disposition-notification": "report",
    "application/ms-tnef": "tnef",
    "application/vnd.ms-tnef": "tnef",
}


@dataclass(frozen=True, slots=True)
class Disposition:
    """What to do and why.

    `roles` has one role for each of the envelope's recipients; `candidates` indexes those that get a copy of their own,
    one index for each forward path, and is empty unless `kind` is "relay". `verdict` is None if nothing was judged.
    """

    kind: Kind
    reason: str
    roles: tuple[Role, ...]
    candidates: tuple[int, ...] = ()
    verdict: Verdict | None = None


def decide(
    message: Message, envelope: Envelope, *, company: Company, rules: RuleSet, base_url: str, normalised: bool = False
) -> Disposition:
    """Decide on one mail, from nothing but the arguments."""
    reason = "mode-off" if company.mode == "off" else _before_judging(message, envelope, normalised=normalised)
    # A header over a limit is not read: there nobody is known to be a Cc.
    unread = (message.trouble or "").startswith("limit:")
    to, cc = (Addresses(()), Addresses(())) if unread else (named(message, "to"), named(message, "cc"))
    roles = tuple(_role(recipient, company, to, cc) for recipient in envelope.recipients)
    if reason:
        return Disposition("exempt", reason, roles)
    verdict = rules.judge(message)
    if verdict.kind != "rejection":
        return Disposition("pass", verdict.reason, roles, verdict=verdict)
    candidates = _candidates(envelope.recipients, roles)
    reason = (
        _own_trace(message, company, base_url)
        or _recipients(to, cc, company, candidates)
        or _addressing(envelope, candidates)
    )
    if reason:
        return Disposition("exempt", reason, roles, verdict=verdict)
    return Disposition("relay", verdict.reason, roles, candidates, verdict)


def _before_judging(message: Message, envelope: Envelope, *, normalised: bool) -> str | None:
    if normalised:
        return "bare-newline"
    if message.trouble:
        return message.trouble
    if envelope.reverse_path == "":
        return "null-sender"
    for part in message.parts:
        reason = _UNTOUCHABLE.get(part.content_type)
        if reason:
            return reason
    for field in message.fields:
        name = field.name.lower()
        if name.startswith("resent-"):
            return "resent"
        if name in ("list-id", "list-post"):
            return "mailing-list"
    if (message.first("auto-submitted") or "").strip().lower().startswith("auto-replied"):
        return "auto-reply"  # RFC 3834 §5: an answer to the reader's own mail, not a decision on them
    if any(value.strip().lower() == "off" for value in message.values(SWITCH)):
        return "switched-off"
    if message.text_trouble:
        return message.text_trouble  # a link goes into every alternative or into none
    return None if message.texts else "no-text"


def _own_trace(message: Message, company: Company, base_url: str) -> str | None:
    """What forbids touching this mail although it is a rejection."""
    for text in message.texts:
        written = f"{text.layout.new}\n{text.layout.signature}"
        if own_links(written, base_url) or any(own_links(link, base_url) for link in text.layout.links):
            return "own-link"
        if "-----BEGIN PGP " in written:
            return "pgp-inline"
    signers = [_DKIM_DOMAIN.search(value) for value in message.values("dkim-signature")]
    if signers:
        own = any(signer and listed(f"@{signer[1]}", company.domains) for signer in signers)
        return "dkim-own" if own else "dkim-other"
    return None


def _recipients(to: Addresses, cc: Addresses, company: Company, candidates: Sequence[int]) -> str | None:
    if to.odd or cc.odd:
        return "ambiguous:recipients"
    outside = {person(path) for path in to.paths if not listed(path, (*company.domains, *company.partners))}
    if len(outside) > 1 and not company.several_to:
        return "several-to"
    if not candidates:
        return "no-candidate"
    if len(candidates) > company.max_copies:
        return "max-copies"
    return None


def _addressing(envelope: Envelope, candidates: Sequence[int]) -> str | None:
    if any(not envelope.recipients[index].forward_path.isascii() for index in candidates):
        return "smtputf8"
    return None


def named(message: Message, name: str) -> Addresses:
    """The addresses of a header field, read before any decoding: a decoded name may hold commas and brackets.

    A value over `header.MAX_VALUE` is not read and is odd.
    """
    values = [field.value for field in message.fields if field.name.lower() == name]
    if not values:
        return Addresses(())
    if len(values[0]) > MAX_VALUE:
        return Addresses((), odd=True)
    ascii_only = _JIS.sub(lambda found: b"" if found[1] else b"\x1b", values[0])
    text = ascii_only.decode("utf-8", "surrogateescape").replace("\r\n", "")
    if len(values) == 1 and _EMPTY_GROUP.fullmatch(text):
        return Addresses(())
    read = addresses(text)
    # RFC 5322 §3.6: one of each. An escape that is left belongs to no text that we can tell from the addresses.
    return Addresses(read.paths, odd=read.odd or len(values) > 1 or "\x1b" in text)


def _role(recipient: Recipient, company: Company, to: Addresses, cc: Addresses) -> Role:
    path = same_path(recipient.forward_path)
    if listed(path, company.domains):
        return "own"
    if listed(path, company.partners):
        return "partner"
    key = person(path)
    if any(person(path) == key for path in cc.paths) and not any(person(path) == key for path in to.paths):
        return "cc"
    return "candidate"


def _candidates(recipients: Sequence[Recipient], roles: Sequence[Role]) -> tuple[int, ...]:
    first: dict[str, int] = {}
    for index, (recipient, role) in enumerate(zip(recipients, roles, strict=True)):
        if role == "candidate":
            first.setdefault(same_path(recipient.forward_path), index)
    return tuple(first.values())
