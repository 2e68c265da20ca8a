"""Putting bytes into a body that is transfer-encoded, without re-encoding what stands around them.

For each encoding of RFC 2045 §6 there is one way to put new bytes at an offset of the decoded payload. All of them
keep the encoded bytes before the place; 7bit, 8bit, binary and quoted-printable also keep all behind it, base64
does where the new bytes' length permits (see `alignment`). No line that is written here is longer than 76
characters in quoted-printable and base64, or than 998 octets elsewhere.

Every insertion is proved before it is returned: the changed body is decoded again and must be the old payload with
the new bytes at their place. What cannot be proved raises `SpliceError`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import AnyStr, NamedTuple

from relay_mta.core import transfer
from relay_mta.core.errors import SpliceError

LINE_LENGTH = 76
"""RFC 2045 §6.7 (5), §6.8: the longest encoded line."""
RAW_LINE_LENGTH = 998
"""RFC 5322 §2.1.1."""

_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/]+")
# RFC 2045 §6.7: an encoded octet, a soft line break, a stretch of literal octets, a line end.
_QP_TOKEN = re.compile(rb"=[0-9A-Fa-f]{2}|=\r\n|[^=\r\n]+|.", re.DOTALL)
_QP_OCTETS = tuple(
    bytes((octet,)) if octet in b"\t " or (33 <= octet <= 126 and octet != 0x3D) else b"=%02X" % octet
    for octet in range(256)
)


class Insertion(NamedTuple):
    """Replace body[start:end] by `new`."""

    start: int
    end: int
    new: bytes


def insert(body: bytes, encoding: str, payload: bytes, offset: int, new: bytes) -> Insertion:
    """Put `new` at `offset` of `payload`, which is what `body` decodes to.

    Raises `SpliceError("transfer-encoding")` if the body is not what it says it is, and `SpliceError("line-length")` if
    a line of `new` is too long to stand in an unencoded body.
    """
    if encoding == "quoted-printable":
        start = _qp_offset(body, offset)
        made = Insertion(start, start, _qp_lines(body, start, new))
    elif encoding == "base64":
        made = _base64(body, payload, offset, new)
    else:
        made = Insertion(offset, offset, new)
        if max(map(len, new.split(b"\r\n"))) > RAW_LINE_LENGTH:
            raise SpliceError("line-length")
    try:
        changed = transfer.decode(body[: made.start] + made.new + body[made.end :], encoding)
    except transfer.TransferError as error:
        raise SpliceError("transfer-encoding", error.reason) from error
    if changed != payload[:offset] + new + payload[offset:]:
        raise SpliceError("transfer-encoding", "the body does not decode as expected")
    return made


def replace(
    body: bytes, encoding: str, payload: bytes, spans: Sequence[tuple[int, int]], new: bytes
) -> tuple[Insertion, ...]:
    """Put `new`, which has no line end, in place of each of some spans of `payload` (sorted, apart).

    Raises as `insert` does. Base64 is encoded anew from the first place on: the length changes.
    """
    changed = put(payload, spans, new)
    made: tuple[Insertion, ...]
    if encoding == "base64":
        first = spans[0][0] - spans[0][0] % 3
        made = (_base64_lines(body, first, len(body.rstrip()), changed[first:]),)
    elif encoding == "quoted-printable":
        places = [(_qp_offset(body, start), _qp_offset(body, end)) for start, end in spans]
        made = tuple(Insertion(start, end, _qp_lines(body, start, new)) for start, end in places)
    else:
        longest = max(map(len, payload.split(b"\n")))
        if max(map(len, changed.split(b"\n"))) > max(RAW_LINE_LENGTH, longest):
            raise SpliceError("line-length")
        made = tuple(Insertion(start, end, new) for start, end in spans)
    pieces, position = [], 0
    for one in made:
        pieces += [body[position : one.start], one.new]
        position = one.end
    try:
        read = transfer.decode(b"".join([*pieces, body[position:]]), encoding)
    except transfer.TransferError as error:
        raise SpliceError("transfer-encoding", error.reason) from error
    if read != changed:
        raise SpliceError("transfer-encoding", "the body does not decode as expected")
    return made


def put(old: AnyStr, spans: Sequence[tuple[int, int]], new: AnyStr) -> AnyStr:
    """The text or bytes with `new` in place of each of some spans (sorted, apart, few)."""
    for start, end in reversed(spans):
        old = old[:start] + new + old[end:]
    return old


def alignment(encoding: str, payload: bytes, offset: int, length: int) -> int:
    """How many bytes (0 to 2) should be added to `length` new ones, so that base64 keeps its encoded bytes behind
    `offset`; 0 where the encoding or the place does not gain by it."""
    return -length % 3 if encoding == "base64" and offset < len(payload) else 0


def encode_base64(payload: bytes, *, width: int = LINE_LENGTH) -> bytes:
    """The payload in base64 lines of `width`, without a final line end."""
    encoded = base64.b64encode(payload)
    return b"\r\n".join(encoded[i : i + width] for i in range(0, len(encoded), width))


# --- quoted-printable -----------------------------------------------------------------------------------------------


def _qp_offset(body: bytes, offset: int) -> int:
    """Where in `body` the decoded octet `offset` begins; behind a line break rather than before it."""
    position = done = 0
    # Decoding is additive over whole lines: first great strides, then lines, then the tokens of one line.
    for stride in (65_536, 2_048, 1):
        while (following := body.find(b"\n", position + stride - 1) + 1) > 0:
            length = len(binascii.a2b_qp(body[position:following]))
            if done + length > offset:
                break
            position, done = following, done + length
    for token in _QP_TOKEN.finditer(body, position):
        if done == offset:
            break
        found = token[0]
        if found.startswith(b"="):
            position, done = token.end(), done + (len(found) == 3 and found != b"=\r\n")
        else:
            length = min(len(found), offset - done)  # literal octets, one for one
            position, done = token.start() + length, done + length
    return position


def _qp_lines(body: bytes, start: int, new: bytes) -> bytes:
    """`new` for a place in the encoded body: in lines of its own, with soft breaks towards half lines around it."""
    lines: list[bytes] = []
    column = start - (body.rfind(b"\n", 0, start) + 1)
    # A hard break at once ends the old line where it is, unless a blank would then stand at its end (§6.7 (3)).
    if column and not (new.startswith(b"\r\n") and body[start - 1 : start] not in (b" ", b"\t")):
        lines.append(b"=")
    for line in new.split(b"\r\n"):
        lines += _qp_line(line)
    if lines[-1] and start < len(body):
        # The last line has no end of its own: what stood behind the place goes on, on a new encoded line.
        lines[-1] += b"="
        lines.append(b"")
    return b"\r\n".join(lines)


def _qp_line(line: bytes) -> list[bytes]:
    """One line of octets as encoded lines that are joined by soft breaks: all but the last end in `=`."""
    encoded = b"".join([_QP_OCTETS[octet] for octet in line])
    if line.endswith((b" ", b"\t")):
        encoded = encoded[:-1] + b"=%02X" % line[-1]
    lines: list[bytes] = []
    start = 0
    while True:
        # RFC 2049 §3: "From " must not begin a line; nor should the "--" of a boundary's delimiter.
        if encoded.startswith((b"From ", b"--"), start):
            encoded = b"%b=%02X%b" % (encoded[:start], encoded[start], encoded[start + 1 :])
        end = start + LINE_LENGTH - 1
        if end >= len(encoded):
            return [*lines, encoded[start:]]
        escape = encoded.find(b"=", end - 2, end)
        if escape >= 0:  # an encoded octet stays whole
            end = escape
        lines.append(encoded[start:end] + b"=")
        start = end


# --- base64 ---------------------------------------------------------------------------------------------------------


def _base64(body: bytes, payload: bytes, offset: int, new: bytes) -> Insertion:
    """Re-encode the quantum of three octets that the place falls into, and the new octets; what stands behind it only
    if it is shifted by a length that three does not divide."""
    first = offset - offset % 3  # of the quantum
    kept = offset if offset == first else first + 3  # from here on the payload may keep its encoded octets
    if len(new) % 3 == 0 and kept < len(payload):
        end = _base64_position(body, kept // 3 * 4)
    else:
        kept = len(payload)
        end = len(body.rstrip())
    return _base64_lines(body, first, end, payload[first:offset] + new + payload[offset:kept])


def _base64_lines(body: bytes, first: int, end: int, payload: bytes) -> Insertion:
    """`payload` in lines of its own, from where octet `first` (a multiple of three) is encoded to `end` in `body`."""
    lines = encode_base64(payload, width=_base64_width(body))
    start = min(_base64_position(body, first // 3 * 4), end)
    if start and not body.endswith(b"\n", 0, start):
        lines = b"\r\n" + lines
    if end < len(body) and not body.startswith(b"\r\n", end):
        lines += b"\r\n"
    return Insertion(start, end, lines)


def _base64_position(body: bytes, count: int) -> int:
    """Where in `body` the encoded character `count` stands, line ends not counted."""
    for run in _BASE64_RUN.finditer(body):
        length = run.end() - run.start()
        if count < length:
            return run.start() + count
        count -= length
    return len(body.rstrip())


def _base64_width(body: bytes) -> int:
    """The length of the part's own lines, where it is a usable one."""
    first = body.find(b"\r\n")
    return first if first % 4 == 0 and 4 <= first <= LINE_LENGTH and first + 2 < len(body) else LINE_LENGTH
