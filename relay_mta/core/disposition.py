"""What is to become of a mail: pass, relay or exempt, and who of its recipients is a candidate.

Exemptions that need no content come before judging. The others come after it, so that an exempt rejection is counted as
one and an operator learns what is being missed. Each has a stable reason word:

    before judging   mode-off, bare-newline, ambiguous:…, limit:…, unsupported:…, null-sender, signed, encrypted,
                     calendar, report, tnef, resent, mailing-list, auto-reply, switched-off, subject-keyword,
                     sender-exempt, sender-not-listed, ambiguous:sender, no-text, limit:time
    after judging    no-dedicated-link, own-link, dkim-own, dkim-other, pgp-inline, ambiguous:recipients, several-to,
                     no-candidate, max-copies, smtputf8

When in doubt, exempt: a link in the wrong mail is the worst thing this program can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay_mta.core import dedicated, exemption, link
from relay_mta.core.address import Addresses, listed, person, same_path
from relay_mta.core.company import Company
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.errors import SpliceError
from relay_mta.core.exemption import named
from relay_mta.core.message import Message
from relay_mta.core.rules import RuleSet
from relay_mta.core.verdict import Verdict

Role = Literal["candidate", "own", "partner", "cc"]
Kind = Literal["pass", "relay", "exempt"]


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
    reason = (
        "mode-off"
        if company.mode == "off"
        else exemption.before_judging(message, envelope, company, normalised=normalised)
    )
    # A header over a limit is not read: there nobody is known to be a Cc.
    unread = (message.trouble or "").startswith("limit:")
    to, cc = (Addresses(()), Addresses(())) if unread else (named(message, "to"), named(message, "cc"))
    roles = tuple(_role(recipient, company, to, cc) for recipient in envelope.recipients)
    if reason:
        return Disposition("exempt", reason, roles)
    linked = dedicated.carried(message, link.dedicated(base_url, company.id))
    forced = company.allow_force and exemption.switch(message) == "on"
    try:
        verdict = rules.judge(message, envelope, forced=forced, linked=linked, patience=message.patience)
    except SpliceError as error:
        return Disposition("exempt", error.reason, roles)
    if verdict.kind != "rejection":
        return Disposition("pass", verdict.reason, roles, verdict=verdict)
    candidates = _candidates(envelope.recipients, roles)
    reason = (
        ("no-dedicated-link" if company.placement == "link" and not linked else None)
        or exemption.own_trace(message, company, base_url)
        or _recipients(to, cc, company, candidates)
        or _addressing(envelope, candidates)
    )
    if reason:
        return Disposition("exempt", reason, roles, verdict=verdict)
    return Disposition("relay", verdict.reason, roles, candidates, verdict)


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
