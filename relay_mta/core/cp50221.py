"""ISO-2022-JP as Japanese mail really carries it (Microsoft's code pages 50220 and 50221).

RFC 1468 knows ASCII, JIS X 0201's Roman half and JIS X 0208. Mail has more: NEC's row 13 (①, №, ㈱), the IBM
extensions in NEC's rows 89 to 92 (髙, 﨑, ⅳ), both inside `ESC $ B`, and half-width kana after `ESC ( I`. The standard
library refuses all three, so this module goes on where it stops and agrees with it everywhere else.

Promises: `decode(encode(text)) == text`; what the standard library reads or writes is read or written the same way;
linear time. What is written returns to ASCII before every line end and at the end (RFC 1468, "Details").
Does not: guess, repair, or take 8-bit bytes, shift codes (SO, SI) or other sets of the ISO-2022 family; those raise.

Source of the tables: the standard library's cp932, whose rows 13 and 89 to 92 are the same characters.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal, NamedTuple

NAME = "iso-2022-jp"

State = Literal["ascii", "roman", "double", "kana"]

_ESCAPE = re.compile(rb"\x1b(?:\(B|\(J|\(I|\$B|\$@)")
_STATES: dict[bytes, State] = {
    b"\x1b(B": "ascii",
    b"\x1b(J": "roman",
    b"\x1b(I": "kana",
    b"\x1b$B": "double",
    b"\x1b$@": "double",
}
_ENTER: dict[State, bytes] = {"ascii": b"\x1b(B", "roman": b"\x1b(J", "kana": b"\x1b(I", "double": b"\x1b$B"}
_CONTROLS_OR_PAIRS = re.compile(rb"[\x00-\x1f]+|[^\x00-\x1f]+")  # a line end inside a double-byte run is one byte
_KANA = re.compile(rb"[\x00-\x5f]*")
_ROMAN = {0x5C: "\u00a5", 0x7E: "\u203e"}
_ROMAN_BYTES = {"\u00a5": b"\\", "\u203e": b"~"}
_EXTENSION_ROWS = (0x2D, 0x79, 0x7A, 0x7B, 0x7C)


def _extension() -> dict[bytes, str]:
    """Pair of 7-bit JIS bytes → character, for the five rows that JIS X 0208 leaves empty."""
    table = {}
    for row in _EXTENSION_ROWS:
        for cell in range(0x21, 0x7F):
            lead = (row - 0x21) // 2 + 0x81
            lead += 0x40 if lead > 0x9F else 0
            trail = cell + 0x7E if row % 2 == 0 else cell + 0x1F + (cell >= 0x60)
            try:
                table[bytes((row, cell))] = bytes((lead, trail)).decode("cp932")
            except UnicodeDecodeError:
                continue
    return table


_LINE_END = re.compile(rb"\n")
_TEXT = _extension()
# Some of these characters (∪, ￢ …) stand in JIS X 0208 too; `pair` asks the standard library first.
_PAIRS = {text: pair for pair, text in reversed(_TEXT.items())}


class Run(NamedTuple):
    """A stretch of one state: `start` and `end` are byte offsets without the escape sequences around it."""

    state: State
    start: int
    end: int


def runs(payload: bytes) -> Iterator[Run]:
    """The stretches of `payload`, in order, empty ones included; the first one is in ASCII."""
    state: State = "ascii"
    at = 0
    for escape in _ESCAPE.finditer(payload):
        yield Run(state, at, escape.start())
        state = _STATES[escape[0]]
        at = escape.end()
    yield Run(state, at, len(payload))


def decode(payload: bytes) -> str:
    """The text of `payload`; raises UnicodeDecodeError."""
    if b"\x0e" in payload or b"\x0f" in payload:  # the standard library would let them through as characters
        raise UnicodeDecodeError(NAME, payload, 0, len(payload), "shift code")
    try:
        return payload.decode("iso2022_jp")
    except UnicodeDecodeError:
        return "".join([_decode_run(payload, run) for run in runs(payload)])


def _decode_run(payload: bytes, run: Run) -> str:
    piece = payload[run.start : run.end]
    if b"\x1b" in piece or not piece.isascii():
        raise UnicodeDecodeError(NAME, payload, run.start, run.end, "unknown escape sequence or 8-bit byte")
    match run.state:
        case "ascii":
            return piece.decode("ascii")
        case "roman":
            return piece.decode("ascii").translate(_ROMAN)
        case "kana":
            if not _KANA.fullmatch(piece):
                raise UnicodeDecodeError(NAME, payload, run.start, run.end, "not half-width kana")
            return bytes(byte | 0x80 if byte > 0x20 else byte for byte in piece).decode("cp932")
        case "double":
            try:
                return "".join(
                    part[0].decode("ascii") if part[0][0] < 0x20 else text_of(part[0])
                    for part in _CONTROLS_OR_PAIRS.finditer(piece)
                )
            except UnicodeDecodeError as error:
                raise UnicodeDecodeError(NAME, payload, run.start, run.end, error.reason) from error


def text_of(pairs: bytes) -> str:
    """The characters of 7-bit double bytes (no escapes, no controls); raises UnicodeDecodeError."""
    try:
        return (b"\x1b$B" + pairs).decode("iso2022_jp")
    except UnicodeDecodeError:
        pass
    text = []
    for at in range(0, len(pairs), 2):
        pair = pairs[at : at + 2]
        found = _TEXT.get(pair)
        text.append(found if found is not None else (b"\x1b$B" + pair).decode("iso2022_jp"))
    return "".join(text)


def pair_of(character: str) -> bytes | None:
    """The 7-bit double byte of one character, extensions included; None if it has none."""
    try:
        wire = character.encode("iso2022_jp")
    except UnicodeEncodeError:
        return _PAIRS.get(character)
    return wire[3:5] if wire.startswith(b"\x1b$B") else None


def encode(text: str) -> bytes:
    """The bytes of `text`, in ASCII at every line end and at the end; raises UnicodeEncodeError."""
    for control in "\x1b\x0e\x0f":
        at = text.find(control)
        if at >= 0:
            raise UnicodeEncodeError(NAME, text, at, at + 1, "escape and shift codes are not text")
    try:
        return text.encode("iso2022_jp")
    except UnicodeEncodeError:
        pass
    out = bytearray()
    now: State = "ascii"
    for at, character in enumerate(text):
        state, wire = _encode_character(text, at, character)
        if state != now:
            out += _ENTER[state]
            now = state
        out += wire
    if now != "ascii":
        out += _ENTER["ascii"]
    return bytes(out)


def _encode_character(text: str, at: int, character: str) -> tuple[State, bytes]:
    if character < "\x80":
        return "ascii", character.encode("ascii")
    if "\uff61" <= character <= "\uff9f":
        return "kana", bytes((ord(character) - 0xFF61 + 0x21,))
    roman = _ROMAN_BYTES.get(character)
    if roman:
        return "roman", roman
    pair = pair_of(character)
    if pair is None:
        raise UnicodeEncodeError(NAME, text, at, at + 1, "no such character in code page 50221")
    return "double", pair


def settled(payload: bytes) -> bool:
    """Whether every line, and whatever follows the end, starts in ASCII.

    RFC 1468 lets a line start in JIS X 0201's Roman set as well, and bad mail lets it start in any; there, text put
    between two lines would change or be changed by its neighbours.
    """
    if _lines_end_in_ascii(payload):
        return True
    end = len(payload)
    return all(
        run.state == "ascii" or (run.end < end and payload.find(b"\n", run.start, run.end) < 0) for run in runs(payload)
    )


def _lines_end_in_ascii(payload: bytes) -> bool:
    """Whether the last escape sequence of every line that has one leads back to ASCII."""
    for line in payload.split(b"\n"):
        at = line.rfind(b"\x1b")
        if at >= 0 and not line.startswith(b"\x1b(B", at):
            return False
    return True


def byte_offset(payload: bytes, offset: int) -> int:
    """Where character `offset` begins in `payload`, which decodes; at an escape sequence, the side that is in ASCII."""
    if _lines_end_in_ascii(payload):  # most mail, and most places are a line's start: a few decodings find it
        starts = [0, *(found.end() for found in _LINE_END.finditer(payload)), len(payload)]
        near = bisect_left(starts, offset, key=lambda start: len(decode(payload[:start])))
        if near < len(starts) and len(decode(payload[: starts[near]])) == offset:
            return starts[near]
    before = 0  # characters before the run in hand
    best: tuple[bool, int] | None = None
    for run in runs(payload):
        length, place = _walk(payload, run, offset - before)
        if place is not None:
            found = (run.state != "ascii", place)
            if best is None or found < best:
                best = found
        elif best is not None:
            break
        before += length
    if best is None:
        raise ValueError("offset past the end of the text")
    return best[1]


def _walk(payload: bytes, run: Run, count: int) -> tuple[int, int | None]:
    """The characters in `run`, and the byte offset of its character `count` (its end counts too) if it is in there."""
    if run.state != "double":
        length = run.end - run.start
        return length, run.start + count if 0 <= count <= length else None
    length, place = 0, run.start if count == 0 else None
    for part in _CONTROLS_OR_PAIRS.finditer(payload, run.start, run.end):
        width = 1 if payload[part.start()] < 0x20 else 2
        size = (part.end() - part.start()) // width
        if length < count <= length + size:
            place = part.start() + (count - length) * width
        length += size
    return length, place
