"""One text/plain part converted to UTF-8 in base64: the last resort where its charset cannot carry a block.

Its whole body changes, and of its header nothing but Content-Type's charset and the Content-Transfer-Encoding. A field
in a form that is not edited with certainty raises `SpliceError("charset")`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay_mta.core import insertion
from relay_mta.core.edit import Edit, apply
from relay_mta.core.errors import SpliceError
from relay_mta.core.message import Field, Message, Part, TextPart, index

# Quoted strings and comments first, so that a "charset=" inside of them is not taken for the parameter (RFC 2045 §5.1).
_CHARSET = re.compile(
    rb'"(?:[^"\\]|\\.)*"|\([^()]*\)|;\s*charset\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s;()"]+)',
    re.IGNORECASE | re.DOTALL,
)


def convert(message: Message, shown: TextPart, text: str) -> Iterator[Edit]:
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
