"""Parameters of Content-Type and Content-Disposition (RFC 2045 §5.1, RFC 2183, RFC 2231).

Promises: linear, never raises; reads what mail clients write (unquoted boundaries with "=", encoded words or raw JIS
in quoted file names, empty parameters) and names the first thing on which they differ.
Does not: accept comments (RFC 2045 allows them in Content-Type; half of the readers do not skip them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from relay_mta.core import header

MAX_PARAMETERS = 64  # the busiest legitimate field we know of has about twelve: a file name in ten pieces

# In what follows a fold is one CR: a blank between tokens, a trap inside a quoted string.
_HEAD = re.compile(rb"[ \t\r]*+([!-~]*?)[ \t\r]*+(?=;|\Z)")
_NAME = re.compile(rb"[ \t\r]*+([!#-'*+\-.0-9A-Z^-~]++)([ \t\r]*+)=([ \t\r]*+)")
# Raw JIS in quotes contains '"' and "\" as halves of characters: a double-byte run is skipped as one.
_QUOTED = re.compile(rb'"((?:\x1b\$[@B](?:[!-~]{2})*+\x1b\([BJ]|[^"\\]|\\.)*+)"[ \t\r]*+(?=;|\Z)', re.DOTALL)
_TOKEN = re.compile(rb'([^;" \t\r()]*+)[ \t\r]*+(?=;|\Z)')
_REST = re.compile(rb"[^;]*+")
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_EXTENDED = re.compile(r"(.+?)(?:\*(\d{1,3}))?(\*)?", re.DOTALL)
_FREE = frozenset({"name", "filename"})  # parameters that only name a file: their oddities are nobody's trouble


@dataclass(frozen=True, slots=True)
class Parameters:
    """`head` is what stands before the first semicolon, lower case; `values` by lower-case name, file names decoded.

    `trouble` is "duplicate", "comment", "extended", "blank" or "syntax", with the first parameter's name where one is
    to blame ("duplicate:boundary"); None if every reader reads the field alike.
    """

    head: str
    values: Mapping[str, str]
    trouble: str | None


def parse(value: bytes) -> Parameters:
    """The parameters of a field's value (folded or not); at most `header.MAX_VALUE` bytes of it."""
    trouble: str | None = None
    if len(value) > header.MAX_VALUE:
        value, trouble = value[: header.MAX_VALUE], "length"
    line = value.replace(b"\r\n", b"\r").replace(b"\n", b" ")
    head = _HEAD.match(line)
    if head is None:
        return Parameters(line.split(b";", 1)[0].strip().decode("latin-1").lower(), {}, "syntax")
    if b"(" in head[1]:
        trouble = trouble or "comment"
    pieces, found = _pieces(line, head.end())
    values, joined = _join(pieces)
    return Parameters(head[1].decode("ascii").lower(), values, trouble or found or joined)


def _pieces(line: bytes, at: int) -> tuple[list[tuple[str, bytes]], str | None]:
    """(name as written in lower case, raw value) of each parameter in line[at:], which starts at a semicolon."""
    pieces: list[tuple[str, bytes]] = []
    trouble: str | None = None
    while at < len(line):
        at += 1
        name = _NAME.match(line, at)
        if name is None:
            rest = _REST.match(line, at)
            text, at = (rest[0], rest.end()) if rest else (b"", len(line))
            if text.strip(b" \t\r"):  # ";;" and a last ";" are everywhere
                trouble = trouble or ("comment" if b"(" in text else "syntax")
            continue
        key = name[1].decode("ascii").lower()
        free = key.split("*", 1)[0] in _FREE
        if (name[2] or name[3]) and not free:
            trouble = trouble or f"blank:{key}"
        quoted = _QUOTED.match(line, name.end())
        token = None if quoted else _TOKEN.match(line, name.end())
        if quoted:
            if not free and (b"\\" in quoted[1] or b"\r" in quoted[1]):
                trouble = trouble or f"syntax:{key}"  # an escape or a fold: some take it for a part of the value
            raw, at = _unquoted(quoted[1].replace(b"\r", b"")), quoted.end()
        elif token:
            raw, at = token[1], token.end()
        else:
            rest = _REST.match(line, name.end())
            text, at = (rest[0], rest.end()) if rest else (b"", len(line))
            raw = text.replace(b"\r", b"").strip(b'" \t')
            if not free:
                trouble = trouble or ("comment" if b"(" in text else f"syntax:{key}")
        if not free and not raw.isascii():
            trouble = trouble or f"syntax:{key}"
        pieces.append((key, raw))
        if len(pieces) > MAX_PARAMETERS:
            return pieces, trouble or "count"
    return pieces, trouble


def _unquoted(content: bytes) -> bytes:
    """A quoted string without its quotes. Next to 8-bit bytes a backslash may be half of a character: it stays."""
    if b"\\" not in content or not content.isascii() or b"\x1b" in content:
        return content
    return _PAIR.sub(rb"\1", content)


def _join(pieces: list[tuple[str, bytes]]) -> tuple[dict[str, str], str | None]:
    """Decoded values; RFC 2231 pieces joined, and preferred to a plain value of the same name (§2, RFC 6266 §4.3)."""
    plain: dict[str, bytes] = {}
    extended: dict[str, dict[int, tuple[bytes, bool]]] = {}
    trouble: str | None = None
    for written, raw in pieces:
        shape = _EXTENDED.fullmatch(written)
        name = shape[1] if shape else written
        if shape and (shape[2] or shape[3]):
            if name not in _FREE:
                trouble = trouble or f"extended:{name}"
            parts = extended.setdefault(name, {})
            if int(shape[2] or 0) in parts and name not in _FREE:
                trouble = trouble or f"duplicate:{name}"
            parts.setdefault(int(shape[2] or 0), (raw, bool(shape[3])))
        elif name not in plain:
            plain[name] = raw
        elif (plain[name] != raw or name == "boundary") and name not in _FREE:
            trouble = trouble or f"duplicate:{name}"
    # What a machine matches is taken as it stands; only what a person reads is decoded.
    values = {name: header.text(raw) if name in _FREE else raw.decode("latin-1") for name, raw in plain.items()}
    for name, parts in extended.items():
        values[name] = _extended_text(parts)
    return values, trouble


def _extended_text(parts: dict[int, tuple[bytes, bool]]) -> str:
    label: str | None = None
    payload = b""
    for number in sorted(parts):
        raw, percent = parts[number]
        if percent:
            if number == min(parts) and raw.count(b"'") >= 2:
                tag, _language, raw = raw.split(b"'", 2)
                label = tag.decode("ascii", "replace")
            raw = unquote_to_bytes(raw)
        payload += raw
    if label is None and b"=?" in payload:
        return header.text(payload)  # pieces of an encoded word: wrong, and sent all the same
    return header.text(header.decoded(payload, label).encode())
