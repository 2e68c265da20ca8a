"""Putting a block into a mail as byte spans: what is not edited is sent as the very bytes that came.

`plan` says what to replace so that every alternative of the mail's text shows the block, at the place that its
layout names; `apply` makes the chunks to be sent. The relay's own header edits (a Received field, a removed switch)
are `Edit`s too and go into the same `apply`.

A block is written in the part's own charset and transfer encoding. If the charset lacks a character, or has it only
as a vendor's extension that the part's own text does without, or 8-bit octets would enter a 7bit part (RFC 2045 §2.7)
or a mail of 7 bits (RFC 6152 §3: its client had no need to ask for more), this order is followed: customary
look-alikes, the block's plain variant, and in HTML numeric character references from the start, as they lose nothing.
A text/plain part that can carry none of these is converted, alone, to UTF-8 in base64; only its Content-Type's charset
and its Content-Transfer-Encoding change then.

format=flowed stays what it is (RFC 3676): our lines are fixed ones, and no line of the sender's flows into them.

Every plan is proved: the edited bytes are decoded again and must show the old text with the block at its place.
Whatever is not certain raises `SpliceError`, and the mail goes out untouched. Reason words of this module:
`no-text`, `charset`, `transfer-encoding`, `line-length`, `boundary`, `layout`, `sealed`, `verify`; and those of
`Message.trouble`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from relay_mta.core import charset, insertion
from relay_mta.core.block import Block
from relay_mta.core.errors import SpliceError
from relay_mta.core.message import Field, Message, Part, TextPart, index

Placement = Literal["below", "end"]

_SEALED_PARENTS = ("multipart/signed", "multipart/encrypted")
# RFC 1864, and fields that count or digest a body: a change would make them lie.
_SEALED_FIELDS = ("content-md5", "content-digest", "content-length", "x-content-length", "lines")
# Quoted strings and comments first, so that a "charset=" inside of them is not taken for the parameter (RFC 2045 §5.1).
_CHARSET = re.compile(
    rb'"(?:[^"\\]|\\.)*"|\([^()]*\)|;\s*charset\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s;()"]+)',
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace raw[start:end] by `new`. start == end inserts, an empty `new` deletes."""

    start: int
    end: int
    new: bytes


def apply(raw: bytes, edits: Sequence[Edit]) -> tuple[bytes | memoryview, ...]:
    """The edited mail as chunks; untouched stretches are views of `raw`, nothing of it is copied.

    Edits may come in any order and may touch. What is inserted at one offset keeps the given order, and stands before
    what replaces the bytes from that offset on. Raises `ValueError` if edits overlap or lie outside of `raw`.
    """
    view = memoryview(raw)
    chunks: list[bytes | memoryview] = []
    position = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if not position <= edit.start <= edit.end <= len(raw):
            raise ValueError("edits overlap or lie outside of the mail")
        if position < edit.start:
            chunks.append(view[position : edit.start])
        if edit.new:
            chunks.append(edit.new)
        position = edit.end
    if position < len(raw):
        chunks.append(view[position:])
    return tuple(chunks)


def plan(message: Message, block: Block, *, placement: Placement = "below") -> tuple[Edit, ...]:
    """The edits that put `block` into every text of the mail, in the order of the mail.

    `placement` chooses `Layout.below` or `Layout.end`. Raises `SpliceError` with the reason why the mail must stay as
    it is; then nothing of it may be spliced.
    """
    if message.trouble is not None:
        raise SpliceError(message.trouble)
    texts = message.texts
    if message.text_trouble is not None:
        raise SpliceError(message.text_trouble)
    if not texts:
        raise SpliceError("no-text")
    edits: list[Edit] = []
    for shown in texts:
        _refuse_sealed(message, shown.part)
        at = shown.layout.below if placement == "below" else shown.layout.end
        if not 0 <= at <= len(shown.text):
            raise SpliceError("layout", "the place lies outside of the text")
        edits += (
            _Html(message, shown, at).edits(block) if shown.kind == "html" else _Plain(message, shown, at).edits(block)
        )
    delimiters = tuple(
        b"--" + part.params["boundary"].encode() for part in message.parts if part.params.get("boundary")
    )
    if any(line.startswith(delimiters) for edit in edits for line in edit.new.split(b"\n")):
        raise SpliceError("boundary", "a line of the block looks like a boundary of the mail")
    return tuple(edits)


def _refuse_sealed(message: Message, part: Part) -> None:
    """RFC 1847 §2.1: what is signed or encrypted must not change; nor what a field counts or digests."""
    above: Part | None = part
    while above is not None:
        if above.content_type in _SEALED_PARENTS:
            raise SpliceError("sealed", above.content_type)
        if any(field.name.lower() in _SEALED_FIELDS for field in above.fields):
            raise SpliceError("sealed", "a field counts or digests the body")
        above = None if above.parent is None else message.parts[above.parent]


class _Target:
    """One text of the mail and the place in it."""

    def __init__(self, message: Message, shown: TextPart, at: int) -> None:
        self.message = message
        self.shown = shown
        self.part = shown.part
        self.codec = shown.codec
        self.before, self.after = shown.text[:at], shown.text[at:]
        # Raw bodies have CRLF only; what was encoded may use LF throughout, and then goes on to.
        self.newline = "\n" if "\n" in shown.text and "\r\n" not in shown.text else "\r\n"
        self.offset = self._byte_offset(at)
        # RFC 2045 §2.7: 7bit data has no octet above 127. A part that says 7bit and is not gets no worse by ours.
        self.eight_bit = self.part.encoding in ("quoted-printable", "base64") or (
            not message.raw.isascii() and (self.part.encoding != "7bit" or not shown.payload.isascii())
        )

    def _byte_offset(self, at: int) -> int:
        try:
            return charset.byte_offset(self.shown.payload, self.codec, at)
        except (ValueError, LookupError) as error:
            raise SpliceError("charset", "the place cannot be found in the bytes") from error

    def carry(self, text: str) -> bytes | None:
        """The text in the part's charset, or None if it cannot be written in it or in 7 bits where that is asked."""
        try:
            new = charset.encode(text, self.codec)
        except (ValueError, LookupError):
            return None
        return new if self.eight_bit or new.isascii() else None

    def widely_read(self, text: str) -> bool:
        """Whether strict readers of the part's charset can read these characters in it."""
        try:
            new = charset.encode(text, self.codec)
        except (ValueError, LookupError):
            return False
        return charset.widely_read(new, self.codec, self.part.params.get("charset"))

    def insert(self, new: bytes) -> Edit:
        """The edit of the body that puts `new` at the place, proved."""
        payload, part = self.shown.payload, self.part
        body = self.message.raw[part.body_start : part.body_end]
        try:
            written = charset.decode(new, self.codec)
            text = charset.decode(payload[: self.offset] + new + payload[self.offset :], self.codec)
        except (ValueError, LookupError) as error:
            raise SpliceError("verify", "the new text cannot be read") from error
        if text != self.before + written + self.after:
            raise SpliceError("verify", "the new text is not the old one with the block in it")
        done = insertion.insert(body, part.encoding, payload, self.offset, new)
        return Edit(part.body_start + done.start, part.body_start + done.end, done.new)

    def padding(self, new: bytes) -> int:
        return insertion.alignment(self.part.encoding, self.shown.payload, self.offset, len(new))


class _Html(_Target):
    def edits(self, block: Block) -> tuple[Edit, ...]:
        # Lines of its own: the sender's lines, which may be near the limit of RFC 5322 §2.1.1, must not grow.
        lead = self.newline if self.before and not self.before.endswith("\n") else ""
        html = lead + self._references(block.html).replace("\n", self.newline)
        new = self.carry(html + self.newline)
        padding = self.padding(new) if new is not None else 0
        if padding:
            new = self.carry(html + " " * padding + self.newline)
        if new is None:
            raise SpliceError("charset")
        return (self.insert(new),)

    def _references(self, html: str) -> str:
        """What the part cannot carry, or not every reader would read, as numeric references (HTML §13.1.4)."""
        if self._carries(html):
            return html
        lacking = {ord(character): f"&#x{ord(character):X};" for character in set(html) if not self._carries(character)}
        return html.translate(lacking)

    def _carries(self, text: str) -> bool:
        return text.isascii() or (self.widely_read(text) and self.carry(text) is not None)


class _Plain(_Target):
    def __init__(self, message: Message, shown: TextPart, at: int) -> None:
        super().__init__(message, shown, at)
        if self.before and self.after and not self.before.endswith("\n"):
            raise SpliceError("layout", "the place is not the start of a line")
        self.flowed = self.part.params.get("format", "").lower() == "flowed"

    def edits(self, block: Block) -> tuple[Edit, ...]:
        variants = [charset.fold(variant, self.codec) for variant in (block.text, block.plain)]
        if charset.widely_read(self.shown.payload, self.codec, self.part.params.get("charset")):
            variants = [text for text in variants if self.widely_read(text)]  # no reader may lose what he could read
        for text in sorted(variants, key=self.widely_read, reverse=True):
            new = self.carry(self._shape(text))
            if new is None:
                continue
            padding = self.padding(new)
            if padding:
                new = self.carry(self._shape(text, padding=padding)) or new
            return (self.insert(new),)
        return tuple(_convert(self.message, self.shown, self.before + self._shape(block.text) + self.after))

    def _shape(self, text: str, *, padding: int = 0) -> str:
        """The block as lines of their own with one empty line towards its neighbours.

        `padding` is a number of blanks to be added where they are not seen.
        """
        newline = self.newline
        lines = text.split("\n")
        last = self.before.removesuffix("\n").rpartition("\n")[2].rstrip("\r")
        lead = newline if self.before and not self.before.endswith("\n") else ""
        if self.flowed and last.endswith(" ") and last != "-- ":
            # RFC 3676 §4.1: the next line belongs to the same paragraph, even if it is empty.
            lead += newline
        above = newline if last.strip() else ""
        below = newline if self.after.partition("\n")[0].strip() else ""
        if self.flowed:
            lines = list(_stuffed(lines, padding))
        elif below:
            below = " " * padding + below
        elif above:
            above = " " * padding + above
        return lead + above + newline.join(lines) + newline + below


def _stuffed(lines: Sequence[str], extra: int) -> Iterator[str]:
    """RFC 3676 §4.4: a blank before what a reader could take for a quote, a stuffed line or an envelope.

    Other lines may have one too: `extra` of them get it.
    """
    for line in lines:
        must = line.startswith((" ", ">", "From "))
        may = bool(line) and not must and extra > 0
        extra -= may
        yield f" {line}" if must or may else line


# --- conversion of one text/plain part ------------------------------------------------------------------------------


def _convert(message: Message, shown: TextPart, text: str) -> Iterator[Edit]:
    """The part as UTF-8 in base64: its whole body, and the two fields that say so."""
    part, raw = shown.part, message.raw
    try:
        body = insertion.encode_base64(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise SpliceError("charset", "the text has no place in UTF-8") from error
    if part.parent is None or raw.endswith(b"\r\n", part.body_start, part.body_end):
        body += b"\r\n"
    edits = [*_relabel(part, raw), Edit(part.body_start, part.body_end, body)]
    # Proved by reading the part anew, as a mail of its own.
    origin = part.start
    moved = [Edit(edit.start - origin, edit.end - origin, edit.new) for edit in edits]
    again = index(b"".join(apply(raw[origin : part.body_end], moved)))
    if again.trouble or again.text_trouble or [(found.kind, found.text) for found in again.texts] != [("plain", text)]:
        raise SpliceError("verify", "the converted part is not read as expected")
    yield from edits


def _relabel(part: Part, raw: bytes) -> Iterator[Edit]:
    """Content-Type's charset and the Content-Transfer-Encoding; a field that is not there is added."""
    content_type = _only_field(part, "content-type")
    encoding = _only_field(part, "content-transfer-encoding")
    place = part.fields[-1].end if part.fields else part.start
    if content_type is None:
        if part.parent is None and _only_field(part, "mime-version") is None:
            # RFC 2045 §4: without MIME-Version it is not a MIME mail, and becoming one takes more than two fields.
            raise SpliceError("charset", "not a MIME mail")
        yield Edit(place, place, b"Content-Type: text/plain; charset=UTF-8\r\n")
    else:
        yield _charset_edit(content_type, raw)
        place = content_type.end
    if encoding is None:
        yield Edit(place, place, b"Content-Transfer-Encoding: base64\r\n")
    else:
        start, value = _value(encoding, raw)
        start += len(value) - len(value.lstrip())
        yield Edit(start, start + len(value.strip()), b"base64")


def _charset_edit(field: Field, raw: bytes) -> Edit:
    start, value = _value(field, raw)
    found = [match for match in _CHARSET.finditer(value) if match["value"] is not None]
    if len(found) == 1:
        return Edit(start + found[0].start("value"), start + found[0].end("value"), b"UTF-8")
    if found or b"charset" in value.lower():
        raise SpliceError("charset", "a charset parameter in a form that is not edited")  # RFC 2231 §3, §4
    end = start + len(value.rstrip())
    separator = b"" if value.rstrip().endswith(b";") else b";"
    return Edit(end, end, separator + b"\r\n charset=UTF-8")


def _only_field(part: Part, name: str) -> Field | None:
    found = [field for field in part.fields if field.name.lower() == name]
    if len(found) > 1:
        raise SpliceError("charset", f"more than one {name} field")
    return found[0] if found else None


def _value(field: Field, raw: bytes) -> tuple[int, bytes]:
    """Where a field's value begins in the mail, and its bytes."""
    start = raw.index(b":", field.start, field.end) + 1
    return start, raw[start : start + len(field.value)]
