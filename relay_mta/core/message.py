"""A mail as values: where everything is in its bytes, and what its reader sees.

`index(raw)` reads a mail once. Nothing here writes: libraries and parsers find, and only spans are ever edited, so that
a mail's bytes cannot change by being looked at.

Promises: linear, never raises on any bytes. `trouble` names the first thing on which mail clients differ
("ambiguous:…") or the limit that was passed ("limit:…"); such a mail is untouchable. `text_trouble` says the same of
the shown text's transfer encoding, character set and markup, which are only looked at when someone asks.
Does not: understand signatures, encryption or other mails inside (message/rfc822 is an attachment).

RFC 5322, RFC 2045 to 2047, RFC 2183, RFC 2231, RFC 3676 (format=flowed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

from relay_mta.core import charset, footer, header, html, mime, text, transfer
from relay_mta.core.errors import SpliceError
from relay_mta.core.header import Field
from relay_mta.core.mime import Part
from relay_mta.core.patience import Patience, ask, endless
from relay_mta.core.text import Layout

__all__ = ["Field", "Message", "Part", "TextPart", "index"]

# Fields that those who carry a mail put on top of it (RFC 5321 §4.4, RFC 8601 §4, RFC 6376 §3.5, RFC 8617 §4.1).
_TRACE = frozenset({"received", "return-path", "dkim-signature", "authentication-results"})
# All shown leaves together, in encoded bytes. A letter with its HTML has some dozen kilobytes, one out of a word
# processor some hundred; reading a megabyte of markup takes a second.
MAX_TEXT = 1024 * 1024
_SHOWN = {"text/plain": "plain", "text/html": "html"}
# Multiparts whose children are not the sender's text: protected, machine-written, or mails of their own.
_CLOSED = frozenset(
    {"multipart/signed", "multipart/encrypted", "multipart/report", "multipart/digest", "multipart/form-data"}
)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A leaf that shows the mail's text.

    `payload` is the body without its transfer encoding; `text` is `payload` decoded with `codec`, exactly: line ends as
    they are. The offsets in `layout` count characters of `text`.
    """

    part: Part
    kind: Literal["plain", "html"]
    payload: bytes
    codec: str
    text: str
    layout: Layout


@dataclass(frozen=True)
class Message:
    """A mail. `parts` are in preorder, parts[0] is the mail itself; `trouble`, if any, is why it is untouchable.

    `patience` says when reading the texts takes too long, which is a `text_trouble` ("limit:time").
    """

    raw: bytes
    parts: tuple[Part, ...]
    trouble: str | None
    patience: Patience = endless

    @property
    def fields(self) -> tuple[Field, ...]:
        """The mail's own header fields."""
        return self.parts[0].fields

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header field, in order, as text to read: unfolded, decoded, without control characters."""
        wanted = name.lower()
        return tuple(header.text(each.value) for each in self.fields if each.name.lower() == wanted)

    def first(self, name: str) -> str | None:
        """The first value of a header field, as `values` gives it."""
        wanted = name.lower()
        return next((header.text(each.value) for each in self.fields if each.name.lower() == wanted), None)

    @property
    def header_lines(self) -> tuple[str, ...]:
        """All header fields as `values` gives them, each behind its name and a colon."""
        return tuple(f"{each.name}: {header.text(each.value)}" for each in self.fields)

    @cached_property
    def shown(self) -> tuple[Part, ...]:
        """The leaves that a mail client shows as the text: one, or the alternatives of one.

        Of an alternative every plain and HTML leaf; of a related its root; of a mixed the first part that is a text:
        what follows it inline is an attachment or a footer, else `text_trouble` tells of it.
        A text with a file name or a disposition other than "inline" is never shown (RFC 2183 §2.8).
        """
        return self._shown_in(self.parts[0])

    @property
    def texts(self) -> tuple[TextPart, ...]:
        """`shown`, decoded and laid out; without those that cannot be, which `text_trouble` tells of."""
        return self._read[0]

    @property
    def text_trouble(self) -> str | None:
        """Why a shown text must not be touched (a stable reason like those of `trouble`), or None."""
        return self._read[1]

    @property
    def attachments(self) -> tuple[str, ...]:
        """The file names of the leaves that are not shown, "" for the nameless ones."""
        shown = {part.index for part in self.shown}
        return tuple(
            part.filename or ""
            for part in self.parts
            if part.index not in shown and not part.children and not part.content_type.startswith("multipart/")
        )

    def body_digest(self) -> bytes:
        """SHA-256 of the bytes behind the leading trace fields: the same however often the mail was carried on."""
        start = 0
        for each in self.fields:
            name = each.name.lower()
            if name not in _TRACE and not name.startswith("arc-"):
                break
            start = each.end
        return hashlib.sha256(memoryview(self.raw)[start:]).digest()

    def _shown_in(self, part: Part) -> tuple[Part, ...]:
        if part.content_type in _SHOWN:
            return () if part.disposition not in (None, "inline") or part.filename else (part,)
        if not part.children or part.content_type in _CLOSED:
            return ()
        children = [self.parts[i] for i in part.children]
        if part.content_type == "multipart/related":
            return self._shown_in(children[0])  # RFC 2387 §3.2; for another `start` see `_structure_trouble`
        if part.content_type == "multipart/alternative":
            return tuple(chain.from_iterable(self._shown_in(child) for child in children))
        for child in children:
            shown = self._shown_in(child)
            if shown or child.content_type in _CLOSED:  # behind a signed text comes no other, but a list's footer
                return shown
        return ()

    @cached_property
    def _read(self) -> tuple[tuple[TextPart, ...], str | None]:
        if sum(part.body_end - part.body_start for part in self.shown) > MAX_TEXT:
            return (), "limit:text"
        texts: list[TextPart] = []
        trouble = self._structure_trouble() if self.shown else None
        for part in self.shown:
            try:
                ask(self.patience)
                texts.append(self._text_part(part))
            except SpliceError as error:
                trouble = trouble or error.reason
        return tuple(texts), trouble

    def _structure_trouble(self) -> str | None:
        """Whether some reader sees another text than `shown`, in its place or beside it."""
        above: set[int] = set()  # the shown leaves and what they stand in
        for leaf in self.shown:
            part: Part | None = leaf
            while part is not None and part.index not in above:
                above.add(part.index)
                part = None if part.parent is None else self.parts[part.parent]
        for part in self.parts:
            # A reader takes one of the alternatives (RFC 2046 §5.1.4), and it may be the AMP, the XHTML or the file.
            if part.content_type == "multipart/alternative" and not above.issuperset(part.children):
                return "unsupported:alternative"
            if part.content_type == "multipart/related" and not _starts_with_first(part, self.parts):
                return "ambiguous:related-start"
        return "ambiguous:two-texts" if self._has_second_text() else None

    def _has_second_text(self) -> bool:
        """Whether another text stands inline beside the shown one that is more than a footer (`core.footer`).

        Readers show it as part of the letter; it may take back what the first one says.
        """
        shown = {part.index for part in self.shown}
        others = [
            part
            for part in self.parts
            if part.content_type in _SHOWN
            and part.index not in shown
            and part.disposition in (None, "inline")
            and not part.filename
        ]
        if len(others) > footer.MAX_NOTES or any(p.body_end - p.body_start > footer.MAX_BYTES for p in others):
            return True
        for part in others:
            if not self.raw[part.body_start : part.body_end].strip():
                continue
            try:
                text = self._text_part(part)
            except SpliceError:
                return True
            if not footer.is_footer(text.kind, text.text, text.layout):
                return True
        return False

    def _text_part(self, part: Part) -> TextPart:
        if part.body_start - part.start != 2 and not self.raw.endswith(b"\r\n\r\n", part.start, part.body_start):
            raise SpliceError("ambiguous:part-without-body")  # no empty line: text put there would become a header
        try:
            payload = transfer.decode(self.raw[part.body_start : part.body_end], part.encoding)
        except transfer.TransferError as error:
            raise SpliceError(error.reason) from None
        try:
            codec = charset.find(part.params.get("charset"), payload)
        except LookupError:
            raise SpliceError("ambiguous:charset") from None
        if not charset.settled(payload, codec):
            raise SpliceError("ambiguous:charset-state")
        decoded = charset.decode(payload, codec)
        if part.content_type == "text/html":
            return TextPart(part, "html", payload, codec, decoded, html.layout(decoded, self.patience))
        flowed = part.params.get("format", "").lower() == "flowed"
        return TextPart(part, "plain", payload, codec, decoded, text.layout(decoded, flowed=flowed))


def _starts_with_first(part: Part, parts: Sequence[Part]) -> bool:
    """Whether a multipart/related's `start` leaves its first child the root.

    RFC 2387 §3.2 lets it name another one, and most mail clients show the first nevertheless.
    """
    start = part.params.get("start", "").strip().strip("<>")
    if not start:
        return True
    named = [child for child in part.children if start in _content_ids(parts[child])]
    return not named or named[0] == part.children[0]


def _content_ids(part: Part) -> list[str]:
    return [header.text(each.value).strip("<>") for each in part.fields if each.name.lower() == "content-id"]


def index(raw: bytes, patience: Patience = endless, *, mended: bool = False) -> Message:
    """Read a mail. `raw` has CRLF line ends; any bytes are taken, and what cannot be relied on becomes `trouble`.

    `mended`: the caller knows that there is no bare CR or LF, and spares us half of the work on a large mail.
    """
    parts, trouble = mime.parts_of(raw, mended=mended)
    return Message(raw, parts, trouble, patience)
