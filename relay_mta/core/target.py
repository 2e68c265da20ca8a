"""One text of a mail and how new text gets into it: in its own charset and transfer encoding, or not at all.

`core.splice` says in which order the ways are tried. Whatever is made is proved: the edited bytes are decoded again
and must show the old text with the new one at its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from relay_mta.core import charset, insertion
from relay_mta.core.block import Block
from relay_mta.core.conversion import convert
from relay_mta.core.edit import Edit
from relay_mta.core.errors import SpliceError
from relay_mta.core.message import Message, TextPart

MOST_LINKS = 50
"""Dedicated links in one text; a letter has one or two, a button drawn for several mail clients four."""


class Target:
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
        changed = payload[: self.offset] + new + payload[self.offset :]
        self._same_charset(changed)
        try:
            written = charset.decode(new, self.codec)
            text = charset.decode(changed, self.codec)
        except (ValueError, LookupError) as error:
            raise SpliceError("verify", "the new text cannot be read") from error
        if text != self.before + written + self.after:
            raise SpliceError("verify", "the new text is not the old one with the block in it")
        done = insertion.insert(body, part.encoding, payload, self.offset, new)
        return Edit(part.body_start + done.start, part.body_start + done.end, done.new)

    def replace(self, places: Sequence[tuple[int, int]], link: str) -> tuple[Edit, ...]:
        """The edits of the body that put `link` where a dedicated one stands in the text, proved.

        Both are ASCII, and their bytes are looked for as such: no charset that mail is read in here has other ones.
        """
        if len(places) > MOST_LINKS:
            raise SpliceError("limit:links")
        payload, part, text = self.shown.payload, self.part, self.shown.text
        spans = self._spans_of_bytes(places)
        new = link.encode("ascii")
        changed, expected = insertion.put(payload, spans, new), insertion.put(text, places, link)
        self._same_charset(changed)
        try:
            read = charset.decode(changed, self.codec)
        except (ValueError, LookupError) as error:
            raise SpliceError("verify", "the new text cannot be read") from error
        if read != expected:
            raise SpliceError("verify", "the new text is not the old one with the link in it")
        body = self.message.raw[part.body_start : part.body_end]
        return tuple(
            Edit(part.body_start + done.start, part.body_start + done.end, done.new)
            for done in insertion.replace(body, part.encoding, payload, spans, new)
        )

    def _same_charset(self, changed: bytes) -> None:
        """What was guessed of a text without a true label must be guessed of the changed one, too, and no line of JIS
        may begin in another state than ASCII."""
        same = charset.agrees(self.part.params.get("charset"), changed, self.codec)
        if not same or not charset.settled(changed, self.codec):
            raise SpliceError("charset", "the new text would be taken for one in another character set")

    def _spans_of_bytes(self, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """The spans of the payload that are these spans of the text: the same of all that look like them."""
        bare = self.shown.text[slice(*places[0])].rstrip("/")
        flags = re.IGNORECASE | re.ASCII
        every = [found.span() for found in re.finditer(re.escape(bare), self.shown.text, flags)]
        in_bytes = [found.span() for found in re.finditer(re.escape(bare.encode()), self.shown.payload, flags)]
        if len(every) != len(in_bytes):
            raise SpliceError("verify", "the link's bytes cannot be told from others")
        known = {start: span for (start, _), span in zip(every, in_bytes, strict=True)}
        return [(known[start][0], known[start][0] + end - start) for start, end in places]

    def padding(self, new: bytes) -> int:
        return insertion.alignment(self.part.encoding, self.shown.payload, self.offset, len(new))


class HtmlTarget(Target):
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


class PlainTarget(Target):
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
        return tuple(convert(self.message, self.shown, self.before + self._shape(block.text) + self.after))

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
