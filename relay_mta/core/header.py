"""Header fields as spans of the mail's bytes, and their values as text for reading.

Promises: `scan` covers a header block with fields, byte for byte, in linear time, whatever the bytes are; `text` and
`words` never raise, decode at most `MAX_VALUE` bytes, and give no control characters. Values are for judging, logging
and matching; they are never written back.
Does not: check what a field means. A line that is no field becomes one with the name "".

RFC 5322 §2.2 (fields, folding), RFC 2047 (encoded words). Beyond them, because mail in Japan does it: multibyte
characters split over adjacent encoded words, encoded words inside quotes, raw 8-bit and JIS headers.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from relay_mta.core import charset

# Past this a value says nothing to a reader any more, and decoding has its price: a Subject of 280 kB is an attack.
MAX_VALUE = 16 * 1024

# RFC 5322 §2.2: a name of printable ASCII but colon; the blank before the colon is obsolete (§4.5) and told apart.
_FIELD = re.compile(rb"([!-9;-~]+)([ \t]*+):([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)(?:\r\n|\Z)")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_BLANK_LINE = re.compile(rb"\r\n[ \t]+(?:\r\n|\Z)")
_WORD = re.compile(rb"=\?([^?\s]{1,64})\?([bBqQ])\?([^?]*)\?=")
_Q_BYTE = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
# C0, C1, line and paragraph separators, and what turns the direction of the text around it.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A)]) | {
    0x09: " "
}


@dataclass(frozen=True, slots=True)
class Field:
    """One header field. `start` and `end` are offsets into the mail; `end` lies past the last folded line's CRLF.

    `name` is as written, "" for a line that is no field; `value` follows the colon, folds included, without the final
    line end.
    """

    name: str
    start: int
    end: int
    value: bytes


def scan(raw: bytes, start: int, end: int, *, most: int) -> tuple[tuple[Field, ...], str | None]:
    """The fields that fill raw[start:end] (a header block without its empty line), and the first trouble in it.

    After `most` fields the rest is one more, without a name, and the trouble is "limit:fields".
    """
    fields: list[Field] = []
    trouble: str | None = None
    at = start
    match = _FIELD.match
    while at < end:
        if len(fields) >= most:
            fields.append(Field("", at, end, raw[at:end].removesuffix(b"\r\n")))
            return tuple(fields), "limit:fields"
        found = match(raw, at, end)
        if found:
            name, blank, value = found.groups()
            fields.append(Field(name.decode("ascii"), at, found.end(), value))
            if blank:
                trouble = trouble or "ambiguous:blank-before-colon"
            at = found.end()
        else:
            line_end = raw.find(b"\r\n", at, end)
            line_end = end if line_end < 0 else line_end + 2
            fields.append(Field("", at, line_end, raw[at:line_end].removesuffix(b"\r\n")))
            trouble = trouble or "ambiguous:header-line"
            at = line_end
    if not trouble and _BLANK_LINE.search(raw, start, end):
        trouble = "ambiguous:header-fold"  # obsolete (RFC 5322 §4.2); to some readers the header ends there
    return tuple(fields), trouble


def unfold(value: bytes) -> bytes:
    """`value` as one line (RFC 5322 §2.2.3)."""
    return _FOLD.sub(b"", value) if b"\r\n" in value else value


def text(value: bytes) -> str:
    """A field's value for a reader: unfolded, decoded, without control characters and outer blanks."""
    return words(unfold(value[:MAX_VALUE])).translate(_CONTROLS).strip()


def words(line: bytes) -> str:
    """`line` with its encoded words decoded and the rest in the character set it seems to be in."""
    if b"=?" not in line:
        return _guessed(line)
    out: list[str] = []
    label, pending = b"", b""  # bytes of adjacent words in one character set, decoded together
    at = 0
    for word in _WORD.finditer(line):
        between = line[at : word.start()]
        this = word[1].split(b"*", 1)[0].lower()  # RFC 2231 §5: a language may follow the character set
        if between.strip(b" \t") or at == 0 or this != label:
            out.append(_labelled(label, pending))
            pending = b""
            if between.strip(b" \t") or at == 0:
                out.append(_guessed(between))
        label = this
        pending += _word_bytes(word[2], word[3])
        at = word.end()
    out.append(_labelled(label, pending))
    out.append(_guessed(line[at:]))
    return "".join(out)


def _word_bytes(encoding: bytes, payload: bytes) -> bytes:
    if encoding in b"qQ":
        return _Q_BYTE.sub(lambda found: bytes((int(found[1], 16),)), payload.replace(b"_", b" "))
    letters = _NOT_BASE64.sub(b"", payload)
    if len(letters) % 4 == 1:
        letters = letters[:-1]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


def _labelled(label: bytes, payload: bytes) -> str:
    if not payload:
        return ""
    return decoded(payload, label.decode("ascii", "replace"))


def _guessed(piece: bytes) -> str:
    if piece.isascii() and b"\x1b" not in piece:
        return piece.decode("ascii")
    return decoded(piece, None)


def decoded(payload: bytes, label: str | None) -> str:
    """`payload` by its label or, failing that, by its looks; what nothing decodes is shown as UTF-8 with U+FFFD."""
    try:
        return charset.decode(payload, charset.find(label, payload))
    except (LookupError, UnicodeDecodeError):
        return payload.decode("utf-8", "replace")
