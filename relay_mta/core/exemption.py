"""Why a mail must stay as it is, whoever it is addressed to: what it is made of, who sent it, what it already carries.

`core.disposition` has the list of reason words and says in which order they are asked for. Nothing here looks at what
the rules find.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from relay_mta.core import dkim, fold
from relay_mta.core.address import Addresses, addresses, listed
from relay_mta.core.company import Company
from relay_mta.core.envelope import Envelope
from relay_mta.core.header import MAX_VALUE
from relay_mta.core.link import own_links
from relay_mta.core.message import Message
from relay_mta.core.trace import SWITCH

# Both are linear on any bytes: possessive, and no two neighbours can take the same character.
_EMPTY_GROUP = re.compile(r"""[^:;<>@",()]*+:\s*+;\s*+""")  # "undisclosed-recipients:;" names nobody, clearly
# Raw ISO-2022-JP: its bytes look like commas and brackets. The group is missing where it does not return to ASCII.
_JIS = re.compile(rb"(?:\x1b(?:\$[@B]|\(I)[^\x1b]*+)++(\x1b\([BJ])?+")

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


def before_judging(message: Message, envelope: Envelope, company: Company, *, normalised: bool) -> str | None:
    """Why a mail is not even judged, or None."""
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
    if switch(message) == "off":
        return "switched-off"
    if _has_keyword(message.first("subject") or "", company.off_keywords):
        return "subject-keyword"
    if (reason := _sender(message, envelope, company)) is not None:
        return reason
    if message.text_trouble:
        return message.text_trouble  # a link goes into every alternative or into none
    return None if message.texts else "no-text"


def switch(message: Message) -> str | None:
    """What the sender asks for by `X-Career-Relay`: "on", or nothing, or "off", which is whatever else stands there."""
    asked = {value.strip().lower() for value in message.values(SWITCH)}
    return None if not asked else "on" if asked == {"on"} else "off"


def _has_keyword(subject: str, keywords: Sequence[str]) -> bool:
    """Whether a subject has a company's keyword, in whichever width or case, with or without blanks."""
    shown = _bare(subject)
    return any(_bare(keyword) in shown for keyword in keywords)


def _bare(text: str) -> str:
    return "".join(fold.clean(text).casefold().split())


def _sender(message: Message, envelope: Envelope, company: Company) -> str | None:
    """Whether a company's lists of senders keep its mail from being judged.

    A sender is who From names, then Sender, then the reverse-path (RFC 5322 §3.6.2); of several authors each counts.
    """
    if not company.exempt_senders and not company.only_senders:
        return None
    fields = [named(message, name) for name in ("from", "sender")]
    if any(field.odd for field in fields):
        return "ambiguous:sender"  # it may be one of them
    paths = next((field.paths for field in fields if any(field.paths)), (envelope.reverse_path,))
    if any(listed(path, company.exempt_senders) for path in paths):
        return "sender-exempt"
    if company.only_senders and not all(listed(path, company.only_senders) for path in paths):
        return "sender-not-listed"
    return None


def own_trace(message: Message, company: Company, base_url: str) -> str | None:
    """What forbids touching this mail although it is a rejection."""
    for text in message.texts:
        written = f"{text.layout.new}\n{text.layout.signature}"
        if own_links(written, base_url) or any(own_links(link, base_url) for link in text.layout.links):
            return "own-link"
        if "-----BEGIN PGP " in written:
            return "pgp-inline"
    return dkim.exempts(message, company)


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
    return Addresses(read.paths, read.odd or len(values) > 1 or "\x1b" in text, read.names)
