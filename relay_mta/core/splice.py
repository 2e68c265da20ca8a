"""Putting a block into a mail as byte spans: what is not edited is sent as the very bytes that came.

`plan` says what to replace so that every alternative of the mail's text shows the block, at the place that its
layout names; `edit.apply` makes the chunks to be sent. The relay's own header edits (a Received field, a removed
switch) are `Edit`s too and go into the same `apply`. Where a text carries the company's dedicated link
(`core.dedicated`), the candidate's own link takes its place and no block is put in.

A block is written in the part's own charset and transfer encoding. If the charset lacks a character, or has it only
as a vendor's extension that the part's own text does without, or 8-bit octets would enter a 7bit part (RFC 2045 §2.7)
or a mail of 7 bits (RFC 6152 §3: its client had no need to ask for more), this order is followed: customary
look-alikes, the block's plain variant, and in HTML numeric character references from the start, as they lose nothing.
A text/plain part that can carry none of these is converted, alone, to UTF-8 in base64; only its Content-Type's charset
and its Content-Transfer-Encoding change then.

format=flowed stays what it is (RFC 3676): our lines are fixed ones, and no line of the sender's flows into them.

Every plan is proved: the edited bytes are decoded again and must show the old text with the block at its place.
Whatever is not certain raises `SpliceError`, and the mail goes out untouched. Reason words of a plan: `no-text`,
`charset`, `transfer-encoding`, `line-length`, `boundary`, `layout`, `limit:links`, `sealed`, `verify`; and those
of `Message.trouble`.
"""

from __future__ import annotations

from relay_mta.core import dedicated
from relay_mta.core.block import Block
from relay_mta.core.company import Placement
from relay_mta.core.edit import Edit
from relay_mta.core.errors import SpliceError
from relay_mta.core.message import Message, Part, TextPart
from relay_mta.core.target import HtmlTarget, PlainTarget, Target

_SEALED_PARENTS = ("multipart/signed", "multipart/encrypted")
# RFC 1864, and fields that count or digest a body: a change would make them lie.
_SEALED_FIELDS = ("content-md5", "content-digest", "content-length", "x-content-length", "lines")


def plan(
    message: Message, block: Block, *, placement: Placement = "below", dedicated_link: str | None = None
) -> tuple[Edit, ...]:
    """The edits that put `block`, or at least its link, into every text of the mail, in the order of the mail.

    `placement` chooses `Layout.below` or `Layout.end`; "link" as "below", for texts without the `dedicated_link` beside
    one that has it. Raises `SpliceError` with the reason why the mail must stay as it is; then nothing of it may be
    spliced.
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
        places = dedicated.places(shown, dedicated_link) if dedicated_link is not None else ()
        if places:
            edits += Target(message, shown, places[0][0]).replace(places, block.link)
        else:
            edits += _target(message, shown, placement).edits(block)
    delimiters = tuple(
        b"--" + part.params["boundary"].encode() for part in message.parts if part.params.get("boundary")
    )
    if any(line.startswith(delimiters) for edit in edits for line in edit.new.split(b"\n")):
        raise SpliceError("boundary", "a line of the block looks like a boundary of the mail")
    return tuple(edits)


def _target(message: Message, shown: TextPart, placement: Placement) -> HtmlTarget | PlainTarget:
    at = shown.layout.end if placement == "end" else shown.layout.below
    if not 0 <= at <= len(shown.text):
        raise SpliceError("layout", "the place lies outside of the text")
    return HtmlTarget(message, shown, at) if shown.kind == "html" else PlainTarget(message, shown, at)


def _refuse_sealed(message: Message, part: Part) -> None:
    """RFC 1847 §2.1: what is signed or encrypted must not change; nor what a field counts or digests."""
    above: Part | None = part
    while above is not None:
        if above.content_type in _SEALED_PARENTS:
            raise SpliceError("sealed", above.content_type)
        if any(field.name.lower() in _SEALED_FIELDS for field in above.fields):
            raise SpliceError("sealed", "a field counts or digests the body")
        above = None if above.parent is None else message.parts[above.parent]
